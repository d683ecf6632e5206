"""What a run of many voices shows while it goes on: a line for each voice that trains and one for all; or JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, TextIO

from ..messages import Text, columns_of, table, tr
from .ledger import ACTIVE, DONE, FAILED, PREPARING, TRAINING, WAITING, Entry, Ledger

WORDS = {WAITING: Text("waiting"), PREPARING: Text("preparing"), TRAINING: Text("training"), DONE: Text("done"),
         FAILED: Text("failed")}
"""What each state is called."""
TERMINAL_SECONDS, PLAIN_SECONDS, JSON_SECONDS = 0.5, 30.0, 1.0
"""Between two tellings: a terminal's lines are written over; a log gets a line for each change and one for all now and
then."""
SHOWN = 12
"""At most so many voices under way have a line of their own."""


def counts(entries: Sequence[Entry]) -> Dict[str, int]:
    """How many voices are in each state."""
    found = dict.fromkeys((WAITING, PREPARING, TRAINING, DONE, FAILED), 0)
    for entry in entries:
        found[entry.state] += 1
    return found


def seconds_left(entries: Sequence[Entry], workers: int) -> Optional[float]:
    """About how long all that is to do will take; None where nothing tells yet."""
    going = [entry for entry in entries if entry.state == TRAINING and entry.seconds_left is not None]
    whole = [entry.seconds for entry in entries if entry.state == DONE and entry.seconds > 0]
    if not whole:  # of those under way: what a step costs, over all steps
        whole = [float(entry.seconds_left or 0) * entry.steps / (entry.steps - entry.step) for entry in going
                 if 0 < entry.step < entry.steps]
    waiting = sum(entry.state in (WAITING, PREPARING) for entry in entries)
    if not whole and (waiting or not going):
        return None
    work = sum(float(entry.seconds_left or 0) for entry in going)
    work += waiting * sum(whole) / len(whole) if waiting else 0.0
    return max([work / max(1, workers), *(float(entry.seconds_left or 0) for entry in going)])


def in_short(seconds: Optional[float]) -> str:
    """"40 s", "12 min", "2 h 10 min", "?"."""
    if seconds is None:
        return "?"
    minutes = int(round(seconds / 60))
    if seconds < 90:
        return f"{max(0, int(round(seconds)))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def line_of(entry: Entry) -> str:
    """One voice under way."""
    if entry.state == PREPARING:
        return tr("{name}: preparing", name=entry.name)
    if not entry.steps:
        return tr("{name}: beginning", name=entry.name)
    return tr("{name}: step {step} of {steps}, {left} left", name=entry.name, step=entry.step, steps=entry.steps,
              left=in_short(entry.seconds_left))


def line_of_all(entries: Sequence[Entry], workers: int) -> str:
    found = counts(entries)
    return tr("all: {done} of {count} done, {training} training, {preparing} preparing, {waiting} waiting, {failed} "
              "failed; {left} left",
              done=found[DONE], count=len(entries), training=found[TRAINING], preparing=found[PREPARING],
              waiting=found[WAITING], failed=found[FAILED], left=in_short(seconds_left(entries, workers)))


def line_at_end(entry: Entry) -> str:
    """What became of a voice."""
    if entry.state == FAILED:
        return tr("{name}: failed: {why}", name=entry.name, why=entry.why)
    figures = entry.figures
    return tr("{name}: done in {seconds}; held-out log-mel L1 {heldout}, base {base}", name=entry.name,
              seconds=in_short(entry.seconds), heldout=figure(figures.get("heldout")),
              base=figure(figures.get("base_heldout")))


def figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "?"


def table_of(entries: Sequence[Entry]) -> str:
    """All voices with their figures, as columns of text."""
    rows: List[Sequence[Any]] = [[tr("voice"), tr("state"), tr("base"), tr("adapter"), tr("best step"), tr("time"),
                                  tr("bytes"), ""]]
    for entry in entries:
        f = entry.figures
        note = entry.why if entry.state == FAILED else "" if f.get("better", True) else tr("worse than the base alone")
        rows.append([entry.name, str(WORDS[entry.state]), figure(f.get("base_heldout")), figure(f.get("heldout")),
                     str(f.get("best_step", "")), in_short(entry.seconds), f"{f['bytes']:,}" if "bytes" in f else "",
                     note])
    return table(rows)


def as_json(entry: Entry) -> Dict[str, Any]:
    return {"voice": entry.name, "state": entry.state, "step": entry.step, "steps": entry.steps,
            "seconds": round(entry.seconds, 2), "seconds_left": entry.seconds_left, "why": entry.why_in_english or None,
            "figures": entry.figures, "attempt": entry.attempt}


class Lines:
    """Args:
        workers: voices trained at a time. as_json: a JSON line for each change, instead of words.
    """

    def __init__(self, ledger: Ledger, workers: int, as_json: bool = False, stream: Optional[TextIO] = None):
        self.ledger, self.workers, self.json = ledger, workers, as_json
        self.stream = stream or (sys.stdout if as_json else sys.stderr)
        self._terminal = not as_json and self.stream.isatty()
        self._last, self._lines = 0.0, 0
        self._known: Dict[str, Any] = {}

    def __call__(self) -> None:
        now = time.monotonic()
        wait = JSON_SECONDS if self.json else TERMINAL_SECONDS
        if now - self._last < wait and self._last:
            return
        self.tell(now)

    def tell(self, now: Optional[float] = None, last: bool = False) -> None:
        """Say what has changed. last: the run ends."""
        now = time.monotonic() if now is None else now
        entries = self.ledger.entries()
        if self.json:
            self._last = now
            for entry in entries:
                line = as_json(entry)
                if self._known.get(entry.name) != line:
                    self._known[entry.name] = line
                    self._print(json.dumps(line, ensure_ascii=False))
            return
        self._erase()
        for entry in entries:
            if self._known.get(entry.name) != entry.state:
                first = entry.name not in self._known
                self._known[entry.name] = entry.state
                if entry.state == FAILED or (entry.state == DONE and not (first and not self._last)):
                    self._print(line_at_end(entry))
                elif entry.state in ACTIVE and not self._terminal:
                    self._print(line_of(entry))
        if self._terminal:
            self._last = now
            shown = [line_of(entry) for entry in entries if entry.state in ACTIVE]
            shown = shown[:SHOWN] + ([f"… (+{len(shown) - SHOWN})"] if len(shown) > SHOWN else [])
            for line in [*shown, line_of_all(entries, self.workers)]:
                self._print(line)
            self._lines = 0 if last else len(shown) + 1
        elif last or not self._last or now - self._last >= PLAIN_SECONDS:
            self._last = now
            self._print(line_of_all(entries, self.workers))

    def _erase(self) -> None:
        """Go back over the lines of the last telling."""
        if self._lines:
            self.stream.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0

    def _print(self, line: str) -> None:
        if self._terminal:
            line = _cut(line, 118)
        print(line, file=self.stream, flush=True)


def _cut(line: str, most: int) -> str:
    """A line that a terminal does not break: what is written over must take one row."""
    while columns_of(line) > most:
        line = line[:-2] + "…"
    return line
