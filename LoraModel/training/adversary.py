"""The discriminator in training: a frozen pretrained one, itself adapted by LoRA, so that a save stays small."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

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

    def loss(self, real: Tensor, generated: Tensor) -> Tensor:
        """The discriminator's own loss (least squares, Mao et al. 2017, arXiv:1611.04076). real, generated: (batch, 1, samples)."""
        unfreeze(self.injection)
        outputs_real, outputs_generated, _, _ = self.network(real, generated.detach())
        return self._losses.discriminator_loss(outputs_real, outputs_generated)[0]

    def generator_losses(self, real: Tensor, generated: Tensor) -> Dict[str, Tensor]:
        """Adversarial and feature-matching loss for the generator. No gradient reaches the discriminator."""
        freeze(self.injection)
        scores: List[Tensor] = []
        features_real: List[List[Tensor]] = []
        features_generated: List[List[Tensor]] = []
        for part in self.network.discriminators:
            with torch.no_grad():
                features_real.append(part(real)[1])
            score, features = part(generated)
            scores.append(score)
            features_generated.append(features)
        return {
            "gen": self._losses.generator_loss(scores)[0],
            "fm": self._losses.feature_loss(features_real, features_generated),
        }

    def state(self) -> Dict[str, Any]:
        return {"lora": {k: v.detach().cpu() for k, v in self.injection.tensors().items()}, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state(self, state: Dict[str, Any]) -> None:
        for name, tensor in self.injection.tensors().items():
            tensor.copy_(state["lora"][name])
        self.optimizer.load_state_dict(state["optimizer"])
