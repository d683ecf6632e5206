"""How much memory is free, and how much of it a process has for itself: what is shared with others is not counted."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Optional

MB = 2**20
SHARE = 0.9
"""Of the free memory, so much may be planned with."""


def free_memory() -> Optional[int]:
    """Bytes that can be taken without swapping, within the limit of the process's control group too; None where the
    system does not tell."""
    found = [value for value in (_of_system(), _of_group()) if value is not None]
    return min(found) if found else None


def own_memory(pid: int) -> Optional[int]:
    """Bytes that process `pid` has for itself alone; None where the system does not tell.

    Pages that it shares with the process it was forked from are that one's.
    """
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return 1024 * sum(int(number) for number in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.M))
    return None


def guess(base_bytes: int) -> int:
    """Bytes that a worker may take, before one has been measured: on the safe side. base_bytes: of the base's tensors.

    Activations grow with the width of the network, as its tensors do; the rest is Python's.
    """
    return 30 * base_bytes + 500 * MB


def _of_system() -> Optional[int]:
    if os.name == "nt":
        return _windows()
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
        return 1024 * int(found.group(1)) if found else None
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, ValueError):  # no figure of what is free: half of all there is
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _of_group() -> Optional[int]:
    """What the control group (a container's limit, version 2) leaves."""
    with contextlib.suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
        folder = Path("/sys/fs/cgroup") / group
        limit = (folder / "memory.max").read_text().strip()
        if limit != "max":
            cache = re.search(r"^inactive_file (\d+)", (folder / "memory.stat").read_text(), re.M)
            used = int((folder / "memory.current").read_text()) - (int(cache.group(1)) if cache else 0)
            return max(0, int(limit) - used)
    return None


def _windows() -> Optional[int]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                    *((name, ctypes.c_ulonglong) for name in ("total", "free", "page", "page_free", "virtual",
                                                              "virtual_free", "extended"))]

    status = Status()
    status.length = ctypes.sizeof(status)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return int(status.free)
