"""95% intervals by the bootstrap over clips (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993;
percentile method).

Whole clips are drawn with replacement; figures of the same clips are drawn together, so that a clip that is hard for
both models widens neither their difference nor their ratio. With fewer than about ten clips the intervals come out too
narrow.
"""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

ROUNDS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A figure and the ends of its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap(samples: Sequence[Sequence[float]], statistic: Callable[..., np.ndarray], rounds: int = ROUNDS,
              seed: int = 0) -> Interval:
    """`statistic` of the samples, and its interval.

    Args:
        samples: one or several series of (clips,), each with the same clips in the same order.
        statistic: takes as many arrays (..., clips) and gives (...): it works along the last axis.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: no clip, series of different lengths, or values that are not finite.
    """
    return pooled([(samples, statistic)], rounds=rounds, seed=seed)


Group = Tuple[Sequence[Sequence[float]], Callable[..., np.ndarray]]
"""Samples and their statistic, as `bootstrap` takes them."""


def pooled(groups: Sequence[Group], combine: Callable[[np.ndarray], np.ndarray] = lambda found: found.mean(axis=0),
           rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """One figure of several groups, each with clips of its own: clips are drawn within each group (stratified
    bootstrap).

    The interval is of these groups (voices, say), not of others that might have been taken.

    Args:
        combine: of the groups' statistics, (groups, ...) -> (...). Default: their mean.
    """
    rng = np.random.default_rng(seed)
    values, found = [], []
    for samples, statistic in groups:
        data = _checked(samples)
        drawn = rng.integers(0, len(data[0]), (rounds, len(data[0])))  # clip numbers
        found.append(statistic(*(series[drawn] for series in data)))  # (rounds,)
        values.append(statistic(*data))
    low, high = np.quantile(combine(np.stack(found)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(combine(np.stack(values))), float(low), float(high))


def _checked(samples: Sequence[Sequence[float]]) -> List[np.ndarray]:
    data = [np.asarray(series, dtype=np.float64) for series in samples]
    clips = len(data[0])
    if clips == 0 or any(series.shape != (clips,) for series in data):
        raise ValueError(f"the bootstrap needs clips, the same ones in each series; got shapes "
                         f"{[series.shape for series in data]}")
    if not all(np.isfinite(series).all() for series in data):
        raise ValueError("the bootstrap needs finite values: leave the others out first")
    return data


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


def mean_interval(values: Sequence[float], rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Mean over clips, (clips,)."""
    return bootstrap([values], _mean, rounds, seed)


def median_interval(values: Sequence[float], rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Median over clips, (clips,)."""
    return bootstrap([values], lambda drawn: np.median(drawn, axis=-1), rounds, seed)


def difference_interval(ours: Sequence[float], theirs: Sequence[float], rounds: int = ROUNDS,
                        seed: int = 0) -> Interval:
    """Mean of ours - theirs over the same clips, (clips,) each."""
    return bootstrap([ours, theirs], lambda a, b: _mean(a - b), rounds, seed)


def ratio_interval(ours: Sequence[float], theirs: Sequence[float], rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Mean of ours over mean of theirs, over the same clips, (clips,) each. Means of theirs must not come to 0."""
    return bootstrap([ours, theirs], lambda a, b: _mean(a) / _mean(b), rounds, seed)
