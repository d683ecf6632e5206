"""The training loop: one frozen base, an adapter, its running average, and saves that any interruption leaves whole."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Generator, Iterator, List, Optional, Tuple

import numpy as np
import torch

from ..defaults import usual_defaults
from ..files import atomic_write
from ..host.networks import as_written
from ..lora import Adapter, LoRAConfig, SpeakerRow
from ..lora.adapter_file import adapter_contents
from ..lora.lora_utils import attached, taken_off
from ..lora.voice_pitch import pitch_of
from ..messages import UserError, tr
from ..models.prior_noise import heard_with, settable, with_shift
from . import checkpoint, record, saved
from .estimate import in_words, seconds_to_go
from .heldout import UNKNOWN, Reconstructed, Score, read_sharp, score_of
from .judge import NOTHING, WORTH, WORTH_HUBERT, Judge, judge_of, read_judged
from .monitor import Monitor
from .other_speaker import OtherSpeaker
from .parts import Parts
from .run_lock import only_run
from .saved import Saved, copy_all
from .schedule import schedule_of
from .speaker import find_speaker
from .start import begin_with, identity
from .step import Stepping

STOP_FILE = "stop"

Course = Generator[List[int], Dict[str, Optional[float]], bool]
"""A run seen from outside: gives the clips of each step, takes what came of them, and returns whether the end was
reached."""


class Trainer(Stepping):
    """One run, from the first step or, after `load`, from the last save.

    Nothing is written before `run`. init: the adapter that it starts from.
    """

    def __init__(self, parts: Parts, init: Optional[Adapter] = None):
        self.init = init
        self.config, self.host, self.info = parts.config, parts.host, parts.info
        self.train, self.held, self.data = parts.train, parts.held, parts.data
        self.device, self.model, self.optimizer, self.scaler = parts.device, parts.model, parts.optimizer, parts.scaler
        self.adversary, self.heldout = parts.adversary, parts.heldout
        self.posteriors, self.objective, self.mel = parts.posteriors, parts.objective, parts.mel
        self.folder = Path(self.config.output_dir)
        self.average = [p.detach().clone() for p in self.model.trainable]
        self.steps_per_epoch = self.train.steps_per_epoch(self.config.batch_size)
        self.schedule = schedule_of(self.config, self.steps_per_epoch)
        self.done_steps, self.train_seconds = 0, 0.0
        self.best, self.best_step, self.saves_without_gain = math.inf, 0, 0
        self.base_heldout: Optional[float] = None
        self.base_sharp = self.best_sharp = UNKNOWN
        self.judge: Optional[Judge] = None
        self.best_judged, self._last_save = NOTHING, 0.0
        self.start_speaker = self.config.speaker
        self.stop_asked = False
        # given each line of train.jsonl, and the steps in all
        self.on_step: Optional[Callable[[Dict[str, Any], int], None]] = None
        # seconds: of one evaluation; of the whole run, as guessed at its beginning
        self._evaluating = 0.0
        self.seconds_to_go: Optional[float] = None
        # of a step, where it is known from another run; otherwise a step is tried
        self.step_seconds: Optional[float] = None
        # of RVC's own; 1 where the base or the layers do not let it be set
        self.noise = self.config.noise if settable(self.model.network, self.model.injection.config) else 1.0
        self.pitch = pitch_of(torch.cat([torch.zeros(1), *self.train.voiced, *self.held.voiced]).numpy())
        self._found = checkpoint.written(self.folder)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the averaged adapter, in evaluation mode."""
        raw = [p.detach().clone() for p in self.model.trainable]
        copy_all(self.model.trainable, self.average)
        self.model.injection.eval()
        try:
            with heard_with(self.model.network, self.noise if attached(self.model.injection) else 1.0):
                yield
        finally:
            copy_all(self.model.trainable, raw)
            self.model.injection.train()

    @usual_defaults()
    @as_written()
    def evaluate(self) -> Tuple[Score, List[Reconstructed]]:
        """How good the averaged adapter is on the held-out clips, and the clips themselves."""
        with self.averaged():
            clips = self.heldout.measure(self.model.network)
        score = score_of(clips)
        self._finite(score.error, self.done_steps)
        return score, clips

    # The run

    @usual_defaults()
    @as_written()
    def run(self) -> bool:
        """Train to the end, or until a stop is asked for. Returns whether the end was reached."""
        course = self.course()
        try:
            indices = next(course)
            while True:
                indices = course.send(self.step(indices))
        except StopIteration as end:
            return bool(end.value)
        finally:
            course.close()

    def course(self) -> Course:
        """The run without its steps, for whoever does them: several voices in one, for instance (`fleet.together`)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_run(self.folder):
            if checkpoint.written(self.folder) != self._found:
                raise UserError("another run has worked in {folder} meanwhile: start again", folder=self.folder)
            return (yield from self._course())

    def _course(self) -> Course:
        monitor = Monitor(self.folder, self.done_steps, self.total_steps, self.info.sample_rate, self.schedule.saves,
                          self.heldout.previews)
        try:
            self._write_run("running")
            self.train.write_filelist(self.folder / "filelists" / "train.txt")
            self.held.write_filelist(self.folder / "filelists" / "heldout.txt")
            if self.done_steps == 0:
                self._begin(monitor)
            self._tell_time(monitor)
            self._call_judge(monitor)
            monitor.start()
            finished = yield from self._loop(monitor)
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
        """Start from one of the base's speakers: the one the settings name, or the one that fits the recordings best;
        and from the adapter `init`, if there is one."""
        self.start_speaker = self._find_start()
        self.model.start_from(self.start_speaker)
        if self.init is not None:
            begin_with(self.model, self.init)
        self.average = [p.detach().clone() for p in self.model.trainable]

    def _find_start(self) -> int:
        c = self.config
        if c.init_speaker >= 0:
            return c.init_speaker
        if not any(isinstance(layer, SpeakerRow) for _, layer in self.model.injection.items()):
            return self.start_speaker
        with taken_off(self.model.injection):
            return find_speaker(self.model, self.host, self.train, c.seed, self.device)

    def _tell_time(self, monitor: Monitor) -> None:
        self.seconds_to_go = seconds_to_go(self, self._evaluating)
        if self.seconds_to_go is not None:
            words = in_words(self.total_steps - self.done_steps, self.seconds_to_go)
            monitor.message(words if self.config.passes() else tr("ends by itself; at most {words}", words=words))

    def _call_judge(self, monitor: Monitor) -> None:
        """Load the networks that judge, where the run is long enough for them."""
        if self.judge is None and self.config.judges and self.done_steps == 0 and (self.seconds_to_go or 0.0) >= WORTH:
            self.judge = self._new_judge(not self.host.is_checkout or (self.seconds_to_go or 0.0) >= WORTH_HUBERT)
        for why in self.judge.missing if self.judge is not None else ():
            monitor.message(tr("note: {why}; the best save is chosen without it", why=why))

    def _new_judge(self, leak: bool) -> Judge:
        def other() -> OtherSpeaker:
            return OtherSpeaker(self.host, self.info, self.pitch, self.device)

        return judge_of([clip.wav for clip in self.train.clips if not clip.mute], self.info.sample_rate, self.device,
                        other if leak else None)

    @as_written()
    def _convert(self, other: OtherSpeaker) -> np.ndarray:
        with self.averaged():
            return other.convert(self.model.network, self.model.speaker)

    def _with_judgement(self, score: Score, clips: List[Reconstructed]) -> Score:
        since, self._last_save = self.train_seconds - self._last_save, self.train_seconds
        if self.judge is None:
            return score
        made, real = [clip.audio for clip in clips], [clip.real for clip in clips]
        return score._replace(judged=self.judge.judge(made, real, since, self._convert))

    def _begin(self, monitor: Monitor) -> None:
        begun = time.perf_counter()
        with taken_off(self.model.injection):
            score, clips = self.evaluate()
        self.base_heldout, self.base_sharp = score.error, score.sharp
        self._evaluating = time.perf_counter() - begun
        monitor.samples(0, clips)
        if self.config.init_speaker < 0:
            monitor.message(tr("trying the base's speakers as starting points"))
        self.choose_start()
        monitor.message(tr("held-out log-mel L1 of the base alone: {base_heldout:.4f}; {words}; starting from its "
                           "speaker {start_speaker}",
                           base_heldout=self.base_heldout, words=score.words(), start_speaker=self.start_speaker))

    def _loop(self, monitor: Monitor) -> Course:
        epoch, skip = divmod(self.done_steps, self.steps_per_epoch)
        over = self._over()
        while not over:
            batches = self.train.epoch(self.config.batch_size, self.config.seed, epoch)
            for indices in batches[skip:]:
                started = time.perf_counter()
                line: Dict[str, Any] = {"step": self.done_steps + 1, "epoch": epoch + 1, **(yield indices)}
                line["seconds"] = round(time.perf_counter() - started, 4)
                self.train_seconds += line["seconds"]
                due = self.schedule.due(self.done_steps)
                score: Optional[Score] = None
                if due:
                    score, clips = self.evaluate()
                    score = self._with_judgement(score, clips)
                    line.update(score.log())
                    monitor.samples(self.done_steps, clips)
                    self._judge(score)
                over = self._over()
                monitor.step(line)
                if self.on_step is not None:
                    self.on_step(line, self.total_steps)
                stopping = self.stopping()
                if due or stopping:
                    self._save(monitor, score)
                    self._write_run("running")
                if stopping and not over:
                    monitor.message(tr("stopped and saved: continue with --resume"))
                    return False
                if over:
                    break
            epoch, skip = epoch + 1, 0
        if self.schedule.tired(self.saves_without_gain):
            monitor.message(tr("no better held-out loss for {patience} saves: ended early",
                               patience=self.config.patience))
        return True

    def stopping(self) -> bool:
        """Whether the run saves and ends after the step that was done last."""
        return self.stop_asked or (self.folder / STOP_FILE).exists()

    def _judge(self, score: Score) -> bool:
        """Keep the best adapter, by `Score.value`; whether patience has run out."""
        if score.value < Score(self.best, *self.best_sharp, self.best_judged).value:
            self.best, self.best_sharp, self.best_judged = score.error, score.sharp, score.judged
            self.best_step, self.saves_without_gain = self.done_steps, 0
            self.save_adapter_file(self.adapter_path, score)
        else:
            self.saves_without_gain += 1
        # without the judges: their figures of a few seconds jump by more than what a run still gains
        self.schedule.judged(score._replace(judged=NOTHING).value, self.done_steps)
        return self.schedule.tired(self.saves_without_gain)

    def _over(self) -> bool:
        return self.schedule.over(self.done_steps, self.saves_without_gain)

    # Files

    @property
    def adapter_path(self) -> Path:
        """The best adapter on the held-out clips."""
        return self.folder / f"{self.config.name}.safetensors"

    @property
    def last_adapter_path(self) -> Path:
        """The adapter as it is at the last save."""
        return self.folder / f"{self.config.name}_last.safetensors"

    def save_adapter_file(self, path: Path, score: Optional[Score]) -> None:
        """Write the averaged adapter. score: how good it is on the held-out clips, where that is known."""
        atomic_write(path, self.adapter_contents(score))

    def adapter_contents(self, score: Optional[Score] = None) -> bytes:
        """The averaged adapter as a file's bytes: their number is the same at the first step as at the last, but for
        some digits."""
        tensors, config = dict(zip(self.model.injection.tensors(), self.average)), self.model.injection.config
        if self.noise != 1:
            tensors, config = with_shift(tensors, config, self.model.network, self.noise)
        return adapter_contents(tensors, config, record.adapter_fields(self, score))

    def _save(self, monitor: Monitor, score: Optional[Score]) -> None:
        self.save_adapter_file(self.last_adapter_path, score)
        if not self.adapter_path.exists():
            self.save_adapter_file(self.adapter_path, None)
        monitor.sync()
        checkpoint.save_state(self.folder, self.state())

    def _saved(self) -> Dict[str, Saved]:
        """All that a run needs to go on, beside its clips and settings."""
        model, adversary = self.model, self.adversary
        return {
            "steps": saved.number(self, "done_steps", int),
            "best": saved.number(self, "best", float),
            "best_step": saved.number(self, "best_step", int),
            "saves_without_gain": saved.number(self, "saves_without_gain", int),
            "base_heldout": saved.number(self, "base_heldout", float, type(None)),
            "train_seconds": saved.number(self, "train_seconds", float),
            "base_sharp": saved.group(self, "base_sharp", read_sharp),
            "best_sharp": saved.group(self, "best_sharp", read_sharp),
            "best_judged": saved.group(self, "best_judged", read_judged),
            "judge": Saved(lambda: self.judge.state() if self.judge else None, self._put_judge, needed=False),
            "schedule": Saved(self.schedule.state, self.schedule.restore, needed=False),
            "start_speaker": saved.row(self, "start_speaker", self.info.speakers),
            "posterior_speaker": saved.row(model, "posterior_speaker", self.info.speakers),
            "adapter": saved.tensors(lambda: model.trainable),
            "average": saved.tensors(lambda: self.average),
            "optimizer": Saved(lambda: checkpoint.optimizer_state(self.optimizer),
                               lambda value: checkpoint.load_optimizer(self.optimizer, value)),
            "scaler": Saved(self.scaler.state_dict, self.scaler.load_state_dict),
            "adversary": Saved(lambda: adversary.state() if adversary else None,
                               lambda value: adversary.load_state(value) if adversary else None),
            # last: what comes before may draw random numbers
            "random": Saved(lambda: checkpoint.random_state(self.device),
                            lambda value: checkpoint.set_random_state(value, self.device)),
        }

    def _put_judge(self, value: Any) -> None:
        if value is not None:
            self.judge = self._new_judge(bool(value.get("leak")))
            self.judge.restore(value)

    def state(self) -> Dict[str, Any]:
        """All that is saved, and that `restore` brings back."""
        return {**saved.read(self._saved()), "data": self.data, "shape": self._shape()}

    def _shape(self) -> Dict[str, Any]:
        """What a resumed run must share with the saved one for its steps to mean the same."""
        c = self.config
        return {"lora": self.model.injection.config.to_json(), "batch_size": c.batch_size, "seed": c.seed,
                "clips": len(self.train), "init": identity(self.init) if self.init is not None else None,
                "base_d": self.adversary is not None, "d_frozen": c.d_frozen, "lora_plus": float(c.lora_plus)}

    def load(self) -> None:
        """Go on from the last save in the run's folder.

        Raises:
            UserError: it is damaged, or of other settings or recordings.
        """
        state = checkpoint.load_state(self.folder)
        checkpoint.check_data(state.get("data"), self.data, self.folder)
        for key, value in self._shape().items():
            was = state["shape"].get(key)
            if key == "lora" and isinstance(was, str):
                with suppress(UserError):
                    was = LoRAConfig.from_json(was).to_json()  # as this version writes it
            if was != value:
                most = 9 if key == "init" else 80  # a hash: its beginning tells two apart
                old, new = (checkpoint.lora_difference(was, value) if key == "lora" else
                            (repr(was)[:most], repr(value)[:most]))
                raise UserError("--resume: the saved run has {key} {old}, this one {new}: use the same settings, or a "
                                "new --output_dir", key=key, old=old, new=new)
        try:
            self.restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError):
            raise checkpoint.damaged_state(self.folder) from None

    def restore(self, state: Dict[str, Any]) -> None:
        """Go on from what `state` gave; raises where that is damaged."""
        saved.set_again(self._saved(), state)

    def identity(self) -> Dict[str, str]:
        return checkpoint.run_identity(self.config, self.info)

    def _write_run(self, state: str) -> None:
        checkpoint.write_run(self.folder, {**self.identity(), "state": state, **record.of_run(self)})
