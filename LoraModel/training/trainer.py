"""The training loop: one frozen base, an adapter, its running average, and saves that any interruption leaves whole."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..defaults import usual_defaults
from ..files import atomic_write
from ..host import Host
from ..host.networks import Mel, as_written
from ..lora.adapter_file import adapter_contents
from ..lora.targets import is_row
from ..lora.voice_pitch import pitch_of
from ..messages import UserError, tr
from ..models import Base, SynthesizerLoRA
from . import checkpoint
from .adversary import Adversary
from .config import TrainConfig
from .data_loader import ClipSet, Experiment
from .device import choose_device, grad_scaler
from .estimate import in_words, seconds_to_go
from .heldout import UNKNOWN, Heard, HeldOut, Score, for_adapter, read_sharp, score_of
from .monitor import Monitor
from .objective import Objective
from .posteriors import Posteriors
from .run_lock import only_run
from .speaker import find_speaker

BETAS = (0.8, 0.99)
GRADIENT_LIMIT = 50.0
STOP_FILE = "stop"
_NUMBERS: Tuple[Tuple[str, Any], ...] = (
    ("best", float), ("best_step", int), ("saves_without_gain", int), ("base_heldout", (float, type(None))), ("start_speaker", int),
    ("train_seconds", float),
)
"""Attributes of a run that are saved under their own names, and their types."""


class Trainer:
    """One run, from the first step or from the last save.

    Nothing is written before `run`.

    Args:
        train, held: the clips to learn from, and those kept out.
        discriminator: trains against it; None trains without one.
        resume: go on from the last save in the run's folder.
    """

    def __init__(
        self, config: TrainConfig, host: Host, base: Base, experiment: Experiment, train: ClipSet, held: ClipSet, resume: bool = False,
        discriminator: Optional[nn.Module] = None,
    ):
        self.config, self.host, self.info, self.train, self.held = config, host, base.info, train, held
        self.folder = Path(config.output_dir)
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.model = SynthesizerLoRA(base, config.lora_config(), config.speaker).to(self.device)
        self.mel = Mel(host, experiment.data)
        frames = config.segment_frames or experiment.segment_frames
        self.optimizer = torch.optim.AdamW(self._groups(), config.lr, betas=BETAS, eps=1e-9, weight_decay=0.0)
        self.adversary: Optional[Adversary] = None
        if discriminator is not None:
            self.adversary = Adversary(discriminator, host, config.lr / 5, BETAS, self.device, config.d_parts, config.d_every, config.d_frozen)
        self.scaler = grad_scaler(config.precision == "fp16" and self.device.type == "cuda")
        self.heldout = HeldOut(held, self.mel, config.speaker, self.device, config.valid_clips)
        self.posteriors = Posteriors(train, self.model, self.mel, self.device)
        self.objective = Objective(self.model, host, self.mel, config, self.device, frames, experiment.data["hop_length"], self.adversary,
                                   self.scaler)
        self.average = [p.detach().clone() for p in self.model.trainable]
        self.steps_per_epoch = train.steps_per_epoch(config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.done_steps, self.best, self.best_step, self.saves_without_gain, self.train_seconds = 0, math.inf, 0, 0, 0.0
        self.base_heldout: Optional[float] = None
        self.base_sharp = self.best_sharp = UNKNOWN
        self.start_speaker = config.speaker
        self.stop_asked = False
        self.on_step: Optional[Callable[[Dict[str, Any], int], None]] = None  # given each line of train.jsonl, and the steps in all
        self._evaluating, self.seconds_to_go = 0.0, None  # seconds: of one evaluation; of the whole run, as guessed at its beginning
        self.pitch = pitch_of(torch.cat([torch.zeros(1), *train.voiced, *held.voiced]).numpy())
        self.data = checkpoint.describe_clips(experiment.clips)
        self._found = checkpoint.written(self.folder)
        if resume:
            self._load()

    # One step

    @usual_defaults()
    @as_written()
    def step(self, indices: Sequence[int]) -> Dict[str, Optional[float]]:
        """Learn from some of the training clips and return the losses; without the decoder's part there is no `mel` and no `total`."""
        batch = self.posteriors.batch(indices)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group.get("times", 1.0)
        self.model.injection.train()
        decoder = self.done_steps % self.config.decoder_every == 0
        self.optimizer.zero_grad(set_to_none=True)
        values: Dict[str, Optional[float]] = {}
        whole = 0.0
        for losses in self.objective.parts(batch, self.done_steps, decoder):
            total = self.objective.total(losses)
            values.update((key, float(value.detach())) for key, value in losses.items())
            whole += float(total.detach())
            self._finite(whole)
            if total.requires_grad:  # an adapter may have nothing in this part
                self.scaler.scale(total).backward()
            del total
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.trainable, GRADIENT_LIMIT))
        if not self.scaler.is_enabled():  # where it is, it leaves out such steps by itself and lowers its scale
            self._finite(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.done_steps += 1
        self._update_average()
        if decoder:
            values["total"] = whole
        return {**values, "grad_norm": norm if math.isfinite(norm) else None, "lr": self.optimizer.param_groups[0]["lr"]}

    def _groups(self) -> List[Dict[str, Any]]:
        """What the optimiser is given: all alike, or B at a rate of its own (LoRA+, Hayou et al. 2024, arXiv:2402.12354)."""
        times, tensors = self.config.lora_plus, self.model.injection.tensors()
        if times == 1:
            return [{"params": self.model.trainable}]
        up = [tensor for name, tensor in tensors.items() if name.endswith("lora_B.weight")]
        rest = [tensor for name, tensor in tensors.items() if not name.endswith("lora_B.weight")]
        return [{"params": rest}, {"params": up, "times": times}]

    def _finite(self, value: float) -> None:
        if not math.isfinite(value):
            raise UserError("the loss or its gradient is not finite at step {done_steps}: lower --lr, or use "
                            "--precision fp32. The last save is kept", done_steps=self.done_steps + 1)

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine from `lr` to `lr_final` times it."""
        c, step = self.config, self.done_steps
        if step < c.warmup_steps:
            return c.lr * (step + 1) / c.warmup_steps
        through = min(1.0, (step - c.warmup_steps) / max(1, self.total_steps - c.warmup_steps))
        return c.lr * (c.lr_final + (1 - c.lr_final) * 0.5 * (1 + math.cos(math.pi * through)))

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short run's average would still hold the start: let the decay grow with the steps (Polyak averaging with warm-up).
        decay = min(self.config.ema_decay, (1 + self.done_steps) / (10 + self.done_steps))
        for average, parameter in zip(self.average, self.model.trainable):
            average.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the averaged adapter, in evaluation mode."""
        raw = [p.detach().clone() for p in self.model.trainable]
        self._set(self.average)
        self.model.injection.eval()
        try:
            yield
        finally:
            self._set(raw)
            self.model.injection.train()

    @torch.no_grad()
    def _set(self, values: List[Tensor]) -> None:
        for parameter, value in zip(self.model.trainable, values):
            parameter.copy_(value)

    @usual_defaults()
    @as_written()
    def evaluate(self) -> Tuple[Score, List[Heard]]:
        """How good the averaged adapter is on the held-out clips, and the clips themselves."""
        with self.averaged():
            heard = self.heldout.measure(self.model.network)
        score = score_of(heard)
        self._finite(score.error)
        return score, heard

    # The run

    @usual_defaults()
    @as_written()
    def run(self) -> bool:
        """Train to the end, or until a stop is asked for. Returns whether the end was reached."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_run(self.folder):
            if checkpoint.written(self.folder) != self._found:
                raise UserError("another run has worked in {folder} meanwhile: start again", folder=self.folder)
            return self._run()

    def _run(self) -> bool:
        saves = -(-self.config.epochs // self.config.save_every)
        monitor = Monitor(self.folder, self.done_steps, self.total_steps, self.info.sample_rate, saves, self.heldout.previews)
        try:
            self._write_run("running")
            self.train.write_filelist(self.folder / "filelists" / "train.txt")
            self.held.write_filelist(self.folder / "filelists" / "heldout.txt")
            if self.done_steps == 0:
                self._begin(monitor)
            self._tell_time(monitor)
            monitor.start()
            finished = self._loop(monitor)
            self._write_run("done" if finished else "stopped")
            return finished
        except BaseException:
            if self.folder.is_dir():
                with suppress(OSError):  # of a full disk the first error is the one to tell
                    self._write_run("failed")
            raise
        finally:
            with suppress(OSError):
                (self.folder / STOP_FILE).unlink()
            monitor.close()

    def choose_start(self) -> None:
        """Start from one of the base's speakers: the one the settings name, or the one that fits the recordings best."""
        c = self.config
        if c.init_speaker >= 0:
            self.start_speaker = c.init_speaker
        elif any(is_row(target) for target in self.model.injection.config.targets):
            self.start_speaker = find_speaker(self.model, self.host, self.train, c.seed, self.device)
        self.model.start_from(self.start_speaker)
        self.average = [p.detach().clone() for p in self.model.trainable]

    def _tell_time(self, monitor: Monitor) -> None:
        self.seconds_to_go = seconds_to_go(self, self._evaluating)
        if self.seconds_to_go is not None:
            monitor.message(in_words(self.total_steps - self.done_steps, self.seconds_to_go))

    def _begin(self, monitor: Monitor) -> None:
        begun = time.perf_counter()
        score, heard = self.evaluate()
        self.base_heldout, self.base_sharp = score.error, score.sharp
        self._evaluating = time.perf_counter() - begun
        monitor.samples(0, heard)
        if self.config.init_speaker < 0:
            monitor.message(tr("trying the base's speakers to start from"))
        self.choose_start()
        monitor.message(tr("held-out log-mel L1 of the base alone: {base_heldout:.4f}; {words}; starting from its "
                           "speaker {start_speaker}",
                           base_heldout=self.base_heldout, words=score.words(), start_speaker=self.start_speaker))

    def _loop(self, monitor: Monitor) -> bool:
        epoch, skip = divmod(self.done_steps, self.steps_per_epoch)
        stale = self._stale()
        while epoch < self.config.epochs and not stale:
            batches = self.train.epoch(self.config.batch_size, self.config.seed, epoch)
            for indices in batches[skip:]:
                started = time.perf_counter()
                line: Dict[str, Any] = {"step": self.done_steps + 1, "epoch": epoch + 1, **self.step(indices)}
                line["seconds"] = round(time.perf_counter() - started, 4)
                self.train_seconds += line["seconds"]
                end_of_epoch = self.done_steps % self.steps_per_epoch == 0
                due = end_of_epoch and ((epoch + 1) % self.config.save_every == 0 or epoch + 1 == self.config.epochs)
                score: Optional[Score] = None
                if due:
                    score, heard = self.evaluate()
                    line.update(score.log())
                    monitor.samples(self.done_steps, heard)
                    stale = self._judge(score)
                monitor.step(line)
                if self.on_step is not None:
                    self.on_step(line, self.total_steps)
                stopping = self.stop_asked or (self.folder / STOP_FILE).exists()
                if due or stopping:
                    self._save(monitor, score)
                    self._write_run("running")
                if stopping and self.done_steps < self.total_steps and not stale:
                    monitor.message(tr("stopped and saved: go on with --resume"))
                    return False
            epoch, skip = epoch + 1, 0
        if stale:
            monitor.message(tr("no better held-out loss for {patience} saves: ended early",
                               patience=self.config.patience))
        return True

    def _judge(self, score: Score) -> bool:
        """Keep the best adapter, by `Score.value`; whether patience has run out."""
        if score.value < Score(self.best, *self.best_sharp).value:
            self.best, self.best_sharp, self.best_step, self.saves_without_gain = score.error, score.sharp, self.done_steps, 0
            self.save_adapter_file(self.adapter_path, score)
        else:
            self.saves_without_gain += 1
        return self._stale()

    def _stale(self) -> bool:
        return 0 < self.config.patience <= self.saves_without_gain

    # Files

    @property
    def adapter_path(self) -> Path:
        """The best adapter on the held-out clips."""
        return self.folder / f"{self.config.name}.safetensors"

    @property
    def last_adapter_path(self) -> Path:
        return self.folder / f"{self.config.name}_last.safetensors"

    def save_adapter_file(self, path: Path, score: Optional[Score]) -> None:
        """Write the averaged adapter. score: how good it is on the held-out clips, where that is known."""
        atomic_write(path, self.adapter_contents(score))

    def adapter_contents(self, score: Optional[Score] = None) -> bytes:
        """The averaged adapter as a file's bytes: their number is the same at the first step as at the last, but for some digits."""
        c, info = self.config, self.info
        return adapter_contents(dict(zip(self.model.injection.tensors(), self.average)), self.model.injection.config, {
            "name": c.name, "base_hash": info.base_hash, "base_name": info.name, "rvc_version": info.version,
            "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": self.model.speaker, "steps": self.done_steps,
            "epochs": -(-self.done_steps // self.steps_per_epoch), "data_seconds": round(self.train.seconds, 1),
            "heldout": for_adapter(self.base_heldout, self.base_sharp, score), "pitch": "" if self.pitch is None else self.pitch.to_text(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "author": c.author, "license": c.license, "notes": c.notes,
        })

    def _save(self, monitor: Monitor, score: Optional[Score]) -> None:
        self.save_adapter_file(self.last_adapter_path, score)
        if not self.adapter_path.exists():
            self.save_adapter_file(self.adapter_path, None)
        monitor.sync()
        checkpoint.save_state(self.folder, self.state())

    def state(self) -> Dict[str, Any]:
        """All that is saved, and that `restore` brings back."""
        return {
            **{name: getattr(self, name) for name, _ in _NUMBERS}, "steps": self.done_steps,
            "base_sharp": list(self.base_sharp), "best_sharp": list(self.best_sharp),
            "posterior_speaker": self.model.posterior_speaker, "data": self.data, "shape": self._shape(),
            "adapter": [p.detach().cpu() for p in self.model.trainable], "average": [p.cpu() for p in self.average],
            "optimizer": checkpoint.optimizer_state(self.optimizer), "scaler": self.scaler.state_dict(),
            "random": checkpoint.random_state(self.device), "adversary": self.adversary.state() if self.adversary else None,
        }

    def _shape(self) -> Dict[str, Any]:
        """What a resumed run must share with the saved one for its steps to mean the same."""
        c = self.config
        return {"lora": self.model.injection.config.to_json(), "batch_size": c.batch_size, "seed": c.seed, "clips": len(self.train),
                "base_d": self.adversary is not None, "d_frozen": c.d_frozen, "lora_plus": float(c.lora_plus)}

    def _load(self) -> None:
        state = checkpoint.load_state(self.folder)
        checkpoint.check_data(state.get("data"), self.data, self.folder)
        for key, value in self._shape().items():
            saved = state["shape"].get(key)
            if saved != value:
                old, new = checkpoint.lora_difference(saved, value) if key == "lora" else (repr(saved)[:80], repr(value))
                raise UserError("--resume: the saved run has {key} {old}, this one {new}: use the same settings, or a "
                                "new --output_dir", key=key, old=old, new=new)
        try:
            self.restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError):
            raise checkpoint.damaged_state(self.folder) from None

    def restore(self, state: Dict[str, Any]) -> None:
        """Go on from what `state` gave; raises where that is damaged."""
        for name, kinds in _NUMBERS:
            value = state[name]
            if isinstance(value, bool) or not isinstance(value, kinds) or (isinstance(value, int) and value < 0):
                raise TypeError(name)
            setattr(self, name, value)
        self.base_sharp, self.best_sharp = read_sharp(state.get("base_sharp")), read_sharp(state.get("best_sharp"))
        steps, speaker = state["steps"], state["posterior_speaker"]
        if steps < 0 or type(speaker) is not int or not 0 <= min(speaker, self.start_speaker) <= max(
                speaker, self.start_speaker) < self.info.speakers:
            raise ValueError("steps or speaker")
        self.done_steps, self.model.posterior_speaker = steps, speaker
        for values in (state["adapter"], state["average"]):
            if [value.shape for value in values] != [p.shape for p in self.model.trainable] or not all(
                    bool(torch.isfinite(value).all()) for value in values):
                raise ValueError("tensors")
        self._set(state["adapter"])
        self.average = [value.to(self.device, torch.float32) for value in state["average"]]
        checkpoint.load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.adversary is not None:
            self.adversary.load_state(state["adversary"])
        checkpoint.set_random_state(state["random"], self.device)

    def identity(self) -> Dict[str, str]:
        return checkpoint.run_identity(self.config, self.info.base_hash)

    def _write_run(self, state: str) -> None:
        checkpoint.write_run(self.folder, {
            **self.identity(), "state": state, "base_name": self.info.name, "config": self.config.to_dict(), "steps": self.done_steps,
            "total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch, "sample_rate": self.info.sample_rate,
            "base_heldout": self.base_heldout, "best_heldout": None if math.isinf(self.best) else self.best, "best_step": self.best_step,
            "base_sharpness": self.base_sharp, "best_sharpness": self.best_sharp,
            "train_seconds": round(self.train_seconds, 2), "train_clips": len(self.train), "heldout_clips": [c.wav.name for c in self.held.clips],
            "parameters": {"base": self.model.count().base, "adapter": self.model.count().adapter}, "seconds_to_go": self.seconds_to_go,
        })
