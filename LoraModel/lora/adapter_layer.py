"""What every kind of adapter layer offers: the class owns the names and shapes of its tensors in the adapter file."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Protocol, Tuple, Type

from torch import Tensor, nn


class AdapterLayer(Protocol):
    """One layer's adapter, and the delta that its tensors in a file stand for.

    Attributes:
        kind: the class of layer that it adapts.
        KEYS: names of its tensors in the adapter file, after the module path.
    """

    kind: Type[nn.Module]
    KEYS: Tuple[str, ...]

    @classmethod
    def make(cls, base: Any, target: str, config: Any, speaker: int) -> Any:
        """The layer for `base`, as a target of a LoRAConfig says; `speaker` is the row that a row target adapts."""

    @classmethod
    def file_shapes(cls, base: Any, r: int) -> Dict[str, Tuple[int, ...]]:
        """The shape of each tensor in the file at rank `r`, by key."""

    @classmethod
    def dense(cls, base: Any, tensors: Mapping[str, Tensor], scaling: float, speaker: int) -> Tensor:
        """The delta in the shape of the base's weight."""

    @classmethod
    def product(
        cls, base: Any, tensors: Mapping[str, Tensor], scaling: float, speaker: int
    ) -> Tuple[Tensor, Tensor]:
        """The delta as (left, right) with left @ right, the weight seen as a matrix."""

    def delta_weight(self) -> Tensor:
        """The delta that the layer has now, in fp32."""

    def attach(self) -> None:
        """Hang it on its base layer."""

    def detach(self) -> None:
        """Take it off again."""
