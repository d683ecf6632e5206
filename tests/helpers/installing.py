"""What the installer's tests share: a small copy of the project to install from, stand-in checkouts, and a look at a
whole folder."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
import standin_hosts

from LoraModel.host.layouts import CHECKOUTS
from LoraModel.install import webui_script
from LoraModel.messages import cli

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = tuple(layout.name for layout in CHECKOUTS)
SOURCE_FILES = ("__init__.py", "messages.py", "locale/zh_CN.json", "commands.py", "faults.py", "folder_lock.py",
                "names.py", "paths.py", "files.py", "host/__init__.py", "host/layouts.py", "lora/functional.py",
                *(f"install/{path.name}" for path in sorted((ROOT / "LoraModel" / "install").glob("*.py"))))
MARKED = re.compile(rb"[ \t]*# >>> RVC-LoRA.*?# <<< RVC-LoRA[^\r\n]*(?:\r\n|\r|\n|$)", re.DOTALL)


def load(path: Path):
    spec = importlib.util.spec_from_file_location("module_under_test", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lines_of = webui_script


def tree(root: Path) -> Dict[str, object]:
    """Everything in `root`: contents and modes of files, targets of links, folders. .git left out."""
    found: Dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            found[name] = os.path.realpath(str(path))
        else:
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) if path.is_file() else "folder"
    return found


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small copy of this project, with the installer; `source.parent` is nobody's checkout."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    copy = tmp_path / "unpacked" / "RVC-LoRA"
    for name in SOURCE_FILES:
        (copy / "LoraModel" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / "LoraModel" / name), str(copy / "LoraModel" / name))
    shutil.copy(str(ROOT / "install_into_rvc.py"), str(copy))
    return copy


@pytest.fixture(params=LAYOUTS)
def host(request, tmp_path):
    """A stand-in checkout under a path with a space and Chinese characters."""
    return standin_hosts.make(request.param, tmp_path / "我的 RVC" / request.param)


@pytest.fixture
def run(source, capsys):
    """run(host, "--status", ...) -> (exit code, what was printed). Packages are looked at only with --python."""
    installer = load(source / "install_into_rvc.py")
    look = installer.lacking_packages
    installer.lacking_packages = lambda python, root: [] if python == sys.executable else look(python, root)

    def call(host, *options):
        capsys.readouterr()
        code = cli(installer.main, ["--rvc_root", str(host), *options])
        out, err = capsys.readouterr()
        return code, out + err

    return call


def script_of(host: Path) -> Path:
    return host / ("infer-web.py" if (host / "infer-web.py").exists() else "webui.py")


def compile_ours(host: Path) -> None:
    """Import from the installed copy, so that Python leaves its __pycache__ there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", "import LoraModel.messages, LoraModel.files"], cwd=str(host), env=environment,
                   check=True)
    assert list(host.glob("LoraModel/__pycache__/*.pyc"))
