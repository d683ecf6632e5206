"""What the adapter layers of a low rank share: two factors, a scale, and the delta as their product.

B starts at zero (Hu et al. 2021, section 4.1), so a fresh layer adds exact zeros.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Tuple, Type

import torch
from torch import Tensor, nn

from ..messages import UserError
from .adapter_layer import RowsBranch
from .hanging import Hanging
from .lora_config import LoRAConfig


class Factor(nn.Module):
    """Holds one factor, so that its state-dict key ends in `lora_A.weight` as in PEFT."""

    def __init__(self, shape: Tuple[int, ...]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float32, device="cpu"))


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
    UP = KEYS[1:]
    FORM = ""
    PARAMETER = "weight"
    INPUT_ROWS = False
    """Whether the inputs are the rows of the weight as a matrix, and not its columns."""

    def __init__(self, base: nn.Module, r: int, lora_alpha: float, lora_dropout: float = 0.0, use_rslora: bool = False):
        super().__init__()
        if r < 1:
            raise UserError("rank {r} is below 1: choose a higher one, or switch this target off", r=r)
        object.__setattr__(self, "base", base)
        self.r, self.scaling = self.fitting_rank(base, r), lora_alpha / (math.sqrt(r) if use_rslora else r)
        shape_a, shape_b, _ = self.shapes(base, self.r)
        self.lora_A, self.lora_B = Factor(shape_a), Factor(shape_b)
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
    def of_file(cls, shapes: Mapping[str, Tuple[int, ...]]) -> bool:
        """A file's tensors of which nothing else is known are taken for this kind's by their names."""
        return set(shapes) <= set(cls.KEYS)

    @classmethod
    def component_axis(cls, key: str) -> int:
        """Rows of A, columns of B."""
        return cls.KEYS.index(key)

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

    def start_as(self, voice: nn.Module, row: int) -> bool:
        """A full voice's change of weight has to be cut to the rank first: `set_product`."""
        return False

    @staticmethod
    def inputs(base: Any, x: Tensor, most: int) -> Optional[Tensor]:
        """What each output of `base` is made of, as columns: (inputs, about `most` columns). None where nobody asked
        yet.

        x: the layer's input.
        """
        return None

    @staticmethod
    def bias_change(base: Any, share: Tensor, bias: Tensor) -> Tensor:
        """What a change of bias is as a change of the weight as a matrix.

        share: (inputs,), of each in the mean of the output. bias: (outputs,).
        """
        return bias[:, None] * share[None]

    @classmethod
    def rows_branch(cls, base: Any) -> Optional[RowsBranch]:
        """The branch of `base` for a batch in which each row has factors of its own (`rows.py`); None where there is
        none."""
        return None

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
