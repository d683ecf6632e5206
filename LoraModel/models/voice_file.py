"""RVC's small model files: what they hold of a network, where they may be written, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import Tensor, nn

from ..files import atomic_file, check_file_place
from ..lora import weight_norm
from ..lora.adapter_metadata import one_line
from ..lora.voice_pitch import MODEL_KEY, VoicePitch
from ..messages import UserError
from .model_utils import BaseInfo
from .prior_noise import MODEL_KEY as NOISE_KEY

LONGEST_NOTE = 1000
"""Characters of what a model says of itself."""


@torch.no_grad()
def half_weights(network: nn.Module, changed: Any = ()) -> Dict[str, Tensor]:
    """The network's tensors as RVC's small files keep them: fp16, without enc_q.

    Args:
        changed: paths of layers that hold merged weights: their direction is rounded, their length is taken before
            rounding.

    Raises:
        UserError: a weight does not fit fp16.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()
               if not name.startswith("enc_q.")}
    halves = {name: tensor.half() for name, tensor in weights.items()}
    for path in changed:  # a plain parameter, such as a bias, is rounded already
        stored = {name: tensor.detach().cpu()
                  for name, tensor in weight_norm.stored_tensors(weight_norm.layer_at(network, path)).items()}
        again = weight_norm.decompose(weight_norm.compose(stored),
                                      {name: tensor.half() for name, tensor in stored.items()})
        halves.update({f"{path}.{name}": tensor for name, tensor in again.items() if f"{path}.{name}" in halves})
    for name, tensor in halves.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError("{name} does not fit 16 bits: the strength is too high, or the base is damaged", name=name)
    return halves


def small_model(
    network: nn.Module, info: BaseInfo, note: str, changed: Any = (), pitch: Optional[VoicePitch] = None,
    noise: float = 1.0
) -> Dict[str, Any]:
    """What RVC's `VC.get_vc` loads: weight, config, info, sr, f0, version; beside it, where that is known, how high
    the voice speaks, and with which share of RVC's noise it does so where that is another.

    note: what the model says of itself; it is stored on one line, without control characters.
    """
    return {
        "weight": half_weights(network, changed), "config": list(info.config),
        "info": one_line(note, LONGEST_NOTE),
        "sr": f"{info.sample_rate // 1000}k",
        "f0": int(info.f0), "version": info.version, **({MODEL_KEY: pitch.to_text()} if pitch is not None else {}),
        **({NOISE_KEY: round(noise, 4)} if round(noise, 4) != 1 else {}),
    }


def check_output(path: Path, force: bool, *inputs: Path) -> None:
    """Check that `path` may be written.

    Raises:
        UserError: it is there and `force` is off, it is an input, or it has another ending than .pth.
    """
    if path.suffix.lower() != ".pth":
        raise UserError("{path} must end in .pth: RVC lists only such files", path=path)
    if path.resolve() in {file.resolve() for file in inputs}:
        raise UserError("{path} is an input: choose another --output, bases are never overwritten", path=path)
    check_file_place(path)
    if path.exists() and not force:
        raise UserError("{path} exists: choose another --output, or pass --force to overwrite it", path=path)


def save_model(path: Path, model: Dict[str, Any]) -> None:
    """Write an RVC model, whole or not at all."""
    with atomic_file(path) as stream:
        torch.save(model, stream)
