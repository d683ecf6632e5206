"""What the system and PyTorch report (a full disk, no memory, no permission, …) as one sentence with a remedy.

Standard library alone: the installer and run.py use it before anything is installed.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
from typing import Dict, Iterator, Optional

from LoraModel.messages import Text, UserError, disk_full, tr

_FULL = UserError("the disk is full")
_LOCKED = UserError("another program is using it: close that program (RVC, a player, a virus scanner) and run the "
                    "command again")
_FORBIDDEN = UserError("there is no permission for it: change its permissions or its folder's, or choose another place")
_DEVICE = UserError("the drive does not answer properly: check the drive and its connection, or copy the file "
                    "elsewhere")
_TOO_MANY = UserError("too many files are open: close other programs, or raise the limit (ulimit -n)")
_WORDS: Dict[str, UserError] = {
    "ENOENT": UserError("it is not there: check the path"),
    "EACCES": _FORBIDDEN,
    "EPERM": _FORBIDDEN,
    "EROFS": UserError("it lies on a read-only drive: choose another place"),
    "EISDIR": UserError("it is a folder where a file is wanted: name a file"),
    "ENOTDIR": UserError("a part of this path is a file, not a folder: check the path"),
    "EEXIST": UserError("it is there already: choose another name"),
    "ENOTEMPTY": UserError("the folder is not empty: choose another one"),
    "ENAMETOOLONG": UserError("the name or the path is too long: choose a shorter one"),
    "ELOOP": UserError("its links lead round in a circle: check the path"),
    "EINVAL": UserError("the system does not take this name or this operation here: choose another name or place"),
    "EILSEQ": UserError("the name holds characters that this drive does not take: choose another name"),
    "EBUSY": _LOCKED,
    "ETXTBSY": _LOCKED,
    "EMFILE": _TOO_MANY,
    "ENFILE": _TOO_MANY,
    "EIO": _DEVICE,
    "ENXIO": _DEVICE,
    "ENODEV": _DEVICE,
    "ESTALE": UserError("the network drive has lost it: connect the drive again"),
    "EXDEV": UserError("it lies on another drive than its target: choose a place on the same drive"),
    "EADDRINUSE": UserError("the port is taken: choose another --port"),
    "ECONNREFUSED": UserError("nothing answers there: check the address"),
    "EAGAIN": UserError("the system has no processes or threads left: close other programs and run the command again"),
}
_BY_NUMBER: Dict[int, UserError] = {getattr(errno, name): words for name,
                                    words in _WORDS.items() if hasattr(errno, name)}
_WINDOWS: Dict[int, UserError] = {32: _LOCKED, 33: _LOCKED, 112: _FULL, 206: _WORDS["ENAMETOOLONG"],
                                  123: _WORDS["EILSEQ"]}
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc",
              "bad allocation",
              "can't start new thread", "failed to map segment", "paging file is too small", "std::length_error")
_NO_OPERATOR = re.compile(r"operator '?(aten::\w+)\S* is not currently (?:implemented|supported) (?:for|on) the (\w+)"
                          r"|Could not run '?(aten::\w+)\S* with arguments from the '(\w+)' backend")
"""PyTorch's two ways to say that a device lacks an operator."""
_GPU = ("CUDA", "HIP", "MPS", "XPU", "out of memory on device")


def describe_fault(error: BaseException) -> Optional[UserError]:
    """The sentence for what the user or the machine did wrong: a `UserError` itself, no memory, a full disk, or any
    other error of the system.

    For memory and disk, what it was raised from is looked at as well: libraries wrap the system's errors in their own.
    A file that there was no memory to read is not damaged, whatever its reader makes of it.

    Returns:
        None where `error` is nothing of the kind (a fault of the program).
    """
    if isinstance(error, UserError):
        behind = [link for link in _chain(error, True) if out_of_memory(link)]
        return _memory_words(behind) if behind else error
    chain = list(_chain(error))
    if any(disk_full(link) for link in chain):
        return _disk_words(error, chain)
    if any(out_of_memory(link) for link in chain):
        return _memory_words(chain)
    for link in chain:
        if isinstance(link, (NotImplementedError, RuntimeError)) and _NO_OPERATOR.search(str(link)):
            return _operator_words(str(link))
    return os_error(error) if isinstance(error, OSError) else None


def _chain(error: BaseException, whole: bool = False) -> Iterator[BaseException]:
    """`error`, and what it was raised from or while handling; whole: also where it was raised `from None`."""
    link: Optional[BaseException] = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ and not whole else link.__context__)


def _disk_words(error: BaseException, chain: list) -> UserError:
    name = next((link.filename for link in chain if isinstance(link, OSError) and link.filename), None)
    named = str(name) if name else Text("a file")
    return UserError("the disk is full while writing {named}: free some space and run the command again", named=named)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the memory of the machine or of the GPU is used up, in Python's words or in
    PyTorch's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    text = str(error).lower() if isinstance(error, (RuntimeError, ImportError, OSError, SystemError)) else ""
    return any(words in text for words in _NO_MEMORY)


THREAD_BYTES = 192 * 2**20
"""Of address space: a thread's stack, the C library's heap for it, and Python's first block."""


def check_room_for_a_thread() -> None:
    """Look for room before a library begins a thread: Python waits without end for one that had no memory to begin.

    Raises:
        OSError: there is none; `describe_fault` has words for it.
    """
    mmap.mmap(-1, THREAD_BYTES).close()  # nothing is written to it, so that it takes no memory


def _memory_words(chain: list) -> UserError:
    if any(word in str(link) for link in chain for word in _GPU):
        return UserError("the GPU's memory is full: close other programs that use it, give shorter recordings or a "
                         "smaller --batch_size, or use --device cpu")
    return UserError("there is not enough memory: close other programs, give shorter recordings or a smaller "
                     "--batch_size, and run the command again")


def _operator_words(text: str) -> UserError:
    found = _NO_OPERATOR.search(text)
    operator, device = next((pair for pair in ((found.group(1), found.group(2)), (found.group(3), found.group(4)))
                             if pair[0]), ("?", "?"))
    return UserError("PyTorch has no operator {operator} for this device ({device}): use --device cpu, on a Mac set "
                     "PYTORCH_ENABLE_MPS_FALLBACK=1, or install a newer PyTorch", operator=operator, device=device)


def os_error(error: OSError) -> UserError:
    """The sentence for an error of the system, with the file's name where it is known."""
    words = _WINDOWS.get(getattr(error, "winerror", None) or 0) or _BY_NUMBER.get(error.errno or 0)
    reason = error.strerror or str(error) or type(error).__name__
    if words is None:
        words = UserError("the system reports {reason!r}: check the file and its drive", reason=reason)
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if isinstance(name, str) and len(name) > 1000:
        name = f"{name[:500]}…{name[-100:]}"
    if name is None or isinstance(name, int):
        return UserError("a file could not be used: {words} ({reason})", words=words, reason=reason)
    return UserError("{name}: {words}", name=name, words=words)


def stopped_words() -> str:
    """What Ctrl-C says."""
    return tr("stopped by Ctrl-C; no file was left half written")
