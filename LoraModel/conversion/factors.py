"""An adapter's deltas as products of two matrices, without any network: resized, blended, and looked at.

What kind of layer a file's tensors are of, the kinds say themselves (`lora/adapter_layer.py`). Of a kind without a rank
there is no product: its delta is linear in its tensors, which stay as they are, or are added up.
"""

from __future__ import annotations

import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .. import models  # noqa: F401  it defines the targets
from ..lora import Adapter, LoRAConfig
from ..lora.adapter_layer import component_axes, kind_in_file
from ..lora.targets import TARGETS
from ..messages import Text, UserError
from ..models.prior_noise import noise_layers
from .budget import header_bytes, tensor_bytes

ROW = "lora_row.weight"


class Product(NamedTuple):
    """A layer's delta as left @ right, the weight seen as a matrix. left: (rows, rank), right: (rank, columns), fp32.

    kind: the class of LoRA layer. shapes: of the factors in the file without their rank, in the order of its KEYS.
    """

    left: Tensor
    right: Tensor
    kind: Any
    shapes: Tuple[Tuple[int, ...], ...]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    @property
    def side(self) -> int:
        """The weight's smaller side: no delta of it is of a higher rank."""
        return min(self.left.shape[0], self.right.shape[1])

    def energy(self) -> float:
        """Sum of squares of the delta."""
        return float(((self.left.t() @ self.left) * (self.right @ self.right.t())).sum().clamp(min=0))

    def tensors(self) -> Dict[str, Tensor]:
        """`lora_A.weight` and `lora_B.weight` for a scale of 1, each component's two vectors of one length."""
        a, b = self.left.norm(dim=0).clamp(min=1e-12), self.right.norm(dim=1).clamp(min=1e-12)
        scale = (b / a).sqrt()
        factors = self.kind.factors(self.left * scale, self.right / scale[:, None])
        made = {}
        for key, shape, factor in zip(self.kind.KEYS, self.shapes, factors):
            axis = self.kind.component_axis(key)
            made[key] = factor.reshape(*shape[:axis], self.rank, *shape[axis:])
        return made


def products_of(adapter: Adapter) -> Dict[str, Product]:
    """The deltas of an adapter's layers, the scale in them; without those that have no rank (`exact_of`).

    A layer whose smaller side is below its target's rank has that side as its rank, as `LoRALayer.fitting_rank` gives
    it; the scale is that of the target's.

    Raises:
        UserError: a layer that its configuration does not know, or factors that make no product.
    """
    found = {}
    for path, tensors in adapter.layers().items():
        kind: Any = kind_in_file({key: tuple(tensor.shape) for key, tensor in tensors.items()})
        if kind is not None and kind.FORM:
            continue
        target = adapter.config.target_of(path)
        if target is None or kind is None or set(tensors) != set(kind.KEYS):
            raise _damaged(adapter, path)
        counts, shapes = set(), []
        for key in kind.KEYS:
            shape, axis = tuple(tensors[key].shape), kind.component_axis(key)
            if len(shape) < 2:
                raise _damaged(adapter, path)
            counts.add(shape[axis])
            shapes.append((*shape[:axis], *shape[axis + 1:]))
        left, right = kind.matrices(*(tensors[key].float().flatten(1) for key in kind.KEYS))
        product = Product(left * adapter.config.scaling(target), right, kind, tuple(shapes))
        if not product.side or {*counts, product.rank, len(right)} != {
                min(adapter.config.targets[target].r, product.side)}:
            raise _damaged(adapter, path)
        found[path] = product
    return found


def exact_of(adapter: Adapter) -> Dict[str, Tensor]:
    """The tensors of the layers whose delta is no product of a rank, by the file's names, fp32; without the speaker's
    row."""
    found = {}
    for path, tensors in adapter.layers().items():
        kind = kind_in_file({key: tuple(tensor.shape) for key, tensor in tensors.items()})
        if kind is not None and kind.FORM and ROW not in tensors:
            found.update({f"{path}.{key}": tensor.float() for key, tensor in tensors.items()})
    return found


def _damaged(adapter: Adapter, path: str) -> UserError:
    return UserError("adapter {adapter_name!r}: the layer {path} does not fit its configuration: it is damaged, make "
                     "it again", adapter_name=adapter.name, path=path)


def row_of(adapter: Adapter) -> Optional[Tensor]:
    """The delta of the speaker's row, (size,); None where the adapter has none."""
    for path, tensors in adapter.layers().items():
        if ROW in tensors:
            if tensors[ROW].dim() != 2 or len(tensors[ROW]) != 1:
                raise _damaged(adapter, path)
            return tensors[ROW].float()[0]
        if path == "emb_g":
            product = products_of(adapter)[path]
            if not 0 <= adapter.speaker < product.right.shape[1]:
                raise _damaged(adapter, path)
            # PEFT's embedding: the rows of the table are the columns of A
            return product.left @ product.right[:, adapter.speaker]
    return None


def cut(product: Product, rank: int) -> Product:
    """The nearest product of at most `rank` (Eckart and Young 1936), by the QR of both sides."""
    rank = min(rank, product.rank)
    q_left, r_left = torch.linalg.qr(product.left.double())
    q_right, r_right = torch.linalg.qr(product.right.double().t())
    u, s, v = torch.linalg.svd(r_left @ r_right.t(), full_matrices=False)
    root = s[:rank].sqrt()
    return product._replace(
        left=(q_left @ (u[:, :rank] * root)).float(), right=((root[:, None] * v[:rank]) @ q_right.t()).float()
    )


def of_rank(product: Product, rank: int) -> Product:
    """`product` with exactly `rank` components: cut, or filled up with components of zeros."""
    more = rank - product.rank
    if more < 0:
        return cut(product, rank)
    left = torch.cat([product.left, product.left.new_zeros(len(product.left), more)], 1)
    return product._replace(left=left, right=torch.cat([product.right, left.new_zeros(more, product.right.shape[1])]))


