"""How long a run is, and its learning rate: over a number of epochs that is known, or until nothing improves.

`Fixed`: a linear rise, then a cosine over all steps. `Auto` needs no length: a linear rise, a rate that stays (stable)
until the clips kept out have not improved for a while, then a fall along one minus the square root (decay), and the
end: warmup-stable-decay (Hu et al., "MiniCPM", 2024, arXiv:2404.06395; the fall's form: Hägele et al. 2024,
arXiv:2405.18392).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Dict, Optional

from .config import AUTO, TrainConfig

LOOK = 10
"""Steps between two saves of `Auto`, times `save_every`."""
PATIENCE = 4
"""Saves without a gain after which the fall begins, where the settings name no other number."""
GAIN = 0.003
"""By so much of the best a save must be better to count as a gain: less is noise, or not worth the time."""
FALL, LEAST_FALL = 0.3, 20
"""Steps of the fall over those before it, and at least so many."""
LEAST_STABLE, MOST_STABLE = 30, 300
"""Steps of the rate that stays."""


class Schedule(ABC):
    """Of one run.

    Attributes:
        total_steps: after which it ends at the latest.
    """

    total_steps: int

    def __init__(self, config: TrainConfig):
        self._config = config

    def rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps."""
        c = self._config
        if step < c.warmup_steps:
            return c.lr * (step + 1) / c.warmup_steps
        return c.lr * (c.lr_final + (1 - c.lr_final) * self._height(step))

    @abstractmethod
    def _height(self, step: int) -> float:
        """Where the rate is between its lowest, 0, and its peak, 1."""

    @abstractmethod
    def due(self, step: int) -> bool:
        """Whether a save comes after `step` steps."""

    @property
    @abstractmethod
    def saves(self) -> int:
        """How many there will be at most."""

    def judged(self, value: float, step: int) -> None:  # noqa: B027  (of no meaning where the length is known)
        """A save was measured: `Score.value` without what networks judged, lower is better."""

    @abstractmethod
    def over(self, step: int, without_gain: int) -> bool:
        """Whether the run ends after `step` steps. without_gain: saves since the best one."""

    def tired(self, without_gain: int) -> bool:
        """Whether patience ends it before its steps are done."""
        return False

    def state(self) -> Optional[Dict[str, Any]]:
        """What a resumed run needs."""
        return None

    def restore(self, state: Any) -> None:  # noqa: B027  (nothing to take back where there is no state)
        """Take back what `state` gave, None where it was saved by another schedule; raises where it is damaged."""


class Fixed(Schedule):
    """`epochs` passes over the clips, or fewer where `patience` runs out."""

    def __init__(self, config: TrainConfig, steps_per_epoch: int):
        super().__init__(config)
        self._epochs = config.passes()
        self._steps = steps_per_epoch
        self.total_steps = self._epochs * steps_per_epoch

    def _height(self, step: int) -> float:
        c = self._config
        through = min(1.0, (step - c.warmup_steps) / max(1, self.total_steps - c.warmup_steps))
        return 0.5 * (1 + math.cos(math.pi * through))

    def due(self, step: int) -> bool:
        epoch, rest = divmod(step, self._steps)
        return rest == 0 and (epoch % self._config.save_every == 0 or epoch == self._epochs)

    @property
    def saves(self) -> int:
        return -(-self._epochs // self._config.save_every)

    def over(self, step: int, without_gain: int) -> bool:
        return step >= self.total_steps or self.tired(without_gain)

    def tired(self, without_gain: int) -> bool:
        return 0 < self._config.patience <= without_gain


class Auto(Schedule):
    """Ends by itself.

    Attributes:
        falls_from: the step from which the rate falls; None before that is known.
    """

    def __init__(self, config: TrainConfig):
        super().__init__(config)
        self._look = LOOK * config.save_every
        self.falls_from: Optional[int] = None
        self._best, self._best_step = math.inf, 0

    @property
    def total_steps(self) -> int:  # type: ignore[override]
        start = MOST_STABLE if self.falls_from is None else self.falls_from
        return start + fall_steps(start)

    def _height(self, step: int) -> float:
        if self.falls_from is None or step < self.falls_from:
            return 1.0
        through = (step - self.falls_from) / fall_steps(self.falls_from)
        return 1 - math.sqrt(min(1.0, through))

    def due(self, step: int) -> bool:
        return step % self._look == 0 or step == self.total_steps

    @property
    def saves(self) -> int:
        return -(-self.total_steps // self._look) + 1

    def judged(self, value: float, step: int) -> None:
        if self.falls_from is not None:
            return
        if value < self._best * (1 - GAIN):
            self._best, self._best_step = value, step
        waited = (step - self._best_step) // self._look
        tired = step >= LEAST_STABLE and waited >= (self._config.patience or PATIENCE)
        if tired or step >= MOST_STABLE:
            self.falls_from = step

    def over(self, step: int, without_gain: int) -> bool:
        return self.falls_from is not None and step >= self.total_steps

    def state(self) -> Optional[Dict[str, Any]]:
        return {"falls_from": self.falls_from, "best": self._best, "best_step": self._best_step}

    def restore(self, state: Any) -> None:
        if state is None:
            return
        falls_from, best, best_step = (state[key] for key in ("falls_from", "best", "best_step"))
        if not (falls_from is None or type(falls_from) is int and falls_from >= 0) or type(
                best) is not float or math.isnan(best) or type(best_step) is not int or best_step < 0:
            raise ValueError("schedule")
        self.falls_from, self._best, self._best_step = falls_from, best, best_step


def fall_steps(start: int) -> int:
    """Steps of the fall after `start` steps."""
    return max(LEAST_FALL, int(FALL * start))


def most_steps() -> int:
    """Steps of the longest run that ends by itself."""
    return MOST_STABLE + fall_steps(MOST_STABLE)


def schedule_of(config: TrainConfig, steps_per_epoch: int) -> Schedule:
    """The schedule that the settings ask for."""
    return Auto(config) if config.epochs == AUTO else Fixed(config, steps_per_epoch)
