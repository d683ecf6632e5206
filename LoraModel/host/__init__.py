"""The host: the RVC installation. Nothing outside this folder names an RVC module path."""

from .layout import FEATURE_SIZES, Host, find_host, hush_torch

__all__ = ["FEATURE_SIZES", "Host", "find_host", "hush_torch"]
