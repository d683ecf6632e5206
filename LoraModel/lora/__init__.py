"""LoRA on PyTorch layers: knows nothing of RVC but the names of its layers (`lora_config.TARGET_PATTERNS`)."""

from .adapter_file import Adapter, load_adapter, save_adapter, tensors_hash
from .live import LiveWeights
from .lora_config import DEFAULT_PRESET, PRESETS, LoRAConfig, TargetConfig
from .lora_layer import LoRAConv1d, LoRAConv2d, LoRAConvTranspose1d, LoRAEmbedding, LoRALayer, LoRALinear, SpeakerRow
from .lora_utils import (
    Injection,
    ParameterCount,
    count_parameters,
    extract,
    freeze,
    inject,
    injection_of,
    mark_only_lora_as_trainable,
    merge,
    unfreeze,
    unmerge,
)

__all__ = [
    "Adapter", "DEFAULT_PRESET", "Injection", "LiveWeights", "LoRAConfig", "LoRAConv1d", "LoRAConv2d", "LoRAConvTranspose1d",
    "LoRAEmbedding", "LoRALayer", "LoRALinear", "PRESETS", "ParameterCount", "SpeakerRow", "TargetConfig", "count_parameters",
    "extract", "freeze", "inject", "injection_of", "load_adapter", "mark_only_lora_as_trainable", "merge", "save_adapter",
    "tensors_hash", "unfreeze", "unmerge",
]
