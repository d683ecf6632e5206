"""How much of the prior's noise a voice is heard with: a delta of one layer, so that every reader of adapters applies
it, live or merged.

A conversion draws z from the prior, mean + exp(log_scale) * noise, where the noise is 0.66666 of a normal one in RVC.
Less of it is a calmer voice (so-vits-svc has it as `noise_scale`, 0.4 by default). To multiply the noise by a share is
to add log(share) to every log_scale: a bias of enc_p.proj, and an adapter has no biases. But what enc_p.proj is given
comes from a layer norm, x = gamma * n + beta, and the n of a frame sum to 0. So (1 / gamma) · x is the same number for
every frame, K = sum(beta / gamma), and

    left = log(share) in the rows of log_scale, 0 in those of mean;    right = 1 / (gamma * K)

adds log(share) exactly: a LoRA of rank 1. As any other delta it is multiplied by the strength.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..lora import Adapter
from ..lora.lora_layer import LoRAConv1d, LoRALinear
from ..messages import UserError
from .factors import Product, adapter_of, products_of

NOISE = 0.45
"""The share that is proposed: 0.3 of a normal noise instead of 0.66666 (docs/benchmarks.md)."""
LAYER, BESIDE = "enc_p.proj", "enc_p.emb_phone"
"""The layer that gives mean and log_scale; the other one of its target, which gets a delta of zeros."""
MOST_GAIN = 200.0
"""A frame's length over K: above it fp16 rounds the delta too coarsely (at 200, to about 8% of log(share))."""
PARALLEL = 0.999
"""Cosine from which a component of the layer's delta is one of ours, as a file has rounded it."""
SMALL = 0.003
"""A change of log_scale that is none."""


class _Norm(NamedTuple):
    """What stands before LAYER. gamma, beta: (channels,), fp64; constant: K."""

    gamma: Tensor
    beta: Tensor
    constant: float


def _norm_of(network: nn.Module) -> _Norm:
    """
    Raises:
        UserError: the base's K is too near to 0 for a delta.
    """
    norm = list(network.enc_p.encoder.norm_layers_2)[-1]
    gamma, beta = norm.gamma.detach().double().cpu(), norm.beta.detach().double().cpu()
    constant = float((beta / gamma).sum())
    if not math.isfinite(constant) or math.sqrt(len(gamma)) > MOST_GAIN * abs(constant):
        raise UserError("the noise of this base's voices cannot be set: its text encoder's last layer norm leaves "
                        "nothing constant. Keep the adapter as it is")
    return _Norm(gamma, beta, constant)


def share_of(adapter: Adapter, network: nn.Module) -> float:
    """The share of RVC's own noise that `adapter` is heard with at strength 1; 1.0 where it leaves it alone.

    network: the base's. Where training has adapted the layer itself, it is the geometric mean over channels, at the
    layer norm's beta.
    """
    product = products_of(adapter).get(LAYER)
    return 1.0 if product is None else math.exp(_shift(product, _norm_of(network)))


def _shift(product: Product, norm: _Norm) -> float:
    """What a delta of LAYER adds to log_scale, mean over channels."""
    shift = product.left.double() @ (product.right.double() @ norm.beta)  # (the mean's rows and log_scale's,)
    return float(shift[len(shift) // 2:].mean())


def with_noise(adapter: Adapter, network: nn.Module, share: float) -> Adapter:
    """`adapter`, heard with `share` of RVC's own noise instead of what it is heard with now.

    Args:
        network: the base's; it is not changed. share: above 0; 1 is RVC's own.

    Raises:
        UserError: the base does not allow it, or the adapter is damaged.
    """
    if not 0 < share <= 4:
        raise UserError("{name}={value} must be between {low} and {high}", name="noise", value=share, low=0, high=4)
    norm, products = _norm_of(network), products_of(adapter)
    layer, beside = network.enc_p.proj, network.enc_p.emb_phone
    right = (1 / (norm.gamma * norm.constant)).float()[None]
    learnt = products.pop(LAYER, _nothing(LoRAConv1d, layer))
    learnt = _without(learnt, right[0])
    change = math.log(share) - _shift(learnt, norm)
    if abs(change) >= SMALL:
        left = torch.zeros(layer.out_channels, 1)
        left[layer.out_channels // 2:] = change
        learnt = learnt._replace(left=torch.cat([learnt.left, left], 1), right=torch.cat([learnt.right, right]))
    other = products.pop(BESIDE, _nothing(LoRALinear, beside))
    rank = max(learnt.rank, other.rank if other.energy() else 0)
    if rank:  # the target's two layers are of one rank
        products[LAYER], products[BESIDE] = _of_rank(learnt, rank), _of_rank(other, rank)
    made = adapter_of(products, adapter, adapter.config.preset)
    made.metadata = dict(adapter.metadata)  # with its preview: the same voice
    return made


def _nothing(kind: Any, layer: nn.Module) -> Product:
    """A layer's delta of rank 0."""
    weight = cast(Tensor, layer.weight)
    shapes = kind.file_shapes(layer, 1)
    axes = {key: kind.component_axis(key) for key in kind.KEYS}
    return Product(torch.zeros(weight.shape[0], 0), torch.zeros(0, weight[0].numel()), kind,
                   tuple((*shapes[key][:axis], *shapes[key][axis + 1:]) for key, axis in axes.items()))


def _without(product: Product, direction: Tensor) -> Product:
    """Without the components that are ours, and without those of zeros. direction: (columns,)."""
    cosines = F.cosine_similarity(product.right, direction[None], dim=1).abs()
    sizes = product.left.norm(dim=0) * product.right.norm(dim=1)
    kept = (cosines < PARALLEL) & (sizes > 0)
    return product._replace(left=product.left[:, kept], right=product.right[kept])


def _of_rank(product: Product, rank: int) -> Product:
    """With components of zeros up to a rank; a product of zeros alone is cut to it."""
    more = max(rank - product.rank, 0)
    left = torch.cat([product.left, torch.zeros(len(product.left), more)], 1)
    right = torch.cat([product.right, torch.zeros(more, product.right.shape[1])])
    return product._replace(left=left[:, :rank], right=right[:rank])
