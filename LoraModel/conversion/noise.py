"""Another share of the prior's noise for an adapter that is there already; `models/prior_noise.py` says how."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..lora import Adapter
from ..lora.lora_layer import LoRAConv1d, LoRALinear
from ..models.prior_noise import BESIDE, LAYER, check_share, shift_of, unit_shift, usable_norm
from .factors import Product, adapter_of, of_rank, products_of

PARALLEL = 0.999
"""Cosine from which a component of the layer's delta is one of ours, as a file has rounded it."""
SMALL = 0.003
"""A change of log_scale that is none."""


def share_of(adapter: Adapter, network: nn.Module) -> float:
    """The share of RVC's own noise that `adapter` is heard with at strength 1; 1.0 where it leaves it alone.

    network: the base's. Where training has adapted the layer itself, it is the geometric mean over channels, at the
    layer norm's beta.
    """
    product = products_of(adapter).get(LAYER)
    return 1.0 if product is None else math.exp(shift_of(product.left, product.right, usable_norm(network)))


def with_noise(adapter: Adapter, network: nn.Module, share: float) -> Adapter:
    """`adapter`, heard with `share` of RVC's own noise instead of what it is heard with now.

    Args:
        network: the base's; it is not changed. share: above 0; 1 is RVC's own.

    Raises:
        UserError: the base does not allow it, or the adapter is damaged.
    """
    check_share(share)
    norm, products = usable_norm(network), products_of(adapter)
    layers: Any = network.enc_p
    left, right = unit_shift(network, norm)
    learnt = _without(products.pop(LAYER, _nothing(LoRAConv1d, layers.proj)), right[0])
    change = math.log(share) - shift_of(learnt.left, learnt.right, norm)
    if abs(change) >= SMALL:
        learnt = learnt._replace(left=torch.cat([learnt.left, left * change], 1),
                                 right=torch.cat([learnt.right, right]))
    other = products.pop(BESIDE, _nothing(LoRALinear, layers.emb_phone))
    rank = max(learnt.rank, other.rank if other.energy() else 0)
    if rank:  # the target's two layers are of one rank
        products[LAYER], products[BESIDE] = learnt, of_rank(other, rank)
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
