"""What is done for one voice: prepared, trained, judged, indexed, and put into the list. Every engine does it by
these functions."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from ..files import atomic_write
from ..host import Host
from ..host import experiment as layout
from ..host.index import build_index
from ..messages import UserError
from ..models import Base, BaseInfo
from ..training import TrainConfig, Trainer, prepare
from ..training.checkpoint import RUN_FILE
from ..training.heldout import Score
from ..training.in_programs import with_recordings_prepared
from ..training.monitor import SAMPLES
from ..training.publishing import RECORD, Publisher, improves

VOICES, ADAPTERS, LOGS = "voices", "adapters", "logs"
"""Folders of the run: one for each voice, the list of adapters (outside of a checkout), and the workers' logs."""


@dataclass(frozen=True)
class Work:
    """What all voices of a run share; kept in its state file.

    Attributes:
        base_model: the base's file. base_hash: of its tensors. output: the run's folder. settings: of TrainConfig.
        index: build the faiss index of each voice, where there is none. publish: put adapters that are better than the
            base alone into the list. adapters: the folder of that list; None for the usual one.
    """

    base_model: str
    base_hash: str
    output: str
    settings: Dict[str, Any] = field(default_factory=dict)
    rvc_root: Optional[str] = None
    sample_rate: Optional[int] = None
    config_json: Optional[str] = None
    index: bool = False
    publish: bool = True
    adapters: Optional[str] = None

    def to_text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Work:
        return cls(**json.loads(text))

    def folder(self, name: str) -> Path:
        """The run of one voice."""
        return Path(self.output) / VOICES / name

    def log(self, name: str) -> Path:
        """What was printed while one voice was worked on."""
        return Path(self.output) / LOGS / f"{name}.log"

    def in_list(self, name: str, host: Host) -> Path:
        """Where the list of adapters looks for a voice: the checkout's, else one in the run's folder."""
        usual = host.root / "assets" / "lora" if host.root is not None else Path(self.output) / ADAPTERS
        folder = usual if self.adapters is None else Path(self.adapters)
        return folder / f"{name}.safetensors"

    def config(self, job: Job) -> TrainConfig:
        """The settings of one voice."""
        return TrainConfig.from_dict({"base_model": self.base_model, **self.settings, **job.settings,
                                      "name": job.name, "data_dir": job.data_dir or job.recordings,
                                      "output_dir": str(self.folder(job.name))})

    def own_base(self, job: Job) -> bool:
        """Whether the voice has a base of its own, which is not the one that the workers share."""
        return os.path.abspath(str(job.settings.get("base_model", self.base_model))) != self.base_model


@dataclass(frozen=True)
class Job:
    """One piece of work: to prepare a voice (without `data_dir`), or to train it. step_seconds: what a step of a voice
    before it took, None where that is not known."""

    name: str
    attempt: int
    recordings: str
    settings: Dict[str, Any]
    data_dir: Optional[str] = None
    step_seconds: Optional[float] = None


Tell = Callable[[Job, int, int, Optional[float]], bool]
"""tell(job, step, steps, seconds left) -> whether to go on; False saves and ends."""


def prepare_voice(work: Work, job: Job, host: Host, info: BaseInfo) -> str:
    """Make the voice's experiment folder, or what it lacks, and return its path.

    Raises:
        UserError, OSError: as the preparation gives them.
    """
    own = None if work.own_base(job) else info
    config = with_recordings_prepared(work.config(job), host, True, work.sample_rate, work.config_json, own)
    if config.data_dir == job.recordings and not Path(config.data_dir).exists():
        raise UserError("there is no folder {place}{near}: give the folder that holds the recordings of the voice",
                        place=config.data_dir, near="")
    return os.path.abspath(str(config.data_dir))


def trainer_of(work: Work, job: Job, base: Optional[Base], device: Optional[str] = None) -> Trainer:
    """The voice's run, ready to begin or to go on from its last save.

    Args:
        base: the run's, loaded already. device: in place of "auto".

    Raises:
        UserError: something of the voice cannot be.
    """
    config = work.config(job)
    if device is not None and config.device == "auto":
        config = replace(config, device=device)
    going_on = (work.folder(job.name) / RUN_FILE).is_file()
    trainer = prepare(config, going_on, work.rvc_root, work.sample_rate, work.config_json,
                      None if work.own_base(job) else base)
    trainer.step_seconds = job.step_seconds
    return trainer


def train_voice(work: Work, job: Job, host: Host, base: Optional[Base], tell: Tell, device: Optional[str] = None
                ) -> Optional[Dict[str, Any]]:
    """Train one voice to its end and return its figures; None where it was stopped and saved.

    Raises:
        UserError, OSError: one line that says what was wrong.
    """
    trainer = trainer_of(work, job, base, device)
    follow(trainer, job, tell)
    return finish_voice(work, job, host, trainer) if trainer.run() else None


def follow(trainer: Trainer, job: Job, tell: Tell) -> None:
    """Let `tell` know of every step of the run, and stop it."""
    begun, first = time.perf_counter(), trainer.done_steps

    def after(line: Dict[str, Any], total: int) -> None:
        each = (time.perf_counter() - begun) / max(1, line["step"] - first)
        if not tell(job, line["step"], total, each * (total - line["step"])):
            trainer.stop_asked = True

    trainer.on_step = after


def finish_voice(work: Work, job: Job, host: Host, trainer: Trainer) -> Dict[str, Any]:
    """Judge a trained voice, index it, put it into the list, and return its figures."""
    figures = figures_of(trainer)
    publish_voice(work, job, host, figures, trainer.folder)
    return figures


def figures_of(trainer: Trainer) -> Dict[str, Any]:
    """How good a trained voice is, and what it cost."""
    score = Score(trainer.best, *trainer.best_sharp)
    return {
        "bytes": trainer.adapter_path.stat().st_size, "steps": trainer.done_steps, "total_steps": trainer.total_steps,
        "best_step": trainer.best_step, "base_heldout": trainer.base_heldout, "heldout": score.error,
        "variance": score.variance, "contrast": score.contrast, "data_seconds": round(trainer.train.seconds, 1),
        "train_seconds": round(trainer.train_seconds, 2), "sample_rate": trainer.info.sample_rate,
        "version": trainer.info.version, "better": trainer.base_heldout is None or score.error <= trainer.base_heldout,
        "samples": samples_of(trainer.folder, trainer.best_step),
    }


def publish_voice(work: Work, job: Job, host: Host, figures: Dict[str, Any], folder: Path) -> None:
    """Index a trained voice and put it into the list, as the run asks for it; says so in its figures.

    Args:
        folder: the voice's run.
    """
    adapter = folder / f"{job.name}.safetensors"
    figures["adapter"] = str(adapter)
    if work.index:
        data = Path(job.data_dir or job.recordings)
        found = layout.indexes(data)
        figures["index"] = str(found[-1] if found else build_index(data, figures["version"]))
    if work.publish:
        target = work.in_list(job.name, host)
        Publisher(adapter, target, folder / RECORD, improves).look()
        figures["published"] = str(target) if target.is_file() and figures["better"] else ""
    atomic_write(folder / "figures.json", json.dumps(figures, indent=1, sort_keys=True).encode())


def samples_of(folder: Path, step: int) -> List[str]:
    """The sounds of the save at `step` and of the base alone (step 0): files in the run's folder, by their names."""
    found = []
    with contextlib.suppress(OSError):
        for wanted in (0, step):
            found += sorted(path.name for path in (folder / SAMPLES).glob(f"step{wanted:07d}_*.flac"))
    return found
