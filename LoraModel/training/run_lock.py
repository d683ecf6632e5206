"""One run at a time in a folder (`folder_lock`)."""

from __future__ import annotations

from pathlib import Path
from typing import ContextManager

from .. import folder_lock
from ..messages import Text, UserError

LOCK_FILE = ".lock"


def only_run(folder: Path) -> ContextManager[None]:
    """Hold OUT/.lock, which names the owner's process and when it began. What a dead owner left is taken over.

    Raises:
        UserError: on entering, where another run is working in the folder.
    """
    return folder_lock.hold(folder / LOCK_FILE, lambda pid: _taken(folder, pid))


def check_free(folder: Path) -> None:
    """
    Raises:
        UserError: another run is working in the folder.
    """
    folder_lock.check_free(folder / LOCK_FILE, lambda pid: _taken(folder, pid))


def _taken(folder: Path, pid: int) -> UserError:
    who = Text(" (process {pid})", pid=pid) if pid else ""
    return UserError("another run{who} is working in {folder}: wait for its end, stop it, or choose another "
                     "--output_dir", who=who, folder=folder)
