"""LoRA layers: the low-rank branch of one frozen layer, and its dense delta.

A LoRA layer does not replace the layer it adapts and does not own it: `attach()` gives that one module another
forward, so that `base(x)` is W x + scale * B A x while the host's classes, modules and state-dict keys stay as they
are, and no weight gradient of the base is ever computed. `layer(x)` is the low-rank term alone.

A further kind is one more class here with `@adapter_kind`: it owns its tensors in the adapter file, its delta, and what
a conversion and a batch of several voices ask of it (`adapter_layer.py` is the protocol).
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..messages import UserError
from . import functional as LF
from .adapter_layer import RowsBranch, adapter_kind, kind_of, layer_class
from .fused import Geometry, fused
from .hanging import Hanging
from .lora_config import LoRAConfig
from .low_rank import Factor, LoRALayer

__all__ = ["LoRAConv1d", "LoRAConv2d", "LoRAConvTranspose1d", "LoRAEmbedding", "LoRALayer", "LoRALinear", "SpeakerRow",
           "delta_product", "dense_delta", "layer_class"]


def _autocasting(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


@adapter_kind
class LoRALinear(LoRALayer):
    """A: (r, in), B: (out, r)."""

    kind = nn.Linear
    delta = staticmethod(LF.linear_delta)

    @staticmethod
    def shapes(base: nn.Linear, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        return (r, base.in_features), (base.out_features, r), min(base.in_features, base.out_features)

    @staticmethod
    def inputs(base: nn.Linear, x: Tensor, most: int) -> Tensor:
        """x: (batch, frames, in) -> (in, columns)."""
        return LF.some_columns(x.reshape(-1, x.shape[-1]).t(), most)

    @classmethod
    def rows_branch(cls, base: nn.Linear) -> RowsBranch:
        return LF.linear_rows

    def branch(self, x: Tensor) -> Tensor:
        return LF.linear_branch(x, self.lora_A.weight, self.lora_B.weight)


class _Convolution(LoRALayer):
    """Base and branch run as one convolution, where that gives the same: see fused.py."""

    def _adapted(self, x: Tensor, *rest: Any) -> Tensor:
        base: Any = self.base
        if rest or self._below is not None or not self._attached:
            return super()._adapted(x, *rest)
        weight = base.weight
        if not self._fusible(x, weight):
            return super()._adapted(x, *rest)
        geometry = Geometry(base.stride, base.padding, base.dilation, base.output_padding, base.transposed)
        return fused(x, weight, base.bias, self.lora_A.weight, self.lora_B.weight, self.scaling, geometry)

    def _fusible(self, x: Tensor, weight: Tensor) -> bool:
        """Not where the sum of weights would be rounded to 16 bits, the branch has dropout, or somebody trains the
        base itself."""
        base: Any = self.base
        trained = weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        return (base.groups == 1 and base.padding_mode == "zeros" and not isinstance(base.padding, str)
                and x.dim() == weight.dim()
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
        return LF.conv_branch(x, self.lora_A.weight, self.lora_B.weight, base.stride, padding, base.dilation,
                              base.groups)


@adapter_kind
class LoRAConv1d(_LoRAConv):
    """A: (r, in / groups, kernel), B: (out, r, 1)."""

    kind = nn.Conv1d

    @staticmethod
    def inputs(base: nn.Conv1d, x: Tensor, most: int) -> Tensor:
        """x: (batch, in, frames) -> (in * kernel, columns)."""
        outputs = x.shape[0] * x.shape[2] // base.stride[0]
        stride = base.stride[0] * max(1, outputs // most)
        columns = F.unfold(x.unsqueeze(2), (1, base.kernel_size[0]), (1, base.dilation[0]),
                           (0, base.padding[0]), (1, stride))
        return LF.some_columns(columns.transpose(0, 1).flatten(1), most)

    @classmethod
    def rows_branch(cls, base: nn.Conv1d) -> Optional[RowsBranch]:
        plain = base.groups == 1 and base.stride == (1,) and base.padding_mode == "zeros"
        return LF.conv_rows if plain else None


@adapter_kind
class LoRAConv2d(_LoRAConv):
    """A: (r, in / groups, *kernel), B: (out, r, 1, 1): for the period discriminators."""

    kind = nn.Conv2d


@adapter_kind
class LoRAConvTranspose1d(_Convolution):
    """A: (r, in, 1), B: (r, out / groups, kernel)."""

    kind = nn.ConvTranspose1d
    INPUT_ROWS = True
    delta = staticmethod(LF.conv_transpose_delta)

    @staticmethod
    def shapes(base: nn.ConvTranspose1d, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        outside = base.out_channels // base.groups
        side = min(base.in_channels, outside * base.kernel_size[0])
        return (r, base.in_channels, 1), (r, outside) + tuple(base.kernel_size), side

    @classmethod
    def of_file(cls, shapes: Mapping[str, Tuple[int, ...]]) -> bool:
        """B alone has a kernel of more than one here."""
        b = shapes.get("lora_B.weight", ())
        return super().of_file(shapes) and len(b) == 3 and b[2] > 1

    @classmethod
    def component_axis(cls, key: str) -> int:
        """Rows of both."""
        return 0

    @staticmethod
    def inputs(base: nn.ConvTranspose1d, x: Tensor, most: int) -> Tensor:
        """x: (batch, in, frames) -> (in, columns)."""
        return LF.some_columns(x.transpose(0, 1).flatten(1), most)

    @staticmethod
    def bias_change(base: nn.ConvTranspose1d, share: Tensor, bias: Tensor) -> Tensor:
        taps = base.kernel_size[0] / base.stride[0]  # so many products make an output
        return share[:, None] * (bias / taps).repeat_interleave(base.kernel_size[0])[None]

    @classmethod
    def rows_branch(cls, base: nn.ConvTranspose1d) -> Optional[RowsBranch]:
        return LF.conv_transpose_rows if base.groups == 1 else None

    @staticmethod
    def matrices(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
        return a.t(), b

    @staticmethod
    def factors(left: Tensor, right: Tensor) -> Tuple[Tensor, Tensor]:
        return left.t(), right

    def branch(self, x: Tensor) -> Tensor:
        base = self.base
        return LF.conv_transpose_branch(
            x, self.lora_A.weight, self.lora_B.weight, base.stride, base.padding, base.output_padding, base.groups,
            base.dilation
        )


@adapter_kind
class LoRAEmbedding(LoRALayer):
    """A: (r, rows), zero at the start as in PEFT; B: (dim, r). No dropout: the input is an index."""

    kind = nn.Embedding
    INPUT_ROWS = True
    delta = staticmethod(LF.embedding_delta)

    def __init__(self, base: nn.Embedding, *args: Any, **kwargs: Any):
        if base.max_norm is not None:
            raise UserError("an Embedding with max_norm rewrites its own weights in forward and cannot be frozen: "
                            "leave it out")
        super().__init__(base, *args, **kwargs)

    @staticmethod
    def shapes(base: nn.Embedding, r: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], int]:
        return (r, base.num_embeddings), (base.embedding_dim, r), min(base.num_embeddings, base.embedding_dim)

    @classmethod
    def of_file(cls, shapes: Mapping[str, Tuple[int, ...]]) -> bool:
        """In a file it looks as a Linear's, whose product is the same, the other way round."""
        return False

    @classmethod
    def rows_branch(cls, base: nn.Embedding) -> RowsBranch:
        return LF.embedding_rows

    @staticmethod
    def matrices(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
        return a.t(), b.t()

    @staticmethod
    def factors(left: Tensor, right: Tensor) -> Tuple[Tensor, Tensor]:
        return left.t(), right.t()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.lora_A.weight)
        nn.init.normal_(self.lora_B.weight)

    def branch(self, x: Tensor) -> Tensor:
        return LF.embedding_branch(x, self.lora_A.weight, self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) * self.scaling


