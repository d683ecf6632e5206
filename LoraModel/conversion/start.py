"""The adapter that a full voice starts as: each layer's change of weight, cut to its rank.

Plain, the cut is a truncated SVD of the change (Eckart and Young 1936). With moments of what the layers hear it is the
reduced-rank regression (Izenman 1975) of the layer's change of *output*: the least mean square of
(B A) x - (dW x + db) over the inputs x of the content. With C = E[x x'] = L L', that is the SVD of M L, where
M = dW + db E[x]' / C also carries the change of the bias, for which an adapter has no place.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from ..lora import Injection, weight_norm
from ..lora.lora_layer import layer_class

COLUMNS = 1500
"""Inputs of a layer that are taken at a time: more hardly change the moments."""
RIDGE = 1e-3
"""Of the mean square of a layer's input, added to C: directions that the content never shows are not free."""


class Moments(NamedTuple):
    """What a layer hears. second: (size, size), E[x x']; mean: (size,), E[x]. size: inputs that make one output."""

    second: Tensor
    mean: Tensor


def change_of(name: str, base: nn.Module, voice: nn.Module) -> Tuple[Tensor, Optional[Tensor]]:
    """(dW, db) of a layer, fp32: effective weights, and the bias or None. The base's layer is `base`, the voice's
    `voice`."""
    weight = weight_norm.compose(weight_norm.stored_tensors(voice)) - weight_norm.compose(
        weight_norm.stored_tensors(base)
    )
    before, after = getattr(base, "bias", None), getattr(voice, "bias", None)
    return weight, None if before is None or after is None else after.detach().float() - before.detach().float()


@torch.no_grad()
def set_start(
    injection: Injection, voice: nn.Module, row: int, listener: Optional[Listener] = None
) -> Dict[str, float]:
    """Let the adapter be the best cut of the voice's change.

    Args:
        injection: on the base's network. voice: the full voice's network. row: of its speaker table.
        listener: has heard the layers' inputs, and gives their moments away; None for the plain SVD of the weights.

    Returns:
        of each layer, the share of its change's energy (sum of squares of dW) that is kept; of the speaker's row 1.
    """
    layers = dict(voice.named_modules())
    kept: Dict[str, float] = {}
    for path, layer in injection.items():
        if layer.start_as(layers[path], row):
            kept[path] = 1.0
            continue
        weight, bias = change_of(path, layer.base, layers[path])
        matrix = weight.flatten(1)
        target, root = matrix, None
        moments = None if listener is None else listener.take(path)
        if moments is not None:
            target, root = _regression(layer, matrix, bias, moments)
        left, right = _cut(target, layer.r, root, layer.INPUT_ROWS)  # (rows, r), (r, columns)
        layer.set_product(left, right)
        energy = float(matrix.square().sum())
        kept[path] = 1 - float((matrix - left @ right).square().sum()) / energy if energy else 1.0
    return kept


def _regression(
    layer: Any, matrix: Tensor, bias: Optional[Tensor], moments: Moments
) -> Tuple[Tensor, Tensor]:
    """(M, L): what is to be cut, in the shape of `matrix`, and the root of C."""
    second = moments.second.double()
    diagonal = second.diagonal()
    diagonal += RIDGE * diagonal.mean().clamp(min=1e-12)
    root = torch.linalg.cholesky(second)
    if bias is not None:
        share = torch.cholesky_solve(moments.mean.double()[:, None], root)[:, 0].float()  # (size,): E[x] / C
        matrix = matrix + layer.bias_change(layer.base, share, bias)
    return matrix, root.float()


def _cut(matrix: Tensor, rank: int, root: Optional[Tensor], input_rows: bool) -> Tuple[Tensor, Tensor]:
    """(left, right) of `rank` whose product is nearest to `matrix`, in the measure of `root` on the side of the
    inputs."""
    if root is None:
        side = _leading(matrix, rank) if matrix.shape[0] <= matrix.shape[1] else None
        if side is not None:
            return _balanced(side, side.t() @ matrix)
        side = _leading(matrix.t(), rank)
        return _balanced(matrix @ side, side.t())
    if input_rows:
        side = _leading(root.t() @ matrix, rank)  # (rows, rank)
        left = torch.linalg.solve_triangular(root.t(), side, upper=True)
        return _balanced(left, side.t() @ (root.t() @ matrix))
    side = _leading(matrix @ root, rank)
    return _balanced(side, side.t() @ matrix)


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """The first left singular vectors, (rows, rank): by the eigenvectors of the small square, in float64."""
    wide = matrix.double()
    return torch.linalg.eigh(wide @ wide.t())[1][:, -rank:].flip(1).float()


def _balanced(left: Tensor, right: Tensor) -> Tuple[Tensor, Tensor]:
    """The same product, each component's two vectors of one length: neither is small in 16 or 8 bits."""
    a, b = left.norm(dim=0).clamp(min=1e-12), right.norm(dim=1).clamp(min=1e-12)
    scale = (b / a).sqrt()
    return left * scale, right / scale[:, None]


class Listener:
    """Gathers the moments of the inputs of `paths` while the network runs. Use it in a `with` block."""

    def __init__(self, network: nn.Module, paths: Iterable[str]):
        modules = dict(network.named_modules())
        self._layers = {path: modules[path] for path in paths}
        self._sums: Dict[str, Tuple[Any, Any, int]] = {}
        self._hooks: list = []

    def __enter__(self) -> Listener:
        for path, layer in self._layers.items():
            self._hooks.append(layer.register_forward_pre_hook(self._hook(path)))
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hear(layer: nn.Module, given: Any) -> None:
            x = inputs_of(layer, given[0].detach())  # (size, columns)
            if x is None:
                return
            if path not in self._sums:
                self._sums[path] = (x.new_zeros(len(x), len(x)), x.new_zeros(len(x)), 0)
            second, mean, count = self._sums[path]
            self._sums[path] = (second.addmm_(x, x.t()), mean.add_(x.sum(1)), count + x.shape[1])

        return hear

    def take(self, path: str) -> Optional[Moments]:
        """Of the inputs of the layer `path`, which is forgotten then; None of one that has not run. Those of all
        layers together are larger than the network."""
        second, mean, count = self._sums.pop(path, (None, None, 0))
        return Moments(second.div_(count), mean.div_(count)) if second is not None and mean is not None else None


def inputs_of(layer: nn.Module, x: Tensor) -> Optional[Tensor]:
    """What each output of `layer` is made of, as columns: (inputs * kernel, columns); of a transposed convolution
    (inputs, columns). None for a layer that has no such thing.

    x: (batch, frames, inputs) of a Linear, else (batch, inputs, frames). At most about `COLUMNS`, evenly spread.
    """
    kind: Any = layer_class(layer)
    return kind.inputs(layer, x, COLUMNS) if kind is not None else None
