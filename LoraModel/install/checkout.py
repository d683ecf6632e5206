"""Which RVC checkout is meant, and one installer at a time in it. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from ..folder_lock import try_lock
from ..host.layouts import webui_scripts
from ..messages import Text, UserError
from ..paths import clean_path
from . import webui_script

PACKAGE = "LoraModel"


class Checkout(NamedTuple):
    """An RVC checkout.

    Attributes:
        script: the WebUI's.
    """

    layout: str
    root: Path
    script: Path

    @property
    def scripts(self) -> List[Path]:
        """The scripts that get lines of ours: the WebUI's, and the realtime window's where there is one."""
        window = webui_script.window_of(self.root)
        return [self.script] if window is None else [self.script, window]

    @property
    def folder(self) -> Path:
        return self.root / PACKAGE

    def is_source(self, source: Path) -> bool:
        """Whether the copy of RVC-LoRA in `source` was unpacked right into the checkout."""
        return self.root.resolve() == source


def find_checkout(named: Optional[str], source: Path) -> Checkout:
    """The checkout that is meant: `named`, else the environment's RVC_ROOT, else `source` (the folder of this copy of
    RVC-LoRA) or the one above it.

    Raises:
        UserError: there is no RVC checkout.
    """
    named = named or os.environ.get("RVC_ROOT")
    candidates = [Path(clean_path(named)).absolute()] if named else [source, source.parent]
    for root in candidates:
        found = webui_script.layout_of(root)
        if found is None:
            continue
        if not found[1].is_file():
            raise UserError("{root} is an RVC checkout without its WebUI script {name}: restore it, then run this "
                            "again", root=root, name=found[1].name)
        return Checkout(found[0], root, found[1])
    raise UserError("{root} is no RVC checkout: give --rvc_root the folder that holds {scripts}", root=candidates[-1],
                    scripts=webui_scripts())


@contextlib.contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Let one installer at a time work on the checkout in `root`.

    The operating system holds the lock and lets it go however its owner ends, so that a killed run leaves nothing to
    clear. No file is made in the checkout: the lock is on its folder, and on Windows on a file in the user's temporary
    folder.

    Raises:
        UserError: another installer, whose process is named where the system tells, is running there.
    """
    descriptor = _open_for_lock(root)
    try:
        owner = _lock(descriptor)
        if owner is not None:
            named = Text(" (process {pid})", pid=owner) if owner else ""
            raise UserError("another installer{named} is running in {root}: wait until it has finished, then run "
                            "this again", named=named, root=root)
        yield
    finally:
        os.close(descriptor)


def _open_for_lock(root: Path) -> int:
    if os.name != "nt":
        return os.open(str(root), os.O_RDONLY)
    name = hashlib.sha256(os.path.realpath(str(root)).lower().encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return os.open(os.path.join(tempfile.gettempdir(), f"rvc-lora-{name}.lock"), os.O_RDWR | os.O_CREAT)


def _lock(descriptor: int) -> Optional[str]:
    """Take the lock, if it is free: None. Else the owner's process id, or "" where the system does not tell it."""
    return None if try_lock(descriptor) else _owner(descriptor)


def _owner(descriptor: int) -> str:
    """The process that holds the lock, from Linux's list of locks."""
    inode = str(os.fstat(descriptor).st_ino)
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()  # "1: FLOCK ADVISORY WRITE 1234 fd:01:5678 0 EOF"
            if len(words) > 5 and words[1] == "FLOCK" and words[5].split(":")[-1] == inode:
                return words[4]
    return ""
