"""The host: the RVC installation. Nothing outside this folder names an RVC module path."""

from .layout import Host, find_host

__all__ = ["Host", "find_host"]
