"""Training that is none, for the simulation of `many_voices.py`: imports nothing, so that a hundred workers fit a small
machine."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any, Dict, Iterator, Tuple

STEPS = 3


def fake(name: str, attempt: int, killed: float, seconds: float) -> Iterator[Tuple[Any, ...]]:
    """The body of a task: some steps, in the middle of which the worker is killed in a share `killed` of the cases."""
    chance = random.Random(f"{name} {attempt}")
    dies, at = chance.random() < killed, chance.randrange(STEPS)
    for step in range(STEPS):
        time.sleep(seconds / STEPS)
        if dies and step == at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield ("step", step + 1, STEPS, 0.0)
    figures: Dict[str, Any] = {"steps": STEPS, "total_steps": STEPS, "version": "v2", "better": True}
    yield ("done", figures, {f"{name}.safetensors": name.encode()})
