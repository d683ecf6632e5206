"""One rule for every relative path, and the files near one that is not there.

A file or folder to read: as given from the working folder if it is there, else in the RVC checkout. What RVC itself
will read (merged voices, adapters, runs, experiment folders) is written into the checkout. Everything else is written
as given from the working folder.
Without a checkout there is the working folder alone.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import List, Optional, Tuple, Union

from .messages import Text, listing
from .paths import clean_path, printable

DEPTH, MOST_SEEN = 4, 4000
"""How deep below the nearest folder, and among how many files, a file of a like name is looked for."""
LIKE = 0.6
"""How like a name must be: 1 is the same."""
NAMED = 3
"""So many near files stand in a message."""


def to_read(path: Union[str, Path], root: Optional[Path]) -> Path:
    """Where a path to read leads.

    Args:
        root: the checkout; None where there is none.

    Returns:
        An absolute path: of what is there; else where it would most likely be, for the message.

    Raises:
        UserError: no system could take it as a path (`paths.clean_path`).
    """
    path = Path(clean_path(str(path)))
    if path.is_absolute() or root is None or os.path.lexists(str(path)):
        return path.absolute()
    inside = root / path
    if not os.path.lexists(str(inside)) and path.parent.is_dir() and not inside.parent.is_dir():
        return path.absolute()
    return inside


def to_write(path: Union[str, Path], root: Optional[Path]) -> Path:
    """Where a result that RVC reads is written: an absolute path, without `.` and `..` in it.

    Raises:
        UserError: no system could take it as a path (`paths.clean_path`).
    """
    path = Path(clean_path(str(path)))
    inside = path.is_absolute() or root is None
    return Path(os.path.abspath(str(path if inside else root / path)))


def near(path: Path) -> List[Path]:
    """Files of a like name near `path`, which is not there: the likest first, at most `NAMED`. Those with its ending,
    or with another where none is like it; for a name without an ending folders too, and files by their names without
    theirs. Where its folder is not there either, a folder of a like name counts as well: with the file in it, if it
    has one of that name; itself, if nothing else is near."""
    start = next((folder for folder in path.parents if os.path.isdir(str(folder))), None)
    if start is None or start == start.parent or start == Path.home():  # all of a disk is not near
        return []
    wanted, ending = path.name.lower(), path.suffix.lower()
    found: List[Tuple[float, int, str, Path]] = []
    others: List[Tuple[float, int, str, Path]] = []
    seen = 0
    for place, folders, files in os.walk(str(start)):
        depth = len(Path(place).relative_to(start).parts)
        deeper = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        folders[:] = sorted(deeper) if depth < DEPTH else []
        names = [(name, name.lower()) for name in files]
        if not ending:
            names = [*((name, os.path.splitext(low)[0]) for name, low in names if not name.startswith(".")),
                     *((name, name.lower()) for name in folders)]
        for name, low in sorted(names)[: MOST_SEEN - seen]:
            seen += 1
            matcher = difflib.SequenceMatcher(None, wanted, low)
            if matcher.quick_ratio() >= LIKE and matcher.ratio() >= LIKE:
                fitting = found if not ending or low.endswith(ending) else others
                fitting.append((-matcher.ratio(), depth, name, Path(place) / name))
        if seen >= MOST_SEEN:
            break
    inside, folders_alone = _by_folder(path, start)
    files_found = [file for *_, file in sorted(found or others)]
    return [*inside, *(file for file in files_found if file not in inside)][:NAMED] or folders_alone


def _by_folder(path: Path, start: Path) -> Tuple[List[Path], List[Path]]:
    """(what `path` would be in the folders of `start` that are named like its own, which is not there; those
    folders)."""
    first, *rest = path.relative_to(start).parts
    if not rest:
        return [], []
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(str(start)) if entry.is_dir()][:MOST_SEEN]
        folders = [start / name for name in difflib.get_close_matches(first, names, NAMED, LIKE)]
        return [folder.joinpath(*rest) for folder in folders if folder.joinpath(*rest).exists()], folders
    return [], []


def near_words(path: Path) -> Union[Text, str]:
    """" (the nearest: A, B)", to stand in a message about a file or folder that is not there; " (it is a file)" where
    the other of the two is; "" where nothing is near."""
    for there, words in ((os.path.isfile, Text(" (it is a file)")), (os.path.isdir, Text(" (it is a folder)"))):
        with contextlib.suppress(ValueError):
            if there(str(path)):
                return words
    files = [printable(str(file)) for file in near(path)]
    return Text(" (the nearest: {files})", files=listing(files)) if files else ""
