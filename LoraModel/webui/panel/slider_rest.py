"""A slider that is dragged sends every step on its way: only the one on which it comes to rest is acted on."""

from __future__ import annotations

import itertools
import threading
import time

DRAG = 0.15
"""Seconds for which it must rest."""


class SliderRest:
    """For one slider, or several of which the last to move counts."""

    def __init__(self) -> None:
        self._steps, self._lock, self._last = itertools.count(1), threading.Lock(), 0

    def passed(self) -> bool:
        """Wait as long as it must rest; whether it moved on meanwhile, so that the step which asks is let go."""
        with self._lock:
            step = self._last = next(self._steps)
        time.sleep(DRAG)
        return step != self._last
