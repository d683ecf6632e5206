"""The low-rank delta of each layer kind, as pure functions of tensors.

LoRA (Hu et al. 2021, arXiv:2106.09685, eq. 3): W' = W + scale * B A, with A (rank, in) and B (out, rank).
Two ways to the same result are here for each kind:

* `*_delta`  gives the dense B A in the shape of the layer's weight: for merging, and for inference in place;
* `*_branch` gives (B A) applied to an input without ever forming it: for training, where the base stays frozen.

Shapes follow PEFT where PEFT has the layer (Linear, ConvNd, Embedding): A of a convolution has the layer's kernel, B
has kernel 1. For a transposed convolution, which PEFT does not have, A has kernel 1 and B the layer's kernel: the rank
then cuts the channels *before* upsampling, which is cheaper, and the delta stays exact.

With groups, A and B are shared by the groups: A sees one group's channels at a time. `rank` stands for r below.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

_CONV = {1: F.conv1d, 2: F.conv2d}


def linear_delta(a: Tensor, b: Tensor) -> Tensor:
    """a: (rank, in), b: (out, rank) -> (out, in)."""
    return b @ a


def linear_branch(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x: (..., in) -> (..., out)."""
    return F.linear(F.linear(x, a), b)


def embedding_delta(a: Tensor, b: Tensor) -> Tensor:
    """a: (rank, rows), b: (dim, rank) -> (rows, dim)."""
    return (b @ a).t()


def embedding_branch(ids: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """ids: (...) of integers -> (..., dim)."""
    return F.linear(F.embedding(ids, a.t()), b)


def conv_delta(a: Tensor, b: Tensor) -> Tensor:
    """a: (rank, in / groups, *kernel), b: (out, rank, 1...) -> (out, in / groups, *kernel)."""
    return (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])


def conv_branch(
    x: Tensor, a: Tensor, b: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """x: (batch, in, *frames) -> (batch, out, *frames of the layer's output).

    `x` must already be padded where the layer pads with anything but zeros.
    """
    conv = _CONV[a.dim() - 2]
    if groups == 1:
        return conv(conv(x, a, None, stride, padding, dilation), b)
    if x.dim() < a.dim():  # one example without its batch dimension, which PyTorch's layers take too
        return conv_branch(x.unsqueeze(0), a, b, stride, padding, dilation, groups).squeeze(0)
    batch, channels = x.shape[:2]
    per_group = x.reshape(batch * groups, channels // groups, *x.shape[2:])  # (batch * groups, in / groups, *frames)
    low = conv(per_group, a, None, stride, padding, dilation)  # (batch * groups, rank, *frames')
    low = low.reshape(batch, groups * low.shape[1], *low.shape[2:])  # (batch, groups * rank, *frames')
    return conv(low, b, groups=groups)


def conv_transpose_delta(a: Tensor, b: Tensor) -> Tensor:
    """a: (rank, in, 1), b: (rank, out / groups, kernel) -> (in, out / groups, kernel)."""
    return (a.flatten(1).t() @ b.flatten(1)).reshape(a.shape[1], *b.shape[1:])


def conv_transpose_branch(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Tensor:
    """x: (batch, in, frames) -> (batch, out, frames of the layer's output)."""
    if groups == 1:
        low = F.conv1d(x, a)  # (batch, rank, frames)
        return F.conv_transpose1d(low, b, None, stride, padding, output_padding, 1, dilation)
    rank, channels = a.shape[:2]
    # Group g reads its own columns of A: (groups * rank, in / groups, 1), and every group has the same B.
    grouped_a = a.reshape(rank, groups, channels // groups,
                          1).transpose(0, 1).reshape(groups * rank, channels // groups, 1)
    low = F.conv1d(x, grouped_a, groups=groups)  # (batch, groups * rank, frames)
    return F.conv_transpose1d(low, b.repeat(groups, 1, 1), None, stride, padding, output_padding, groups, dilation)


def weight_norm_dims(weight: Tensor) -> Tuple[int, ...]:
    """The dimensions that weight norm sums over: all but 0, RVC's choice also where 0 is the input channel."""
    return tuple(range(1, weight.dim()))


def weight_norm_compose(g: Tensor, v: Tensor) -> Tensor:
    """Effective weight W = g v / |v| (Salimans and Kingma 2016, arXiv:1602.07868, eq. 2); a row with |v| = 0 gives 0.

    g: (rows, 1...), v: (rows, ...) -> (rows, ...), computed in fp32.
    """
    v, g = v.float(), g.float()
    norm = torch.linalg.vector_norm(v, dim=weight_norm_dims(v), keepdim=True)
    return v * (g / torch.where(norm == 0, torch.ones_like(norm), norm))


def weight_norm_decompose(weight: Tensor, dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
    """Return (g, v) of type `dtype` with g v / |v| = weight. weight: (rows, ...), fp32.

    A row of zeros gets g = 0 and a v of ones: v = 0 would divide by zero in every weight norm of PyTorch.
    g is taken from the weight before v is rounded, so in fp16 the direction is rounded and the length is not.
    """
    norm = torch.linalg.vector_norm(weight, dim=weight_norm_dims(weight), keepdim=True)
    v = torch.where(norm == 0, torch.ones_like(weight), weight).to(dtype)
    # A weight too small for the type would round to a zero row: keep its direction at length one instead.
    lost = (v == 0).flatten(1).all(1).reshape(norm.shape)
    if bool(lost.any()):
        v = torch.where(lost, (weight / torch.where(norm == 0, torch.ones_like(norm), norm)).to(dtype), v)
    return norm.to(dtype), v
