"""Processes that outlive the page: started in a session of their own, and found again by their id and the moment they
began.

Standard library only. A process id alone says little: the system gives it to another process in time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from ...folder_lock import try_lock

BOOT = Path("/proc/sys/kernel/random/boot_id")

_children: List[subprocess.Popen] = []
_guard = threading.Lock()
_locks: Dict[str, threading.Lock] = {}


def began(pid: int) -> Optional[str]:
    """A text that tells process `pid` from every other that had or will have the id; None where it does not run, or
    where the system does not say."""
    _reap()
    if os.name == "nt":
        return _began_windows(pid)
    if os.path.exists("/proc/self/stat"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        boot = ""
        with contextlib.suppress(OSError):  # some sandboxes have none
            boot = BOOT.read_text().strip()
        # proc(5): field 3 the state, field 22 the start in clock ticks
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
    try:
        done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    words = done.stdout.decode(errors="replace").split()
    return None if len(words) < 2 or words[0].startswith("Z") else " ".join(words[1:])


def _began_windows(pid: int) -> Optional[str]:
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = wintypes.HANDLE
    handle = kernel.OpenProcess(0x1000, False, wintypes.DWORD(pid))  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return None
    try:
        code, times = wintypes.DWORD(), [wintypes.FILETIME() for _ in range(4)]
        kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
        if code.value != 259:  # STILL_ACTIVE
            return None
        kernel.GetProcessTimes(wintypes.HANDLE(handle), *(ctypes.byref(one) for one in times))
        return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)
    finally:
        kernel.CloseHandle(wintypes.HANDLE(handle))


def alive(record: Optional[Dict[str, Any]]) -> bool:
    """Whether the process of a record {"pid", "began"} still runs. One of whose beginning nothing could be read is
    known only to the process that started it."""
    if not record or not isinstance(record.get("pid"), int):
        return False
    if isinstance(record.get("began"), str):
        return record["began"] == began(record["pid"])
    _reap()
    with _guard:
        return any(process.pid == record["pid"] for process in _children)


def spawn(command: List[str], cwd: Path, environment: Dict[str, str], log: Path) -> Dict[str, Any]:
    """Start `command` so that the end of this process, its terminal or its Ctrl-C does not end it -> {"pid", "began"}.

    What it says is added to the file `log`.
    """
    apart: Dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | 0x08000000}  # type: ignore[attr-defined]  # CREATE_NO_WINDOW
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(str(log), "ab") as output:
        process = subprocess.Popen(command, cwd=str(cwd), env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, **apart)
    with _guard:
        _children.append(process)
    return {"pid": process.pid, "began": began(process.pid)}


def terminate(record: Dict[str, Any]) -> None:
    """Ask the process of `record` to end, if it still runs."""
    if alive(record):
        with contextlib.suppress(OSError):
            os.kill(record["pid"], signal.SIGTERM)


def wait(record: Dict[str, Any], seconds: float) -> bool:
    """Wait until the process of `record` has ended, at most `seconds`; whether it has."""
    until = time.monotonic() + seconds
    while alive(record):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _reap() -> None:
    """Take the ended children off the system's list."""
    with _guard:
        _children[:] = [process for process in _children if process.poll() is None]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for any other thread or process that holds it. A process that ends lets go of
    it. On a file system without locks only this process's threads wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _guard:
        here = _locks.setdefault(os.path.realpath(str(path)), threading.Lock())
    with here, open(str(path), "a+b") as file:
        while not try_lock(file.fileno()):
            time.sleep(0.05)
        yield  # closing the file lets the lock go
