"""Read a `.pth` or `.safetensors` that may come from a stranger: tensors and plain types only, nothing in it is run.

The reading is this program's own (`pickle_file`, `tensor_file`); here its failures become sentences for the user.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

from ..messages import Text, UserError
from ..places import near_words
from .not_a_model import what_it_is
from .tensor_file import TensorFile, open_tensor_file
from .tensor_refs import Malformed, UnsafeName


@contextlib.contextmanager
def open_checkpoint(path: Union[str, Path]) -> Iterator[TensorFile]:
    """Open a model file; its tensors are read one by one, with `TensorFile.tensor`.

    Raises:
        UserError: missing, no model (named as what it is), damaged, or unsafe; in the block as well, while tensors are
            read.
    """
    path = Path(path)
    if not _is_file(path):
        near = near_words(path)
        raise UserError("there is no file {path}{near}: check the path", path=path, near=near)
    try:
        with open_tensor_file(path) as file:
            yield file
    except (UnsafeName, Malformed) as error:
        raise _refusal(path, error) from None


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Any]:
    """Read a `.pth` whole: tensors on the CPU, plain values beside them.

    Raises:
        UserError: missing, damaged, or unsafe; an unsafe file is not loaded and its offending type is named.
    """
    with open_checkpoint(path) as file:
        if not isinstance(file.contents, dict):
            raise damaged(Path(path), Text("it holds a {name}", name=type(file.contents).__name__))
        return file.plain(file.contents)


def damaged(path: Path, why: Text, advice: Optional[Text] = None) -> UserError:
    """What to say of a file that cannot be used. why, advice: parts of the sentence."""
    return UserError("{path} is no RVC model or is damaged ({why}): {advice}", path=path, why=why,
                     advice=advice or Text("choose another file or download it again"))


def _unsafe(path: Path, kind: str) -> UserError:
    return UserError("{path} is unsafe: it holds an object of type {kind}, which could run a program when loaded. It "
                     "was not loaded; get the model from a source you trust, as weights only", path=path, kind=kind)


def _refusal(path: Path, error: Union[UnsafeName, Malformed]) -> UserError:
    """What to say of a file that was not read."""
    program = isinstance(error, UnsafeName) and error.kind.startswith("__torch__")
    found = what_it_is(path) if program or isinstance(error, Malformed) else None
    if found is not None:
        return damaged(path, found.what, found.advice)
    return _unsafe(path, error.kind) if isinstance(error, UnsafeName) else damaged(path, error.why)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the system, a NUL in it
        return False
