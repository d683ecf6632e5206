"""Ways of training that the product does not have, so that they can be measured beside those that it has: our losses
beside a small discriminator, with a loss on variance or on the words of converted speech; full fine-tuning beside that
discriminator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.rvc_recipe import RVCStep
from bench.small_discriminator import SmallDiscriminator
from bench.trainings import FullTraining, LoRATraining
from bench.voices import ALL_CLIPS
from LoraModel.conversion.content import Piece, piece
from LoraModel.conversion.distill import run_prior
from LoraModel.inference import content_encoder
from LoraModel.inference.audio import read_audio
from LoraModel.models import SynthesizerLoRA, read_checkpoint
from LoraModel.training import TrainConfig, Trainer
from LoraModel.training.objective import Objective
from LoraModel.training.posteriors import TrainBatch

RATE = 1e-4
"""The discriminator's learning rate: RVC's own."""
OWN_SETTINGS = ("full", "beside", "from", "adversarial", "variance", "content", "content_data", "content_every",
                "path", "prior_first")
"""The settings of a recipe that are no settings of the trainer; see `lora_training`."""


class Pair(nn.Module):
    """The small discriminator with the call of RVC's: real and made audio at once."""

    def __init__(self, file: Path):
        super().__init__()
        self.small = SmallDiscriminator()
        known = read_checkpoint(file)["model"]
        self.small.load_state_dict({name: value.float() for name, value in known.items()})

    def forward(self, real: Tensor, made: Tensor) -> Tuple[List[Tensor], List[Tensor], List[List[Tensor]],
                                                           List[List[Tensor]]]:
        """(batch, 1, samples) each -> scores of real and made, features of real and made, a part after another."""
        one, two = self.small(real), self.small(made)
        return ([score for score, _ in one], [score for score, _ in two], [features for _, features in one],
                [features for _, features in two])


