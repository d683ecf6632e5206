"""How much of the prior's noise a voice is heard with: a delta of one layer, so that every reader of adapters applies
it, live or merged.

A conversion draws z from the prior, mean + exp(log_scale) * noise, where the noise is 0.66666 of a normal one in RVC.
Less of it is a clearer, calmer voice (so-vits-svc has it as `noise_scale`, 0.4 by default). To multiply the noise by a
share is to add log(share) to every log_scale: a bias of enc_p.proj, and an adapter has no biases. But what enc_p.proj
is given comes from a layer norm, x = gamma * n + beta, and the n of a frame sum to 0. So (1 / gamma) · x is the same
number for every frame, K = sum(beta / gamma), and

    left = log(share) in the rows of log_scale, 0 in those of mean;    right = 1 / (gamma * K)

adds log(share) exactly: a LoRA of rank 1. As any other delta it is multiplied by the strength.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Set, Tuple

import torch
from torch import Tensor, nn

from ..lora import Adapter, LoRAConfig
from ..lora.lora_config import TargetConfig
from ..lora.lora_layer import LoRAConv1d, LoRALinear
from ..messages import UserError
from ..names import bare, check_number
from .targets import PRESETS

LEAST, MOST = 0.05, 4.0
"""Of a share of RVC's noise."""
MAX_NOISE = 1.5
"""Where the sliders end. Theirs start at 0, which stands for the voice's own."""
MODEL_KEY = "voice_noise"
"""Under which a merged model's file has the share that it is heard with; RVC passes over it."""
LAYER, BESIDE = "enc_p.proj", "enc_p.emb_phone"
"""The layer that gives mean and log_scale; the other one of its target, which gets a delta of zeros."""
TARGET = "enc_p_io"
FAR = 10.0
"""Of a logarithm, beyond which a share says nothing any more."""
MOST_GAIN = 200.0
"""A frame's length over K: above it fp16 rounds the delta too coarsely (at 200, to about 8% of log(share))."""


def check_share(share: Any) -> float:
    """
    Raises:
        UserError: it is no number, or out of its limits.
    """
    check_number("noise", share)
    if not LEAST <= share <= MOST:
        raise UserError("{name}={value} must be between {low} and {high}", name="noise", value=bare(share), low=LEAST,
                        high=MOST)
    return float(share)


def asked_share(noise: Any) -> Optional[float]:
    """A share that may be left out: None stays None.

    Raises:
        UserError: as `check_share`.
    """
    return None if noise is None else check_share(noise)


def share_told(fields: Mapping[str, Any]) -> float:
    """The share of RVC's noise that a merged model's file was written with; 1.0 where it tells nothing, or nothing that
    can be."""
    value = fields.get(MODEL_KEY)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and LEAST / 10 <= value <= 10 * MOST
    return float(value) if good else 1.0  # type: ignore[arg-type]


class LastNorm(NamedTuple):
    """What stands before LAYER. gamma, beta: (channels,), fp64; constant: K."""

    gamma: Tensor
    beta: Tensor
    constant: float

    @property
    def usable(self) -> bool:
        """Whether K is far enough from 0 for a delta."""
        return math.isfinite(self.constant) and math.sqrt(len(self.gamma)) <= MOST_GAIN * abs(self.constant)


def last_norm(network: nn.Module) -> LastNorm:
    """That of a network's text encoder."""
    encoder: Any = network.enc_p
    norm = list(encoder.encoder.norm_layers_2)[-1]
    gamma, beta = norm.gamma.detach().double().cpu(), norm.beta.detach().double().cpu()
    return LastNorm(gamma, beta, float((beta / gamma).sum()))


def usable_norm(network: nn.Module) -> LastNorm:
    """`last_norm`.

    Raises:
        UserError: it leaves nothing constant.
    """
    norm = last_norm(network)
    if not norm.usable:
        raise UserError("the noise of this base's voices cannot be set: its text encoder's last layer norm leaves "
                        "nothing constant. Leave out --noise, and set it to 0 on the page")
    return norm


