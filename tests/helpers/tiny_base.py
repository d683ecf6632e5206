"""A base of the demo's form with a few thousand parameters: a whole run of many epochs on it takes seconds. It says
nothing of sound."""

import json
from pathlib import Path

import torch

from LoraModel.host import Host
from LoraModel.models.model_utils import config_list

CONFIG = Path(__file__).resolve().parents[2] / "LoraModel" / "demo" / "base" / "config.json"


def make(path):
    """Write the base to `path` and its configuration beside it; return `path`."""
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    config["model"].update(
        inter_channels=8,
        hidden_channels=8,
        filter_channels=12,
        n_heads=2,
        n_layers=1,
        upsample_initial_channel=16,
        gin_channels=8,
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
        spk_embed_dim=2,
    )
    torch.manual_seed(0)
    network = Host("library").build_synthesizer(config_list(config), "v2", True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {key: value.half() for key, value in network.state_dict().items()}}, str(path))
    path.with_name("config.json").write_text(json.dumps(config), encoding="utf-8")
    return path
