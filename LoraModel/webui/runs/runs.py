"""Training runs of the page: started, watched, stopped and resumed. Knows no page; scripts may use it too.

A run is a process of its own (`worker`), in logs/NAME/lora. Everything that is known of it lies in that folder, so
that any WebUI, a second page or the same one after a restart, finds the run that goes on:

    job.json       what was asked for, and the options of train_lora
    process.json   the process: its id and the moment it began, when it was started, whether it was asked to stop, and
    when run.json
                   had been written before it
    exit.json      its exit code, once it has ended by itself, and which start that belongs to
    page.log       what it printed
    run.json, train.jsonl, samples/ ...   the trainer's own
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...commands import parse_rate
from ...files import atomic_write
from ...messages import UserError, language
from ...training.checkpoint import RUN_FILE, STATE_FILE
from ...training.config import TrainConfig
from ...training.publishing import may_replace
from ...training.trainer import STOP_FILE
from ..folders import Folders
from . import processes
from .run_log import LogReader, RunRecord, newest_samples, read_run, seconds_left, tail
from .run_settings import RunSettings

CODE = Path(__file__).resolve().parents[3]
"""The folder that holds LoraModel/."""

ACTIVE = ("starting", "running", "stopping")


@dataclass
class Status:
    """Where a run stands.

    Attributes:
        state: none (never started), starting, running, stopping, stopped, done, failed (with a reason), broken (ended
            without a word).
        seconds_left: until the end; None where it is not known yet. seconds_step: of the newest steps.
        losses: of the newest step. best, base: held-out log-mel L1 of the best adapter and of the base alone.
        verdict: "" while it is not known, "better" than the base alone on the held-out clips, "worse", or
        "unevaluated" where the run ended before its first evaluation. Only a better adapter is put into the list.
        samples: files of the newest save's clips. sample_step: which save's. adapter: in the list of adapters, ""
            until there is one.
        started: when its process was started, in seconds of the clock; 0 where none was.
        log: last lines of what the run printed. resumable: whether there is a save to go on from.
    """

    name: str
    state: str = "none"
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    seconds_left: Optional[float] = None
    seconds_step: Optional[float] = None
    losses: Dict[str, float] = field(default_factory=dict)
    base: Optional[float] = None
    best: Optional[float] = None
    best_step: int = 0
    verdict: str = ""
    samples: List[str] = field(default_factory=list)
    sample_step: int = -1
    adapter: str = ""
    started: float = 0.0
    log: List[str] = field(default_factory=list)
    resumable: bool = False

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


class Runs:
    """The runs of one folder.

    Args:
        language: such as "en" or "zh", of what the runs say; None for the system's.
    """

    def __init__(self, folders: Folders, language: Optional[str] = None):
        self.folders, self.language = folders, language
        self._readers: Dict[Path, LogReader] = {}

    @property
    def lock(self) -> Path:
        return self.folders.own / "lock"

    # Starting

    def start(self, settings: RunSettings, anew: bool = False) -> Status:
        """Start a run.

        Args:
            anew: put an earlier run of the experiment aside (logs/NAME/lora.1 …) and begin from the first step.

        Raises:
            UserError: it goes on already, or something of the settings cannot be; nothing was started.
        """
        config = settings.train_config(self.folders)
        folder = self.folders.run(settings.name)
        if not folder.parent.is_dir():
            raise UserError("there is no experiment folder {parent}: process the data and extract the features first",
                            parent=folder.parent)
        with processes.locked(self.lock):
            self.check_start(settings, anew)
            if (folder / STATE_FILE).is_file():
                number = next(n for n in range(1, 10000) if not folder.with_name(f"lora.{n}").exists())
                folder.rename(folder.with_name(f"lora.{number}"))
            return self._launch(settings, config, resume=False)

    def resume(self, name: str, epochs: Optional[int] = None) -> Status:
        """Resume a run that was stopped, failed or is done.

        Args:
            epochs: a new number of epochs in all; None keeps the run's.

        Raises:
            UserError: there is nothing to resume, or it is running already.
        """
        folder = self.folders.run(name)
        with processes.locked(self.lock):
            asked = self._read(folder, "job.json").get("settings")
            if not isinstance(asked, dict):
                raise UserError("{name} has no run that was started here: press Train model to start one", name=name)
            # The folder's name goes before the one that was asked for: an experiment that was renamed is still the
            # same.
            settings = RunSettings.read({**asked, "name": name, **({"epochs": epochs} if epochs else {})})
            self._check_free(name, settings.device)
            run = read_run(folder)
            if settings.epochs and run.steps_per_epoch and run.steps >= settings.epochs * run.steps_per_epoch:
                done = -(-run.steps // run.steps_per_epoch)
                raise UserError("{name} has been trained for {done} epochs, {epochs} are asked for: choose more "
                                "epochs, then resume", name=name, done=done, epochs=settings.epochs)
            config, voice = settings.train_config(self.folders), self._read(folder, RUN_FILE).get("name")
            return self._launch(settings, replace(config, name=voice) if isinstance(voice, str) and voice else config,
                                resume=True)

    def check_start(self, settings: RunSettings, anew: bool) -> None:
        """Whether a run may be started.

        Raises:
            UserError: the experiment or its device is busy, it has a run already, or its place in the list is taken.
        """
        self._check_free(settings.name, settings.device)
        target, folder = self.folders.adapter(settings.name), self.folders.run(settings.name)
        if not may_replace(target, self.folders.published(settings.name)):
            raise UserError("{target} is there and is not of this experiment: move it away, or choose another "
                            "experiment name", target=target)
        if (folder / STATE_FILE).is_file() and not anew:
            steps = read_run(folder).steps
            raise UserError("{settings_name} has a run already ({steps} steps): press Resume to continue it, or tick "
                            "“Start anew” (the old run is kept)", settings_name=settings.name, steps=steps)

    def _check_free(self, name: str, device: str) -> None:
        for other in self.going_on():
            job = self.settings(other) or {}
            if other == self.folders.experiment(name).name:
                raise UserError("{other} is being trained already: its progress is on this page", other=other)
            if job.get("device", "auto") == device or "auto" in (device, job.get("device", "auto")):
                raise UserError("{other} is being trained on the same device: wait for its end, stop it, or choose "
                                "another device", other=other)

    def _launch(self, settings: RunSettings, config: TrainConfig, resume: bool) -> Status:
        folder = self.folders.run(settings.name)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STOP_FILE).exists():
            (folder / STOP_FILE).unlink()
        self._write(folder, "config.json", config.to_dict())
        options = ["--config", str(folder / "config.json")]
        rate = parse_rate(settings.sample_rate)
        options += ["--sample_rate", str(rate)] if rate else []
        options += ["--rvc_root", str(self.folders.root)] if self.folders.is_checkout else []
        options += ["--not_in_list", *(["--resume"] if resume else [])]  # the worker puts it there
        started = time.time()
        self._write(folder, "job.json", {
            "settings": asdict(settings), "train": options, "adapter": str(folder / f"{config.name}.safetensors"),
            "publish": str(self.folders.adapter(settings.name)), "record": str(self.folders.published(settings.name)),
            "exit": str(folder / "exit.json"), "started": started,
        })
        if not resume and (folder / "page.log").exists():
            (folder / "page.log").unlink()
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(folder / "job.json")]
        before = _written(folder / RUN_FILE)
        process = processes.spawn(command, self.folders.root, child_environment(self.folders, self.language),
                                  folder / "page.log")
        self._write(folder, "process.json", {**process, "started": started, "stopping": False, "run_before": before})
        return self.status(settings.name)

    # Watching

    def going_on(self) -> List[str]:
        """The experiments that are being trained, the newest first."""
        return [name for name in self.folders.names()
                if processes.alive(self._read(self.folders.logs / name / "lora", "process.json"))]

    def settings(self, name: str) -> Optional[Dict[str, Any]]:
        """What was asked of the run of `name`; None where there is none."""
        asked = self._read(self.folders.run(name), "job.json").get("settings")
        return asked if isinstance(asked, dict) else None

    def status(self, name: str, log_lines: int = 12) -> Status:
        """Where the run of `name` stands: some milliseconds, however long it is.

        Raises:
            UserError: `name` is no experiment name.
        """
        folder = self.folders.run(name)
        process = self._read(folder, "process.json")
        alive, written = processes.alive(process), _written(folder / RUN_FILE)
        run = read_run(folder)  # last: it is never older than what is known of it
        status = Status(self.folders.experiment(name).name)
        if not process and not run.there:
            return status
        status.started = _seconds(process)
        reader = self.curves(name)
        status.state = self._state(folder, process, run, alive, written != process.get("run_before", 0))
        status.step, status.epoch = reader.number("step"), reader.number("epoch")
        status.total_steps, status.epochs = run.total_steps, run.epochs
        if status.state == "starting" and run.there:  # run.json still tells of the run as it was before
            asked = (self.settings(name) or {}).get("epochs")
            status.epochs = asked if isinstance(asked, int) else status.epochs
            status.total_steps = status.epochs * run.steps_per_epoch or run.total_steps
        status.losses = {key: value for key, value in reader.last.items() if isinstance(value, float)
                         and key not in ("seconds", "lr")}
        status.base, status.best, status.best_step = run.base_heldout, run.best_heldout, run.best_step
        if run.best_heldout is not None and run.base_heldout is not None:
            status.verdict = "better" if run.best_heldout < run.base_heldout else "worse"
        elif not alive and run.steps:
            status.verdict = "unevaluated"
        status.sample_step, status.samples = newest_samples(folder)
        status.seconds_step = reader.seconds_step()
        if status.state in ("running", "stopping") and status.step:
            status.seconds_left = seconds_left(folder, _seconds(process), status.step, status.total_steps,
                                               status.seconds_step)
        published = self.folders.adapter(name)
        status.adapter = str(published) if published.is_file() else ""
        status.log = tail(folder / "page.log", log_lines)
        status.resumable = not alive and bool(process) and (folder / STATE_FILE).is_file()
        return status

    def curves(self, name: str) -> LogReader:
        """The losses of all steps so far, read up to their newest line."""
        folder = self.folders.run(name)
        reader = self._readers.setdefault(folder, LogReader(folder))
        reader.read()
        return reader

    def _state(self, folder: Path, process: Dict[str, Any], run: RunRecord, alive: bool, reported: bool) -> str:
        """reported: whether run.json is the process's own by now."""
        if alive:
            if process.get("stopping"):
                return "stopping"
            # Once the process has written of the run it stays "running": "done" is shown when it has ended, and may be
            # resumed.
            return "running" if reported else "starting"
        if not process:
            return run.state or "none"
        ended = self._read(folder, "exit.json")
        code = ended.get("code")
        if not isinstance(code, int) or ended.get("started", process.get("started")) != process.get("started"):
            # Asked to stop before Python had even started, it ends without a word.
            return "stopped" if process.get("stopping") and not reported else "broken"
        return {0: run.state or "failed", 130: "stopped"}.get(code, "failed")

    # Stopping

    def stop(self, name: str, wait: float = 0.0) -> Status:
        """Let the run finish its step, save and end; wait for that at most `wait` seconds.

        Raises:
            UserError: it does not run.
        """
        folder = self.folders.run(name)
        with processes.locked(self.lock):
            process = self._read(folder, "process.json")
            if not processes.alive(process):
                raise UserError("{name} is not being trained", name=name)
            if not process.get("stopping"):
                self._write(folder, "process.json", {**process, "stopping": True})
                if os.name == "nt":  # where a signal would end it at once
                    (folder / STOP_FILE).touch()
                else:
                    processes.terminate(process)
        processes.wait(process, wait)
        return self.status(name)

    # Files

    @staticmethod
    def _write(folder: Path, name: str, value: Dict[str, Any]) -> None:
        atomic_write(folder / name, json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8"))

    @staticmethod
    def _read(folder: Path, name: str) -> Dict[str, Any]:
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _seconds(process: Dict[str, Any]) -> float:
    """When the process was started, in seconds of the clock."""
    started = process.get("started")
    return float(started) if isinstance(started, (int, float)) else 0.0


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def child_environment(folders: Folders, wanted: Optional[str]) -> Dict[str, str]:
    """For processes that run this package: found wherever it lies, and speaking the page's language."""
    environment = {**os.environ, "RVC_LORA_LANG": wanted or language(), "PYTHONIOENCODING": "utf-8",
                   "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
    if folders.is_checkout:
        environment["RVC_ROOT"] = str(folders.root)
    else:
        environment.pop("RVC_ROOT", None)
    return environment
