"""One forward of one network in which every row of the batch has its own adapter.

The frozen layers run once for all rows; beside each adapted one the rows' low-rank branches are batched products of
matrices, a row's factors for each row. Method: Sheng et al. 2023, "S-LoRA: Serving Thousands of Concurrent LoRA
Adapters", arXiv:2311.03285, section 5.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import lora_layer  # noqa: F401  the kinds
from .adapter_layer import RowsBranch, layer_class
from .weight_norm import layer_at

Products = Dict[str, Tuple[Tensor, Tensor]]
"""Module path -> (left, right) of shapes (rows of the weight, rank) and (rank, columns): the weight seen as a
matrix."""


def _stacked(parts: Sequence[Tuple[Tensor, Tensor]]) -> Tuple[Tensor, Tensor]:
    """(left, right) of each row of the batch -> (batch, rows, rank), (batch, rank, columns), filled up with zeros to
    one rank."""
    rank = max(left.shape[1] for left, _ in parts)
    return (torch.stack([F.pad(left, (0, rank - left.shape[1])) for left, _ in parts]),
            torch.stack([F.pad(right, (0, 0, 0, rank - right.shape[0])) for _, right in parts]))


def can_have_rows(adapter: Any) -> bool:
    """Whether the rows of a batch can have adapters of their own where this adapter layer hangs."""
    return adapter.PARAMETER == "weight" and _branch_of(adapter.base) is not None


def _branch_of(layer: Any) -> Optional[RowsBranch]:
    kind: Any = layer_class(layer) if isinstance(layer, nn.Module) else None
    return kind.rows_branch(layer) if kind is not None else None


def _branch(path: str, layer: Any) -> RowsBranch:
    """The branch of a layer.

    Raises:
        ValueError: a layer that has none here.
    """
    branch = _branch_of(layer)
    if branch is None:
        raise ValueError(f"rows of a batch cannot have adapters of their own on {path}, {layer}")
    return branch


@contextlib.contextmanager
def rows_adapted(network: nn.Module, rows: Sequence[Products]) -> Iterator[None]:
    """While the block runs, row k of every batch through `network` is heard with the adapter `rows[k]`; none where it
    is empty.

    Rows of one voice hold the same dictionary; factors with a graph get their gradients, summed over a voice's rows.

    Raises:
        ValueError: a layer that cannot have it. Nothing hangs on the network then.
    """
    voices = list({id(products): products for products in rows}.values())
    place = {id(products): number for number, products in enumerate(voices)}
    index = [place[id(products)] for products in rows] if len(voices) < len(rows) else None
    hooks: List[Any] = []
    try:
        for path in sorted({path for products in voices for path in products}):
            layer = layer_at(network, path)
            branch = _branch(path, layer)
            some = next(products[path] for products in voices if path in products)
            none = some[0].new_zeros(some[0].shape[0], 1), some[1].new_zeros(1, some[1].shape[1])
            parts = [products.get(path, none) for products in voices]
            hooks.append(layer.register_forward_hook(_Hook(branch, parts, index)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Hook:
    """Adds the rows' branches to a layer's output.

    Args:
        parts: (left, right) of each voice. index: which voice each row is of; None for one row a voice.
    """

    def __init__(self, branch: RowsBranch, parts: Sequence[Tuple[Tensor, Tensor]],
                 index: Optional[List[int]]):
        self._branch, self._parts, self._index = branch, parts, index
        self._factors: Optional[Tuple[Tensor, Tensor]] = None

    def _stacked(self) -> Tuple[Tensor, Tensor]:
        """The factors of each row: made when the layer first runs, since a network is not always run as a whole."""
        if self._factors is None:
            left, right = _stacked(self._parts)
            if self._index is not None:
                rows = torch.tensor(self._index, device=left.device)
                left, right = left.index_select(0, rows), right.index_select(0, rows)
            self._factors = left, right
        return self._factors

    def __call__(self, layer: nn.Module, inputs: Tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        left, right = self._stacked()
        if x.shape[0] != left.shape[0]:
            raise ValueError(f"a batch of {x.shape[0]} rows where {left.shape[0]} have adapters")
        return output + self._branch(layer, x, left.to(output.dtype), right.to(output.dtype))
