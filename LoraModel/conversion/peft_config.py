"""adapter_config.json beside an adapter: what PEFT would call its settings, for programs that look for that file.

The adapter itself is none of PEFT's: PEFT has no LoRA for transposed convolutions, and RVC's network has several.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from ..files import atomic_write
from ..lora import Adapter, load_adapter
from ..lora.targets import has_rank

NAME = "adapter_config.json"


def peft_config(adapter: Adapter) -> Dict[str, Any]:
    """PEFT's LoraConfig for an adapter, as JSON takes it. `rank_pattern` and `alpha_pattern` name each layer whose rank
    and alpha are not the most frequent ones."""
    config = adapter.config
    ranks = {path: config.targets[target] for path in adapter.layers()
             for target in [config.target_of(path)] if target is not None and has_rank(target)}
    pairs = [(one.r, one.lora_alpha) for one in ranks.values()]
    rank, alpha = max(sorted(set(pairs)), key=pairs.count) if pairs else (1, 1)
    return {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": adapter.metadata.get("base_name", ""),
        "revision": None, "inference_mode": True, "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": config.use_rslora, "use_dora": False, "fan_in_fan_out": False, "init_lora_weights": True,
        "modules_to_save": None, "target_modules": sorted(ranks),
        "rank_pattern": {path: one.r for path, one in sorted(ranks.items()) if one.r != rank},
        "alpha_pattern": {path: one.lora_alpha for path, one in sorted(ranks.items()) if one.lora_alpha != alpha},
    }


def write_peft_config(adapter: Path) -> Path:
    """Write adapter_config.json into the adapter's folder, whole or not at all; an older one is overwritten."""
    path = adapter.parent / NAME
    atomic_write(path, (json.dumps(peft_config(load_adapter(adapter)), indent=2, ensure_ascii=False) + "\n").encode())
    return path
