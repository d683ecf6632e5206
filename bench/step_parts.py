"""Where the time of a step goes."""

from __future__ import annotations

import time
from typing import Any, Dict, Sequence

import torch

from LoraModel.training import Trainer


class Clock:
    """Adds seconds to parts by their name: each call counts what passed since the one before."""

    def __init__(self, parts: Dict[str, float], device: torch.device):
        self._parts, self._device, self._then = parts, device, time.perf_counter()

    def part(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._parts[name] = self._parts.get(name, 0.0) + now - self._then
        self._then = now


class OurStep:
    """Our trainer's step with a clock on it. What follows a forward until the next part is counted as its loss and
    backward.

    Attributes:
        parts: seconds of all steps so far.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.parts: Dict[str, float] = {}
        self._clock, self._after = Clock(self.parts, trainer.device), "batch"
        self._time(trainer.posteriors, "batch", "batch", "batch")
        self._time(trainer.model, "prior", "prior forward", "prior backward")
        self._time(trainer.model, "decode", "decoder forward", "decoder backward")
        if trainer.adversary is not None:
            self._time(trainer.adversary, "update", "D forward and backward", "decoder backward")
        self._time(trainer.optimizer, "step", "optimiser", "optimiser")

    def __call__(self, indices: Sequence[int]) -> None:
        self._clock, self._after = Clock(self.parts, self.trainer.device), "batch"
        self.trainer.step(indices)
        self._clock.part(self._after)

    def _time(self, owner: Any, method: str, name: str, after: str) -> None:
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._clock.part(self._after)
            try:
                return inner(*args, **kwargs)
            finally:
                self._clock.part(name)
                self._after = after

        setattr(owner, method, timed)
