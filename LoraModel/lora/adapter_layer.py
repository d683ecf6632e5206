"""What every kind of adapter layer offers, and which kinds there are.

The class owns the names and shapes of its tensors in the adapter file, its delta, and all that else depends on the
kind; nobody compares kinds, names of tensors or numbers of dimensions elsewhere.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple, Type, TypeVar, Union

from torch import Tensor, nn

RowsBranch = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""(layer, x, left, right) -> what each row's factors, (batch, rows, rank) and (batch, rank, columns), add to the output
of the layer."""


class AdapterLayer(Protocol):
    """One layer's adapter, and the delta that its tensors in a file stand for.

    Attributes:
        kind: the class of layer that it adapts, or several.
        KEYS: names of its tensors in the adapter file, after the module path; each begins with "lora_".
        UP: those of KEYS that carry the scale, and that LoRA+ lets learn faster.
        FORM: "" for a product of a rank; else the `form` of the targets that it serves, which have neither rank nor
            alpha: its delta is linear in its tensors.
        PARAMETER: what it adapts of the layer: its "weight", or another parameter by name.
    """

    kind: Union[Type[nn.Module], Tuple[Type[nn.Module], ...]]
    KEYS: Tuple[str, ...]
    UP: Tuple[str, ...]
    FORM: str
    PARAMETER: str

    @classmethod
    def make(cls, base: Any, target: str, config: Any, speaker: int) -> Any:
        """The layer for `base`, as a target of a LoRAConfig says; `speaker` is the row that a row target adapts."""

    @classmethod
    def file_shapes(cls, base: Any, r: int) -> Dict[str, Tuple[int, ...]]:
        """The shape of each tensor in the file at rank `r`, by key."""

    @classmethod
    def of_file(cls, shapes: Mapping[str, Tuple[int, ...]]) -> bool:
        """Whether a file's tensors of these shapes, by key, are of this kind, as far as can be told without a base."""

    @classmethod
    def component_axis(cls, key: str) -> Optional[int]:
        """The axis of a tensor that counts its rank's components, each of which has a scale of its own in 8 bits; None
        where there are none: it is stored in 16 bits then."""

    @classmethod
    def dense(cls, base: Any, tensors: Mapping[str, Tensor], scaling: float, speaker: int) -> Tensor:
        """The delta in the shape of the base's parameter."""

    @classmethod
    def product(
        cls, base: Any, tensors: Mapping[str, Tensor], scaling: float, speaker: int
    ) -> Tuple[Tensor, Tensor]:
        """The delta as (left, right) with left @ right, the parameter seen as a matrix."""

    def start_as(self, voice: nn.Module, row: int) -> bool:
        """Take over what a full voice's layer has other than the base's, if it can be taken exactly. row: of the
        voice's speakers. Returns whether it was."""

    def delta_weight(self) -> Tensor:
        """The delta that the layer has now, in fp32."""

    def attach(self) -> None:
        """Hang it on its base layer."""

    def detach(self) -> None:
        """Take it off again."""


Kind = TypeVar("Kind", bound=type)
KINDS: List[Any] = []
"""All kinds; where several fit, the last one counts."""


def adapter_kind(cls: Kind) -> Kind:
    """Decorator: a class of AdapterLayer that targets may use."""
    KINDS.append(cls)
    return cls


def layer_class(base: nn.Module, form: str = "") -> Optional[Type[AdapterLayer]]:
    """The adapter layer for `base`, or None where there is none. form: `Target.form`."""
    return next((cls for cls in reversed(KINDS) if cls.FORM == form and isinstance(base, cls.kind)), None)


def kind_of(base: nn.Module, tensors: Mapping[str, Tensor]) -> Type[AdapterLayer]:
    """The kind of layer that tensors of these names are of."""
    return next(cls for cls in reversed(KINDS) if isinstance(base, cls.kind) and set(cls.KEYS) == set(tensors))


def kind_in_file(shapes: Mapping[str, Tuple[int, ...]]) -> Optional[Type[AdapterLayer]]:
    """The kind of layer that a file's tensors of these shapes, by key, are of; None where no kind has such."""
    return next((cls for cls in reversed(KINDS) if cls.of_file(shapes)), None)


def by_layer(names: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """What stands by the file's names, by module path and key: {path: {"lora_A.weight": ..., ...}}."""
    grouped: Dict[str, Dict[str, Any]] = {}
    for name, value in names.items():
        path, _, key = name.rpartition(".lora_")
        grouped.setdefault(path, {})["lora_" + key] = value
    return grouped


def component_axes(shapes: Mapping[str, Tuple[int, ...]]) -> Dict[str, Optional[int]]:
    """The axis of each tensor that counts its rank's components, by the file's names; None where it has none."""
    axes: Dict[str, Optional[int]] = {}
    for path, layer in by_layer(shapes).items():
        kind = kind_in_file(layer)
        axes.update({f"{path}.{key}": kind.component_axis(key) if kind is not None else 0 for key in layer})
    return axes


def place_of(path: str, kind: Type[AdapterLayer]) -> str:
    """Where a layer's delta goes in a network: the module's path for its weight, else the parameter's."""
    return path if kind.PARAMETER == "weight" else f"{path}.{kind.PARAMETER}"
