"""One process at a time in a folder: a lock file that the system lets go of when its owner ends, however it ends.
Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Optional, Set

BEYOND = 1 << 20
"""The byte that is locked on Windows: beyond what is written, so that others can read it."""
_here: Set[str] = set()
"""What this process holds: known also where the file system has no locks."""
_guard = threading.Lock()

Taken = Callable[[int], Exception]
"""taken(pid) -> what to raise where the process `pid` holds the lock; 0 where that is not known."""


@contextlib.contextmanager
def hold(path: Path, taken: Taken) -> Iterator[None]:
    """Hold the lock file `path`, which names the owner's process and when it began. What a dead owner left is taken
    over. On a file system without locks other processes are not kept out.

    Raises:
        What `taken` gives: another process, or another thread of this one, holds it. OSError: as the file system gives
        it.
    """
    name = os.path.realpath(str(path))
    with _guard:
        if name in _here:
            raise taken(os.getpid())
        _here.add(name)
    try:
        with _held(path, taken):
            yield
    finally:
        with _guard:
            _here.discard(name)


@contextlib.contextmanager
def _held(path: Path, taken: Taken) -> Iterator[None]:
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
        What `taken` gives: another process, or another thread of this one, holds the lock file.
    """
    if os.path.realpath(str(path)) in _here:
        raise taken(os.getpid())
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
        if not try_lock(descriptor, BEYOND):
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):
            if os.name == "nt" or os.path.samestat(os.fstat(descriptor), os.stat(str(path))):
                return descriptor
        os.close(descriptor)  # its owner ended and took the file away between the two calls


def try_lock(descriptor: int, place: int = 0) -> bool:
    """Lock an open file until it is closed, without waiting: False where another holds it.

    True also on a file system without locks (some network shares and FUSE): one goes on, as there was never another.

    place: the byte that is locked on Windows.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, place, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def _owner(path: Path) -> int:
    try:
        pid = json.loads(path.read_bytes()[:1000])["pid"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return pid if isinstance(pid, int) else 0
