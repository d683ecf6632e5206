"""Which adapter files are meant: a file, a run's folder or the name `lora.pth` in one, each with a strength of its
own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from .. import commands
from ..files import bounded_json
from ..lora import Adapter
from ..messages import UserError, tr
from ..names import bare
from ..paths import clean_path, printable
from ..places import to_read
from .strength import FREE_STRENGTH, check_strength

RUN_NAMES = ("lora.pth", "lora.safetensors")
"""Names that stand for the adapter of the run in whose folder they would be."""
ENDING, LAST = ".safetensors", "_last.safetensors"
RUN_FILE = "run.json"
_ONE = (str, os.PathLike, Adapter)
Weight = Tuple[str, Optional[float]]
"""A path as it was given, and its strength; None where it names none."""


def weight_of(text: str) -> Weight:
    """The type of --lora_weights: `A.safetensors`, or with a strength `A.safetensors:0.7`.

    Raises:
        UserError: no path, or no number behind the colon.
    """
    found = re.fullmatch(r"(.*[^:/\\]):([+-]?[0-9.][0-9.eE+-]*)", text.strip(), re.DOTALL)
    if found is None or os.path.lexists(text):
        return clean_path(text), None
    return clean_path(found.group(1)), commands.parse_number(found.group(2), -FREE_STRENGTH, FREE_STRENGTH)


def paired_strengths(weights: Sequence[Weight], strengths: Sequence[float],
                     any_strength: bool = False) -> List[Tuple[str, float]]:
    """Adapters with their strengths: each its own behind a colon, or one --strength for each, or none at all (1).

    Raises:
        UserError: another number of strengths, both ways at once, or one that is out of range.
    """
    if strengths and any(strength is not None for _, strength in weights):
        raise UserError("strengths are given twice: behind the colon of --lora_weights or with --strength, not both")
    if strengths and len(strengths) != len(weights):
        raise UserError("{count} adapters but {count_2} strengths: give --strength one number for each adapter of "
                        "--lora_weights, or not at all", count=len(weights), count_2=len(strengths))
    own = [1.0 if strength is None else strength for _, strength in weights]
    checked = [check_strength(strength, any_strength) for strength in strengths or own]
    return list(zip((path for path, _ in weights), checked))


def pairs_of(adapters: Any) -> List[Tuple[Any, Any]]:
    """Adapters with their strengths, in whatever form a program gives them: an adapter, which is a file, a run's folder
    or what `load_adapter` gave; several, each at strength 1; pairs of adapter and strength; or {adapter: strength}.

    Returns:
        Pairs, the strengths as they were given.

    Raises:
        UserError: anything else.
    """
    if isinstance(adapters, _ONE):
        adapters = [adapters]
    if isinstance(adapters, (bytes, bytearray)) or not isinstance(adapters, Iterable):
        raise _no_adapter(adapters)
    given = adapters.items() if isinstance(adapters, Mapping) else adapters
    pairs = [tuple(one) if isinstance(one, (tuple, list)) and len(one) == 2 else (one, 1.0) for one in given]
    for source, _ in pairs:
        if not isinstance(source, _ONE):
            raise _no_adapter(source)
    return pairs


def _no_adapter(value: Any) -> UserError:
    return UserError("{value} ({kind}) is no adapter: give a file or the folder of a run, a list of them, pairs of "
                     "adapter and strength, or a dict of the strengths by adapter", value=bare(value),
                     kind=type(value).__name__)


def adapter_at(path: Path) -> Path:
    """The adapter file at an absolute path: of a run's folder its best one.

    Raises:
        UserError: as `best_adapter`.
    """
    return best_adapter(path) if path.is_dir() else path


def find_adapter(path: Union[str, Path], root: Optional[Path]) -> Path:
    """The adapter file that `path` means. Of a run's folder, or of the name `lora.pth` or `lora.safetensors` in it, it
    is the best adapter of that run, and standard error says so.

    Args:
        root: the RVC checkout, for a relative path (`places`); None where there is none.

    Returns:
        An absolute path. Where nothing is there it is the path itself: whoever reads it names what is near.

    Raises:
        UserError: the folder holds several adapters, or none.
    """
    found = to_read(path, root)
    if found.is_file():
        return found
    for place in (to_read(path, None), found):
        folder = place if place.is_dir() else place.parent
        if folder is place or (place.name.lower() in RUN_NAMES and folder.is_dir()):
            best = best_adapter(folder)
            print(printable(tr("{path}: taking the best adapter of this run, {best}", path=path,
                               best=best)), file=sys.stderr)
            return best
    return found


def best_adapter(folder: Path) -> Path:
    """The best adapter of the run in `folder`.

    Raises:
        UserError: there is none, or there are several and run.json does not tell which.
    """
    files = sorted(file for file in folder.iterdir() if file.name.lower().endswith(ENDING)
                   and not file.name.startswith(".") and file.is_file())
    named = folder / f"{_run_name(folder)}{ENDING}"
    if named in files:
        return named
    best = [file for file in files if not file.name.lower().endswith(LAST)] or files
    if len(best) == 1:
        return best[0]
    if best:
        names = ", ".join(printable(file.name) for file in best[:5])
        raise UserError("{folder} holds several adapters ({names}): name one of them", folder=folder, names=names)
    raise UserError("{folder} holds no adapter (.safetensors): train one into it first, or name another folder or file",
                    folder=folder)


def _run_name(folder: Path) -> str:
    try:
        run = bounded_json(folder / RUN_FILE)
    except (OSError, ValueError):
        return ""
    name = run.get("name") if isinstance(run, dict) else None
    return name if isinstance(name, str) and not re.search(r"[/\\\0]", name) else ""
