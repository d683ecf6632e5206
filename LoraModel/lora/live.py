"""Adapters on a network that is in use: weights change in place, from a pristine snapshot.

Each change is computed from the snapshot and all deltas at once in fp32 and cast once, so that no rounding adds up over
changes and taking everything off gives the base back bit for bit. Undo by subtraction would not: W + d - d differs
from W in about one weight of nine. Nothing is rebound, so CUDA graphs captured on the network stay valid.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Collection, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import torch
from torch import Tensor, nn

from . import weight_norm

_threads_lock = threading.Lock()
_users = 0  # uses of `one_thread` that have not ended
_shared = 1  # PyTorch's number of threads before the first of them


def _of_new_threads() -> int:
    """The number of threads that PyTorch gives a thread which starts now: the process's, where the calling one has a
    number of its own."""
    found = [1]
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    with contextlib.suppress(RuntimeError):  # where the interpreter is about to end
        thread.start()
        thread.join()
    return found[-1]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch's CPU kernels on the calling thread.

    A change of weights is hundreds of small kernels. On cores that other programs use, its threads wait for each other
    at the end of each one: a change took 1.6 s so, and 35 ms on one thread (`bench/switch_time.py`). Idle cores lose a
    few milliseconds.
    """
    global _users, _shared
    with _threads_lock:
        threads = torch.get_num_threads()
        if _users == 0:
            # One that started while another was in here still has the 1 that it found then.
            threads = _shared = _of_new_threads() if threads == 1 < _shared else threads
        elif threads == 1:  # what a thread finds that starts while another one is in here: it is not its own number
            threads = _shared
        _users += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads_lock:
            _users -= 1
            torch.set_num_threads(threads)


Name = Tuple[str, str]
"""A stored tensor: its layer's module path, and its name in the layer."""


