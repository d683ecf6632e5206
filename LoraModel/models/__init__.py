"""LoRA on RVC's networks: loading bases, the synthesizer and its generator.

More than nine files, because reading a stranger's file is several concepts: `pickle_file` (the description),
`pickle_calls` (what it may name), `tensor_refs` (what it gives), `tensor_file` (the containers), `not_a_model` (what
else it may be), `checkpoint_file` (these together), `model_form` (names), `model_kind`. `catalog` is every model file
that a page or a window may name.
"""

from .generator_lora import GeneratorLoRA
from .model_kind import ModelKind, model_kind
from .model_utils import Base, BaseInfo, load_base, load_base_beside_config, load_discriminator, read_checkpoint
from .synthesizer_lora import SynthesizerLoRA
from .targets import DEFAULT_PRESET, PRESETS

__all__ = [
    "Base", "BaseInfo", "DEFAULT_PRESET", "GeneratorLoRA", "ModelKind", "PRESETS", "SynthesizerLoRA", "load_base",
    "load_base_beside_config", "load_discriminator",
    "model_kind", "read_checkpoint",
]
