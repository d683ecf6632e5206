"""Two ways to the same voice, step by step and with a clock of their own: full fine-tuning by RVC's recipe, and
ours."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch
from tqdm import tqdm

from bench.rvc_recipe import RVCStep, training_clips
from LoraModel.files import atomic_file
from LoraModel.host import Host
from LoraModel.lora.lora_utils import taken_off
from LoraModel.messages import tr
from LoraModel.models import BaseInfo, read_checkpoint
from LoraModel.models.voice_file import save_model, small_model
from LoraModel.training import TrainConfig, Trainer, checkpoint
from LoraModel.training.heldout import HeldOut, Reconstructed, score_of

LORA, FULL = "LoRA", "full fine-tuning"
"""Names of the two."""


@dataclass
class Point:
    """Where a training stands. seconds: of training, evaluations left out. errors: log-mel L1 of each held-out clip."""

    steps: int
    seconds: float
    errors: List[float]

    @property
    def loss(self) -> float:
        """Mean over the clips."""
        return sum(self.errors) / len(self.errors)


class Training(ABC):
    """One way of training.

    Attributes:
        name: of it. total: steps in all. points: the curve so far, the first of them the base alone. renditions: the
            held-out clips as they are now.
    """

    def __init__(self, name: str, batches: Iterator[List[int]], total: int, points: int, device: torch.device):
        self.name, self.total, self.device = name, total, device
        self.points: List[Point] = []
        self.renditions: List[Reconstructed] = []
        self._batches, self._chunk = batches, -(-total // points)
        self._clock, self._steps = 0.0, 0
        self.listen()

    @abstractmethod
    def _step(self, indices: List[int]) -> None:
        """Learn from these clips."""

    @abstractmethod
    def _listen(self) -> List[Reconstructed]:
        """The held-out clips by the voice as it is."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the voice as a file that `evaluation/evaluate.py` takes."""

    @property
    def progress(self) -> float:
        """Share of the steps that are done."""
        return self._steps / self.total

    @property
    def seconds(self) -> float:
        """Of training, so far."""
        return self._clock

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time as training."""
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._clock += time.perf_counter() - started

    @abstractmethod
    def _learnt(self) -> Dict[str, Any]:
        """What training has changed, for `checkpoint.encoded`."""

    @abstractmethod
    def _take_back(self, learnt: Dict[str, Any]) -> None:
        """What `_learnt` gave, into the networks."""

    def state(self) -> Dict[str, Any]:
        """All that a broken-off run goes on from."""
        return {"name": self.name, "total": self.total, "steps": self._steps, "clock": self._clock,
                "points": [asdict(point) for point in self.points], "learnt": self._learnt()}

    def restore(self, state: Dict[str, Any]) -> None:
        """Go on from `state`, which is of the same training on the same clips."""
        for _ in range(state["steps"]):
            next(self._batches)
        self._take_back(state["learnt"])
        self._steps, self._clock = state["steps"], state["clock"]
        self.points = [Point(**point) for point in state["points"]]
        self.renditions = self._listen()

    def listen(self) -> Point:
        """Add a point to the curve."""
        self.renditions = self._listen()
        self.points.append(Point(self._steps, self._clock, [clip.error for clip in self.renditions]))
        return self.points[-1]

    def advance(self) -> Point:
        """Some steps, timed, then the held-out clips, untimed."""
        with self.timed():
            for _ in range(min(self._chunk, self.total - self._steps)):
                self._step(next(self._batches))
                self._steps += 1
        return self.listen()


class LoRATraining(Training):
    """Our trainer's own steps. The search for the speaker to start from and the posteriors are part of its time."""

    def __init__(self, trainer: Trainer, points: int, name: str = LORA):
        self.trainer = trainer
        c = trainer.config
        batches = (indices for epoch in range(c.epochs) for indices in trainer.train.epoch(c.batch_size, c.seed, epoch))
        super().__init__(name, batches, trainer.total_steps, points, trainer.device)
        trainer.base_heldout = self.points[0].loss
        with self.timed():
            trainer.choose_start()

    def _step(self, indices: List[int]) -> None:
        self.trainer.step(indices)

    def _listen(self) -> List[Reconstructed]:
        # at the beginning as the plain base, which has RVC's own noise
        base = self.trainer.done_steps == 0
        with taken_off(self.trainer.model.injection) if base else contextlib.nullcontext():
            return self.trainer.evaluate()[1]

    def _learnt(self) -> Dict[str, Any]:
        return self.trainer.state()

    def _take_back(self, learnt: Dict[str, Any]) -> None:
        self.trainer.restore(learnt)

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.trainer.config.name}.safetensors"
        self.trainer.save_adapter_file(path, score_of(self.renditions))
        return path


