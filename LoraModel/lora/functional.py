"""The low-rank delta of each layer kind, as pure functions of tensors.

LoRA (Hu et al. 2021, arXiv:2106.09685, eq. 3): W' = W + scale * B A, with A (rank, in) and B (out, rank).
Ways to the same result are here for each kind:

* `*_delta`  gives the dense B A in the shape of the layer's weight: for merging, and for inference in place;
* `*_branch` gives (B A) applied to an input without ever forming it: for training, where the base stays frozen;
  `*_rows` does so for a batch in which every row has a B A of its own.

Shapes follow PEFT where PEFT has the layer (Linear, ConvNd, Embedding): A of a convolution has the layer's kernel, B
has kernel 1. For a transposed convolution, which PEFT does not have, A has kernel 1 and B the layer's kernel: the rank
then cuts the channels *before* upsampling, which is cheaper, and the delta stays exact.

With groups, A and B are shared by the groups: A sees one group's channels at a time. `rank` stands for r below.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def some_columns(columns: Tensor, most: int) -> Tensor:
    """(size, columns) -> fp32, at most about `most` of them, evenly spread."""
    return columns[:, :: max(1, columns.shape[1] // most)].float()


# The branches of a batch in which every row has factors of its own (rows.py): left (batch, rows of the weight, rank),
# right (batch, rank, its columns)

def linear_rows(layer: nn.Linear, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x: (batch, frames, in) -> (batch, frames, out)."""
    return (x @ right.transpose(1, 2)) @ left.transpose(1, 2)


def conv_rows(layer: Any, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
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


def conv_transpose_rows(layer: Any, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x: (batch, in, frames) -> (batch, out, frames of the output). One group."""
    batch, rank, _ = right.shape
    low = (left.transpose(1, 2) @ x).reshape(1, batch * rank, -1)  # the rows side by side, a group for each
    kernels = right.reshape(batch * rank, -1, layer.kernel_size[0])
    out = F.conv_transpose1d(low, kernels, None, layer.stride, layer.padding, layer.output_padding, batch,
                             layer.dilation)
    return out.view(batch, -1, out.shape[2])


def embedding_rows(layer: nn.Embedding, ids: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """ids: (batch, ...) -> (batch, ..., size)."""
    flat = ids.reshape(ids.shape[0], -1)
    rows = torch.gather(left, 1, flat.unsqueeze(-1).expand(-1, -1, left.shape[2]))  # (batch, ids of a row, rank)
    return (rows @ right).view(*ids.shape, right.shape[2])


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
