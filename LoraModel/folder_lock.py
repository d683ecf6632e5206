"""One process at a time in a folder: a lock file that the system lets go of when its owner ends, however it ends.
Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

Taken = Callable[[int], Exception]
"""taken(pid) -> what to raise where the process `pid` holds the lock; 0 where that is not known."""


@contextlib.contextmanager
def hold(path: Path, taken: Taken) -> Iterator[None]:
    """Hold the lock file `path`, which names the owner's process and when it began. What a dead owner left is taken
    over.

    Raises:
        What `taken` gives: another process, or another thread of this one, holds it. OSError: as the file system gives
        it.
    """
    descriptor = _take(path)
    if descriptor is None:
        raise taken(_owner(path))
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "started": round(time.time())}).encode())
        yield
    finally:
        # first the name: whoever waits for the file would hold one that nobody else finds
        with contextlib.suppress(OSError):
            if os.name == "nt":
                os.close(descriptor)
            path.unlink()
        if os.name != "nt":
            os.close(descriptor)


def check_free(path: Path, taken: Taken) -> None:
    """
    Raises:
        What `taken` gives: another process holds the lock file.
    """
    if not path.is_file():
        return
    descriptor = _take(path)
    if descriptor is None:
        raise taken(_owner(path))
    os.close(descriptor)


def _take(path: Path) -> Optional[int]:
    """The locked file, or None where another process holds it."""
    while True:
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):
            if os.name == "nt" or os.path.samestat(os.fstat(descriptor), os.stat(str(path))):
                return descriptor
        os.close(descriptor)  # its owner ended and took the file away between the two calls


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond what is written, so that others can read it
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(path: Path) -> int:
    try:
        pid = json.loads(path.read_bytes()[:1000])["pid"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return pid if isinstance(pid, int) else 0
