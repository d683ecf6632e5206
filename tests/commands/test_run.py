"""run.py: what it imports, when it reuses, reinstalls and repairs `.venv`, and what a user sees. No network: pip is a
stand-in."""

from __future__ import annotations

import ast
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environments import ROOT, WHOLE

import run

posix = pytest.mark.skipif(os.name == "nt", reason="signals and inherited locks are POSIX's")


class Killed(BaseException):
    """Stands for kill -9: nothing of run.py may catch it."""


# ---------------------------------------------------------------- the file itself

def test_it_is_python_38_and_imports_only_the_standard_library():
    for name in ("run.py", "LoraModel/messages.py", "LoraModel/__init__.py", "LoraModel/commands.py",
                 "LoraModel/faults.py", "LoraModel/paths.py"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 8))
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        named = {module.split(".")[0] for module in modules}
        if hasattr(sys, "stdlib_module_names"):  # since Python 3.10
            assert named <= set(sys.stdlib_module_names) | {"LoraModel"}, name
        assert not named & {"torch", "numpy", "safetensors", "librosa", "gradio", "tqdm"}, name


def test_it_starts_where_nothing_is_installed():
    done = subprocess.run([sys.executable, "-S", "-E", "run.py", "--help"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "RVC_LORA_LANG": "en"})
    assert done.returncode == 0 and "demo | test | check | app" in done.stdout, done.stderr


def test_the_requirements_hold_no_paths_and_no_hosts_and_every_one_is_pinned():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            line = line.split("#")[0].strip()
            assert "://" not in line and "/" not in line and not line.startswith("-"), line
            package = line.split(">")[0].split("=")[0].split("<")[0].lower().replace("_", "-")
            if package and "python_version" not in line:
                assert f"\n{package}==" in constraints, package
    for pinned in run.ALONE:
        assert pinned.lower() in constraints


RESOLVED = {
    "3.8": "torch 2.4.1 numpy 1.24.4 scipy 1.10.1 librosa 0.11.0 gradio 3.34.0 gradio_client 0.2.7 fastapi "
           "0.88.0 starlette 0.22.0 pydantic 1.10.27 websockets 11.0.3 httpx 0.24.1 anyio 3.7.1 "
           "altair 4.2.2 markdown-it-py 2.2.0 huggingface_hub 0.25.2 setuptools 75.3.2",
    "3.13": "torch 2.14.1 numpy 2.5.5 scipy 1.18.1 librosa 1.0.0 gradio 3.34.0 gradio_client 0.2.7 fastapi 0.88.0 "
            "starlette 0.22.0 pydantic 1.10.27 websockets 11.0.3 httpx 0.24.1 anyio 3.7.1 altair 4.2.2 "
            "markdown-it-py 2.2.0 huggingface_hub 0.25.2 setuptools 80.10.2 audioop-lts 0.2.2",
}
"""What pip has resolved requirements.txt to with the oldest and the newest Python: versions that exist for them."""


@pytest.mark.parametrize("python", sorted(RESOLVED))
def test_the_requirements_can_be_met_with_the_oldest_and_the_newest_python(python):
    requirements = pytest.importorskip("packaging.requirements")
    words = RESOLVED[python].split()
    found = {name.replace("_", "-"): version for name, version in zip(words[::2], words[1::2])}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        one = requirements.Requirement(line)
        name = one.name.replace("_", "-")
        if one.marker is not None and not one.marker.evaluate({"python_version": python}):
            assert name not in found, f"{line}: of no use with Python {python}"
        elif name in found:
            assert one.specifier.contains(found.pop(name)), line
        else:
            assert not one.specifier, f"{line}: which version of it is there for Python {python}?"
    assert not found, "these are no longer required"


# ---------------------------------------------------------------- reuse, reinstall, repair

def test_a_first_run_makes_all_and_a_second_reuses_it(root, pip):
    python = run.ensure(root)
    assert pip.steps == WHOLE and python == run.python_of(root / ".venv") and run.state(root) == "ready"
    assert "--no-deps" in pip.commands[2] and "rvc==0.3.5" in pip.commands[2] and "--no-deps" not in pip.commands[1]
    run.ensure(root)
    assert pip.steps == WHOLE


def test_constraints_are_for_python_311_alone(root, pip, monkeypatch, capsys):
    monkeypatch.setattr(run, "TESTED", sys.version_info[:2])
    run.ensure(root)
    assert all("-c" in command for command in pip.commands[1:3])
    shutil.rmtree(root / ".venv")
    pip.commands.clear()
    monkeypatch.setattr(run, "TESTED", (3, 0))
    run.ensure(root)
    assert pip.steps == WHOLE and not any("constraints.txt" in command for command in pip.commands)
    assert "constraints.txt" in capsys.readouterr().out


