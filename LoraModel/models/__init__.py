"""LoRA on RVC's networks: loading bases, the synthesizer and its generator."""

from .generator_lora import GeneratorLoRA
from .model_utils import Base, BaseInfo, load_base, load_base_beside_config, load_discriminator, read_checkpoint
from .synthesizer_lora import SynthesizerLoRA

__all__ = ["Base", "BaseInfo", "GeneratorLoRA", "SynthesizerLoRA", "load_base", "load_base_beside_config", "load_discriminator", "read_checkpoint"]
