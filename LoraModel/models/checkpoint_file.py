"""Read a `.pth` that may come from a stranger: tensors and plain types only, nothing in it is ever run."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Union

import torch

from ..messages import UserError

# How torch 1.13 to 2.13 name what they refuse.
_REFUSED = (
    r"GLOBAL ([\w.]+)",  # Unsupported global: GLOBAL posix.system ...; Trying to load unsupported GLOBAL posix.system ...
    r"[Uu]nsupported (?:global|class|type)[: ]+([A-Za-z_][\w.]*)",
    r"<class '([\w.]+)'>",  # Can only append to lists, but got <class 'collections.Counter'>
)
_HARMLESS = re.compile(r"torch\.[\w.]*(Storage|_rebuild\w*|Size|device|Tensor|Parameter)$|collections\.OrderedDict$")
"""Names that a plain state dict holds."""


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Any]:
    """Read a `.pth`.

    Raises:
        UserError: missing, damaged, or unsafe; an unsafe file is not loaded and its offending type is named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: check the path", f"找不到文件 {path}：请检查路径")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the unpickler: KeyError, EOFError, UnicodeDecodeError, ...
        kind = _refused(error) or _first_global(path)
        if kind is not None:
            raise _unsafe(path, kind) from None
        raise damaged(path, _reason(error)) from None
    if not isinstance(checkpoint, dict):
        raise damaged(path, f"it holds a {type(checkpoint).__name__}")
    return checkpoint


def damaged(path: Path, why: str) -> UserError:
    """What to say of a file that cannot be used."""
    return UserError(f"{path} is no RVC model or is damaged ({why}): choose another file or download it again",
                     f"{path} 不是 RVC 模型或已损坏（{why}）：请选择其他文件或重新下载")


def _unsafe(path: Path, kind: str) -> UserError:
    return UserError(
        f"{path} is unsafe: it holds an object of type {kind}, which could run a program when loaded. It was not loaded; "
        "get the model from a source you trust, as weights only",
        f"{path} 不安全：其中包含类型为 {kind} 的对象，加载时可能执行程序。未加载该文件；请从可信来源获取仅含权重的模型",
    )


def _refused(error: Exception) -> Optional[str]:
    """The type that torch's own message names, if it refused one."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    found = (re.search(pattern, str(error)) for pattern in _REFUSED)
    return next((match.group(1) for match in found if match), None)


def _reason(error: Exception) -> str:
    """The line of torch's message that says what is wrong; it opens with advice that nobody should follow here."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if "weights_only" not in line and "Weights only" not in line]
    return lines[0] if lines else type(error).__name__


def _first_global(path: Path) -> Optional[str]:
    """The first name in the file's pickles that no state dict holds, found by reading the opcodes: nothing is run."""
    try:
        if zipfile.is_zipfile(str(path)):
            with zipfile.ZipFile(str(path)) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(name) as stream:
                    found = list(_globals(stream))
        else:
            with open(str(path), "rb") as stream:
                found = list(_globals(stream))
    except (OSError, StopIteration, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return None
    return next((name for name in found if not _HARMLESS.match(name)), None)


def _globals(stream: BinaryIO) -> Iterator[str]:
    """`module.name` of every global that the pickles at the front of `stream` ask for."""
    for _ in range(8):  # an old torch file is several pickles one after another
        texts: List[str] = []
        try:
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    yield argument.replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
        except Exception:  # not a pickle, or not from here on: what was found so far is what there is
            return
