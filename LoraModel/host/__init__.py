"""The host: the RVC installation. Nothing outside this folder names an RVC module path.

More than nine files, because RVC is met in several places: `layouts` (all that differs between its layouts), `layout`
(finding it and its modules), `networks`, `converter` and `patch` (its classes), `pipeline` (its conversion),
`preprocess` and `launch` (its scripts), `experiment`, `clips`, `index`, `index_file`, `index_names`,
`compact_index` and `safe_types` (its files).
Names are imported when they are first used: `host.layouts` alone needs no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layout import FEATURE_SIZES, Host, find_checkout, find_host, hush_torch

__all__ = ["FEATURE_SIZES", "Host", "find_checkout", "find_host", "hush_torch"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import layout

    return getattr(layout, name)
