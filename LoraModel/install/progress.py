"""What run.py shows while pip works. Standard library only."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from ..messages import tr


class Progress:
    """One step's line: rewritten each second on a terminal, a new line every 15 seconds elsewhere.

    Args:
        title: what the step does.
        total: how many packages are expected; 0 if that is not known.
    """

    def __init__(self, title: str, total: int = 0):
        self.title, self.total = title, total
        self.seen, self.now = 0, ""  # packages met so far; what pip is at
        self.begun = self.shown = time.monotonic()
        self.terminal = sys.stdout.isatty()
        if not self.terminal:
            print(title, flush=True)

    def line(self, text: str) -> None:
        """Take in one line of pip's output."""
        words = text.split()
        if not words:
            return
        if words[0] in ("Collecting", "Processing"):
            self.seen, self.now = self.seen + 1, Path(words[1]).name
        elif words[0] == "Downloading":
            self.now = text.strip()
        elif text.startswith("Installing collected packages"):
            count = text.count(",") + 1
            self.now = tr("unpacking {count} packages", count=count)

    def tick(self) -> None:
        """Show where the step is, if it is time to."""
        now = time.monotonic()
        if now - self.shown < (1 if self.terminal else 15):
            return
        self.shown = now
        count = f"{self.seen}/{self.total} " if self.total else (f"{self.seen} " if self.seen else "")
        text = f"  {now - self.begun:.0f} s  {count}{self.now}"
        if self.terminal:
            width = max(20, shutil.get_terminal_size().columns - 1)
            text = "\r" + (self.title + text)[:width].ljust(width)
        print(text, end="" if self.terminal else "\n", flush=True)

    def done(self, code: int) -> None:
        """Close the line."""
        result = tr("done") if code == 0 else tr("failed (exit code {code})", code=code)
        start = "\r" + self.title if self.terminal else " "
        print(f"{start}  {result}, {time.monotonic() - self.begun:.0f} s".ljust(70 if self.terminal else 0), flush=True)
