"""Files that are either whole or not there: write to a temporary name, fsync, rename. And places looked at before work
begins."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import re
import secrets
import time
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .faults import os_error
from .messages import UserError, disk_full
from .names import is_device

_LONGEST_STEM = 150
"""Bytes of a target's name that its temporary name repeats; file systems take 255 in all."""
_HELD = os.name == "nt"
"""Whether a file that a program has open cannot be replaced."""
_PATIENCE = 2.0
"""Seconds for which one is waited for."""
_OLD = 24 * 3600.0
"""Seconds after which a temporary file is nobody's, whatever process its name tells of."""
_RESCAN = 2.0
"""Seconds for which a folder's list of left temporary files is taken as known: folders of slices hold thousands of
files."""
_scans: Dict[str, Tuple[float, List[str]]] = {}


class _Output(io.FileIO):
    """A file whose first error is kept for the end of the block.

    Libraries that are given a stream (PyTorch, libsndfile) turn an error of `write` into one of their own, or print it
    from C.
    """

    failed: Optional[OSError] = None

    def write(self, data) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        size = len(view)
        while self.failed is None and len(view):
            try:
                view = view[super().write(view) or 0:]
            except OSError as error:
                self.failed = error
        return size


@contextlib.contextmanager
def atomic_file(path: Union[str, Path]) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name `path` only when the block ends without an error.

    A crash at any moment leaves the old file, if there was one, and at most a `.NAME.*.tmp` beside it, which the next
    writing of the same file takes away.

    Raises:
        OSError: as the file system gives it (no space, no permission), with the file's name; the temporary file is
            removed.
    """
    path = Path(os.path.realpath(str(path)))  # through a link: the file it names is replaced, the link stays
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    temporary = str(path.parent / f"{_stem(path)}.{os.getpid()}-{_machine()}-{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                         | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise _named(error, path) from None
    stream = _Output(handle, "r+")
    try:
        try:
            yield stream
            if stream.failed is not None:
                raise stream.failed
            os.fsync(handle)
        except Exception as error:
            if stream.failed is not None:
                raise _named(stream.failed, path) from error
            if disk_full(error):  # NumPy writes past the stream, and its error names no file
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        finally:
            stream.close()
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        else:
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
        _rename(temporary, str(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        folder = os.open(str(path.parent), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def atomic_write(path: Union[str, Path], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_file(path) as stream:
        stream.write(data)


def _rename(temporary: str, target: str) -> None:
    """Let a finished file take its name. On Windows another program may have the target open for a moment (a page that
    reads a run's state, a virus scanner), and nothing can take its place meanwhile: that is waited for."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(temporary, target)
            return
        except PermissionError:
            if not _HELD or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, error.strerror, str(path))


def _stem(path: Path) -> str:
    """What the temporary names of `path` begin with: its name, or the beginning and a hash of a name that is too long
    for more."""
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST_STEM:
        return f".{path.name}"
    start = name[:_LONGEST_STEM].decode("utf-8", "ignore")
    return f".{start}~{hashlib.sha256(name).hexdigest()[:12]}"


def _machine() -> str:
    """Stands for this computer in temporary names: on a shared drive another computer's process numbers say nothing
    here."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:4]


def _remove_left(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes left."""
    for name in _left_in(str(path.parent)):
        found = re.fullmatch(re.escape(_stem(path)) + r"\.(?:(\d+)-([0-9a-z]{4})-[0-9a-f]{8}|[a-z0-9_]{8})\.tmp", name)
        if found is None:
            continue
        with contextlib.suppress(OSError):
            file = path.parent / name
            ours = found.group(2) == _machine() and not _alive(int(found.group(1)))
            if ours or time.time() - file.lstat().st_mtime > _OLD:
                file.unlink()


def _left_in(folder: str) -> List[str]:
    """The temporary files of a folder."""
    scanned = _scans.get(folder)
    if scanned is None or time.monotonic() - scanned[0] > _RESCAN:
        names: List[str] = []
        with contextlib.suppress(OSError):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(".tmp")]
        if len(_scans) > 1000:
            _scans.clear()
        scanned = _scans[folder] = (time.monotonic(), names)
    return scanned[1]


