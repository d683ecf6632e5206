"""One forward of one network in which every row of the batch has its own adapter.

The frozen layers run once for all rows; beside each adapted one the rows' low-rank branches are batched products of
matrices, a row's factors for each row. Method: Sheng et al. 2023, "S-LoRA: Serving Thousands of Concurrent LoRA
Adapters", arXiv:2311.03285, section 5.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Products = Dict[str, Tuple[Tensor, Tensor]]
"""Module path -> (left, right) of shapes (rows of the weight, rank) and (rank, columns): the weight seen as a
matrix."""


def _stacked(parts: Sequence[Tuple[Tensor, Tensor]]) -> Tuple[Tensor, Tensor]:
    """(left, right) of each row of the batch -> (batch, rows, rank), (batch, rank, columns), filled up with zeros to
    one rank."""
    rank = max(left.shape[1] for left, _ in parts)
    return (torch.stack([F.pad(left, (0, rank - left.shape[1])) for left, _ in parts]),
            torch.stack([F.pad(right, (0, 0, 0, rank - right.shape[0])) for _, right in parts]))


def _linear(layer: nn.Linear, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x: (batch, frames, in) -> (batch, frames, out)."""
    return (x @ right.transpose(1, 2)) @ left.transpose(1, 2)


def _conv(layer: Any, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x: (batch, in, frames) -> (batch, out, frames of the output). One group, stride 1."""
    kernel, (padding,), (dilation,) = layer.kernel_size[0], layer.padding, layer.dilation
    batch, rank, _ = right.shape
    factors = right.view(batch, rank, -1, kernel).permute(0, 3, 1, 2).reshape(batch, kernel * rank, -1)
    taps = F.pad(factors @ x, (padding, padding)).view(batch, kernel, rank, -1)
    frames = x.shape[2] + 2 * padding - dilation * (kernel - 1)
    low = taps[:, 0, :, :frames]
    for tap in range(1, kernel):
        low = low + taps[:, tap, :, tap * dilation:tap * dilation + frames]
    return left @ low


def _conv_transpose(layer: Any, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x: (batch, in, frames) -> (batch, out, frames of the output). One group."""
    batch, rank, _ = right.shape
    low = (left.transpose(1, 2) @ x).reshape(1, batch * rank, -1)  # the rows side by side, a group for each
    kernels = right.reshape(batch * rank, -1, layer.kernel_size[0])
    out = F.conv_transpose1d(low, kernels, None, layer.stride, layer.padding, layer.output_padding, batch,
                             layer.dilation)
    return out.view(batch, -1, out.shape[2])


def _embedding(layer: nn.Embedding, ids: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """ids: (batch, ...) -> (batch, ..., size)."""
    flat = ids.reshape(ids.shape[0], -1)
    rows = torch.gather(left, 1, flat.unsqueeze(-1).expand(-1, -1, left.shape[2]))  # (batch, ids of a row, rank)
    return (rows @ right).view(*ids.shape, right.shape[2])


def can_have_rows(layer: nn.Module) -> bool:
    """Whether the rows of a batch can have adapters of their own on this layer."""
    try:
        _branch(layer)
    except ValueError:
        return False
    return True


def _branch(layer: nn.Module) -> Callable[[Any, Tensor, Tensor, Tensor], Tensor]:
    """The branch of a layer.

    Raises:
        ValueError: a layer that has none here.
    """
    if isinstance(layer, nn.Linear):
        return _linear
    if isinstance(layer, nn.Embedding):
        return _embedding
    if isinstance(layer, nn.Conv1d) and layer.groups == 1 and layer.stride == (1,) and layer.padding_mode == "zeros":
        return _conv
    if isinstance(layer, nn.ConvTranspose1d) and layer.groups == 1:
        return _conv_transpose
    raise ValueError(f"rows of a batch cannot have adapters of their own on {layer}")


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
            layer = network.get_submodule(path)
            some = next(products[path] for products in voices if path in products)
            none = some[0].new_zeros(some[0].shape[0], 1), some[1].new_zeros(1, some[1].shape[1])
            parts = [products.get(path, none) for products in voices]
            hooks.append(layer.register_forward_hook(_Hook(_branch(layer), parts, index)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Hook:
    """Adds the rows' branches to a layer's output.

    Args:
        parts: (left, right) of each voice. index: which voice each row is of; None for one row a voice.
    """

    def __init__(self, branch: Callable[[Any, Tensor, Tensor, Tensor], Tensor], parts: Sequence[Tuple[Tensor, Tensor]],
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
