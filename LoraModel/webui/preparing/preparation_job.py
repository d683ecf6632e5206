"""What the steps before training are asked to do, and how far they are."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..runs.run_settings import RunSettings

STEPS = ("preprocess", "extract", "index", "train")


@dataclass
class Preparation:
    """Steps under way, or done.

    Attributes:
        steps: of STEPS. settings, recordings, f0_method, anew: as asked for. source: the folder of recordings, where a
            step needs it.
        step: the one under way, "" when all is over. texts: what each step printed. notes: what is to stand before.
        error: what broke it off, else None. failed: the step that did not come to its end. finished: those that did.
        expected: seconds that each step is expected to take. begun: when each began, on the monotonic clock.
        seconds: of all recordings. run_started: the start of the run that the last step began, as `Status.started`.
    """

    steps: Sequence[str]
    settings: RunSettings
    recordings: str
    f0_method: str
    anew: bool
    source: Optional[Path]
    step: str = ""
    texts: Dict[str, str] = field(default_factory=dict)
    notes: Dict[str, str] = field(default_factory=dict)
    error: Optional[Exception] = None
    failed: str = ""
    finished: List[str] = field(default_factory=list)
    expected: Dict[str, float] = field(default_factory=dict)
    begun: Dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run_started: float = 0.0
    stop_asked: bool = False
    thread: Optional[threading.Thread] = None
    process: Optional[Dict[str, Any]] = None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def active(self) -> bool:
        return self.thread is not None and self.thread.is_alive()
