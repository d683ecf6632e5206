"""The queue of the page: voices that are trained one after another, or as many at once as the machine bears. Knows no
page; scripts may use it too.

It is a run of many voices (`fleet`) in logs/.rvc-lora/queue. A process of its own works on it (`training.train_many`),
so it goes on when the page or the WebUI closes; any page finds it again by the state file, which both change in
transactions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...files import atomic_write
from ...fleet.ledger import ACTIVE, FAILED, WAITING, Entry, Ledger
from ...fleet.manifest import Voice, check_recordings
from ...fleet.progress import WORDS
from ...fleet.session import LIST_KEY, Session
from ...host import experiment as layout
from ...messages import UserError
from ...preparation.fingerprint import Record
from ...preparation.steps import check_folder
from ...training.in_programs import is_experiment
from ..folders import Folders
from . import processes
from .run_log import tail
from .run_settings import RunSettings
from .runs import CODE, child_environment


class Queue:
    """Args:
        language: such as "en" or "zh", of what the process says; None for the system's.
    """

    def __init__(self, folders: Folders, language: Optional[str] = None):
        self.folders, self.language = folders, language
        self.folder = folders.own / "queue"

    @property
    def ledger(self) -> Ledger:
        """The state file; nothing is made for an empty queue.

        Raises:
            UserError: nothing was ever queued.
        """
        if not self.begun:
            raise UserError("the queue is empty: add a voice first")
        return Ledger(self.folder)

    @property
    def paused(self) -> bool:
        return self.begun and self.ledger.paused

    @property
    def begun(self) -> bool:
        """Whether anything was ever queued."""
        return (self.folder / "fleet.sqlite").is_file()

    # What the page asks

    def add(self, settings: RunSettings, recordings: Any) -> None:
        """Put a voice at the end, and see that somebody works on the queue.

        Args:
            recordings: a folder of recordings; "" where logs/NAME is prepared already. What is prepared of them is
                used as it is.

        Raises:
            UserError: something of it cannot be; it is under way, or done.
        """
        config = settings.train_config(self.folders)
        experiment = self.folders.experiment(settings.name)
        source = self._source(settings, experiment, recordings)
        own = source == experiment and is_experiment(experiment)
        values: Dict[str, Any] = {
            "base_model": os.path.abspath(config.base_model), "base_d": config.base_d, "lora": config.lora,
            "epochs": config.epochs, "batch_size": config.batch_size, "save_every": config.save_every,
            "device": config.device}
        voice = Voice(experiment.name, os.path.abspath(str(source)), values, own)
        check_recordings(voice)
        ledger = Ledger(self.folder)
        known = {entry.name: entry for entry in ledger.entries()}.get(voice.name)
        if known is not None and known.state not in (WAITING, FAILED):
            raise UserError("{name} is in the queue already ({state}): remove it first, or choose another name",
                            name=voice.name, state=WORDS[known.state])
        ledger.add([voice])
        if ledger.get(LIST_KEY) is None:
            ledger.put(LIST_KEY, str(self.folders.adapter(voice.name).parent))
        self._keep(voice.name, settings)
        self.see_to_it(asked=True)

    def _source(self, settings: RunSettings, experiment: Path, recordings: Any) -> Path:
        """What a voice is trained on: its experiment folder, where that has all it needs and nothing says that it is of
        other recordings than the given ones; else the recordings, of which the queue makes what is missing.

        Raises:
            UserError: there is neither.
        """
        given = self.folders.root / Path(str(recordings)).expanduser() if recordings else experiment
        clips, record = layout.complete_clips(experiment, settings.version, settings.f0), Record(experiment)
        ready = bool(clips) or (experiment / layout.FILELIST).is_file()
        if _same(given, experiment):
            if not ready and (is_experiment(experiment) or not recordings and experiment.is_dir()):
                raise UserError("{experiment} is not prepared to its end: give the folder of its recordings, or "
                                "extract its features first", experiment=experiment)
            return experiment
        unfinished = bool(layout.stems(experiment / layout.WAVS, ".wav") - clips)
        other = unfinished or record.source != "" and not _same(Path(record.source), given)
        if ready and not (record.known and other):
            return experiment
        if self.folders.is_checkout:
            check_folder(experiment)
        return given

    def move(self, name: str, places: int) -> None:
        """Move a voice that waits up (negative) or down."""
        self.ledger.move(name, places)

    def remove(self, name: str) -> None:
        """Take a voice off the queue; what is trained of it stays.

        Raises:
            UserError: it is under way, or not there.
        """
        if not self.ledger.remove(name):
            raise UserError("{name} is under way, or not in the queue: pause the queue first", name=name)

    def pause(self) -> None:
        """Begin nothing more; what trains saves and waits."""
        self.ledger.pause(True)

    def resume(self) -> None:
        """Go on; what has failed is tried again."""
        ledger = self.ledger
        ledger.pause(False)
        for entry in ledger.entries():
            if entry.state == FAILED and entry.recordings:
                ledger.again(entry.name)
        self.see_to_it(asked=True)

    # The process

    def works(self) -> bool:
        """Whether a process works on the queue."""
        return processes.alive(self._process())

    def check_free(self, experiment: Path) -> None:
        """
        Raises:
            UserError: the queue is making this experiment folder, or training on it.
        """
        if self.works() and any(entry.state in ACTIVE and (
                entry.name == experiment.name or entry.data_dir and _same(Path(entry.data_dir), experiment))
                for entry in self.entries()):
            raise UserError("the queue is at work on {name}: wait for the end of it, or pause the queue first",
                            name=experiment.name)

    def see_to_it(self, asked: bool = False) -> None:
        """Start the process where there is work and none is there.

        asked: by a user, who may try again what ended in an error. Without, it is started only where the last one ended
        by itself: a voice that was added in its last moment must not wait for ever.
        """
        if not self.begun:
            return
        with processes.locked(self.folders.own / "queue.lock"):
            process, ledger = self._process(), self.ledger
            if processes.alive(process) or ledger.paused:
                return
            waiting = [entry for entry in ledger.entries() if entry.state not in ("done", FAILED)]
            ended = float(ledger.get("ended") or 0.0)
            if not waiting or not (asked or ended >= float(process.get("started", time.time()))):
                return
            script = CODE / "LoraModel" / "training" / "train_many.py"
            command = [sys.executable, str(script), "--output_dir", str(self.folder), "--base_model",
                       self._shared_base(waiting)]
            environment = child_environment(self.folders, self.language)
            started = time.time()
            record = processes.spawn(command, self.folders.root, environment, self.log)
            atomic_write(self.folder / "process.json", json.dumps({**record, "started": started}).encode())

    def _shared_base(self, waiting: List[Entry]) -> str:
        """The base that the process holds for all voices on it, while the others are each trained on their own: the one
        of the process before, as long as a voice asks for it, else the first one's. One that is gone is passed over."""
        work = Session(self.folder).work
        former = work.base_model if work is not None else None
        bases = [str(entry.settings.get("base_model", former)) for entry in waiting]
        bases.sort(key=lambda base: base != former)
        return next((base for base in bases if os.path.isfile(base)), bases[0])

    @property
    def log(self) -> Path:
        return self.folder / "queue.log"

    def _process(self) -> Dict[str, Any]:
        try:
            value = json.loads((self.folder / "process.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _keep(self, name: str, settings: RunSettings) -> None:
        """The form that a voice was queued with."""
        atomic_write(self.folder / "forms" / f"{name}.json", json.dumps(asdict(settings)).encode())

    # What the page shows

    def entries(self) -> List[Entry]:
        """All voices of the queue, in order."""
        return self.ledger.entries() if self.begun else []

    def status(self) -> Dict[str, Any]:
        """Where everything stands, for scripts."""
        if not self.begun:
            return {"works": False, "paused": False, "voices": [], "log": []}
        entries = self.entries()
        return {"works": self.works(), "paused": self.ledger.paused, "log": tail(self.log, 6), "voices": [
            {"name": entry.name, "state": entry.state, "step": entry.step, "steps": entry.steps,
             "seconds_left": entry.seconds_left, "seconds": round(entry.seconds, 1), "why": entry.why_in_english,
             "heldout": entry.figures.get("heldout"), "base": entry.figures.get("base_heldout")} for entry in entries]}


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of one place, whether anything is there or not."""
    return os.path.normcase(os.path.realpath(str(one))) == os.path.normcase(os.path.realpath(str(other)))
