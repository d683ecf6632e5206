"""rvc-lora COMMAND, python -m LoraModel COMMAND, and every command by its module."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from LoraModel import __main__ as console

ROOT = Path(__file__).resolve().parents[2]


def test_the_usage_names_every_command(capsys, monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    for given in ([], ["--help"]):
        assert console.main(given) == 0
        said = capsys.readouterr().out
        assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in console.COMMANDS)


@pytest.mark.parametrize("name", sorted(console.COMMANDS))
def test_a_command_runs_by_its_name_and_by_its_module(name, monkeypatch):
    module = console.COMMANDS[name][0]
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    assert "def main(argv" in source and '\nif __name__ == "__main__":' in source
    called = []
    monkeypatch.setattr(console, "start", lambda module, argv: called.append((module, argv)) or 3)
    assert console.main([name, "--x", "1"]) == 3 and called == [(module, ["--x", "1"])]


@pytest.mark.parametrize("name", sorted(console.COMMANDS))
def test_a_command_is_a_module_of_its_name(name):
    """`python -m LoraModel.NAME`; as a module to import it is not there, so that `LoraModel.train` is the function."""
    package = ROOT / "LoraModel"
    if console.COMMANDS[name][0] == f"LoraModel.{name}":
        return  # the command itself
    file = package / name / "__main__.py" if (package / name).is_dir() else package / f"{name.replace('-', '_')}.py"
    assert f'as_command(__name__, "{console.COMMANDS[name][0]}")' in file.read_text(encoding="utf-8")
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    with pytest.raises(ImportError, match=f"python -m {module}"):
        importlib.import_module(module)
    import LoraModel

    assert callable(LoraModel.train) and callable(LoraModel.merge)


def test_an_unknown_command_is_named(capsys, monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    assert console.main(["trian"]) == 2
    said = capsys.readouterr().err
    assert "there is no command 'trian': choose from prepare, train" in said and said.endswith("Did you mean train?\n")
    assert console.main(["zzz"]) == 2 and "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("called", [["LoraModel", "merge"], ["LoraModel.merge"]])
def test_as_a_module_from_the_shell(called):
    done = subprocess.run([sys.executable, "-m", *called, "--nonsense"], cwd=ROOT, capture_output=True, text=True,
                          env={"RVC_LORA_LANG": "en", "PATH": ""})
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "--help" in done.stderr


COMMANDS = [console.COMMANDS[name][0] for name in
            ("prepare", "train", "train-many", "convert", "realtime", "merge", "blend", "model", "evaluate")]


@pytest.mark.parametrize("called", [["-m", module] for module in COMMANDS] + [["-m", "LoraModel.realtime"]]
                         + [[module.replace(".", "/") + ".py"] for module in COMMANDS[1:4]])
def test_ctrl_c_while_the_libraries_load_is_one_line(called, tmp_path):
    for name in ("numpy", "torch"):
        (tmp_path / f"{name}.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run([sys.executable, *called], cwd=ROOT, capture_output=True, text=True,
                          env={"RVC_LORA_LANG": "en", "PATH": "", "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 130 and done.stderr == "stopped by Ctrl-C; no file was left half written\n"


def test_ctrl_c_that_a_library_swallows_counts_when_it_is_loaded(tmp_path):
    (tmp_path / "numpy.py").write_text("import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n"
                                       "except KeyboardInterrupt:\n    pass\n")
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in the background
            "from LoraModel.commands import start; raise SystemExit(start('numpy'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={"RVC_LORA_LANG": "en", "PATH": "", "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 130 and done.stderr == "stopped by Ctrl-C; no file was left half written\n"


def test_the_project_installs_what_it_names():
    """pyproject.toml: the script's function is there, and all files that the package reads are among its data."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^rvc-lora = "LoraModel\.__main__:main"$', text, re.MULTILINE)
    endings = set(re.findall(r'"\*(\.\w+)"', text))
    read = {path.suffix for path in (ROOT / "LoraModel").rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts}
    assert read <= endings