class Resized(NamedTuple):
    """An adapter of other ranks. error: |delta - cut| / |delta| over all layers; worst: (layer, its error)."""

    adapter: Adapter
    error: float
    worst: Tuple[str, float]


def resized(adapter: Adapter, ranks: Mapping[str, int]) -> Resized:
    """`adapter` with the ranks of `ranks`, by target; a target that it does not name, or whose rank is lower, stays.

    The speaker's row, and what else has no rank, stays as it is.
    """
    products = products_of(adapter)
    made: Dict[str, Product] = {}
    lost, whole, worst = 0.0, 0.0, ("", -1.0)
    noise = noise_layers(adapter)
    for path, product in products.items():
        target = adapter.config.target_of(path) or ""
        wanted = min(ranks.get(target, product.rank), product.rank)
        smaller = cut(product, wanted) if wanted < product.rank else product
        # the noise's, of rank 1, would hide what the others lose
        energy = product.energy() if path not in noise else 0.0
        left = torch.cat([product.left, -smaller.left], 1)
        gone = (
            product._replace(left=left, right=torch.cat([product.right, smaller.right], 0)).energy()
            if smaller is not product and path not in noise
            else 0.0
        )
        lost, whole = lost + gone, whole + energy
        share = math.sqrt(gone / energy) if energy else 0.0
        worst = (path, share) if share > worst[1] else worst
        made[path] = smaller
    return Resized(adapter_of(made, adapter, adapter.config.preset), math.sqrt(lost / whole) if whole else 0.0, worst)


def adapter_of(products: Mapping[str, Product], like: Adapter, preset: str, row: Optional[Tensor] = None,
               exact: Optional[Mapping[str, Tensor]] = None) -> Adapter:
    """An adapter of exactly these deltas, which a network takes. like: whose metadata and, where `row` or `exact` is
    None, whose speaker's row and other tensors without a rank (`exact_of`) it has.

    A target's rank is the highest of its layers' deltas; each layer has it, or its smaller side where that is less.
    """
    tensors: Dict[str, Tensor] = {}
    names = {path: like.config.target_of(path) or _target_of(path) for path in products}
    ranks: Dict[str, int] = {}
    for path, product in products.items():
        ranks[names[path]] = max(ranks.get(names[path], 1), min(product.rank, product.side))
    for path, product in products.items():
        fitting = of_rank(product, min(ranks[names[path]], product.side))
        tensors.update({f"{path}.{key}": tensor for key, tensor in fitting.tensors().items()})
    targets: Dict[str, Dict[str, float]] = {name: {"r": rank, "lora_alpha": rank} for name, rank in ranks.items()}
    rows = {name: tensor for name, tensor in like.tensors.items() if name.endswith(ROW)}
    own = {**(rows if row is None else {f"emb_g.{ROW}": row[None]}), **(exact_of(like) if exact is None else exact)}
    for name, tensor in own.items():
        path, _, key = name.rpartition(".lora_")
        kind: Any = kind_in_file({"lora_" + key: tuple(tensor.shape)})
        targets[_target_of(path, kind.FORM)] = {"r": 1, "lora_alpha": 1}
        tensors[name] = tensor
    return Adapter(tensors, LoRAConfig(targets=targets, preset=preset),
                   {key: value for key, value in like.metadata.items() if key != "preview"})  # of another sound


def _target_of(path: str, form: str = "") -> str:
    found = next((name for name, one in TARGETS.items() if one.form == form and re.fullmatch(one.pattern, path)), None)
    if found is None:
        raise UserError("no target takes the layer {path}", path=path)
    return found


def bytes_of(adapter: Adapter, bits: int) -> int:
    """At most so many bytes will its file have."""
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
    return header_bytes(adapter.config, adapter.metadata) + tensor_bytes(shapes, bits)


def ranks_within(adapter: Adapter, max_bytes: int, bits: int) -> Dict[str, int]:
    """The highest ranks, in the proportion that the adapter has them, whose file has at most `max_bytes`.

    Raises:
        UserError: even rank 1 everywhere takes more, or the adapter is damaged.
    """
    now: Dict[str, int] = {}
    for path, product in products_of(adapter).items():
        target = adapter.config.target_of(path) or ""
        now[target] = max(now.get(target, 1), product.rank)
    axes = component_axes({name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()})

    def shapes(ranks: Mapping[str, int]) -> Dict[str, Tuple[int, ...]]:
        found: Dict[str, Tuple[int, ...]] = {}
        for name, tensor in adapter.tensors.items():
            shape: List[int] = list(tensor.shape)
            axis = axes[name]
            if axis is not None:
                rank = ranks[adapter.config.target_of(name.rpartition(".lora_")[0]) or ""]
                shape[axis] = min(rank, shape[axis])
            found[name] = tuple(shape)
        return found

    def size(ranks: Mapping[str, int]) -> int:
        return header_bytes(adapter.config, adapter.metadata) + tensor_bytes(shapes(ranks), bits)

    for part in range(64, -1, -1):
        ranks = {name: max(1, rank * part // 64) for name, rank in now.items()}
        if size(ranks) <= max_bytes:
            return ranks
    least = size(dict.fromkeys(now, 1))
    raise UserError(
        "adapter {adapter_name!r} cannot be as small as {max_bytes:g} KB in {bits} bits: rank 1 takes {least:.0f} KB. "
        "Give a larger --max_kb{also}",
        adapter_name=adapter.name, max_bytes=max_bytes / 1000, bits=bits, least=least / 1000,
        also=Text(", or --bits 8") if bits == 16 else "",
    )
