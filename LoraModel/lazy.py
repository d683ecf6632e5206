"""Names of a package that are loaded when they are first used, so that its commands begin without waiting for PyTorch.

Standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Callable, Mapping


def loader(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package takes as its `__getattr__` (PEP 562).

    Args:
        names: each public name, and the module that has it: {"Trainer": ".trainer"}.
    """

    def load(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(names[name], package), name)

    return load
