"""The decoder (RVC's `GeneratorNSF` with f0, `Generator` without) with LoRA on its own layers."""

from __future__ import annotations

from typing import Optional

from torch import Tensor, nn

from ..host.networks import takes_pitch
from ..lora import Injection, LoRAConfig, inject
from .targets import DECODER_TARGETS


class GeneratorLoRA:
    """RVC's decoder, called the same way with and without f0, and LoRA on it if asked.

    Args:
        generator: the host's decoder, which stays as it is.
        config: inject the decoder's part of these targets; None where LoRA is injected elsewhere or not at all.
    """

    def __init__(self, generator: nn.Module, config: Optional[LoRAConfig] = None):
        self.generator = generator
        self.takes_f0 = takes_pitch(generator)
        self.injection: Optional[Injection] = None
        if config is not None:
            own = {name: target for name, target in config.targets.items() if name in DECODER_TARGETS}
            self.injection = inject(generator, LoRAConfig(
                config.r, config.lora_alpha, config.lora_dropout, config.use_rslora, own, config.preset))

    def __call__(self, z: Tensor, f0: Optional[Tensor], g: Tensor) -> Tensor:
        """z: (batch, channels, frames), f0: (batch, frames) in Hz, g: (batch, gin, 1) -> audio (batch, 1, samples)."""
        return self.generator(z, f0, g=g) if self.takes_f0 else self.generator(z, g=g)
