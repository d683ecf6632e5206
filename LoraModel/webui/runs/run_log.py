"""What a run's files tell while it goes on: losses, time left, samples, last lines. Read little by little, however
long they are."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ...training.checkpoint import RUN_FILE
from ...training.losses import DECODER_LOSSES
from ...training.monitor import LOG_FILE, SAMPLES

RECENT = 20  # steps whose mean duration is taken
TAIL_BYTES = 1 << 16
PARTLY = (*DECODER_LOSSES, "disc", "gen", "fm", "total")
"""Losses that only those steps have in which the decoder learns: of the others the newest stands."""


STATES = ("running", "stopped", "done", "failed")


@dataclass
class RunRecord:
    """What run.json says, of the right types: an experiment folder may be a stranger's, and a file half written.

    Attributes:
        there: whether there is one. state: of STATES, or "". base_heldout, best_heldout: held-out log-mel L1 of the
        base alone and of the best adapter; None where there was no evaluation. previews: file names of the held-out
        clips that are kept at each save.
    """

    there: bool = False
    state: str = ""
    steps: int = 0
    total_steps: int = 0
    steps_per_epoch: int = 0
    epochs: int = 0
    best_step: int = 0
    base_heldout: Optional[float] = None
    best_heldout: Optional[float] = None
    previews: Tuple[str, ...] = ()


def read_run(folder: Path) -> RunRecord:
    """run.json of a run's folder; what is missing or no such value keeps its default."""
    try:
        contents = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return RunRecord()
    if not isinstance(contents, dict):
        return RunRecord()
    record, config = RunRecord(there=True), contents.get("config")
    record.state = contents["state"] if isinstance(contents.get("state"), str) and contents["state"] in STATES else ""
    for field in fields(record):  # named as the trainer names them in run.json
        value = contents.get(field.name)
        if field.type == "int":
            setattr(record, field.name, _count(value))
        elif field.type == "Optional[float]":
            setattr(record, field.name, float(value) if _number(value) else None)
    previews = contents.get("previews")
    record.previews = tuple(name for name in previews if isinstance(name, str)) if isinstance(previews, list) else ()
    record.epochs = _count(config.get("epochs")) if isinstance(config, dict) else 0
    return record


class LogReader:
    """The lines of train.jsonl, each read once, however many pages ask at the same time.

    Attributes:
        last: the newest line, with the newest of each loss. losses: name -> [(step, value), …] of every step. heldout:
            of every save.
    """

    def __init__(self, folder: Path):
        self._path = folder / LOG_FILE
        self._reading = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._file: Optional[Tuple[int, int]] = None
        self._offset = 0
        self.last: Dict[str, Any] = {}
        self.losses: Dict[str, List[Tuple[int, float]]] = {}
        self.heldout: List[Tuple[int, float]] = []
        self._seconds: List[float] = []

    def read(self) -> None:
        """Take in the lines that came since the last call; a file that was begun anew is read from its start."""
        with self._reading:
            self._read()

    def _read(self) -> None:
        try:
            with open(str(self._path), "rb") as stream:
                stat = self._path.stat()
                if self._file != (stat.st_dev, stat.st_ino) or stat.st_size < self._offset:
                    self._clear()
                    self._file = (stat.st_dev, stat.st_ino)
                stream.seek(self._offset)
                data = stream.read()
        except OSError:
            self._clear()
            return
        whole = data[: data.rfind(b"\n") + 1]  # the newest line may be half written
        self._offset += len(whole)
        for text in whole.splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and _count(line.get("step")):
                self._take(line)

    def _take(self, line: Dict[str, Any]) -> None:
        self.last = {**{key: self.last[key] for key in PARTLY if key in self.last}, **line}
        for key in ("mel", "kl", "total"):
            if _number(line.get(key)):
                self.losses.setdefault(key, []).append((line["step"], float(line[key])))
        if _number(line.get("heldout_mel")):
            self.heldout.append((line["step"], float(line["heldout_mel"])))
        if _number(line.get("seconds")):
            self._seconds = [*self._seconds[1 - RECENT:], float(line["seconds"])]

    def number(self, key: str) -> int:
        """A count of the newest line, such as its step."""
        return _count(self.last.get(key))

    def seconds_step(self) -> Optional[float]:
        """Mean duration of the newest steps."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None


def _number(value: Any) -> bool:
    """Whether it is a finite number. The size first: a whole number of thousands of digits has no float."""
    return isinstance(value, (int, float)) and not isinstance(value,
                                                              bool) and abs(value) < 1e300 and math.isfinite(value)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def saves(folder: Path) -> List[Tuple[int, Path]]:
    """(step, first clip) of each save that has clips, the newest last."""
    found = []
    for path in (folder / SAMPLES).glob("step*_0.flac"):
        match = re.fullmatch(r"step(\d+)_0\.flac", path.name)
        if match:
            found.append((int(match.group(1)), path))
    return sorted(found)


def newest_samples(folder: Path) -> Tuple[int, List[str]]:
    """(step, files) of the newest save's clips; (-1, []) where there are none yet."""
    found = saves(folder)
    if not found:
        return -1, []
    step, first = found[-1]
    return step, [str(path) for path in (first, first.with_name(first.name.replace("_0.flac", "_1.flac")))
                  if path.is_file()]


def seconds_left(folder: Path, started: float, step: int, total: int, seconds_step: Optional[float]) -> Optional[float]:
    """Time to the end, saves and their evaluations included: by the time between the newest saves since `started`
    (seconds of the clock), else by the duration of the newest steps."""
    marks = []
    for number, path in saves(folder)[-4:]:
        try:
            when = path.stat().st_mtime
        except OSError:
            continue
        if when >= started and number:
            marks.append((number, when))
    pace = seconds_step
    if len(marks) >= 2 and marks[-1][0] > marks[0][0]:
        pace = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    return None if pace is None or total <= 0 else max(0, total - step) * pace


def tail(path: Path, lines: int) -> List[str]:
    """The last lines of a log as a terminal would show them: of a progress bar, its newest state."""
    try:
        with open(str(path), "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            data = stream.read()
    except OSError:
        return []
    shown = []
    for line in re.split(r"\r?\n", data.decode("utf-8", "replace")):
        states = [state.rstrip() for state in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).split("\r") if state.strip()]
        if states:
            shown.append(states[-1])
    return shown[-lines:]