class Prepared:
    """A blend's weights beside the network, ready to be exchanged with those in use (`LiveWeights.exchange`).

    Attributes:
        tensors: for each stored tensor of the layers that the blend changes; empty for the plain base.
    """

    def __init__(self, tensors: Dict[Name, Tensor]):
        self.tensors = tensors

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class LiveWeights:
    """The weights of `network`, to which dense deltas can be added and which can be put back.

    The snapshot holds only layers that a delta has touched. It is taken when the first delta comes: the network must
    hold its pristine weights then, and nobody else may write to these layers until `restore`.

    Args:
        keep: hold on to the snapshot when layers are put back, so that the next change is as fast as any other. Nobody
            else may ever write to these layers then, nor change their type or device.
    """

    def __init__(self, network: nn.Module, keep: bool = False):
        self._network, self._holds = network, keep
        self._touched: Set[str] = set()
        self._pristine: Dict[str, Dict[str, Tensor]] = {}
        self._effective: Dict[str, Tensor] = {}  # the pristine weight of a layer, composed, for write_products
        self._written: Dict[str, Tuple[Tensor, Tensor]] = {}  # what write_products wrote last, to go back to
        self._stored: Dict[Name, nn.Parameter] = {}
        self._home: Dict[Name, Tensor] = {}  # the network's own tensors, while a prepared blend's stand in their place

    @property
    def touched(self) -> bool:
        """Whether any layer differs from the base."""
        return bool(self._touched or self._home)

    @torch.no_grad()
    @one_thread()
    def prepare(self, paths: Iterable[str]) -> None:
        """Take the snapshot of some layers now rather than with their first change; only with `keep`."""
        if not self._holds:
            raise ValueError("only a LiveWeights with keep=True can prepare: the snapshot must outlive a restore")
        for path in paths:
            self._keep(path, weight_norm.layer_at(self._network, path))

    def pristine_weight(self, path: str) -> Tensor:
        """The base's own weight of a layer that `prepare` has been given."""
        return self._effective[path]

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
        layers = {path: weight_norm.layer_at(self._network, path) for path in deltas}
        for path, delta in deltas.items():
            stored = self._pristine.get(path) or weight_norm.stored_tensors(layers[path])
            weight = weight_norm.compose(stored)
            if weight.shape != delta.shape:
                raise ValueError(f"delta of {path} has shape {tuple(delta.shape)}, the layer's weight "
                                 f"{tuple(weight.shape)}")
            merged[path] = weight_norm.decompose(weight + delta.to(weight.device), stored)
        self._go_home()
        for path in merged:
            if path not in self._pristine:
                self._snapshot(path, layers[path])
        self._written = {}
        self._put_back_all_but(deltas)
        for path, tensors in merged.items():
            self._touched.add(path)
            weight_norm.write(layers[path], tensors)

    @torch.no_grad()
    @one_thread()
    def write_products(self, products: Dict[str, Tuple[Tensor, Tensor]]) -> None:
        """Make every layer base + left @ right, straight into the live tensors: no dense delta is ever formed.

        The same as `write` of the dense products up to rounding in the last place, in a quarter of the time.

        Args:
            products: module path -> fp32 (left, right) of shapes (rows, rank) and (rank, columns), the layer's weight
                seen as a matrix: its first dimension by all the others.

        Raises:
            ValueError: factors that do not fit their layer. Nothing is written then.
        """
        layers = self._fitting(products)
        # What the change adds to memory is taken first; what is left may still fail, and is taken back then.
        for path in products:
            self._keep(path, layers[path])
        exchanged = {name: self._stored[name].data for name in self._home}
        self._go_home()
        written, self._written = self._written, {}
        try:
            self._write_products(products, layers)
        except BaseException:
            self._put_back_all_but({})
            if written:
                # not enough memory for the voice before either: the plain base stays
                with contextlib.suppress(Exception):
                    self._again(written)
            self._point_to(exchanged)
            raise
        self._written = dict(products)

    def _again(self, products: Dict[str, Tuple[Tensor, Tensor]]) -> None:
        """Write what was there before a change that failed; the plain base where that fails too."""
        try:
            self.write_products(products)
        except BaseException:
            self._put_back_all_but({})
            raise

    def _write_products(self, products: Dict[str, Tuple[Tensor, Tensor]], layers: Dict[str, nn.Module]) -> None:
        self._put_back_all_but(products)
        for path, (left, right) in products.items():
            self._touched.add(path)
            _add_product(self._effective[path], left, right, weight_norm.stored_tensors(layers[path]))

    def _fitting(self, products: Dict[str, Tuple[Tensor, Tensor]]) -> Dict[str, nn.Module]:
        """The layers of `products`.

        Raises:
            ValueError: factors that do not fit their layer.
        """
        layers = {path: weight_norm.layer_at(self._network, path) for path in products}
        for path, (left, right) in products.items():
            weight = list(weight_norm.stored_tensors(layers[path]).values())[-1]
            rows, columns = weight.shape[0], weight[0].numel()
            if left.shape[0] != rows or right.shape[1] != columns or left.shape[1] != right.shape[0]:
                raise ValueError(f"factors of {path} have shapes {tuple(left.shape)} and {tuple(right.shape)}, "
                                 f"the layer's weight as a matrix is ({rows}, {columns})")
        return layers

    # A blend made beside the network, and exchanged with what is in use

    @torch.no_grad()
    @one_thread()
    def make(self, products: Dict[str, Tuple[Tensor, Tensor]], into: Optional[Prepared] = None) -> Prepared:
        """What `write_products` would write, beside the network, which goes on being used: only with `keep`.

        The same values bit for bit, since they are computed by the same function. A layer's snapshot is taken where
        there is none yet, so nobody may write to the network meanwhile; an `exchange` may happen at any time.

        Args:
            products: as `write_products` takes them; none of them for the plain base.
            into: a blend that is in use nowhere any more, whose memory is taken.

        Raises:
            ValueError: factors that do not fit their layer.
        """
        layers = self._fitting(products)
        self.prepare(products)
        spare = into.tensors if into is not None else {}
        tensors: Dict[Name, Tensor] = {}
        for path, (left, right) in products.items():
            stored = weight_norm.stored_tensors(layers[path])
            fresh = {}
            for name, tensor in stored.items():
                old = spare.get((path, name))
                fits = (old is not None and old.shape == tensor.shape and old.dtype == tensor.dtype
                        and old.device == tensor.device)
                fresh[name] = old if fits else torch.empty_like(tensor.detach())
                self._stored.setdefault((path, name), dict(layers[path].named_parameters())[name])
                tensors[path, name] = fresh[name]
            _add_product(self._effective[path], left, right, fresh)
        return Prepared(tensors)

    @torch.no_grad()
    def exchange(self, prepared: Prepared, in_place: bool = False) -> None:
        """Put a prepared blend in the place of what is in use: pointers change hands and nothing is copied.

        Args:
            in_place: copy into the network's own tensors instead, in one fused call where PyTorch has it: for networks
                whose tensors must stay where they are (CUDA graphs). What `prepared` holds stays its own.
        """
        if in_place:
            self._copy_in(prepared)
            return
        if self._touched:  # written by write or write_products before
            self._written = {}
            self._put_back_all_but({})
        home, tensors, stored = self._home, prepared.tensors, self._stored
        for name in [name for name in home if name not in tensors]:
            stored[name].data = home.pop(name)
        self._point_to(tensors)

    def _point_to(self, tensors: Dict[Name, Tensor]) -> None:
        for name, tensor in tensors.items():
            parameter = self._stored[name]
            if name not in self._home:
                self._home[name] = parameter.data
            parameter.data = tensor

    def _copy_in(self, prepared: Prepared) -> None:
        self._go_home()
        sources = dict(prepared.tensors)
        changed = {path for path, _ in sources}
        for path in self._touched - changed:
            sources.update({(path, name): tensor for name, tensor in self._pristine[path].items()})
        targets = [self._parameter(name) for name in sources]
        self._touched |= changed  # before the copy: one that fails is put back
        _copy_all(targets, list(sources.values()))
        self._written, self._touched = {}, changed

    def _parameter(self, name: Name) -> Tensor:
        if name not in self._stored:
            self._stored[name] = dict(weight_norm.layer_at(self._network, name[0]).named_parameters())[name[1]]
        return self._stored[name].data

    def _go_home(self) -> None:
        """Give the network its own tensors back, which hold the plain base or what was written into them."""
        for name, tensor in self._home.items():
            self._stored[name].data = tensor
        self._home = {}

    def _put_back_all_but(self, paths: Collection[str]) -> None:
        for path in [p for p in self._touched if p not in paths]:
            weight_norm.write(weight_norm.layer_at(self._network, path), self._pristine[path])
            self._touched.remove(path)
            if not self._holds:
                del self._pristine[path]
                self._effective.pop(path, None)

    def _keep(self, path: str, layer: nn.Module) -> None:
        """A layer's snapshot and its composed weight, where they are not there yet."""
        if path not in self._pristine:
            self._snapshot(path, layer)
        if path not in self._effective:
            self._effective[path] = weight_norm.compose(self._pristine[path])

    def _snapshot(self, path: str, layer: nn.Module) -> None:
        stored = weight_norm.stored_tensors(layer)
        self._pristine[path] = {name: tensor.detach().clone() for name, tensor in stored.items()}

    def restore(self) -> None:
        """Put every layer back to the base, bit for bit, and let the snapshot go (unless it is to be kept)."""
        self.write({})