class FullTraining(Training):
    """Full fine-tuning. heldout: the clips kept out of training, as `Trainer` has them."""

    def __init__(self, step: RVCStep, settings: TrainConfig, host: Host, info: BaseInfo, heldout: HeldOut, epochs: int,
                 points: int, device: torch.device):
        self.step, self.info, self._heldout = step, info, heldout
        self._clips = training_clips(host, settings, info)
        super().__init__(FULL, self._order(epochs, settings), epochs * self._clips.steps_per_epoch(settings.batch_size),
                         points, device)

    def _order(self, epochs: int, settings: TrainConfig) -> Iterator[List[int]]:
        for epoch in range(epochs):
            yield from self._clips.epoch(settings.batch_size, settings.seed, epoch)
            self.step.end_epoch()

    def _step(self, indices: List[int]) -> None:
        batch = self._clips.batch(indices).to(self.device)
        self.step(batch._replace(speaker=torch.zeros_like(batch.speaker)))

    def _learnt(self) -> Dict[str, Any]:
        networks = [network for network in (self.step.generator, self.step.discriminator) if network is not None]
        return {"networks": [network.state_dict() for network in networks],
                "optimizers": [checkpoint.optimizer_state(optimizer) for optimizer in self.step.optimizers]}

    def _take_back(self, learnt: Dict[str, Any]) -> None:
        networks = [network for network in (self.step.generator, self.step.discriminator) if network is not None]
        for network, values in zip(networks, learnt["networks"]):
            network.load_state_dict(values)
        for optimizer, values in zip(self.step.optimizers, learnt["optimizers"]):
            checkpoint.load_optimizer(optimizer, values)

    def _listen(self) -> List[Reconstructed]:
        self.step.generator.eval()
        try:
            return self._heldout.measure(self.step.generator)
        finally:
            self.step.generator.train()

    def save(self, folder: Path) -> Path:
        path = folder / "full.pth"
        save_model(path, small_model(self.step.generator, self.info, "full fine-tuning"))
        return path


def take_turns(trainings: Sequence[Training], voice: str, keep: Optional[Path] = None) -> None:
    """Train all to their end, in turn, so that what else the machine does slows all; say where each stands.

    Args:
        keep: the file that holds where all stand after each turn, from which a run that was interrupted continues; None
        keeps nothing.
    """
    if keep is not None and keep.is_file():
        saved = checkpoint.decoded(read_checkpoint(keep))
        if [state["name"] for state in saved["arms"]] == [training.name for training in trainings] and all(
                state["total"] == training.total for state, training in zip(saved["arms"], trainings)):
            for training, state in zip(trainings, saved["arms"]):
                training.restore(state)
            checkpoint.set_random_state(saved["random"], trainings[0].device)
    with tqdm(total=sum(training.total for training in trainings),
              initial=sum(training.points[-1].steps for training in trainings),
              unit=tr("step"), desc=tr("training"), file=sys.stderr) as bar:
        while any(training.progress < 1 for training in trainings):
            training = min(trainings, key=lambda each: each.progress)
            before, point = training.points[-1].steps, training.advance()
            bar.update(point.steps - before)
            bar.write(f"{voice}, {training.name}: step {point.steps} of {training.total}, {point.seconds:.0f} s, "
                      f"held-out log-mel L1 {point.loss:.4f} (base {training.points[0].loss:.4f})", file=sys.stderr)
            if keep is not None and any(each.progress < 1 for each in trainings):
                state = {"arms": [training.state() for training in trainings],
                         "random": checkpoint.random_state(trainings[0].device)}
                with atomic_file(keep) as file:
                    torch.save(checkpoint.encoded(state), file)
