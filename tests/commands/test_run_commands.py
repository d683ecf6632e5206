"""run.py's command line: what each command starts, with which Python, and what a user is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from environments import ROOT

import run

posix = pytest.mark.skipif(os.name == "nt", reason="signals and inherited locks are POSIX's")


def test_what_each_command_starts():
    assert run.arguments("demo", ["--seed", "1"]) == ["-m", "LoraModel.demo.demo", "--seed", "1"]
    assert "ruff" in run.arguments("check", [])[1] and "mypy" in run.arguments("check", [])[1]
    assert run.arguments("test", ["-k", "lora"]) == ["-m", "pytest", "-n", "auto", "--dist", "loadfile", "-k", "lora"]
    assert run.arguments("app", ["--port", "1"])[0].endswith("app.py")


@posix
def test_extra_arguments_and_the_exit_code_are_passed_on(tmp_path):
    """`python run.py test ...` in a copy whose .venv is ready: pytest's own exit code, its closing line last."""
    for name in (*run.INPUTS, "run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "LoraModel").mkdir()
    for name in ("__init__.py", "messages.py", "commands.py", "faults.py", "folder_lock.py", "names.py",
                 "paths.py"):
        shutil.copy(ROOT / "LoraModel" / name, tmp_path / "LoraModel" / name)
    shutil.copytree(ROOT / "LoraModel" / "install", tmp_path / "LoraModel" / "install")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_two.py").write_text(
        "import os\ndef test_good(): assert os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False'\ndef test_bad(): assert "
        "False\n")
    python = run.python_of(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / run.MARKER).touch()
    (tmp_path / ".venv" / run.STAMP).write_text(json.dumps({"key": run.key(tmp_path), "packages": []}))
    for extra, code, closing in ((["-k", "good"], 0, "1 passed"), ([], 1, "1 failed, 1 passed")):
        done = subprocess.run([sys.executable, "run.py", "test", *extra], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert closing in done.stdout.strip().splitlines()[-1]


def test_the_lowest_and_the_newest_have_environments_of_their_own(root, pip):
    """Beside the usual one, with the pins of the one and none in the other; what opens a browser is left out."""
    run.ensure(root)
    pip.commands.clear()
    kept = (root / ".venv" / run.STAMP).read_bytes()
    commands = []
    for kind in run.BY_OPTION.values():
        assert run.state(root, kind) == "missing"
        with run.locked(root, kind) as lock:
            (root / kind.folder).mkdir()
            run.install(root, lock, kind)
        commands += pip.commands[-3:-2]
        assert (root / kind.folder / run.STAMP).is_file()
    assert {"torch==1.13.1", "numpy==1.23.5",
            "librosa==0.9.1"} <= set(commands[0]) and not any("torch==" in word for word in commands[1])
    assert not any("constraints.txt" in command
                   for command in pip.commands) and (root / ".venv" / run.STAMP).read_bytes() == kept
    left_out = run.arguments("test", ["-k", "lora"], run.BY_OPTION["--lowest"])
    assert "--ignore=tests/webui/test_webui_proof.py" in left_out
    assert "--ignore=tests/test_lora_layer.py" not in left_out


@pytest.mark.parametrize("option", ["--lowest", "--newest"])
def test_a_python_that_is_not_there_is_said_in_one_line(monkeypatch, capsys, option):
    from LoraModel.install import pythons

    monkeypatch.setattr(pythons, "find", lambda version: None)
    monkeypatch.setattr(run, "ensure", lambda *given: pytest.fail("went on"))
    assert run.cli(run.main, ["test", option]) == 2
    said = capsys.readouterr().err
    assert option in said and "3.8" in said and len(said.splitlines()) == 1


def test_the_other_python_is_started_with_the_same_words(monkeypatch):
    from LoraModel.install import pythons

    class Started(Exception):
        pass

    def launch(command):
        raise Started(command)

    monkeypatch.setattr(pythons, "find", lambda version: "/there/python" if version == (3, 8) else None)
    monkeypatch.setattr(run, "launch", launch)
    monkeypatch.setattr(run.sys, "version_info", (3, 12, 0, "final", 0))
    with pytest.raises(Started) as started:
        run.main(["test", "--lowest", "-k", "lora"])
    command = started.value.args[0]
    assert command[0] == "/there/python" and command[2:] == ["test", "--lowest", "-k", "lora"]


@pytest.mark.parametrize("argv, first", [([], "say which command"), (["trian"], "there is no command 'trian'\n"),
                                         (["-k"], "no command '-k'\n"), (["a\x1b[31m\nb"], "no command 'a?[31m?b'\n"),
                                         (["dmeo", "--seed"], "no command 'dmeo': did you mean demo?\n")])
def test_an_unknown_command_is_refused_and_named(argv, first, capsys, monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    assert run.cli(run.main, argv) == 2
    said = capsys.readouterr().err
    assert first in said and "usage: python run.py" in said


@pytest.mark.parametrize("running", [(3, 7), (3, 14)])
def test_an_unsupported_python_is_named(monkeypatch, capsys, running):
    monkeypatch.setattr(run.sys, "version_info", running + (0, "final", 0))
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    monkeypatch.setattr(run, "ensure", lambda root: pytest.fail("went on"))
    assert run.cli(run.main, ["demo"]) == 2
    assert ".".join(map(str, running)) in capsys.readouterr().err


@pytest.mark.parametrize("language, word", [("en", "not built"), ("zh_CN", "网页")])
def test_app_says_when_there_is_no_page(monkeypatch, tmp_path, capsys, language, word):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "ensure", lambda root: pytest.fail("installed for nothing"))
    monkeypatch.setenv("RVC_LORA_LANG", language)
    assert run.cli(run.main, ["app"]) == 2
    error = capsys.readouterr().err
    assert word in error and len(error.strip().splitlines()) == 1


def test_children_get_nothing_of_another_python_and_phone_nobody(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("RVC_HOSTS", "/kept")
    environment = run.environment()
    assert "PYTHONPATH" not in environment and "PIP_USER" not in environment and environment["RVC_HOSTS"] == "/kept"
    assert environment["GRADIO_ANALYTICS_ENABLED"] == "False" and environment["HF_HUB_OFFLINE"] == "1"
