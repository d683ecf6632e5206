"""A base of the demo's form with a few thousand parameters: a whole run of many epochs on it takes seconds. It says
nothing of sound."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

import torch

from LoraModel.host import Host
from LoraModel.models.model_utils import config_list

CONFIG = Path(__file__).resolve().parents[2] / "LoraModel" / "demo" / "base" / "config.json"


def make(path, speakers=2, noise=False):
    """Write the base to `path` and its configuration beside it; return `path`. noise: let its voices' noise be set, as
    in a network that was trained (with fresh weights the last layer norm's betas are all 0)."""
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
        spk_embed_dim=speakers,
    )
    torch.manual_seed(0)
    network = Host("library").build_synthesizer(config_list(config), "v2", True)
    if noise:
        torch.nn.init.constant_(list(network.enc_p.encoder.norm_layers_2)[-1].beta, 0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {key: value.half() for key, value in network.state_dict().items()}}, str(path))
    path.with_name("config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@functools.lru_cache(maxsize=None)
def shared():
    """One of the demo's base's name and number of speakers, for all tests of this process that leave it as it is."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    return make(folder / "f0G16k.pth", speakers=16)
