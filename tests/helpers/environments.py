"""An environment that run.py makes without the network: what its tests share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import List

import pytest

import run

ROOT = Path(__file__).resolve().parents[2]


class Pip:
    """In place of run.call: makes the environment that venv and pip would make, and keeps the commands."""

    def __init__(self):
        self.commands: List[List[str]] = []

    def __call__(self, command, root, lock, progress):
        self.commands.append(command)
        venv = root / ".venv"
        packages = venv / "lib" / "python3" / "site-packages"
        if command[1:3] == ["-m", "venv"]:
            python = run.python_of(venv)
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        elif "install" in command:
            for name in ("rvc", "Resemblyzer") if "--no-deps" in command else ("torch", "numpy"):
                (packages / f"{name}-1.0.dist-info").mkdir(parents=True, exist_ok=True)
                (packages / f"{name}-1.0.dist-info" / "RECORD").touch()
        return 0, []

    @property
    def steps(self) -> List[str]:
        return ["venv" if c[1:3] == ["-m", "venv"] else "pip" if "install" in c else "check" for c in self.commands]


WHOLE = ["venv", "pip", "pip", "check"]


@pytest.fixture
def root(tmp_path):
    for name in run.INPUTS:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def pip(monkeypatch):
    stand_in = Pip()
    monkeypatch.setattr(run, "call", stand_in)
    return stand_in
