"""The discriminator in training: a frozen pretrained one, itself adapted by LoRA, so that a save stays small."""

from __future__ import annotations

from typing import Any, ContextManager, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from ..host import Host
from ..lora import Injection, LoRAConfig, freeze, inject, unfreeze
from .checkpoint import load_optimizer, optimizer_state
from .saved import copy_all

RANK = 4


class Adversary:
    """RVC's multi-period discriminator with LoRA on its convolutions.

    Full training of it would need 71 M parameters, their optimiser state and 850 MB a save. Here only the branches
    learn.

    Args:
        parts: how many of its sub-discriminators a step takes, drawn at random; 0 takes all. The losses, which RVC
            sums over them, are scaled up to all of them.
        every: it learns at every k-th step, and at the others is only evaluated.
        frozen_layers: lower layers of each sub-discriminator that do not learn (FreezeD, Mo et al. 2020,
            arXiv:2002.10964).
    """

    def __init__(self, network: nn.Module, host: Host, lr: float, betas: Tuple[float, float], device: torch.device,
                 parts: int = 0, every: int = 1, frozen_layers: int = 0):
        self.network = network.to(device).train()
        self._losses = host.module("losses")
        self.injection: Injection = inject(network, LoRAConfig(r=RANK, lora_alpha=2 * RANK, targets={"disc": True}))
        self.injection.to(device)
        freeze(network)
        learning = [layer for name, layer in self.injection.items() if int(name.rsplit(".", 1)[1]) >= frozen_layers]
        self._learning = nn.ModuleList(learning)
        freeze(self.injection)
        self.optimizer = torch.optim.AdamW(self._learning.parameters(), lr, betas=betas, eps=1e-9)
        self._all = list(network.discriminators)
        self._count, self._every = min(parts or len(self._all), len(self._all)), every
        self._drawn: List[nn.Module] = self._all
        self._features_real: List[List[Tensor]] = []

    def update(self, real: Tensor, generated: Tensor, step: int, scaler: Any,
               autocast: ContextManager[Any]) -> Optional[Tensor]:
        """One step of the discriminator's own (least squares, Mao et al. 2017, arXiv:1611.04076) -> its loss; None
        where it is only evaluated.

        real, generated: (batch, 1, samples). step: how many there were. What it makes of `real` is kept for
        `generator_losses`.
        """
        if self._count < len(self._all):
            self._drawn = [self._all[i] for i in torch.randperm(len(self._all))[:self._count].tolist()]
        learns = step % self._every == 0
        if learns:
            unfreeze(self._learning)
        with autocast, torch.set_grad_enabled(learns):
            judged_real = [part(real) for part in self._drawn]
            if learns:
                scores = [[score for score, _ in judged]
                          for judged in (judged_real, [part(generated.detach()) for part in self._drawn])]
                loss = self._losses.discriminator_loss(*scores)[0] * self._share()
        self._features_real = [[feature.detach() for feature in features] for _, features in judged_real]
        if not learns:
            return None
        self.optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(self.optimizer)
        freeze(self._learning)
        return loss.detach()

    def generator_losses(self, generated: Tensor) -> Dict[str, Tensor]:
        """Adversarial and feature-matching loss for the generator. No gradient reaches the discriminator.

        The features of the real clips are those of `update`, from just before the discriminator's step: RVC runs it on
        them again.
        """
        outputs = [part(generated) for part in self._drawn]
        features_real, self._features_real = self._features_real, []
        return {
            "gen": self._losses.generator_loss([score for score, _ in outputs])[0] * self._share(),
            "fm": self._losses.feature_loss(features_real, [features for _, features in outputs]) * self._share(),
        }

    def _share(self) -> float:
        return len(self._all) / self._count

    def state(self) -> Dict[str, Any]:
        return {"lora": {k: v.detach().cpu() for k, v in self.injection.tensors().items()},
                "optimizer": optimizer_state(self.optimizer)}

    def load_state(self, state: Dict[str, Any]) -> None:
        """Go on from what `state` gave; raises where that is of another discriminator."""
        tensors = self.injection.tensors()
        copy_all(list(tensors.values()), [state["lora"][name] for name in tensors])
        load_optimizer(self.optimizer, state["optimizer"])
