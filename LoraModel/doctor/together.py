"""What the recordings tell together: the same one twice, a second speaker among them, how much there is in all."""

from __future__ import annotations

from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import signal

from ..judges import SpeakerEncoder, cosine_to_mean
from ..messages import Text, UserError
from .finding import NOTE, WARNING, Curve, Finding, Picture, spectrogram_of
from .recording import Recording

ALIKE = 0.98
"""Correlation of two spectrograms over time from which they are the same recording."""
LENGTHS = 0.15
"""Seconds by which the lengths of two copies may differ."""
PRINT_RATE, PRINT_HOP, PRINT_BANDS = 8000, 400, 12
SHIFTS = 4
"""Frames of 50 ms by which a copy may begin earlier or later."""
STRETCH, MOST_TOGETHER = 10, 256
"""Frames of which the mean is compared first, and the recordings that are compared with others at a time."""

SEGMENT = 6.0
"""Seconds that are judged as one piece of a speaker."""
MOST_SEGMENTS = 80
APART = 0.72
"""Cosine between the means of two groups of embeddings, below which they are two speakers."""
HOLDS = 0.82
"""Cosine of the members of a group to its mean, on average, from which it is one."""

ENOUGH, LITTLE, PLENTY = 150.0, 60.0, 3600.0
"""Seconds of speech in all."""


class Print(NamedTuple):
    """What is kept of a recording to know it again: seconds, and (bands, frames) of its normalised log spectrum."""

    name: str
    seconds: float
    shape: np.ndarray


