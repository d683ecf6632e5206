"""Targets: names for groups of a network's layers, and the presets made of them.

`lora/` knows PyTorch alone: whoever knows a network says by `define_targets` which of its layers a target takes
(`LoraModel/models/targets.py` for RVC's). A target is named by what it does for a voice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple


@dataclass(frozen=True)
class Target:
    """Which layers a target takes.

    Attributes:
        pattern: a regular expression that the whole module path matches.
        form: "" for a low-rank delta; else the FORM of the adapter layers that it takes, which have neither rank nor
            alpha: "row" is one row of an embedding, stored as it is.
    """

    pattern: str
    form: str = ""


Preset = Dict[str, Tuple[int, float]]
"""Target -> (rank, alpha)."""

TARGETS: Dict[str, Target] = {}
PRESETS: Dict[str, Preset] = {}
_default = [""]


def define_targets(targets: Mapping[str, Target], presets: Mapping[str, Preset], default: str) -> None:
    """Say which targets and presets there are; names that are known already get the new meaning.

    Args:
        targets: by name, in the order in which messages list them.
        presets: by name. default: the preset that `LoRAConfig` takes where none is named.

    Raises:
        ValueError: a preset names a target that is not defined.
    """
    known = {**TARGETS, **targets}
    for name, preset in presets.items():
        unknown = sorted(set(preset) - set(known))
        if unknown:
            raise ValueError(f"preset {name!r} names the target {unknown[0]!r}, which is not defined")
    TARGETS.update(targets)
    PRESETS.update(presets)
    _default[0] = default


def default_preset() -> str:
    """The preset that is taken where none is named.

    Raises:
        LookupError: no targets are defined yet: `import LoraModel.models` defines RVC's.
    """
    if not _default[0]:
        raise LookupError("no targets are defined yet: import LoraModel.models, or call define_targets")
    return _default[0]


def form_of(target: str) -> str:
    """A target's form; "" for one that is not defined."""
    return TARGETS[target].form if target in TARGETS else ""


def has_rank(target: str) -> bool:
    """Whether a target has a rank and an alpha; of the others both stay 1."""
    return not form_of(target)