@pytest.mark.parametrize("name", run.INPUTS)
def test_changed_inputs_install_again_in_place(root, pip, name):
    run.ensure(root)
    with open(root / name, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert run.state(root) == "stale"
    pip.commands.clear()
    run.ensure(root)
    assert pip.steps == ["pip", "pip", "check"] and run.state(root) == "ready"


def damage_no_stamp(venv):
    (venv / run.STAMP).unlink()


def damage_half_stamp(venv):
    text = (venv / run.STAMP).read_text()
    (venv / run.STAMP).write_text(text[:len(text) // 2])


def damage_python_gone(venv):
    run.python_of(venv).unlink()


def damage_python_does_not_start(venv):
    run.python_of(venv).unlink()
    run.python_of(venv).write_text("nothing that starts")


def damage_half_installed_package(venv):
    next(venv.glob("lib/python*/site-packages/torch-*/RECORD")).unlink()


@pytest.mark.parametrize("damage",
                         [damage_no_stamp, damage_half_stamp, damage_python_gone, damage_python_does_not_start,
                          damage_half_installed_package])
def test_a_damaged_environment_is_made_again(root, pip, damage):
    run.ensure(root)
    damage(root / ".venv")
    (root / ".venv" / "left-over").touch()
    assert run.state(root) == "broken"
    pip.commands.clear()
    run.ensure(root)
    assert pip.steps == WHOLE and run.state(root) == "ready" and not (root / ".venv" / "left-over").exists()


def test_a_package_that_the_user_upgraded_or_added_is_left_alone(root, pip):
    run.ensure(root)
    packages = next((root / ".venv").glob("lib/python*/site-packages"))
    (packages / "torch-1.0.dist-info").rename(packages / "torch-1.0+cu126.dist-info")
    (packages / "another-2.0.dist-info").mkdir()
    assert run.state(root) == "ready"


def test_someone_elses_environment_is_refused_and_untouched(root, pip):
    (root / ".venv").mkdir()
    (root / ".venv" / "mine").write_text("kept")
    with pytest.raises(run.UserError, match="not made by run.py"):
        run.ensure(root)
    assert not pip.commands and [path.name for path in (root / ".venv").iterdir()] == ["mine"]


def test_a_failing_step_leaves_no_stamp_and_says_what_it_said(root, pip, monkeypatch):
    def failing(command, folder, lock, progress):
        code, output = pip(command, folder, lock, progress)
        return (1, ["ERROR: no matching distribution"]) if "--no-deps" in command else (code, output)

    monkeypatch.setattr(run, "call", failing)
    with pytest.raises(run.UserError, match="no matching distribution"):
        run.ensure(root)
    assert run.state(root) == "broken" and "no matching distribution" in (root / ".venv" / run.LOG).read_text()
    monkeypatch.setattr(run, "call", pip)
    run.ensure(root)
    assert run.state(root) == "ready"


@pytest.mark.parametrize("before", ["missing", "stale", "broken"])
def test_killed_at_any_moment_the_next_run_mends_it(root, pip, monkeypatch, before):
    """Every change run.py makes on disk, and every command it starts, is cut off once: before it and after it."""

    def prepare() -> None:
        for path in root.glob(".venv*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if before != "missing":
            run.ensure(root)
        if before == "stale":
            (root / "constraints.txt").write_text((root / "constraints.txt").read_text() + "#\n")
        if before == "broken":
            (root / ".venv" / run.STAMP).unlink()

    def cut(function, at, done):
        def wrapped(*args, **kwargs):
            position = next(count)
            if position == at and not done:
                raise Killed
            result = function(*args, **kwargs)
            if position == at:
                raise Killed
            return result
        return wrapped

    moments = 0
    for at in itertools.count():
        interrupted = False
        for done in (False, True):
            prepare()
            count = itertools.count()
            with monkeypatch.context() as patch:
                for owner, name in ((run, "call"), (os, "replace"), (os, "fsync"), (Path, "rename"), (Path, "mkdir"),
                                    (Path, "touch"), (Path, "unlink"), (shutil, "rmtree")):
                    patch.setattr(owner, name, cut(getattr(owner, name), at, done))
                try:
                    run.ensure(root)
                except Killed:
                    interrupted = True
            run.ensure(root)
            assert run.state(root) == "ready", (at, done)
            assert json.loads((root / ".venv" / run.STAMP).read_text())["packages"] == ["numpy", "resemblyzer", "rvc",
                                                                                        "torch"]
            assert not list(root.glob(".venv-old-*")), (at, done)
        if not interrupted:
            break
        moments += 1
    assert moments >= 6


@posix
def test_a_pip_that_outlives_its_killed_run_is_waited_for(root):
    """kill -9 of run.py while its child goes on: the next run must not work on .venv beside that child."""
    program = ("import run, sys; from pathlib import Path; root = Path(sys.argv[1]); lock = run.locked(root); number = "
               "lock.__enter__(); "
               "run.call([sys.executable, '-c', 'import pathlib, time; pathlib.Path(\"started\").touch(); "
               "time.sleep(3)'], root, number, run.Progress('x'))")
    parent = subprocess.Popen([sys.executable, "-c", program, str(root)], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (root / "started").exists():
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    with open(root / ".venv.lock", "a+b") as file:
        assert not run.try_lock(file.fileno())
    began = time.monotonic()
    with run.locked(root):
        assert time.monotonic() - began > 0.5


def test_call_gives_exit_code_and_both_streams(root):
    program = "import sys; print('Collecting torch'); print('to stderr', file=sys.stderr); sys.exit(7)"
    progress = run.Progress("x", total=3)
    with run.locked(root) as lock:
        code, output = run.call([sys.executable, "-c", program], root, lock, progress)
    assert code == 7 and sorted(output) == ["Collecting torch",
                                            "to stderr"] and (progress.seen, progress.now) == (1, "torch")
