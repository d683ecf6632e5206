"""LoRA layers: the low-rank branch of one frozen layer, and its dense delta.

A LoRA layer does not replace the layer it adapts and does not own it: `attach()` gives that one module another forward, so
that `base(x)` is W x + scale * B A x while the host's classes, modules and state-dict keys stay as they are, and no weight
gradient of the base is ever computed. `layer(x)` is the low-rank term alone.

B starts at zero (Hu et al. 2021, section 4.1), so a fresh layer adds exact zeros.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..messages import UserError
from . import functional as LF
from .fused import Geometry, fused


class _Factor(nn.Module):
    """Holds one factor, so that its state-dict key ends in `lora_A.weight` as in PEFT."""

    def __init__(self, shape: Tuple[int, ...]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


def _autocasting(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


class LoRALayer(nn.Module):
    """What all kinds share.

    Args:
        base: the layer to adapt. It is referred to, not owned: it is no submodule of this one.
        r: rank. lora_alpha, use_rslora: scale = alpha / r, or alpha / sqrt(r).
        lora_dropout: dropout on the branch's input while this module is in training mode.

    Raises:
        UserError: rank below 1 or above the layer's smaller side.
    """

    kind: Type[nn.Module]
    """The class of layer that this one adapts."""

    def __init__(self, base: nn.Module, r: int, lora_alpha: float, lora_dropout: float = 0.0, use_rslora: bool = False):
        super().__init__()
        shape_a, shape_b, side = self.shapes(base, r)
        if not 1 <= r <= side:
            raise UserError(
                f"rank {r} does not fit a {type(base).__name__} whose smaller side is {side}: choose 1 to {side}, "
                "or switch this target off",
                f"秩 {r} 不适用于较小边为 {side} 的 {type(base).__name__}：请选择 1 到 {side}，或关闭该目标层",
            )
        object.__setattr__(self, "base", base)
        self.r, self.scaling = r, lora_alpha / (math.sqrt(r) if use_rslora else r)
        self.lora_A, self.lora_B = _Factor(shape_a), _Factor(shape_b)
        self.dropout = nn.Dropout(lora_dropout)
        self.reset_parameters()
        weight = next(base.parameters())
        self.to(device=weight.device)

    @staticmethod
    def shapes(base: Any, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        """Shapes of A and B, and the smaller side of the weight as a matrix: the highest rank that makes sense."""
        raise NotImplementedError

    @staticmethod
    def delta(a: Tensor, b: Tensor) -> Tensor:
        """B A in the shape of the base's weight, without the scale."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """B A x, without the scale; `x` is the base's input."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """A uniform as nn.Linear's own start, B zero."""
        nn.init.kaiming_uniform_(self.lora_A.weight.view(self.lora_A.weight.shape[0], -1), a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(self.dropout(x)) * self.scaling

    def delta_weight(self) -> Tensor:
        """scale * B A in fp32, in the shape of the base's weight."""
        return self.delta(self.lora_A.weight.detach().float(), self.lora_B.weight.detach().float()) * self.scaling

    def attach(self) -> None:
        """Hang the branch on the base layer. Attaching twice does nothing."""
        # A method, not a lambda: a deep copy of the network then hangs on the copy's own branch.
        self.base.__dict__["forward"] = self._adapted

    def detach(self) -> None:
        """Take the branch off again."""
        self.base.__dict__.pop("forward", None)

    def _adapted(self, x: Tensor, *rest: Any) -> Tensor:
        """The base's forward with the branch."""
        output = type(self.base).forward(self.base, x, *rest)
        return output + self(x).to(output.dtype)


class LoRALinear(LoRALayer):
    """A: (r, in), B: (out, r)."""

    kind = nn.Linear
    delta = staticmethod(LF.linear_delta)

    @staticmethod
    def shapes(base: nn.Linear, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        return (r, base.in_features), (base.out_features, r), min(base.in_features, base.out_features)

    def branch(self, x: Tensor) -> Tensor:
        return LF.linear_branch(x, self.lora_A.weight, self.lora_B.weight)


class _Convolution(LoRALayer):
    """Base and branch run as one convolution, where that gives the same: see fused.py."""

    def _adapted(self, x: Tensor, *rest: Any) -> Tensor:
        base: Any = self.base
        weight = base.weight
        if rest or not self._fusible(x, weight):
            return super()._adapted(x, *rest)
        geometry = Geometry(base.stride, base.padding, base.dilation, base.output_padding, base.transposed)
        return fused(x, weight, base.bias, self.lora_A.weight, self.lora_B.weight, self.scaling, geometry)

    def _fusible(self, x: Tensor, weight: Tensor) -> bool:
        """Not where the sum of weights would be rounded to 16 bits, the branch has dropout, or somebody trains the base itself."""
        base: Any = self.base
        trained = weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        return (base.groups == 1 and base.padding_mode == "zeros" and not isinstance(base.padding, str) and x.dim() == weight.dim()
                and x.dtype == weight.dtype == self.lora_A.weight.dtype and x.dtype in (torch.float32, torch.float64)
                and not trained and not (self.training and self.dropout.p) and not _autocasting(x.device.type))


class _LoRAConv(_Convolution):
    delta = staticmethod(LF.conv_delta)

    @staticmethod
    def shapes(base: Any, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        inside = base.in_channels // base.groups
        ones = (1,) * len(base.kernel_size)
        return (
            (r, inside) + tuple(base.kernel_size),
            (base.out_channels, r) + ones,
            min(base.out_channels, inside * math.prod(base.kernel_size)),
        )

    def branch(self, x: Tensor) -> Tensor:
        base, padding = self.base, self.base.padding
        if base.padding_mode != "zeros":
            x = F.pad(x, base._reversed_padding_repeated_twice, mode=base.padding_mode)
            padding = (0,) * len(base.kernel_size)
        return LF.conv_branch(x, self.lora_A.weight, self.lora_B.weight, base.stride, padding, base.dilation, base.groups)


class LoRAConv1d(_LoRAConv):
    """A: (r, in / groups, kernel), B: (out, r, 1)."""

    kind = nn.Conv1d


class LoRAConv2d(_LoRAConv):
    """A: (r, in / groups, *kernel), B: (out, r, 1, 1): for the period discriminators."""

    kind = nn.Conv2d


class LoRAConvTranspose1d(_Convolution):
    """A: (r, in, 1), B: (r, out / groups, kernel)."""

    kind = nn.ConvTranspose1d
    delta = staticmethod(LF.conv_transpose_delta)

    @staticmethod
    def shapes(base: nn.ConvTranspose1d, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        outside = base.out_channels // base.groups
        return (r, base.in_channels, 1), (r, outside) + tuple(base.kernel_size), min(base.in_channels, outside * base.kernel_size[0])

    def branch(self, x: Tensor) -> Tensor:
        base = self.base
        return LF.conv_transpose_branch(
            x, self.lora_A.weight, self.lora_B.weight, base.stride, base.padding, base.output_padding, base.groups, base.dilation
        )


class LoRAEmbedding(LoRALayer):
    """A: (r, rows), zero at the start as in PEFT; B: (dim, r). No dropout: the input is an index."""

    kind = nn.Embedding
    delta = staticmethod(LF.embedding_delta)

    def __init__(self, base: nn.Embedding, *args: Any, **kwargs: Any):
        if base.max_norm is not None:
            raise UserError("an Embedding with max_norm rewrites its own weights in forward and cannot be frozen: leave it out",
                            "带 max_norm 的 Embedding 会在前向时改写自身权重，无法冻结：请排除该层")
        super().__init__(base, *args, **kwargs)

    @staticmethod
    def shapes(base: nn.Embedding, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        return (r, base.num_embeddings), (base.embedding_dim, r), min(base.num_embeddings, base.embedding_dim)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.lora_A.weight)
        nn.init.normal_(self.lora_B.weight)

    def branch(self, x: Tensor) -> Tensor:
        return LF.embedding_branch(x, self.lora_A.weight, self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) * self.scaling


class SpeakerRow(nn.Module):
    """The delta of one row of an embedding: all that one voice needs of the speaker table. Row: (1, dim), zero at the start."""

    kind = nn.Embedding

    def __init__(self, base: nn.Embedding, row: int = 0):
        super().__init__()
        if not 0 <= row < base.num_embeddings:
            raise UserError(f"speaker {row} is not in the base's table of {base.num_embeddings}: choose 0 to {base.num_embeddings - 1}",
                            f"底模的说话人表只有 {base.num_embeddings} 行，没有第 {row} 号：请选择 0 到 {base.num_embeddings - 1}")
        object.__setattr__(self, "base", base)
        self.row = row
        self.lora_row = _Factor((1, base.embedding_dim))
        self.to(device=base.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (...) -> (..., dim): the delta where the id is this row, zero elsewhere."""
        return (ids == self.row).unsqueeze(-1) * self.lora_row.weight[0]

    def delta_weight(self) -> Tensor:
        return row_delta(self.base, self.lora_row.weight.detach().float(), self.row)

    attach = LoRALayer.attach
    detach = LoRALayer.detach
    _adapted = LoRALayer._adapted


def row_delta(base: nn.Embedding, row: Tensor, index: int) -> Tensor:
    """A delta of the whole table that is zero but for one row. row: (1, dim) -> (rows, dim)."""
    delta = torch.zeros(base.num_embeddings, base.embedding_dim, dtype=row.dtype, device=row.device)
    delta[index] = row[0]
    return delta


LAYER_KINDS = (LoRALinear, LoRAConv1d, LoRAConv2d, LoRAConvTranspose1d, LoRAEmbedding)


def layer_class(base: nn.Module) -> Optional[Type[LoRALayer]]:
    """The LoRA layer for `base`, or None where there is none."""
    return next((cls for cls in LAYER_KINDS if isinstance(base, cls.kind)), None)


def dense_delta(base: nn.Module, tensors: Dict[str, Tensor], scaling: float, row: int = 0) -> Tensor:
    """The delta of `base` from an adapter's tensors, in fp32 on the base's device.

    Args:
        tensors: `lora_A.weight` and `lora_B.weight`, or `lora_row.weight`.
        scaling: factor on B A (a row is stored unscaled).
        row: the speaker whose row it is.
    """
    device = next(base.parameters()).device
    tensors = {name: tensor.to(device=device, dtype=torch.float32) for name, tensor in tensors.items()}
    if "lora_row.weight" in tensors:
        return row_delta(base, tensors["lora_row.weight"], row)
    return layer_class(base).delta(tensors["lora_A.weight"], tensors["lora_B.weight"]) * scaling


def delta_product(base: nn.Module, tensors: Dict[str, Tensor], scaling: float, row: int = 0) -> Tuple[Tensor, Tensor]:
    """The delta of `base` as (left, right) with left @ right = `dense_delta`, the weight seen as a matrix.

    left: (rows, rank), the scale in it; right: (rank, columns). fp32, on the base's device. Arguments as `dense_delta`.
    """
    device = next(base.parameters()).device
    tensors = {name: tensor.detach().to(device=device, dtype=torch.float32) for name, tensor in tensors.items()}
    if "lora_row.weight" in tensors:
        left = torch.zeros(base.num_embeddings, 1, device=device)
        left[row] = 1.0
        return left, tensors["lora_row.weight"]
    a, b = tensors["lora_A.weight"].flatten(1), tensors["lora_B.weight"].flatten(1)
    kind = layer_class(base)
    if kind is LoRAConvTranspose1d:
        left, right = a.t(), b
    elif kind is LoRAEmbedding:
        left, right = a.t(), b.t()
    else:
        left, right = b, a
    return (left * scaling).contiguous(), right.contiguous()