@adapter_kind
class SpeakerRow(Hanging, nn.Module):
    """The delta of one row of an embedding: all that one voice needs of the speaker table. Row: (1, dim), zero at the
    start."""

    kind = nn.Embedding
    KEYS = ("lora_row.weight",)
    UP = ()
    FORM = "row"
    PARAMETER = "weight"

    def __init__(self, base: nn.Embedding, row: int = 0):
        super().__init__()
        if not 0 <= row < base.num_embeddings:
            raise UserError("speaker {row} is not in the base's table of {num_embeddings}: choose 0 to "
                            "{num_embeddings_2}",
                            row=row, num_embeddings=base.num_embeddings, num_embeddings_2=base.num_embeddings - 1)
        object.__setattr__(self, "base", base)
        self.row = row
        self.lora_row = Factor((1, base.embedding_dim))
        self.to(device=base.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (...) -> (..., dim): the delta where the id is this row, zero elsewhere."""
        return (ids == self.row).unsqueeze(-1) * self.lora_row.weight[0]

    def delta_weight(self) -> Tensor:
        return self.dense(self.base, {self.KEYS[0]: self.lora_row.weight.detach().float()}, 1.0, self.row)

    @classmethod
    def of_file(cls, shapes: Mapping[str, Tuple[int, ...]]) -> bool:
        return set(shapes) == set(cls.KEYS)

    @classmethod
    def component_axis(cls, key: str) -> None:
        """It has no components of a rank."""
        return None

    @torch.no_grad()
    def start_as(self, voice: nn.Module, row: int) -> bool:
        """The voice's row, exactly."""
        self.lora_row.weight.copy_(voice.weight[row:row + 1] - self.base.weight[self.row:self.row + 1])
        return True

    @classmethod
    def make(cls, base: nn.Embedding, target: str, config: LoRAConfig, speaker: int) -> SpeakerRow:
        """The row of `speaker`, which has neither rank nor alpha (`LoRAConfig` lets none be given)."""
        return cls(base, speaker)

    @classmethod
    def file_shapes(cls, base: nn.Embedding, r: int) -> Dict[str, Tuple[int, ...]]:
        return {cls.KEYS[0]: (1, base.embedding_dim)}

    @classmethod
    def dense(cls, base: nn.Embedding, tensors: Mapping[str, Tensor], scaling: float, speaker: int) -> Tensor:
        """A delta of the whole table that is zero but for one row, which is stored unscaled: (rows, dim)."""
        row = tensors[cls.KEYS[0]]
        delta = torch.zeros(base.num_embeddings, base.embedding_dim, dtype=row.dtype, device=row.device)
        delta[speaker] = row[0]
        return delta

    @classmethod
    def product(
        cls, base: nn.Embedding, tensors: Mapping[str, Tensor], scaling: float, speaker: int
    ) -> Tuple[Tensor, Tensor]:
        row = tensors[cls.KEYS[0]]
        left = torch.zeros(base.num_embeddings, 1, dtype=torch.float32, device=row.device)
        left[speaker] = 1.0
        return left, row


def _in_fp32(base: nn.Module, tensors: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    device = next(base.parameters()).device
    return {name: tensor.detach().to(device=device, dtype=torch.float32) for name, tensor in tensors.items()}


def dense_delta(base: nn.Module, tensors: Mapping[str, Tensor], scaling: float, row: int = 0) -> Tensor:
    """The delta of `base` from an adapter's tensors, in fp32 on the base's device.

    Args:
        tensors: `lora_A.weight` and `lora_B.weight`, or `lora_row.weight`.
        scaling: factor on B A (a row is stored unscaled).
        row: the speaker whose row it is.
    """
    return kind_of(base, tensors).dense(base, _in_fp32(base, tensors), scaling, row)


def delta_product(base: nn.Module, tensors: Mapping[str, Tensor], scaling: float,
                  row: int = 0) -> Tuple[Tensor, Tensor]:
    """The delta of `base` as (left, right) with left @ right = `dense_delta`, the weight seen as a matrix.

    left: (rows, rank), the scale in it; right: (rank, columns). fp32, on the base's device. Arguments as `dense_delta`.
    """
    left, right = kind_of(base, tensors).product(base, _in_fp32(base, tensors), scaling, row)
    return left.contiguous(), right.contiguous()
