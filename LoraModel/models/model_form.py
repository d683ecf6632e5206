"""One form for the model files that people have: RVC's own, whatever names and wrappings another program gave them.

| found | made of it |
|---|---|
| `{KEY: …}`, KEY one of weight, model, net_g, generator, state_dict; the tensors alone | the tensors |
| `module.` and `_orig_mod.` before every name, in any order | removed |
| weight norm as `parametrizations.weight.original0` and `.original1` | `weight_g` and `weight_v` |
| weight norm folded into `weight` | a length `weight_g` and a direction `weight_v` |
| the sample rate as 16000, "16000", 16000.0, "16k" | Hz |
| a configuration as JSON text (the metadata of a safetensors file) | a list |

Here are names and shapes alone: it works on `TensorRef`s as on tensors.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from ..lora.functional import weight_norm_decompose
from .tensor_refs import TensorRef

_WRAPPINGS = ("weight", "model", "net_g", "generator", "state_dict", "model_state_dict", "weights", "params", "ema",
              "net_d", "discriminator")
_PREFIXES = re.compile(r"(?:module\.|_orig_mod\.)+")
_NEW_NORM = (".parametrizations.weight.original0", ".parametrizations.weight.original1")
_NORMED = re.compile(
    r"dec\.ups\.\d+\.weight$|dec\.resblocks\.\d+\.convs[12]?\.\d+\.weight$|"
    r"(?:flow|enc_q)\.[\w.]*(?:in_layers\.\d+|res_skip_layers\.\d+|cond_layer)\.weight$")
"""The layers on which RVC has weight norm: convolutions, whose weight has `_NORMED_DIMENSIONS`."""
_NORMED_DIMENSIONS = 3
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,4})?) ?(k?)(?:hz)?$", re.ASCII | re.IGNORECASE)


@dataclass
class ModelForm:
    """The tensors of a model under RVC's names, and what the file says beside them.

    Attributes:
        weights: tensors or `TensorRef`s by name. wrapping: the key they lay under; "" where they lay open.
        beside: everything else in the file.
        folded: names in `weights` (`….weight`) that hold weight norm folded in; see `unfold`.
    """

    weights: Dict[str, Any]
    wrapping: str
    beside: Dict[str, Any]
    folded: List[str] = field(default_factory=list)

    def shapes(self) -> Dict[str, torch.Size]:
        """Shape of every tensor as RVC's network has it, folded weight norm unfolded."""
        found = {}
        for name, value in self.weights.items():
            if name in self.folded:
                found[name + "_g"] = torch.Size((value.shape[0],) + (1,) * (value.dim() - 1))
                found[name + "_v"] = value.shape
            else:
                found[name] = value.shape
        return found

    def tensors(self, read: Callable[[Any], Tensor]) -> Dict[str, Tensor]:
        """All tensors under RVC's names. read: makes a tensor of a value of `weights`."""
        found = {}
        for name, value in self.weights.items():
            tensor = read(value)
            if name in self.folded:
                found[name + "_g"], found[name + "_v"] = weight_norm_decompose(tensor.float(), tensor.dtype)
            else:
                found[name] = tensor
        return found

    @property
    def sample_rate(self) -> Optional[int]:
        """What the file says beside its tensors, in Hz: its configuration's last value, or `sr`."""
        config = self.config
        values = [config[-1]] if isinstance(config, (list, tuple)) and len(config) == 18 else []
        values += [self.beside.get(key) for key in ("sr", "sample_rate", "sampling_rate")]
        return next((rate for rate in map(rate_of, values) if rate), None)

    @property
    def config(self) -> Any:
        """What the file gives as RVC's list of 18 values, unchecked; None where it has none."""
        value = self.beside.get("config")
        if isinstance(value, str):  # safetensors keeps text alone
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                pass
        return value


def is_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, TensorRef))


def is_state_dict(value: Any) -> bool:
    """Whether it is a dictionary of tensors by name, and nothing else."""
    return isinstance(value, dict) and bool(value) and all(
        isinstance(key, str) and is_tensor(item) for key, item in value.items())


def rate_of(value: Any) -> Optional[int]:
    """A sample rate as files have it, in Hz: 40000, 40000.0, "40000", "40k"; None where it is no such thing."""
    if isinstance(value, str):
        match = _RATE.match(value.strip())
        value = float(match.group(1)) * (1000 if match.group(2) else 1) if match else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6 or value != int(value):
        return None
    return int(value)


def normalise(contents: Any) -> Optional[ModelForm]:
    """The model in what a file holds, or None where it has no dictionary of tensors.

    Where there are several (a whole training state), the generator is taken.
    """
    if not isinstance(contents, dict):
        return None
    candidates: List[Tuple[str, Dict[str, Any]]] = []
    if is_state_dict(contents):
        candidates.append(("", contents))
    candidates += [(key, contents[key]) for key in _WRAPPINGS if is_state_dict(contents.get(key))]
    candidates += [(key, value) for key, value in contents.items()
                   if isinstance(key, str) and key not in _WRAPPINGS and is_state_dict(value)]
    if not candidates:
        return None
    forms = [_form(key, weights, contents) for key, weights in candidates]
    return next((form for form in forms if "enc_p.emb_phone.weight" in form.weights or "emb_g.weight" in form.weights),
                forms[0])


def _form(wrapping: str, weights: Dict[str, Any], contents: Dict[str, Any]) -> ModelForm:
    names = _old_norm({_plain_name(name): value for name, value in weights.items()})
    metadata = contents.get("metadata")
    beside = {key: value for key, value in contents.items() if key != wrapping} if wrapping else {}
    if isinstance(metadata, dict):
        beside = {**beside, **{
            key: value for key, value in metadata.items() if isinstance(key, str) and key not in beside}}
    folded = [name for name, value in names.items() if _NORMED.match(name) and value.dim() == _NORMED_DIMENSIONS]
    return ModelForm(names, wrapping, beside, folded)


def _plain_name(name: str) -> str:
    found = _PREFIXES.match(name)  # all of them at once: a name of millions would be copied as many times
    return name[found.end() if found else 0:].replace("._orig_mod.", ".")


def _old_norm(weights: Dict[str, Any]) -> Dict[str, Any]:
    found = {}
    for name, value in weights.items():
        for new, old in zip(_NEW_NORM, (".weight_g", ".weight_v")):
            if name.endswith(new):
                name = name[: -len(new)] + old
        found[name] = value
    return found


def vocoder_of(form: ModelForm) -> str:
    """The decoder's kind by its tensors: "HiFi-GAN" (RVC's own), "RefineGAN", "MRF HiFi-GAN"; or as the file says."""
    names = form.weights
    if any(name.startswith(("dec.upsample_conv_blocks.", "dec.downsample_blocks.", "dec.upsample_blocks.",
                            "dec.source_conv.")) for name in names):
        return "RefineGAN"
    if any(name.startswith(("dec.mrfs.", "dec.upsamples.")) for name in names):
        return "MRF HiFi-GAN"
    if any(name.startswith("dec.ups.") for name in names) and any(name.startswith("dec.resblocks.") for name in names):
        return "HiFi-GAN"
    vocoder = form.beside.get("vocoder")
    return re.sub(r"[^\w .-]", "?", vocoder)[:40] if isinstance(vocoder, str) else ""
