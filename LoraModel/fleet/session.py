"""A run of many voices from its beginning, or from where it was, to its report."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch

from .. import folder_lock
from ..devices import available
from ..files import check_folder_place
from ..host import Host
from ..messages import Text, UserError
from ..models import Base, load_base_beside_config
from ..training.checkpoint import RUN_FILE
from ..training.validate import check_base
from .ledger import DONE, FILE, Entry, Ledger
from .local import Local
from .manifest import Refused, Voice, check_settings
from .progress import Lines
from .report import write_report
from .work import Work

LOCK_FILE = ".lock"
LIST_KEY = "adapters"
"""In the state file: the folder in which adapters are listed, where whoever made the run has one of its own."""
DYING_SECONDS = 10.0
"""Workers of a run that was killed hold its lock until they have noticed."""
TOGETHER_ON_GPU = 8


class Session:
    """The run in a folder.

    Args:
        output: the run's folder, absolute.

    Attributes:
        ledger: its state file.
    """

    def __init__(self, output: Path):
        self.output, self.lock = output, output / LOCK_FILE
        self._owner = 0
        check_output(output)
        self.ledger = Ledger(output)

    # What it is

    @property
    def work(self) -> Optional[Work]:
        """What its voices share; None where nothing was begun yet."""
        text = self.ledger.get("work")
        return None if text is None else Work.from_text(text)

    def begin(self, work: Work) -> None:
        """Let the run be one of `work`. Another base than before is taken only where every voice names the base that it
        is trained on, as in the page's queue: none depends on the run's then.

        Raises:
            UserError: the folder belongs to a run on another base.
        """
        former = self.work
        if former is not None and former.base_hash != work.base_hash:
            if not all("base_model" in entry.settings for entry in self.ledger.entries()):
                raise _other_base(self.output, former, former.base_model == work.base_model)
        self.ledger.put("work", work.to_text())

    # Working

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold OUT/.lock, and take up again what a run before left under way.

        Raises:
            UserError: another process works on this run.
        """
        until = time.monotonic() + DYING_SECONDS
        while True:
            held = folder_lock.hold(self.lock, self._taken)
            try:
                held.__enter__()
                break
            except UserError:
                if time.monotonic() > until or _alive(self._owner):
                    raise
                time.sleep(0.1)
        try:
            self.ledger.recover()
            yield
        finally:
            held.__exit__(None, None, None)

    def _taken(self, pid: int) -> UserError:
        who = Text(" (process {pid})", pid=pid) if pid else ""
        self._owner = pid
        return UserError("another process{who} works on the voices of {folder}: wait for its end, or stop it",
                         who=who, folder=self.output)

    def enter(self, voices: Sequence[Voice], refused: Sequence[Refused]) -> None:
        """Make `voices` those of this run: what is done of them stays so, what has failed is tried again."""
        self.ledger.keep_only([*(voice.name for voice in voices), *(one.name for one in refused)])
        self.ledger.add(voices, refused)

    def done_otherwise(self, voices: Sequence[Voice], before: Optional[Work], now: Work) -> List[str]:
        """Those of `voices` that are done, with settings other than they would have now."""
        done = {entry.name: entry for entry in self.ledger.entries() if entry.state == DONE}
        changed = before is not None and before.settings != now.settings
        return [voice.name for voice in voices if voice.name in done
                and (changed or done[voice.name].settings != voice.settings)]

    def finish(self) -> List[Entry]:
        """Write the report; all voices, as they stand."""
        entries, work = self.ledger.entries(), self.work
        if work is not None and entries:
            write_report(work, entries)
        return entries

    def local(self, base: Base, work: Work, workers: Optional[int] = None, together: Optional[int] = None) -> Local:
        """The engine of this machine."""
        devices = devices_of(str(work.settings.get("device", "auto")))
        if together is None:
            together = 1 if devices[0] == "cpu" else TOGETHER_ON_GPU
        return Local(self.ledger, work, base, workers, together, devices)

    def lines(self, workers: int, as_json: bool) -> Lines:
        return Lines(self.ledger, workers, as_json)


def _other_base(output: Path, former: Work, changed: bool) -> UserError:
    """What to say of a base that is not the run's. changed: it is the same file with other contents."""
    if changed:
        return UserError("{former} was changed since the run in {folder} began: put the former file there again, or "
                         "choose another --output_dir", former=former.base_model, folder=output)
    return UserError("{folder} holds a run on another base ({former}): choose another --output_dir, or that base",
                     folder=output, former=former.base_model)


def _alive(pid: int) -> bool:
    if not pid or os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def check_output(output: Path) -> None:
    """
    Raises:
        UserError: `output` holds something else, or nothing can be written there.
    """
    check_folder_place(output)
    if (output / FILE).exists():
        return
    if (output / RUN_FILE).exists():
        raise UserError("{folder} holds the run of one voice: choose another --output_dir", folder=output)
    if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise UserError("{folder} holds files that are not of a run of many voices: choose another --output_dir, or an "
                        "empty folder", folder=output)


def load(host: Host, base_model: str, sample_rate: Optional[int], config_json: Optional[str]) -> Base:
    """The base that all voices share. From here on PyTorch computes on one thread: a process that forks must not have
    started others.

    Raises:
        UserError: it cannot be used, or cannot be trained on.
    """
    torch.set_num_threads(1)
    base = load_base_beside_config(base_model, host, sample_rate, config_json)
    check_base(base.info)
    return base


def work_of(base: Base, output: Path, settings: Dict[str, Any], host: Host, **more: Any) -> Work:
    """What the voices of a run share. settings: of TrainConfig.

    Raises:
        UserError: a setting is unknown, or cannot be.
    """
    return Work(base_model=place_of(base), base_hash=base.info.base_hash, output=str(output),
                settings=check_settings(settings), rvc_root=str(host.root) if host.root is not None else None, **more)


def place_of(base: Base) -> str:
    """The base's file, as `Work` names it."""
    return os.path.abspath(str(base.info.path))


def devices_of(name: str) -> List[str]:
    """The devices to train on: for "auto" all GPUs of this machine, else its CPU; for "cuda" all of them."""
    if name == "cpu":
        return ["cpu"]
    if name in ("auto", "cuda"):
        gpus = [device for device in available() if device.startswith("cuda")]
        return gpus or ["cpu"]
    return [name]