def print_of(r: Recording) -> Print:
    sound = signal.resample_poly(r.audio, PRINT_RATE // 50, max(1, r.rate // 50))
    size = 2 * PRINT_HOP
    if len(sound) < 2 * size:
        sound = np.pad(sound, (0, 2 * size - len(sound)))
    _, _, power = signal.spectrogram(sound, PRINT_RATE, "hann", size, PRINT_HOP, detrend=False)
    edges = np.unique(np.geomspace(8, size // 2, PRINT_BANDS + 1).astype(int))
    bands = np.stack([power[low:high].sum(axis=0) for low, high in zip(edges, edges[1:])])  # (bands, frames)
    level = np.log(bands + 1e-4 * float(bands.mean()) + 1e-20)
    return Print(r.name, r.seconds, (level - level.mean(axis=1, keepdims=True)).astype(np.float32))


def duplicate_findings(prints: Sequence[Print],
                       picture: Callable[[str], Optional[Picture]] = lambda name: None) -> Iterator[Finding]:
    """Each recording that is a copy of an earlier one, at whatever level and in whatever format.

    picture: gives that of a recording by its name.
    """
    order = sorted(range(len(prints)), key=lambda index: prints[index].seconds)
    found = []
    for place, others in _may_be_alike([prints[index] for index in order]):
        for other in others:
            pair = order[place], order[other]
            if likeness(prints[pair[0]].shape, prints[pair[1]].shape) >= ALIKE:
                found.append((max(pair), min(pair)))
                break
    for later, earlier in sorted(found):
        yield Finding("duplicate", prints[later].name, Text("It is the same recording as {other}.",
                                                            other=prints[earlier].name),
                      Text("Leave one of the two out: what is there twice counts twice, and a copy that is kept out of "
                           "training makes its figures look better than they are."), WARNING,
                      {"same_as": prints[earlier].name}, picture(prints[later].name))


def _may_be_alike(prints: Sequence[Print]) -> Iterator[Tuple[int, List[int]]]:
    """For the place of each print, those behind it that may be `ALIKE`, by their coarse shapes; none that is is left
    out. `prints` rise in seconds.

    Those of about one length are compared in one matrix product.
    """
    lengths = np.array([each.seconds for each in prints])
    start = 0
    while start < len(prints):
        end = int(np.searchsorted(lengths, lengths[start] + max(LENGTHS, lengths[start] / 20), "right"))
        end = min(end, start + MOST_TOGETHER)
        last = int(np.searchsorted(lengths, lengths[end - 1] + LENGTHS, "right"))
        bound = _highest_likeness([each.shape for each in prints[start:last]], end - start)
        for place in range(start, end):
            behind = np.arange(place + 1, last)
            near = (lengths[behind] - lengths[place] <= LENGTHS) & (bound[place - start, behind - start] > ALIKE - 1e-3)
            yield place, behind[near].tolist()
        start = end


def _highest_likeness(shapes: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """What the `likeness` of each of the first `rows` of (bands, frames) to each of all is at most: (rows, count).

    A shape of length 1 is a = Pa + Qa, P being the mean over stretches of frames, so that by Cauchy and Schwarz
    a·b <= Pa·Pb + √(1 - |Pa|²) √(1 - |Pb|²).
    """
    frames = np.array([shape.shape[1] for shape in shapes])
    usable = max(0, int(frames.min()) - SHIFTS)
    stretch = max(1, min(STRETCH, usable // 4))
    count = usable // stretch
    energies = np.zeros((len(shapes), int(frames.max()) + 1))
    for energy, shape in zip(energies, shapes):
        energy[1:shape.shape[1] + 1] = np.cumsum(np.square(shape, dtype=np.float64).sum(axis=0))
    coarse = []  # of each shift: (count, bands * stretches)
    for shift in range(SHIFTS + 1):
        cut = np.stack([shape[:, shift:shift + count * stretch] for shape in shapes])
        means = cut.reshape(*cut.shape[:2], count, stretch).sum(axis=3, dtype=np.float64) / np.sqrt(stretch)
        coarse.append(means.reshape(len(shapes), cut.shape[1] * count))
    best = np.full((rows, len(shapes)), -1.0)
    here, there = np.arange(rows)[:, None], np.arange(len(shapes))[None]
    for shift in range(-SHIFTS, SHIFTS + 1):
        left, right = max(shift, 0), max(-shift, 0)
        both = np.maximum(np.minimum(frames[here] - left, frames[there] - right), 0)
        a = np.sqrt(np.maximum(energies[here, left + both] - energies[here, left], 1e-30))
        b = np.sqrt(np.maximum(energies[there, right + both] - energies[there, right], 1e-30))
        x, y = coarse[left][:rows], coarse[right]
        rest = (np.maximum(1 - np.square(x).sum(axis=1)[:, None] / a ** 2, 0)
                * np.maximum(1 - np.square(y).sum(axis=1)[None] / b ** 2, 0))
        np.maximum(best, x @ y.T / (a * b) + np.sqrt(rest), out=best)
    return best


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Highest correlation of two (bands, frames), shifted by up to `SHIFTS` frames."""
    best = 0.0
    for shift in range(-SHIFTS, SHIFTS + 1):
        x, y = (a[:, shift:], b) if shift >= 0 else (a, b[:, -shift:])
        frames = min(x.shape[1], y.shape[1])
        if frames < 4:
            continue
        x, y = x[:, :frames], y[:, :frames]
        size = float(np.sqrt((x ** 2).sum() * (y ** 2).sum()))
        best = max(best, float((x * y).sum()) / size if size > 0 else 0.0)
    return best


class Speakers:
    """Collects embeddings of the recordings' speech.

    Raises:
        UserError: Resemblyzer is not installed.
    """

    def __init__(self, recordings: int):
        self._encoder = SpeakerEncoder()
        self._each = max(1, MOST_SEGMENTS // max(recordings, 1))
        self._every = max(1, -(-recordings // MOST_SEGMENTS))
        self._count = 0
        self.found: List[Tuple[str, float, np.ndarray, Optional[Picture]]] = []

    def add(self, r: Recording) -> None:
        """Embed some segments of a recording: of many recordings only every k-th is looked at."""
        self._count += 1
        if self._count % self._every:
            return
        length = int(SEGMENT * r.rate)
        starts = range(0, max(1, len(r.audio) - length // 2), length)
        for start in list(starts)[::max(1, -(-len(starts) // self._each))]:
            piece = r.audio[start:start + length]
            if float(np.abs(piece).max()) < 1e-3:
                continue
            try:
                self.found.append((r.name, start / r.rate, self._encoder.embedding(piece, r.rate),
                                   spectrogram_of(piece, r.rate)))
            except UserError:  # no speech in it
                continue

    def findings(self) -> Iterator[Finding]:
        """The recordings of the smaller of two groups, where there are two."""
        if len(self.found) < 2:
            return
        embeddings = np.stack([each[2] for each in self.found])
        groups = two_groups(embeddings)
        if groups is None:
            return
        smaller = groups if groups.mean() < 0.5 else ~groups
        most = [embedding for embedding, of in zip(embeddings, smaller) if not of]
        named = set()
        for (name, second, embedding, sound), of in zip(self.found, smaller):
            if of and name not in named:
                named.add(name)
                likeness_found = cosine_to_mean(embedding, most)
                yield Finding("speaker", name, Text("At {second:.0f} s it sounds like another speaker than most of the "
                                                    "recordings do (similarity {likeness:.2f}).",
                                                    second=second, likeness=likeness_found),
                              Text("Listen to it: leave it out if it is another person. One voice in two very "
                                   "different "
                                   "ways of speaking can sound so, too."), WARNING,
                              {"similarity": round(likeness_found, 3), "second": round(second, 1)}, sound)


def two_groups(embeddings: np.ndarray) -> Optional[np.ndarray]:
    """(count, size) of length 1 -> (count,) bool, which are of the one and which of the other speaker; None where all
    are of one.

    Two means, started from the two that are farthest from each other.
    """
    likeness_of = embeddings @ embeddings.T
    first, second = np.unravel_index(int(likeness_of.argmin()), likeness_of.shape)
    one = likeness_of[:, first] > likeness_of[:, second]
    for _ in range(20):
        if one.all() or not one.any():
            return None
        means = np.stack([_unit(embeddings[one].mean(axis=0)), _unit(embeddings[~one].mean(axis=0))])
        near = embeddings @ means.T
        again = near[:, 0] > near[:, 1]
        if (again == one).all():
            break
        one = again
    if one.all() or not one.any():
        return None
    hold = float(np.where(one, near[:, 0], near[:, 1]).mean())
    return one if float(means[0] @ means[1]) < APART and hold >= HOLDS else None


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def length_findings(spoken: Sequence[float]) -> Iterator[Finding]:
    """spoken: seconds of speech of each recording."""
    total = float(sum(spoken))
    figures = {"spoken_seconds": round(total, 1), "recordings": len(spoken)}
    shown = Curve([(index + 1.0, float(value)) for index, value in enumerate(np.cumsum(spoken))], Text("recordings"),
                  Text("seconds of speech"))
    if total < LITTLE:
        yield Finding("length", "", Text("There are {total:.0f} seconds of speech in all, which is very little.",
                                         total=total),
                      Text("Record more: with three to ten minutes a voice becomes much better."), WARNING, figures,
                      shown)
    elif total < ENOUGH:
        yield Finding("length", "", Text("There are {minutes:.1f} minutes of speech in all, which is enough to begin "
                                         "with.",
                                         minutes=total / 60),
                      Text("More recordings, up to ten minutes, make the voice better."), NOTE, figures, shown)
    elif total > PLENTY:
        yield Finding("length", "", Text("There are {minutes:.0f} minutes of speech in all, which is more than a "
                                         "voice needs.",
                                         minutes=total / 60),
                      Text("The best ten to thirty minutes of them train faster, and as well."), NOTE, figures, shown)