class Words:
    """Other people's speech, converted to the voice while it learns: the demo's content encoder must hear in it what it
    hears in the recording. How the demo's base was trained (bench/pretrain_small.py), for an adapter.

    Args:
        folders: experiment folders of other speakers at 16 kHz, with the demo's features. middle: pitch of the voice,
            in Hz. frames: of 10 ms that a step takes, an even number.
    """

    def __init__(self, model: SynthesizerLoRA, folders: Sequence[str], middle: float, seed: int, frames: int = 128):
        self._model, self._frames, self._middle = model, frames, middle
        self._random = np.random.default_rng(seed)
        self._clips: List[Tuple[Tensor, Tensor, Tensor]] = []  # features, f0 of the speaker's middle = 1, sound
        for folder in map(Path, folders):
            names = sorted(path.stem for path in (folder / "0_gt_wavs").glob("*.wav"))
            tracks = [np.load(folder / "2b-f0nsf" / f"{name}.wav.npy").astype(np.float32) for name in names]
            own = float(np.median(np.concatenate([track[track > 0] for track in tracks])))
            for name, track in zip(names, tracks):
                phone = np.repeat(np.load(folder / "3_feature768" / f"{name}.npy"), 2, axis=0).astype(np.float32)
                sound = read_audio(folder / "0_gt_wavs" / f"{name}.wav", 16000)
                if min(len(phone), len(track), len(sound) // 160) > frames:
                    self._clips.append((torch.from_numpy(phone), torch.from_numpy(track / own),
                                        torch.from_numpy(sound)))

    def loss(self) -> Tensor:
        """How far the words of one stretch are from its recording's: L1 of the features."""
        phone, track, sound = self._clips[self._random.integers(len(self._clips))]
        frames, network = self._frames, self._model.network
        most = min(len(phone), len(track), len(sound) // 160) - frames
        start = 2 * int(self._random.integers(most // 2 + 1))
        wave = sound[start * 160:(start + frames) * 160][None]
        given = piece(phone[start:start + frames][None], (track[start:start + frames] * self._middle)[None], 0.0)
        g = self._model.speaker_vector(torch.tensor([self._model.speaker]))
        prior, _ = run_prior(network, given, g)
        audio = self._model.decode(prior.z * prior.mask, given.f0, g).squeeze(1)
        with torch.no_grad():
            wanted = content_encoder.encode(wave, None, 3200)
        return F.l1_loss(content_encoder.encode(audio, None, 3200), wanted)


class Remedies(Objective):
    """The trainer's losses and, as a recipe asks for it, more of them.

    Args:
        own: the trainer's objective. beside: "whole" lets the small discriminator learn, "frozen" takes its features
            alone, "" leaves it out. since: the step from which it takes part. adversarial, variance: weights of its
            losses; of the difference of the bands' standard deviation over the batch. words: with its weight, and the
            steps from one to the next. path: the share of steps at which the decoder learns from z of the prior.
    """

    def __init__(self, own: Objective, pair: Optional[Pair], beside: str, since: int, adversarial: float,
                 variance: float, words: Optional[Words] = None, content: float = 0.0, every: int = 1,
                 path: float = 0.0):
        self.__dict__.update(own.__dict__)
        self._path, self._due = path, 0.0
        self._pair, self._beside, self._since, self._words, self._every = pair, beside, since, words, every
        self.weights = {**own.weights, "gen": adversarial, "fm": adversarial, "variance": variance,
                        "content": content * every}
        if pair is not None and beside == "whole":
            self._optimizer = torch.optim.AdamW(pair.parameters(), RATE, betas=(0.8, 0.99), eps=1e-9)

    def decoder_losses(self, batch: TrainBatch, z: Tensor, step: int) -> Dict[str, Tensor]:
        """As the trainer's, with `gen`, `fm` and `variance` where they are asked for."""
        self._due += self._path
        if self._due >= 1.0:
            self._due -= 1.0
            z = self._of_prior(batch)
        part = self.held(self.stretch(batch, z))
        audio = self.decoded(part, self._speaker(batch))
        losses = self.audio_losses(audio, part, step)
        if self.weights["variance"]:
            made = self._mel.of_audio(audio.squeeze(1))
            losses["variance"] = (made.std((0, 2)) - part.mel.std((0, 2))).abs().mean()
        if self._pair is not None and step >= self._since:
            losses.update(self._judged(part.wave, audio))
        if self._words is not None and step % self._every == 0:
            losses["content"] = self._words.loss()
        return losses

    def _of_prior(self, batch: TrainBatch) -> Tensor:
        """z as a conversion finds it, from the clips' own features: (batch, channels, frames). Its gradient goes
        through the flow."""
        given = Piece(batch.phone, batch.lengths, batch.pitch, batch.f0)
        prior, _ = run_prior(self._model.network, given, self._speaker(batch))
        return prior.z * prior.mask

    def _judged(self, real: Tensor, audio: Tensor) -> Dict[str, Tensor]:
        if self._beside == "whole":
            self._pair.requires_grad_(True)
            scores = self._pair(real, audio.detach())[:2]
            self._optimizer.zero_grad()
            sum(((1 - one) ** 2).mean() + (two**2).mean() for one, two in zip(*scores)).backward()
            self._optimizer.step()
        self._pair.requires_grad_(False)
        _, scores, known, features = self._pair(real, audio)
        found = {"fm": 2 * sum((a.detach() - b).abs().mean() for one, two in zip(known, features)
                               for a, b in zip(one, two))}
        if self._beside == "whole":
            found["gen"] = sum(((1 - score) ** 2).mean() for score in scores)
        return found


def settings_of(recipe: Dict[str, Any], data: Path, output: Path, args: Any) -> TrainConfig:
    """The trainer's settings by a recipe on one voice; all of its clips that are kept out are measured. args: those of
    a benchmark that trains voices (`voice_arguments`), and `epochs`."""
    return TrainConfig.from_dict({
        "base_model": str(args.base), "data_dir": str(data), "output_dir": str(output), "name": data.name,
        "epochs": args.epochs, "device": args.device, "valid_clips": ALL_CLIPS, "seed": args.seed,
        **{key: value for key, value in recipe.items() if key not in OWN_SETTINGS}})


def lora_training(trainer: Trainer, recipe: Dict[str, Any], small: Optional[Path], points: int,
                  name: str) -> LoRATraining:
    """Our trainer by `recipe`: `beside`, `from` (a share of the steps), `adversarial`, `variance`, `content` with
    `content_data` and `content_every`, `path`, `prior_first`."""
    if any(recipe.get(key) for key in ("beside", "variance", "content", "path")):
        pair = Pair(small).to(trainer.device).train() if recipe.get("beside") else None
        words = None
        if recipe.get("content"):
            words = Words(trainer.model, recipe["content_data"], trainer.pitch.median, trainer.config.seed)
        trainer.objective = Remedies(trainer.objective, pair, recipe.get("beside", ""),
                                     int(recipe.get("from", 0.0) * trainer.total_steps),
                                     recipe.get("adversarial", 0.5), recipe.get("variance", 0.0), words,
                                     recipe.get("content", 0.0), recipe.get("content_every", 1),
                                     recipe.get("path", 0.0))
    if recipe.get("prior_first"):
        begin, first = trainer.begin_step, int(recipe["prior_first"] * trainer.total_steps)
        trainer.begin_step = lambda indices: begin(indices)._replace(  # type: ignore[method-assign]
            decoder=trainer.done_steps >= first)
    return LoRATraining(trainer, points, name)


def full_training(trainer: Trainer, settings: TrainConfig, config: Dict[str, Any], small: Path,
                  points: int) -> FullTraining:
    """Full fine-tuning by RVC's recipe, the small discriminator in the place of RVC's."""
    step = RVCStep(trainer.host, config, trainer.info.version, Path(settings.base_model), None, trainer.device)
    step.discriminator = Pair(small).to(trainer.device).train()
    train = config["train"]
    step.optimizer_d = torch.optim.AdamW(step.discriminator.parameters(), train["learning_rate"],
                                         betas=tuple(train["betas"]), eps=train["eps"])
    step.optimizers.append(step.optimizer_d)
    return FullTraining(step, settings, trainer.host, trainer.info, trainer.heldout, settings.epochs, points,
                        trainer.device)
