"""The names under which RVC finds an index.

RVC takes each file below logs/ whose name ends in `.index` for a voice's, those in hidden folders too. Beside it, RVC
gives an index a second name in the outside folder (assets/indices): a link, on Windows a hard link. RVC 2026's search
ends with an error at a link there whose file is gone, and its script for the index builds none while a second name of
the experiment is there. So what is put away ends in `OLD`, and takes its second names with it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

from ..files import atomic_write
from .experiment import INDEX_FILES
from .layouts import layout_at

ENDING, OLD = ".index", ".old"
"""What RVC takes for an index ends in the one; one that is put away, in both."""


def is_index(name: str) -> bool:
    """Whether RVC takes a file of this name for an index."""
    return name.lower().endswith(ENDING)


def put_away(path: Path) -> Path:
    """The path of a file under a name that RVC takes for no index; of other files their own."""
    return path.with_name(path.name + OLD) if is_index(path.name) else path


def put_away_all(folder: Path) -> None:
    """Give each index in a folder, and below it, a name that RVC takes for none; one that the system holds keeps its
    name."""
    for at, _folders, names in os.walk(str(folder)):
        for name in filter(is_index, names):
            with contextlib.suppress(OSError):
                _put_away(Path(at, name))


def outside_folder(experiment: Path) -> Optional[Path]:
    """Where the RVC checkout of an experiment folder, logs/NAME, keeps its second names; None outside of a checkout."""
    root = Path(os.path.dirname(os.path.dirname(os.path.abspath(str(experiment)))))
    layout = layout_at(root)
    if layout is None:
        return None
    from .layout import Host
    from .pipeline import host_environment

    variable = "outside_index_root"
    return root / (os.environ.get(variable) or host_environment(Host(layout.name, root))[variable])


def second_names(experiment: Path, indexes: Optional[Sequence[Path]] = None) -> List[Path]:
    """The links and hard links in the outside folder to indexes of an experiment, and the links to indexes that it has
    no longer.

    Args:
        indexes: of the experiment; None for all that lie in it.
    """
    outside = outside_folder(experiment)
    if outside is None:
        return []
    inside = os.path.realpath(str(experiment))
    files = [path for pattern in INDEX_FILES for path in experiment.glob(pattern)] if indexes is None else indexes
    files = [path for path in files if is_index(path.name) and path.is_file() and not path.is_symlink()]
    return [path for path in _indexes_below(outside) if os.path.realpath(str(path.parent)) != inside
            and _leads_to(path, inside, files)]


def _indexes_below(folder: Path) -> Iterator[Path]:
    for at, _folders, names in os.walk(str(folder)):
        for name in filter(is_index, names):
            yield Path(at, name)


def _leads_to(path: Path, inside: str, files: Sequence[Path]) -> bool:
    try:
        if path.is_symlink():
            target = os.path.realpath(str(path))
            return any(os.path.realpath(str(file)) == target for file in files) or (
                os.path.dirname(target) == inside and not os.path.lexists(target))
        return path.stat().st_nlink > 1 and any(os.path.samefile(str(path), str(file)) for file in files)
    except OSError:
        return False


def remove(names: Sequence[Path]) -> None:
    """Remove second names; one that the system holds stays."""
    for path in names:
        with contextlib.suppress(OSError):
            path.unlink()


def replace_index(path: Path, data: bytes) -> None:
    """Write an index, whole or not at all; hard links to the one before it lead to this one.

    Raises:
        OSError: as the file system gives it.
    """
    hard = [name for name in second_names(path.parent, [path]) if not name.is_symlink()]
    atomic_write(path, data)
    for name in hard:
        with contextlib.suppress(OSError):
            name.unlink()
            os.link(str(path), str(name))


def rename_indexes(experiment: Path, before: str, seconds: Sequence[Path]) -> None:
    """Let the indexes of an experiment that was called `before` bear its new name, by which RVC finds them; and so
    their second names, `seconds`, which were found when it bore the old one."""
    ending = re.compile(re.escape(f"_{before}_") + r"(v\d\.index)$", re.IGNORECASE)

    def renamed(name: str) -> str:
        return ending.sub(lambda found: f"_{experiment.name}_{found.group(1)}", name)

    for path in [path for pattern in INDEX_FILES for path in experiment.glob(pattern)]:
        target = path.with_name(renamed(path.name))
        with contextlib.suppress(OSError):
            if not os.path.lexists(str(target)):
                path.rename(target)
    for second in seconds:
        name = renamed(second.name)
        name = experiment.name + name[len(before):] if name.startswith(f"{before}_") else name
        with contextlib.suppress(OSError):
            if second.is_symlink():
                file = experiment / renamed(os.path.basename(os.path.realpath(str(second))))
                second.unlink()
                if file.is_file():
                    os.symlink(os.path.abspath(str(file)), str(second.with_name(name)))
            elif not os.path.lexists(str(second.with_name(name))):
                second.rename(second.with_name(name))


def free_name(experiment: Path, version: str) -> None:
    """Take away what stands in the outside folder under the second name of an index that this experiment, which has
    none, is to get. A file that has no other name is put away beside it; one that the system holds stays."""
    outside = outside_folder(experiment)
    first, last = (os.path.normcase(text) for text in (f"{experiment.name}_added_IVF",
                                                       f"_{experiment.name}_{version}{ENDING}"))
    for path in sorted(outside.iterdir()) if outside is not None and outside.is_dir() else []:
        name = os.path.normcase(path.name)
        if name.startswith(first) and name.endswith(last):
            with contextlib.suppress(OSError):
                if path.is_symlink() or path.stat().st_nlink > 1:
                    path.unlink()
                else:
                    _put_away(path)


def _put_away(path: Path) -> None:
    target, number = put_away(path), 1
    while os.path.lexists(str(target)):
        number += 1
        target = path.with_name(f"{path.name}.{number}{OLD}")
    path.rename(target)
