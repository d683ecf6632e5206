"""An adapter's deltas as products of two matrices, without any network: resized, blended, and looked at."""

from __future__ import annotations

import math
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .. import models  # noqa: F401  it defines the targets
from ..lora import Adapter, LoRAConfig
from ..lora.targets import TARGETS, is_row
from ..messages import Text, UserError
from .budget import header_bytes, tensor_bytes

ROW = "lora_row.weight"


class Product(NamedTuple):
    """A layer's delta as left @ right, the weight seen as a matrix. left: (rows, rank), right: (rank, columns), fp32.

    shape_a, shape_b: of the factors in the file without their rank; transposed: the layer is a transposed
    convolution.
    """

    left: Tensor
    right: Tensor
    shape_a: Tuple[int, ...]
    shape_b: Tuple[int, ...]
    transposed: bool

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def energy(self) -> float:
        """Sum of squares of the delta."""
        return float(((self.left.t() @ self.left) * (self.right @ self.right.t())).sum().clamp(min=0))

    def tensors(self) -> Dict[str, Tensor]:
        """`lora_A.weight` and `lora_B.weight` for a scale of 1, each component's two vectors of one length."""
        a, b = self.left.norm(dim=0).clamp(min=1e-12), self.right.norm(dim=1).clamp(min=1e-12)
        scale = (b / a).sqrt()
        left, right, r = self.left * scale, self.right / scale[:, None], self.rank
        if self.transposed:
            return {
                "lora_A.weight": left.t().reshape(r, *self.shape_a),
                "lora_B.weight": right.reshape(r, *self.shape_b),
            }
        return {
            "lora_A.weight": right.reshape(r, *self.shape_a),
            "lora_B.weight": left.reshape(self.shape_b[0], r, *self.shape_b[1:]),
        }


def products_of(adapter: Adapter) -> Dict[str, Product]:
    """The deltas of an adapter's layers, the scale in them; without the speaker's row.

    Raises:
        UserError: a layer that its configuration does not know, or factors that make no product.
    """
    found = {}
    for path, tensors in adapter.layers().items():
        if ROW in tensors:
            continue
        target = adapter.config.target_of(path)
        if target is None or set(tensors) != {"lora_A.weight", "lora_B.weight"}:
            raise _damaged(adapter, path)
        a, b = tensors["lora_A.weight"].float(), tensors["lora_B.weight"].float()
        rank = adapter.config.targets[target].r
        transposed = b.dim() == 3 and b.shape[2] > 1
        if a.dim() < 2 or b.dim() < 2 or a.shape[0] != rank or b.shape[0 if transposed else 1] != rank:
            raise _damaged(adapter, path)
        scale = adapter.config.scaling(target)
        if transposed:
            found[path] = Product(
                a.flatten(1).t() * scale, b.flatten(1), tuple(a.shape[1:]), tuple(b.shape[1:]), True
            )
        else:
            found[path] = Product(
                b.flatten(1) * scale, a.flatten(1), tuple(a.shape[1:]), (b.shape[0], *b.shape[2:]), False
            )
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


class Resized(NamedTuple):
    """An adapter of other ranks. error: |delta - cut| / |delta| over all layers; worst: (layer, its error)."""

    adapter: Adapter
    error: float
    worst: Tuple[str, float]


def resized(adapter: Adapter, ranks: Mapping[str, int]) -> Resized:
    """`adapter` with the ranks of `ranks`, by target; a target that it does not name, or whose rank is lower, stays.

    The speaker's row stays as it is.
    """
    products = products_of(adapter)
    made: Dict[str, Product] = {}
    lost, whole, worst = 0.0, 0.0, ("", -1.0)
    for path, product in products.items():
        target = adapter.config.target_of(path) or ""
        wanted = min(ranks.get(target, product.rank), product.rank, *product.left.shape, *product.right.shape)
        smaller = cut(product, wanted) if wanted < product.rank else product
        energy = product.energy()
        left = torch.cat([product.left, -smaller.left], 1)
        gone = (
            Product(left, torch.cat([product.right, smaller.right], 0), (), (), False).energy()
            if smaller is not product
            else 0.0
        )
        lost, whole = lost + gone, whole + energy
        share = math.sqrt(gone / energy) if energy else 0.0
        worst = (path, share) if share > worst[1] else worst
        made[path] = smaller
    return Resized(adapter_of(made, adapter, adapter.config.preset), math.sqrt(lost / whole) if whole else 0.0, worst)


def adapter_of(products: Mapping[str, Product], like: Adapter, preset: str, row: Optional[Tensor] = None) -> Adapter:
    """An adapter of these deltas. like: whose metadata and, where `row` is None, whose speaker's row it has."""
    tensors: Dict[str, Tensor] = {}
    targets: Dict[str, Dict[str, float]] = {}
    for path, product in products.items():
        target = like.config.target_of(path) or _target_of(path)
        targets[target] = {"r": product.rank, "lora_alpha": product.rank}
        tensors.update({f"{path}.{key}": tensor for key, tensor in product.tensors().items()})
    own = (
        {name: tensor for name, tensor in like.tensors.items() if name.endswith(ROW)}
        if row is None
        else {f"emb_g.{ROW}": row[None]}
    )
    if own:
        targets["spk_row"] = {"r": 1, "lora_alpha": 1}
        tensors.update(own)
    return Adapter(tensors, LoRAConfig(targets=targets, preset=preset),
                   {key: value for key, value in like.metadata.items() if key != "preview"})  # of another sound


def _target_of(path: str) -> str:
    found = next((name for name, one in TARGETS.items() if not one.row and re.fullmatch(one.pattern, path)), None)
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
    products_of(adapter)  # every layer fits the configuration
    now = {name: target.r for name, target in adapter.config.targets.items() if not is_row(name)}

    def shapes(ranks: Mapping[str, int]) -> Dict[str, Tuple[int, ...]]:
        found: Dict[str, Tuple[int, ...]] = {}
        for name, tensor in adapter.tensors.items():
            shape: List[int] = list(tensor.shape)
            path, _, key = name.rpartition(".lora_")
            if key != "row.weight":
                rank = ranks[adapter.config.target_of(path) or ""]
                axis = 0 if key == "A.weight" or len(shape) == 3 and shape[2] > 1 else 1
                shape[axis] = rank
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
