"""What Ctrl-C and a request to end mean while training: finish the step and save."""

from __future__ import annotations

import os
import signal
from typing import Any, Callable, Optional

from ..messages import tr
from .trainer import Trainer


def handle_signals(trainer: Optional[Trainer]) -> Callable[[], None]:
    """SIGINT and SIGTERM finish the step and save; a second SIGINT, or either where `trainer` is None yet, stops
    at once.

    Returns what puts the former handlers back.
    """

    def ask(number: int, _frame: Any) -> None:
        if trainer is None or (trainer.stop_asked and number == signal.SIGINT):
            raise KeyboardInterrupt
        trainer.stop_asked = True
        # Not through sys.stderr, which the signal may have interrupted in the middle of a line.
        os.write(2, tr("\nstopping after this step; Ctrl-C again stops at once without saving\n").encode())

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def undo() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return undo
