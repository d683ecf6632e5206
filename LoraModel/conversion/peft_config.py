"""adapter_config.json beside an adapter: what PEFT would call its settings, for programs that look for that file.

The adapter itself is none of PEFT's: PEFT has no LoRA for transposed convolutions, and RVC's network has several.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict, Tuple

from ..files import atomic_write
from ..lora import Adapter, LoRAConfig, load_adapter
from .factors import products_of

NAME = "adapter_config.json"


def peft_config(adapter: Adapter) -> Dict[str, Any]:
    """PEFT's LoraConfig for an adapter, as JSON takes it. `rank_pattern` and `alpha_pattern` name each layer whose rank
    and alpha are not the most frequent ones.

    Raises:
        UserError: the adapter is damaged.
    """
    config = adapter.config
    layers = {path: _rank_and_alpha(config, path, product.rank) for path, product in products_of(adapter).items()}
    pairs = list(layers.values())
    rank, alpha = max(sorted(set(pairs)), key=pairs.count) if pairs else (1, 1)
    return {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": adapter.metadata.get("base_name", ""),
        "revision": None, "inference_mode": True, "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": config.use_rslora, "use_dora": False, "fan_in_fan_out": False, "init_lora_weights": True,
        "modules_to_save": None, "target_modules": sorted(layers),
        "rank_pattern": {path: own for path, (own, _) in sorted(layers.items()) if own != rank},
        "alpha_pattern": {path: own for path, (_, own) in sorted(layers.items()) if own != alpha},
    }


def _rank_and_alpha(config: LoRAConfig, path: str, rank: int) -> Tuple[int, float]:
    """What PEFT takes for a layer of `rank`: where that is below its target's, an alpha that gives the same scale."""
    one = config.targets[config.target_of(path) or ""]
    if rank == one.r:
        return rank, one.lora_alpha
    share = rank / one.r
    return rank, one.lora_alpha * (math.sqrt(share) if config.use_rslora else share)


def write_peft_config(adapter: Path) -> Path:
    """Write adapter_config.json into the adapter's folder, whole or not at all; an older one is overwritten."""
    path = adapter.parent / NAME
    atomic_write(path, (json.dumps(peft_config(load_adapter(adapter)), indent=2, ensure_ascii=False) + "\n").encode())
    return path
