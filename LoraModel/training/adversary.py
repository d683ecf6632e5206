"""The discriminator in training: a frozen pretrained one, itself adapted by LoRA, so that a save stays small."""

from __future__ import annotations

from typing import Any, ContextManager, Dict, List, Tuple

import torch
from torch import Tensor, nn

from ..host import Host
from ..lora import Injection, LoRAConfig, freeze, inject, mark_only_lora_as_trainable, unfreeze

RANK = 4


class Adversary:
    """RVC's multi-period discriminator with LoRA on its convolutions.

    Full training of it would need 71 M parameters, their optimiser state and 850 MB a save. Here only the branches learn.
    """

    def __init__(self, network: nn.Module, host: Host, lr: float, betas: Tuple[float, float], device: torch.device):
        self.network = network.to(device).train()
        self._losses = host.module("losses")
        self.injection: Injection = inject(network, LoRAConfig(r=RANK, lora_alpha=2 * RANK, targets={"disc": True}))
        self.injection.to(device)
        self.trainable = mark_only_lora_as_trainable(network)
        self.optimizer = torch.optim.AdamW(self.trainable, lr, betas=betas, eps=1e-9)
        self._features_real: List[List[Tensor]] = []

    def update(self, real: Tensor, generated: Tensor, scaler: Any, autocast: ContextManager[Any]) -> Tensor:
        """One step of the discriminator's own (least squares, Mao et al. 2017, arXiv:1611.04076) -> its loss.

        real, generated: (batch, 1, samples). What it makes of `real` is kept for `generator_losses`.
        """
        unfreeze(self.injection)
        with autocast:
            outputs_real, outputs_generated, features_real, _ = self.network(real, generated.detach())
            loss = self._losses.discriminator_loss(outputs_real, outputs_generated)[0]
        self._features_real = [[feature.detach() for feature in features] for features in features_real]
        self.optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(self.optimizer)
        return loss

    def generator_losses(self, generated: Tensor) -> Dict[str, Tensor]:
        """Adversarial and feature-matching loss for the generator. No gradient reaches the discriminator.

        The features of the real clips are those of `update`, from just before the discriminator's step: RVC runs it on them again.
        """
        freeze(self.injection)
        outputs = [part(generated) for part in self.network.discriminators]
        features_real, self._features_real = self._features_real, []
        return {
            "gen": self._losses.generator_loss([score for score, _ in outputs])[0],
            "fm": self._losses.feature_loss(features_real, [features for _, features in outputs]),
        }

    def state(self) -> Dict[str, Any]:
        return {"lora": {k: v.detach().cpu() for k, v in self.injection.tensors().items()}, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state(self, state: Dict[str, Any]) -> None:
        for name, tensor in self.injection.tensors().items():
            tensor.copy_(state["lora"][name])
        self.optimizer.load_state_dict(state["optimizer"])
