"""A frozen convolution and its low-rank branch as one convolution, forward and backward.

conv(x, W) + scale * B A x = conv(x, W + scale * B A): the sum of weights costs next to nothing, and one convolution
runs where the branch hung on the side takes three. Its backward gives the input's gradient through the summed weight
and those of A and B, never the base's weight gradient, which is what automatic differentiation of the summed weight
would compute first.

The largest part of what this saves is in the backward: the branch's own gradient to the input, a convolution from
`rank` to all channels, took up to half as long as the base's (docs/benchmarks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import functional as LF

_convolution_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves: all as tuples, one number for each dimension of the kernel. One group, padding with
    zeros."""

    stride: Tuple[int, ...]
    padding: Tuple[int, ...]
    dilation: Tuple[int, ...]
    output_padding: Tuple[int, ...]
    transposed: bool

    def __call__(self, x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
        return torch.convolution(x, weight, bias, self.stride, self.padding, self.dilation, self.transposed,
                                 self.output_padding, 1)

    def input_gradient(self, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Of `self(x, weight)` with respect to x; grad: of the output."""
        if self.by_taps and self.dilation[0] > 1 and grad.device.type == "cpu":
            rest = self.dilation[0] * (weight.shape[2] - 1) - self.padding[0]
            # the same as a convolution forward, the kernel turned round: oneDNN is up to three times as fast at that
            if rest >= 0:
                return F.conv1d(grad, weight.transpose(0, 1).flip(2), None, 1, rest, self.dilation[0])
        return self._backward(grad, x, weight, (True, False, False))[0]

    def weight_gradient(self, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return self._backward(grad, x, weight, (False, True, False))[1]

    def _backward(self, grad: Tensor, x: Tensor, weight: Tensor, wanted: Tuple[bool, bool, bool]) -> Tuple[Any, ...]:
        return _convolution_backward(grad, x, weight, None, self.stride, self.padding, self.dilation, self.transposed,
                                     self.output_padding, 1, wanted)

    @property
    def by_taps(self) -> bool:
        """Whether each tap of the kernel sees every frame: in one dimension, one frame at a time."""
        return not self.transposed and self.stride == (1,)


class _Fused(torch.autograd.Function):
    """x: (batch, in, *frames) -> (batch, out, *frames of the output)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor], a: Tensor, b: Tensor, scaling: float,
                geometry: Geometry) -> Tensor:
        delta = LF.conv_transpose_delta(a, b) if geometry.transposed else LF.conv_delta(a, b)
        summed = weight + delta * scaling
        ctx.save_for_backward(x, summed, a, b)
        ctx.scaling, ctx.geometry = scaling, geometry
        return geometry(x, summed, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, summed, a, b = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        grad_x = geometry.input_gradient(grad, x, summed) if ctx.needs_input_grad[0] else None
        grad_a = grad_b = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            factors = _transposed_factors if geometry.transposed else _taps_factors if geometry.by_taps else _factors
            grad_a, grad_b = (gradient * ctx.scaling for gradient in factors(grad, x, a, b, geometry))
        return grad_x, None, None, grad_a, grad_b, None, None


def fused(x: Tensor, weight: Tensor, bias: Optional[Tensor], a: Tensor, b: Tensor, scaling: float,
          geometry: Geometry) -> Tensor:
    """conv(x, weight) + bias + scaling * B A x. No gradient reaches `weight` and `bias`.

    x: (batch, in, *frames); weight: as the layer's; a, b: as `functional.conv_branch` or `conv_transpose_branch` takes
    them.
    """
    return _Fused.apply(x, weight, bias, a, b, scaling, geometry)


def _factors(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, geometry: Geometry) -> Tuple[Tensor, Tensor]:
    """Gradients of A and B, without the scale. grad: of the output, (batch, out, *frames)."""
    low = geometry(x, a)  # (batch, rank, *frames)
    grad_low = _mix(b.flatten(1).t(), grad)
    return geometry.weight_gradient(grad_low, x, a), _outer(grad, low).reshape(b.shape)


def _transposed_factors(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, geometry: Geometry) -> Tuple[Tensor, Tensor]:
    low = _mix(a.flatten(1), x)  # (batch, rank, frames)
    grad_low, grad_b, _ = geometry._backward(grad, low, b, (True, True, False))
    return _outer(grad_low, x).reshape(a.shape), grad_b


def _taps_factors(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, geometry: Geometry) -> Tuple[Tensor, Tensor]:
    """As `_factors`, each tap of the kernel for itself: all taps of A x are one product of matrices, and so is A's
    gradient.

    With `rank` rows a convolution costs far more than what it computes; this reads x once for each, and that is all.
    """
    rank, _, kernel = a.shape
    (padding,), (dilation,) = geometry.padding, geometry.dilation
    frames_in, frames_out = x.shape[2], grad.shape[2]
    taps = _mix(a.permute(2, 0, 1).flatten(0, 1), x)  # (batch, kernel * rank, frames_in)
    taps = F.pad(taps, (padding, padding)).unflatten(1, (kernel, rank))
    low = sum(taps[:, k, :, k * dilation:k * dilation + frames_out] for k in range(kernel))  # (batch, rank, frames_out)

    rest = (kernel - 1) * dilation - padding  # negative where the layer pads beyond its kernel: F.pad then cuts
    grad_low = F.pad(_mix(b.flatten(1).t(), grad), (rest, rest))
    shifted = torch.cat([grad_low[:, :, k * dilation:k * dilation + frames_in] for k in reversed(range(kernel))], 1)
    grad_a = _outer(shifted, x).reshape(kernel, rank, -1).permute(1, 2, 0)
    return grad_a, _outer(grad, low).reshape(b.shape)


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix: (out, in), x: (batch, in, *frames) -> (batch, out, *frames)."""
    return torch.matmul(matrix, x.flatten(2)).unflatten(2, x.shape[2:])


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """(batch, rows, *frames), (batch, columns, *frames) -> (rows, columns), summed over batch and frames."""
    return torch.bmm(left.flatten(2), right.flatten(2).transpose(1, 2)).sum(0)
