"""Model files as people have them, made of the demo's base: what several tests read."""

import json
from pathlib import Path

import torch

from LoraModel.models.model_utils import config_list

DEMO = Path(__file__).resolve().parents[2] / "LoraModel" / "demo" / "base"


def demo_weights():
    return torch.load(str(DEMO / "f0G16k.pth"), map_location="cpu", weights_only=True)["model"]


def demo_config():
    """RVC's list of 18 values of the demo's base."""
    return config_list(json.loads((DEMO / "config.json").read_text(encoding="utf-8")))


def save(path, contents, **options):
    torch.save(contents, str(path), **options)
    return path


def without_posterior(weights):
    return {name: value for name, value in weights.items() if not name.startswith("enc_q.")}


def voice(weights, **other):
    """A small voice's contents; what is given as None is left out."""
    contents = {"weight": weights, "config": demo_config(), "info": "100epoch", "sr": "16k", "f0": 1, "version": "v2",
                **other}
    return {key: value for key, value in contents.items() if value is not None}


def new_norm(weights):
    """Weight norm under the names of `torch.nn.utils.parametrizations`."""
    new = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
    return {name[:-9] + new[name[-9:]] if name[-9:] in new else name: value for name, value in weights.items()}


def folded_norm(weights):
    """Weight norm folded into `weight`, in fp32."""
    found = {}
    for name, value in weights.items():
        if name.endswith(".weight_v"):
            length = weights[name[:-1] + "g"].float()
            direction = value.float()
            found[name[:-2]] = length * direction / direction.flatten(1).norm(dim=1).reshape(length.shape)
        elif not name.endswith(".weight_g"):
            found[name] = value
    return found


def discriminator(parts):
    """Names as RVC's multi-period discriminator has them (6 parts in v1, 9 in v2), with tiny tensors."""
    return {f"discriminators.{part}.convs.{layer}.{key}": torch.zeros(2) for part in range(parts) for layer in range(5)
            for key in ("weight_g", "weight_v", "bias")}