def _add_product(effective: Tensor, left: Tensor, right: Tensor, stored: Dict[str, Tensor]) -> None:
    """Write effective + left @ right into a layer's stored tensors, or into others like them.

    effective: fp32, the shape of the weight; left: (rows, rank), right: (rank, columns).
    """
    matrix = effective.view(effective.shape[0], -1)  # (rows, columns)
    target = list(stored.values())[-1].detach()
    if target.dtype != torch.float32 or not target.is_contiguous():
        weight = torch.addmm(matrix, left, right).view_as(target)
        for name, tensor in weight_norm.decompose(weight, stored).items():
            stored[name].copy_(tensor)
        return
    torch.addmm(matrix, left, right, out=target.view(matrix.shape))
    if len(stored) == 2:  # weight norm: v = W + delta is in place, g = |v|
        g = list(stored.values())[0]
        norm = torch.linalg.vector_norm(target.flatten(1), dim=1)
        if bool((norm == 0).any()):
            for name, tensor in weight_norm.decompose(target.clone(), stored).items():
                stored[name].copy_(tensor)
        else:
            g.copy_(norm.view_as(g))


def _copy_all(targets: List[Tensor], sources: List[Tensor]) -> None:
    """Copy each source into its target, in one fused call where PyTorch has it (from 2.1 on)."""
    fused = getattr(torch, "_foreach_copy_", None)
    if fused is not None:
        fused(targets, sources)
        return
    for target, source in zip(targets, sources):
        target.copy_(source)