def _alive(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it
        return _alive_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _alive_windows(process: int) -> bool:
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(0x1000, False, ctypes.c_ulong(process))  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return ctypes.get_last_error() != 87  # type: ignore[attr-defined]  # ERROR_INVALID_PARAMETER: there is none
    try:
        code = ctypes.c_ulong()
        known = kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code))
        return not known or code.value == 259  # STILL_ACTIVE
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


# ---------------------------------------------------------------- places to write to


def check_file_place(path: Union[str, Path], option: str = "--output",
                     inputs: Iterable[Union[str, Path, None]] = ()) -> Path:
    """Check, before any work, that a file can be written at `path`; nothing is left there.

    Args:
        option: what the user gave it with, for the message.
        inputs: what is read, and must stay as it is; None among them is passed over.

    Returns:
        its absolute path.

    Raises:
        UserError: it is one of the inputs, a folder or no ordinary file, lies below a file, its name is too long or
            a device's on Windows, or nothing can be written there.
    """
    path = Path(path).absolute()
    _check_last_name(path, option)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(error, path, option) from None
    else:
        if os.path.isdir(str(path)):
            raise UserError("{path} is a folder: give {option} the name of a file", path=path, option=option)
        if mode & 0o170000 != 0o100000:
            raise UserError("{path} is no ordinary file: give {option} another name", path=path, option=option)
        if any(_is_same(path, file) for file in inputs if file is not None):
            raise UserError("{path} is an input, and inputs are never overwritten: give {option} another name",
                            path=path, option=option)
    _check_folder(Path(os.path.realpath(str(path))).parent, option)
    return path


def _is_same(path: Path, other: Union[str, Path]) -> bool:
    try:
        return os.path.samefile(str(path), str(other))
    except OSError:
        return False


def check_folder_place(path: Union[str, Path], option: str = "--output_dir") -> Path:
    """Check, before any work, that a folder is there, or can be made, and that files can be written in it; nothing is
    left there.

    Returns:
        its absolute path.

    Raises:
        UserError: it is a file or lies below one, its name is too long or a device's on Windows, or nothing can be
            written there.
    """
    path = Path(path).absolute()
    _check_last_name(path, option)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(error, path, option) from None
    _check_folder(Path(os.path.realpath(str(path))), option)
    return path


def _check_folder(folder: Path, option: str) -> None:
    """Write a file in `folder`, or in the nearest folder above that is there, and remove it."""
    here = folder
    while not os.path.lexists(str(here)) and here != here.parent:
        here = here.parent
    if not here.is_dir():
        raise UserError("{here} is a file, so that no folder can be there: choose another {option}", here=here,
                        option=option)
    probe = str(here / f".rvc-lora.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise _refused(error, here, option) from None


def _check_last_name(path: Path, option: str) -> None:
    if is_device(path.name):
        raise UserError("{path}: Windows takes the name {name} for a device, so the file could be used on no such "
                        "computer: choose another {option}", path=path, name=path.name, option=option)


def _refused(error: OSError, path: Path, option: str) -> UserError:
    words = os_error(_named(error, path))
    return UserError("cannot write to {words}, or choose another {option}", words=words, option=option)


def system_name(path: Union[str, Path]) -> Union[str, bytes]:
    """A file's name as libsndfile takes it, of any bytes and not of UTF-8 alone."""
    return os.fsencode(str(path)) if os.name == "posix" else str(path)


MOST_JSON = 2**20
"""Bytes of a JSON file, where nothing else is given: settings and records are far smaller."""


def bounded_json(path: Union[str, Path], most: int = MOST_JSON, errors: str = "strict") -> Any:
    """What a JSON file of at most `most` bytes holds: every one may be a stranger's, or damaged.

    Args:
        errors: what becomes of bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        OSError: it cannot be read. ValueError: it is no JSON, too large, or nested too deep.
    """
    with open(str(path), "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most:,} bytes")
    try:
        return json.loads(data.decode("utf-8-sig", errors))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def replace_file(path: Union[str, Path], data: bytes) -> None:
    """Write one of many files, whole or not at all, without waiting for the disk.

    As `atomic_write` for files that are made anew when they are not there: after a power failure one may be empty.
    What a killed program leaves, `.NAME.part`, is taken over by the next one that writes this file.

    Raises:
        OSError: as the file system gives it; the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(str(temporary), "wb") as stream:
            stream.write(data)
        _rename(str(temporary), str(path))
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
