"""One run at a time in a folder: a lock that the system lets go of when its owner ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Iterator, Optional

from ..messages import UserError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold OUT/.lock, which names the owner's process and when it began. What a dead owner left is taken over.

    Raises:
        UserError: another run is working in the folder.
    """
    path = folder / LOCK_FILE
    descriptor = _take(path)
    if descriptor is None:
        raise _taken(folder, path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "started": round(time.time())}).encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # first the name: whoever waits for the file would hold one that nobody else finds
            if os.name == "nt":
                os.close(descriptor)
            path.unlink()
        if os.name != "nt":
            os.close(descriptor)


def check_free(folder: Path) -> None:
    """
    Raises:
        UserError: another run is working in the folder.
    """
    path = folder / LOCK_FILE
    if not path.is_file():
        return
    descriptor = _take(path)
    if descriptor is None:
        raise _taken(folder, path)
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


def _taken(folder: Path, path: Path) -> UserError:
    try:
        pid = int(json.loads(path.read_bytes()[:1000])["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pid = 0
    who = (f" (process {pid})", f"（进程 {pid}）") if pid else ("", "")
    return UserError(f"another run{who[0]} is working in {folder}: wait for its end, stop it, or choose another --output_dir",
                     f"另一个训练{who[1]}正在使用 {folder}：请等待其结束、停止它，或更换 --output_dir")
