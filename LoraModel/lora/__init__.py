"""LoRA on PyTorch layers. Knows PyTorch alone: which layers a target takes is defined from outside (`define_targets`).

More than nine files: the maths (`functional`, `fused`, `weight_norm`), the layers (`adapter_layer`,
`low_rank`, `lora_layer`, `hanging`, `lora_utils`, `rows`, `live`),
what is adapted (`targets`, `lora_config`) and the adapter file, of which each part that a stranger writes is checked in
a file of its own (`adapter_bytes`, `adapter_metadata`, `adapter_file`, `foreign_file`; `model_spec` says it in other
programs' words).
"""

from .adapter_file import Adapter, load_adapter, save_adapter, tensors_hash
from .live import LiveWeights, Prepared
from .lora_config import LoRAConfig, TargetConfig
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
from .targets import Target, define_targets

__all__ = [
    "Adapter", "Injection", "LiveWeights", "LoRAConfig", "LoRAConv1d", "LoRAConv2d", "LoRAConvTranspose1d",
    "LoRAEmbedding", "LoRALayer", "LoRALinear", "ParameterCount", "Prepared", "SpeakerRow", "Target", "TargetConfig",
    "count_parameters", "define_targets",
    "extract", "freeze", "inject", "injection_of", "load_adapter", "mark_only_lora_as_trainable", "merge",
    "save_adapter", "tensors_hash", "unfreeze", "unmerge",
]
