"""A folder, or one file, as bytes, for a machine that does not see this one's drives."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Collection, Dict, List, Optional, Tuple

from ..files import replace_file
from ..messages import UserError
from ..names import shown

Parcel = Dict[str, bytes]
"""Path below the folder, with forward slashes -> what the file holds. Of one file: its name."""
Listing = List[Tuple[str, int, int]]
"""(path below the folder, bytes, nanoseconds of its last change) of each file, in order."""


def listing(source: Path) -> Listing:
    """What lies in a folder, or the one file that `source` is, by which it is known on another machine. What is no
    file (a link that leads nowhere, a pipe) is passed over, as preparation does."""
    folder = _names_begin(source)
    places = [(str(folder), [], [source.name])] if source.is_file() else os.walk(str(source))
    found = []
    for place, folders, names in places:
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file():
                stat = path.stat()
                found.append((path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns))
    return found


def _names_begin(source: Path) -> Path:
    """The folder that the names of a listing begin in."""
    return source.parent if source.is_file() else source


def is_here(source: Path, wanted: Listing) -> bool:
    """Whether this machine sees the folder or the file of that listing."""
    return source.exists() and listing(source) == wanted


def packed(source: Path, without: Collection[str] = (), known: Optional[Dict[str, Tuple[int, int]]] = None) -> Parcel:
    """The files of a folder, or one file.

    Args:
        without: names of files and folders that are left out.
        known: (bytes, nanoseconds) of files that were packed before; those that have not changed are left out, and it
            is brought up to date.
    """
    folder = _names_begin(source)
    parcel: Parcel = {}
    for name, size, changed in listing(source):
        if any(part in without or part.endswith(".tmp") for part in PurePosixPath(name).parts):
            continue
        if known is not None:
            if known.get(name) == (size, changed):
                continue
            known[name] = (size, changed)
        parcel[name] = (folder / name).read_bytes()
    return parcel


def unpack(parcel: Parcel, folder: Path) -> None:
    """Write the files of a parcel into a folder.

    Raises:
        UserError: a name leads out of the folder: nothing is written then.
    """
    for name in parcel:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise UserError("the file {name} of another machine leads out of {folder}: nothing was written",
                            name=shown(name), folder=folder)
    for name, data in parcel.items():
        replace_file(folder / name, data)
