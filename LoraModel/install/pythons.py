"""The environments that run.py makes, and the Pythons on this machine. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

Version = Tuple[int, int]
OLDEST, NEWEST = (3, 8), (3, 13)  # what the package promises; numba and faiss set the other end
WITH_NEEDS = ("-r", "requirements.txt", "-r", "requirements-dev.txt", "webrtcvad-wheels")
ALONE = ("rvc==0.3.5", "Resemblyzer==0.1.4")
"""Installed without what they ask for: their own pins want another torch, fairseq and a compiler. rvc asks for Python
3.10 and runs on 3.8 as well."""


class Environment(NamedTuple):
    """One environment beside run.py.

    Attributes:
        folder: its name.
        packages: what pip is given. alone: what it is given with --no-deps.
        constrained: whether constraints.txt applies, where the Python is the one that it is for.
        python: the version it needs, the newest at hand for (); None for the running one.
    """

    folder: str
    packages: Tuple[str, ...] = WITH_NEEDS
    alone: Tuple[str, ...] = ALONE
    constrained: bool = True
    python: Optional[tuple] = None


USUAL = Environment(".venv")
LOWEST = Environment(".venv-lowest", (*WITH_NEEDS, "torch==1.13.1", "numpy==1.23.5", "librosa==0.9.1"),
                     constrained=False, python=OLDEST)
LATEST = Environment(".venv-newest", constrained=False, python=())
BY_OPTION = {"--lowest": LOWEST, "--newest": LATEST}


def wanted(environment: Environment) -> Tuple[Optional[Version], Optional[str]]:
    """(version, interpreter) that `environment` is to be made with; the interpreter is None where none is at hand."""
    if environment.python:
        return environment.python, find(environment.python)
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = find((3, minor))
        if path:
            return (3, minor), path
    return None, None


def find(version: Version) -> Optional[str]:
    """The path of a Python of `version`: the running one, one on PATH, one of pyenv's, on Windows what `py` knows."""
    if sys.version_info[:2] == version:
        return sys.executable
    name = ".".join(map(str, version))
    found = [shutil.which("python" + name)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found += [str(path) for path in sorted(pyenv.glob(f"versions/{name}.*/bin/python"))]
    if os.name == "nt":
        found.append(_output(["py", "-" + name, "-c", "import sys; print(sys.executable)"]))
    return next((path for path in found if path and _output([path, "-c", _WHICH]) == name), None)


_WHICH = "import sys; print('%d.%d' % sys.version_info[:2])"


def _output(command: List[str]) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def needs_browser(tests: Path) -> List[str]:
    """The test files that open a browser (they import tests/helpers/browser.py), relative to `tests`."""
    return sorted(path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py") if any(
        line.split()[:2] in (["import", "browser"], ["from", "browser"])
        for line in path.read_text(encoding="utf-8").splitlines()))