def shift_of(left: Tensor, right: Tensor, norm: LastNorm) -> float:
    """What a delta of LAYER, (2 * channels of z, rank) @ (rank, channels), adds to log_scale at the layer norm's beta:
    the mean over channels. For a delta of `unit_shift`'s direction it is that of every frame."""
    added = left.double().cpu() @ (right.double().cpu() @ norm.beta)  # (the mean's rows and log_scale's,)
    return float(added[len(added) // 2:].mean())


def brought(parts: Iterable[Tuple[float, Optional[Tuple[Tensor, Tensor]]]], network: nn.Module) -> float:
    """The share of the base's noise that adapters bring together.

    Args:
        parts: each one's strength, and its (left, right) of LAYER or None.

    Returns:
        A finite number above 0, whatever a stranger's file holds.
    """
    norm = last_norm(network)
    added = sum(strength * shift_of(*pair, norm) for strength, pair in parts if pair is not None)
    return math.exp(min(max(added, -FAR), FAR)) if math.isfinite(added) else 1.0


def set_share(products: Mapping[str, Tuple[Tensor, Tensor]], network: nn.Module, share: float,
              own: float = 1.0) -> Dict[str, Tuple[Tensor, Tensor]]:
    """The products of a blend, heard with `share` of RVC's noise whatever its voices bring themselves.

    Args:
        products: (left, right) by layer, as `LiveWeights.write_products` takes them. network: the base's; its last
            layer norm is read, nothing is changed. share: as `check_share` gives it. own: the share that the base
            itself was written with.

    Raises:
        UserError: a base that does not allow it.
    """
    norm, known = usable_norm(network), products.get(LAYER)
    change = math.log(share / own) - (shift_of(*known, norm) if known is not None else 0.0)
    device = network.enc_p.proj.weight.device  # type: ignore[union-attr]
    left, right = (factor.to(device) for factor in unit_shift(network, norm))
    pair = left * change, right
    if known is not None:
        pair = torch.cat([known[0], pair[0]], 1), torch.cat([known[1], pair[1]], 0)
    return {**products, LAYER: pair}


def unit_shift(network: nn.Module, norm: LastNorm) -> Tuple[Tensor, Tensor]:
    """(left, right), (2 * channels of z, 1) and (1, channels): the delta of LAYER that adds 1 to log_scale. norm: the
    network's own."""
    layer: Any = network.enc_p.proj  # type: ignore[union-attr]
    left = torch.zeros(layer.out_channels, 1)
    left[len(left) // 2:] = 1.0
    return left, (1 / (norm.gamma * norm.constant)).float()[None]


def settable(network: nn.Module, config: LoRAConfig) -> bool:
    """Whether the noise of a voice of these layers can be set: the base allows it, and nothing else changes LAYER."""
    return config.target_of(LAYER) is None and config.target_of(BESIDE) is None and last_norm(network).usable


def with_shift(tensors: Mapping[str, Tensor], config: LoRAConfig, network: nn.Module,
               share: float) -> Tuple[Dict[str, Tensor], LoRAConfig]:
    """An adapter's tensors and configuration, heard with `share` of RVC's noise; it must be `settable`."""
    encoder: Any = network.enc_p
    kinds = {LAYER: (LoRAConv1d, encoder.proj), BESIDE: (LoRALinear, encoder.emb_phone)}
    more = {f"{path}.{key}": torch.zeros(shape) for path, (kind, layer) in kinds.items()
            for key, shape in kind.file_shapes(layer, 1).items()}
    left, right = unit_shift(network, last_norm(network))
    left = left * math.log(share)
    even = float((right.norm() / left.norm()).sqrt())  # two vectors of one length round best
    for key, factor in zip(LoRAConv1d.KEYS, (right / even, left * even)):
        name = f"{LAYER}.{key}"
        more[name] = factor.reshape(more[name].shape)
    return {**tensors, **more}, with_target(config)


def with_target(config: LoRAConfig) -> LoRAConfig:
    """A configuration that knows the layers of the noise; as it is where it knows them already."""
    if config.target_of(LAYER) is not None or config.target_of(BESIDE) is not None:
        return config
    values = asdict(config)
    values["targets"][TARGET] = {"r": 1, "lora_alpha": 1}
    return LoRAConfig.from_dict(values)


def told_targets(config: LoRAConfig) -> Dict[str, TargetConfig]:
    """The targets of an adapter that were trained, as far as its configuration tells: without TARGET where it is as
    `with_target` adds it and the preset has none."""
    own = PRESETS.get(config.preset, {TARGET: (0, 0)})
    return {name: target for name, target in config.targets.items()
            if name != TARGET or name in own or (target.r, target.lora_alpha) != (1, 1)}


def noise_layers(adapter: Adapter) -> Set[str]:
    """The layers of an adapter that do nothing but set the noise; none where they were trained."""
    layers = adapter.layers()
    if LAYER not in layers or BESIDE not in layers:
        return set()
    if any(bool(tensor.any()) for tensor in layers[BESIDE].values()):
        return set()
    return {LAYER, BESIDE}


@contextlib.contextmanager
def heard_with(network: nn.Module, share: float) -> Iterator[None]:
    """While the block runs, the network's prior has `share` of its noise, as `with_shift` gives it."""
    if share == 1:
        yield
        return

    def lower(_module: nn.Module, _given: Any, out: Tuple[Tensor, Tensor, Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        mean, log_scale, mask = out
        return mean, log_scale + math.log(share) * mask, mask

    handle = network.enc_p.register_forward_hook(lower)  # type: ignore[union-attr, operator]
    try:
        yield
    finally:
        handle.remove()
