"""Ways of training that the product does not have, so that they can be measured beside those that it has: our losses
beside a small discriminator, or with a loss on variance; full fine-tuning beside that discriminator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from bench.rvc_recipe import RVCStep
from bench.small_discriminator import SmallDiscriminator
from bench.trainings import FullTraining, LoRATraining
from LoraModel.models import read_checkpoint
from LoraModel.training import TrainConfig, Trainer
from LoraModel.training.objective import Objective
from LoraModel.training.posteriors import TrainBatch

RATE = 1e-4
"""The discriminator's learning rate: RVC's own."""
OWN_SETTINGS = ("full", "beside", "from", "adversarial", "variance")
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


class Remedies(Objective):
    """The trainer's losses and, as a recipe asks for it, more of them.

    Args:
        own: the trainer's objective. beside: "whole" lets the small discriminator learn, "frozen" takes its features
            alone, "" leaves it out. since: the step from which it takes part. adversarial, variance: weights of its
            losses; of the difference of the bands' standard deviation over the batch.
    """

    def __init__(self, own: Objective, pair: Optional[Pair], beside: str, since: int, adversarial: float,
                 variance: float):
        self.__dict__.update(own.__dict__)
        self._pair, self._beside, self._since = pair, beside, since
        self.weights = {**own.weights, "gen": adversarial, "fm": adversarial, "variance": variance}
        if pair is not None and beside == "whole":
            self._optimizer = torch.optim.AdamW(pair.parameters(), RATE, betas=(0.8, 0.99), eps=1e-9)

    def decoder_losses(self, batch: TrainBatch, z: Tensor, step: int) -> Dict[str, Tensor]:
        """As the trainer's, with `gen`, `fm` and `variance` where they are asked for."""
        part = self.held(self.stretch(batch, z))
        audio = self.decoded(part, self._speaker(batch))
        losses = self.audio_losses(audio, part, step)
        if self.weights["variance"]:
            made = self._mel.of_audio(audio.squeeze(1))
            losses["variance"] = (made.std((0, 2)) - part.mel.std((0, 2))).abs().mean()
        if self._pair is not None and step >= self._since:
            losses.update(self._judged(part.wave, audio))
        return losses

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


def lora_training(trainer: Trainer, recipe: Dict[str, Any], small: Optional[Path], points: int,
                  name: str) -> LoRATraining:
    """Our trainer by `recipe`: `beside`, `from` (a share of the steps), `adversarial`, `variance`."""
    if any(recipe.get(key) for key in ("beside", "variance")):
        pair = Pair(small).to(trainer.device).train() if recipe.get("beside") else None
        trainer.objective = Remedies(trainer.objective, pair, recipe.get("beside", ""),
                                     int(recipe.get("from", 0.0) * trainer.total_steps),
                                     recipe.get("adversarial", 0.5), recipe.get("variance", 0.0))
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
