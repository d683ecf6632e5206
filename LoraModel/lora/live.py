"""Adapters on a network that is in use: weights change in place, from a pristine snapshot.

Each change is computed from the snapshot and all deltas at once in fp32 and cast once, so that no rounding adds up over
changes and taking everything off gives the base back bit for bit. Undo by subtraction would not: W + d - d differs
from W in about one weight of nine. Nothing is rebound, so CUDA graphs captured on the network stay valid.
"""

from __future__ import annotations

import contextlib
from typing import Dict, Iterable, Iterator, Set, Tuple

import torch
from torch import Tensor, nn

from . import weight_norm


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch's CPU kernels on the calling thread.

    A change of weights is hundreds of small kernels. On cores that other programs use, its threads wait for each other at
    the end of each one: a change took 1.6 s so, and 35 ms on one thread (`bench/switch_time.py`). Idle cores lose a few milliseconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class LiveWeights:
    """The weights of `network`, to which dense deltas can be added and which can be put back.

    The snapshot holds only layers that a delta has touched. It is taken when the first delta comes: the network must
    hold its pristine weights then, and nobody else may write to these layers until `restore`.

    Args:
        keep: hold on to the snapshot when layers are put back, so that the next change is as fast as any other. Nobody else
            may ever write to these layers then, nor change their type or device.
    """

    def __init__(self, network: nn.Module, keep: bool = False):
        self._network, self._holds = network, keep
        self._touched: Set[str] = set()
        self._pristine: Dict[str, Dict[str, Tensor]] = {}
        self._effective: Dict[str, Tensor] = {}  # the pristine weight of a layer, composed, for write_products

    @property
    def touched(self) -> bool:
        """Whether any layer differs from the base."""
        return bool(self._touched)

    @torch.no_grad()
    @one_thread()
    def prepare(self, paths: Iterable[str]) -> None:
        """Take the snapshot of some layers now rather than with their first change; only with `keep`."""
        if not self._holds:
            raise ValueError("only a LiveWeights with keep=True can prepare: the snapshot must outlive a restore")
        for path in paths:
            if path not in self._pristine:
                self._snapshot(path, self._network.get_submodule(path))
                self._effective[path] = weight_norm.compose(self._pristine[path])

    @torch.no_grad()
    @one_thread()
    def write(self, deltas: Dict[str, Tensor]) -> None:
        """Make every layer base + delta; layers without a delta are put back.

        Args:
            deltas: module path -> dense fp32 delta in the shape of the layer's weight.

        Raises:
            ValueError: a delta of another shape than its layer's weight. Nothing is written then.
        """
        merged: Dict[str, Dict[str, Tensor]] = {}
        layers = {path: self._network.get_submodule(path) for path in deltas}
        for path, delta in deltas.items():
            stored = self._pristine.get(path) or weight_norm.stored_tensors(layers[path])
            weight = weight_norm.compose(stored)
            if weight.shape != delta.shape:
                raise ValueError(f"delta of {path} has shape {tuple(delta.shape)}, the layer's weight {tuple(weight.shape)}")
            merged[path] = weight_norm.decompose(weight + delta.to(weight.device), stored)
        self._put_back_all_but(deltas)
        for path, tensors in merged.items():
            self._keep(path, layers[path])
            weight_norm.write(layers[path], tensors)

    @torch.no_grad()
    @one_thread()
    def write_products(self, products: Dict[str, Tuple[Tensor, Tensor]]) -> None:
        """Make every layer base + left @ right, straight into the live tensors: no dense delta is ever formed.

        The same as `write` of the dense products up to rounding in the last place, in a quarter of the time.

        Args:
            products: module path -> fp32 (left, right) of shapes (rows, rank) and (rank, columns), the layer's weight seen as
                a matrix: its first dimension by all the others.

        Raises:
            ValueError: factors that do not fit their layer. Nothing is written then.
        """
        layers = {path: self._network.get_submodule(path) for path in products}
        for path, (left, right) in products.items():
            weight = list(weight_norm.stored_tensors(layers[path]).values())[-1]
            rows, columns = weight.shape[0], weight[0].numel()
            if left.shape[0] != rows or right.shape[1] != columns or left.shape[1] != right.shape[0]:
                raise ValueError(f"factors of {path} have shapes {tuple(left.shape)} and {tuple(right.shape)}, "
                                 f"the layer's weight as a matrix is ({rows}, {columns})")
        self._put_back_all_but(products)
        for path, (left, right) in products.items():
            self._keep(path, layers[path])
            if path not in self._effective:
                self._effective[path] = weight_norm.compose(self._pristine[path])
            effective = self._effective[path].flatten(1)  # (rows, columns)
            stored = weight_norm.stored_tensors(layers[path])
            target = list(stored.values())[-1].detach()
            if target.dtype != torch.float32 or not target.is_contiguous():
                weight = torch.addmm(effective, left, right).view_as(target)
                weight_norm.write(layers[path], weight_norm.decompose(weight, stored))
                continue
            torch.addmm(effective, left, right, out=target.view(effective.shape))
            if len(stored) == 2:  # weight norm: v = W + delta is in place, g = |v|
                norm = torch.linalg.vector_norm(target.flatten(1), dim=1)
                if bool((norm == 0).any()):
                    weight_norm.write(layers[path], weight_norm.decompose(target.clone(), stored))
                else:
                    g = list(stored.values())[0]
                    g.copy_(norm.view_as(g))

    def _put_back_all_but(self, paths: Dict[str, object]) -> None:
        for path in [p for p in self._touched if p not in paths]:
            weight_norm.write(self._network.get_submodule(path), self._pristine[path])
            self._touched.remove(path)
            if not self._holds:
                del self._pristine[path]
                self._effective.pop(path, None)

    def _keep(self, path: str, layer: nn.Module) -> None:
        if path not in self._pristine:
            self._snapshot(path, layer)
        self._touched.add(path)

    def _snapshot(self, path: str, layer: nn.Module) -> None:
        stored = weight_norm.stored_tensors(layer)
        self._pristine[path] = {name: tensor.detach().clone() for name, tensor in stored.items()}

    def restore(self) -> None:
        """Put every layer back to the base, bit for bit, and let the snapshot go (unless it is to be kept)."""
        self.write({})
