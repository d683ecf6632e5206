"""LoRA layers: the low-rank branch of one frozen layer, and its dense delta.

A LoRA layer does not replace the layer it adapts and does not own it: `attach()` gives that one module another
forward, so that `base(x)` is W x + scale * B A x while the host's classes, modules and state-dict keys stay as they
are, and no weight gradient of the base is ever computed. `layer(x)` is the low-rank term alone.

B starts at zero (Hu et al. 2021, section 4.1), so a fresh layer adds exact zeros.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Tuple, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..messages import UserError
from . import functional as LF
from .adapter_layer import AdapterLayer
from .fused import Geometry, fused
from .hanging import Hanging
from .lora_config import LoRAConfig


class _Factor(nn.Module):
    """Holds one factor, so that its state-dict key ends in `lora_A.weight` as in PEFT."""

    def __init__(self, shape: Tuple[int, ...]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float32, device="cpu"))


def _autocasting(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


class LoRALayer(Hanging, nn.Module):
    """What all kinds share.

    Args:
        base: the layer to adapt. It is referred to, not owned: it is no submodule of this one.
        r: rank; above the layer's smaller side, where more can say nothing more, that side is the rank
            (`fitting_rank`).
        lora_alpha, use_rslora: scale = alpha / r, or alpha / sqrt(r), of the r that was asked for.
        lora_dropout: dropout on the branch's input while this module is in training mode.

    Raises:
        UserError: rank below 1.
    """

    kind: Type[nn.Module]
    """The class of layer that this one adapts."""
    KEYS = ("lora_A.weight", "lora_B.weight")
    INPUT_ROWS = False
    """Whether the inputs are the rows of the weight as a matrix, and not its columns."""

    def __init__(self, base: nn.Module, r: int, lora_alpha: float, lora_dropout: float = 0.0, use_rslora: bool = False):
        super().__init__()
        if r < 1:
            raise UserError("rank {r} is below 1: choose a higher one, or switch this target off", r=r)
        object.__setattr__(self, "base", base)
        self.r, self.scaling = self.fitting_rank(base, r), lora_alpha / (math.sqrt(r) if use_rslora else r)
        shape_a, shape_b, _ = self.shapes(base, self.r)
        self.lora_A, self.lora_B = _Factor(shape_a), _Factor(shape_b)
        self.dropout = nn.Dropout(lora_dropout)
        self.reset_parameters()
        weight = next(base.parameters())
        self.to(device=weight.device)

    @classmethod
    def make(cls, base: nn.Module, target: str, config: LoRAConfig, speaker: int) -> LoRALayer:
        """The layer for `base` as a target of the configuration says."""
        chosen = config.targets[target]
        return cls(base, chosen.r, chosen.lora_alpha, config.lora_dropout, config.use_rslora)

    @classmethod
    def file_shapes(cls, base: nn.Module, r: int) -> Dict[str, Tuple[int, ...]]:
        """The shapes of its tensors in the adapter file, by key."""
        a, b, _ = cls.shapes(base, cls.fitting_rank(base, r))
        return dict(zip(cls.KEYS, (a, b)))

    @classmethod
    def dense(cls, base: nn.Module, tensors: Mapping[str, Tensor], scaling: float, speaker: int) -> Tensor:
        """scaling * B A in the shape of the base's weight."""
        return cls.delta(*(tensors[key] for key in cls.KEYS)) * scaling

    @classmethod
    def product(
        cls, base: nn.Module, tensors: Mapping[str, Tensor], scaling: float, speaker: int
    ) -> Tuple[Tensor, Tensor]:
        """scaling * B A as (left, right) with left @ right, the weight seen as a matrix."""
        left, right = cls.matrices(*(tensors[key].flatten(1) for key in cls.KEYS))
        return left * scaling, right

    @staticmethod
    def matrices(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
        """A and B, flat but for their first axis, as (left, right) with left @ right the weight's delta as a matrix."""
        return b, a

    @staticmethod
    def factors(left: Tensor, right: Tensor) -> Tuple[Tensor, Tensor]:
        """The other way round: (left, right) as A and B, flat but for their first axis."""
        return right, left

    def set_product(self, left: Tensor, right: Tensor) -> None:
        """Let the layer's delta be left @ right, the weight seen as a matrix: (rows, r) and (r, columns)."""
        a, b = self.factors(left / self.scaling, right)
        with torch.no_grad():
            self.lora_A.weight.copy_(a.reshape(self.lora_A.weight.shape))
            self.lora_B.weight.copy_(b.reshape(self.lora_B.weight.shape))

    @classmethod
    def fitting_rank(cls, base: nn.Module, r: int) -> int:
        """`r`, or the smaller side of the layer's weight as a matrix where that is less: the highest rank its delta
        can have."""
        return min(r, cls.shapes(base, 1)[2])

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


class LoRAConv1d(_LoRAConv):
    """A: (r, in / groups, kernel), B: (out, r, 1)."""

    kind = nn.Conv1d


class LoRAConv2d(_LoRAConv):
    """A: (r, in / groups, *kernel), B: (out, r, 1, 1): for the period discriminators."""

    kind = nn.Conv2d


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


class SpeakerRow(Hanging, nn.Module):
    """The delta of one row of an embedding: all that one voice needs of the speaker table. Row: (1, dim), zero at the
    start."""

    kind = nn.Embedding
    KEYS = ("lora_row.weight",)

    def __init__(self, base: nn.Embedding, row: int = 0):
        super().__init__()
        if not 0 <= row < base.num_embeddings:
            raise UserError("speaker {row} is not in the base's table of {num_embeddings}: choose 0 to "
                            "{num_embeddings_2}",
                            row=row, num_embeddings=base.num_embeddings, num_embeddings_2=base.num_embeddings - 1)
        object.__setattr__(self, "base", base)
        self.row = row
        self.lora_row = _Factor((1, base.embedding_dim))
        self.to(device=base.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (...) -> (..., dim): the delta where the id is this row, zero elsewhere."""
        return (ids == self.row).unsqueeze(-1) * self.lora_row.weight[0]

    def delta_weight(self) -> Tensor:
        return self.dense(self.base, {self.KEYS[0]: self.lora_row.weight.detach().float()}, 1.0, self.row)

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


LAYER_KINDS: Tuple[Type[LoRALayer], ...] = (LoRALinear, LoRAConv1d, LoRAConv2d, LoRAConvTranspose1d, LoRAEmbedding)
ROW_KINDS: Tuple[Type[SpeakerRow], ...] = (SpeakerRow,)
"""A further kind of layer is a class here; it owns its tensors' names and shapes in the adapter file."""


def layer_class(base: nn.Module, row: bool = False) -> Optional[Type[AdapterLayer]]:
    """The adapter layer for `base`, or None where there is none; with `row`, the one that adapts a single row."""
    kinds: Tuple[Any, ...] = ROW_KINDS if row else LAYER_KINDS
    return next((cls for cls in kinds if isinstance(base, cls.kind)), None)


def _kind_of(base: nn.Module, tensors: Mapping[str, Tensor]) -> Type[AdapterLayer]:
    """The kind of layer that tensors of these names are of."""
    kinds: Tuple[Any, ...] = (*ROW_KINDS, *LAYER_KINDS)
    return next(cls for cls in kinds if isinstance(base, cls.kind) and set(cls.KEYS) == set(tensors))


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
    return _kind_of(base, tensors).dense(base, _in_fp32(base, tensors), scaling, row)


def delta_product(base: nn.Module, tensors: Mapping[str, Tensor], scaling: float,
                  row: int = 0) -> Tuple[Tensor, Tensor]:
    """The delta of `base` as (left, right) with left @ right = `dense_delta`, the weight seen as a matrix.

    left: (rows, rank), the scale in it; right: (rank, columns). fp32, on the base's device. Arguments as `dense_delta`.
    """
    left, right = _kind_of(base, tensors).product(base, _in_fp32(base, tensors), scaling, row)
    return left.contiguous(), right.contiguous()
