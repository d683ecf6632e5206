"""install_into_rvc.py on a checkout: in, twice, updated, out; links, refusals, --status, packages."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys

import installing
import pytest
import standin_hosts
from installing import SOURCE_FILES, compile_ours, load, script_of, tree

from LoraModel.install import installed_copy
from LoraModel.messages import UserError

host, run, source = installing.host, installing.run, installing.source  # fixtures


# ---------------------------------------------------------------- the checkout

def test_install_twice_and_uninstall(host, run, source):
    before = tree(host)
    code, said = run(host)
    assert code == 0 and "is installed in" in said
    after = tree(host)
    for name in SOURCE_FILES:
        assert (host / "LoraModel" / name).read_bytes() == (source / "LoraModel" / name).read_bytes()
    moved = {name for name in after if after[name] != before.get(name)}
    assert all(name == script_of(host).name or name.split("/")[0] == "LoraModel" for name in moved)
    stamps = {path: path.stat().st_mtime_ns for path in host.rglob("*")}
    code, said = run(host)
    assert code == 0 and "already installed" in said and "nothing changed" in said
    assert tree(host) == after and {path: path.stat().st_mtime_ns for path in host.rglob("*")} == stamps
    assert run(host, "--status")[0] == 0
    code, said = run(host, "--uninstall")
    assert code == 0 and "uninstalled" in said and tree(host) == before
    code, said = run(host, "--uninstall")
    assert code == 0 and "not installed" in said and tree(host) == before


def test_uninstall_leaves_git_clean_and_keeps_adapters_and_results(host, run):
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", *words],
                              cwd=str(host), check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "rvc")
    run(host)
    assert git("status", "--short") != ""
    compile_ours(host)
    (host / "LoraModel" / "__pycache__" / "files.cpython-311.pyc.140234").touch()  # a killed import
    run(host, "--uninstall")
    assert git("status", "--short") == "" and not (host / "LoraModel").exists()
    run(host)
    users = {"assets/lora/me.safetensors": b"1",
             "assets/weights/me.safetensors": b"2", "logs/me/lora/last.pt": b"3", "LoraModel/out/me.safetensors": b"4"}
    for name, content in users.items():
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_bytes(content)
    (host / "LoraModel" / "lora" / "functional.py").write_text("# mine\n")
    code, said = run(host, "--uninstall")
    assert code == 0 and "out/me.safetensors" in said and "lora/functional.py" in said
    assert all((host / name).read_bytes() == content for name, content in users.items())
    left = sorted(path.relative_to(host).as_posix() for path in (host / "LoraModel").rglob("*") if path.is_file())
    assert left == ["LoraModel/lora/functional.py", "LoraModel/out/me.safetensors"] and git("diff") == ""
    assert "not installed" in run(host, "--status")[1]
    code, said = run(host)
    assert code == 2 and "lora/functional.py" in said and "move them away" in said
    (host / "LoraModel" / "lora" / "functional.py").unlink()
    assert run(host)[0] == 0 and (host / "LoraModel/out/me.safetensors").read_bytes() == b"4"


def test_an_older_version_is_updated_in_place(host, run, source, monkeypatch):
    original = script_of(host).read_bytes()
    (source / "LoraModel" / "old.py").write_text("# gone in the new version\n")
    (source / "LoraModel" / "lora" / "functional.py").write_text("# old\n")
    run(host)
    installer = load(source / "install_into_rvc.py")
    with monkeypatch.context() as older:
        older.setattr(installer.webui_script, "_TAB", 'rvc_lora("a_tab_of_an_older_version")')
        script_of(host).write_bytes(installer.webui_script.with_lines(original, "x"))
    (source / "LoraModel" / "old.py").unlink()
    (source / "LoraModel" / "new.py").write_text("# new\n")
    (source / "LoraModel" / "lora" / "functional.py").write_text("# new\n")
    (host / "LoraModel" / "messages.py").write_text("# mine\n")
    code, said = run(host, "--status")
    assert code == 1 and "another version of RVC-LoRA is installed" in said
    code, said = run(host)
    assert code == 0 and "you had changed LoraModel/messages.py" in said
    assert (host / "LoraModel" / "messages.py.yours1").read_text() == "# mine\n"
    assert (host / "LoraModel" / "new.py").exists() and not (host / "LoraModel" / "old.py").exists()
    assert (host / "LoraModel" / "lora"
            / "functional.py").read_text() == "# new\n" and b"older_version" not in script_of(host).read_bytes()
    assert run(host, "--status")[0] == 0 and "nothing changed" in run(host)[1]
    run(host, "--uninstall")
    assert script_of(host).read_bytes() == original and [path.name
                                                         for path in (host / "LoraModel").iterdir()] == [
                                                             "messages.py.yours1"]


def test_edits_of_the_script_after_the_installation_stay(host, run):
    run(host)
    script = script_of(host)
    script.write_bytes(script.read_bytes().replace(b'gr.Markdown("no FAQ")', b'gr.Markdown("mine")'))
    run(host, "--uninstall")
    assert b'gr.Markdown("mine")' in script.read_bytes() and b"rvc_lora" not in script.read_bytes()


def test_a_folder_of_someone_else(host, run, source):
    (host / "LoraModel").mkdir()
    (host / "LoraModel" / "__init__.py").write_text("# another project\n")
    before = tree(host)
    code, said = run(host)
    assert code == 2 and "__init__.py" in said and "move them away" in said and tree(host) == before
    assert "not installed" in run(host, "--uninstall")[1] and tree(host) == before
    shutil.rmtree(str(host / "LoraModel"))
    shutil.copytree(str(source / "LoraModel"), str(host / "LoraModel"))  # ours, copied by hand
    assert run(host)[0] == 0 and run(host, "--status")[0] == 0
    assert run(host, "--uninstall")[0] == 0 and not (host / "LoraModel").exists()
    (host / "LoraModel").write_text("a file")
    assert run(host)[0] == 2


def test_a_damaged_manifest_is_refused(host, run):
    run(host)
    (host / "LoraModel" / "installed.json").write_text("{")
    before = tree(host)
    for options in ([], ["--uninstall"], ["--status"]):
        code, said = run(host, *options)
        assert code == 2 and "installed.json is damaged" in said and tree(host) == before
    (host / "LoraModel" / "installed.json").write_text(
        '{"version": "1", "state": "whole", "files": {"../assets/weights/.gitignore": ["x"], "/etc/passwd": []}}')
    assert installed_copy.Folder(host / "LoraModel", False).known == {}


def test_link(host, run, source):
    before = tree(host)
    assert run(host, "--link")[0] == 0
    assert os.path.realpath(str(host / "LoraModel")) == str(source / "LoraModel") and run(host, "--status")[0] == 0
    assert "nothing changed" in run(host, "--link")[1]
    assert run(host)[0] == 0 and not (host / "LoraModel").is_symlink() and (host / "LoraModel"
                                                                            / "installed.json").exists()
    assert run(host, "--link")[0] == 0 and (host / "LoraModel").is_symlink()
    assert run(host, "--uninstall")[0] == 0 and tree(host) == before and (source / "LoraModel" / "messages.py").exists()
    run(host)
    (host / "LoraModel" / "mine.txt").write_text("mine")
    code, said = run(host, "--link")
    assert code == 2 and "mine.txt" in said and (host / "LoraModel" / "messages.py").exists()
    shutil.rmtree(str(host / "LoraModel"))
    (host / "LoraModel").symlink_to(host / "assets", target_is_directory=True)
    assert run(host)[0] == 2 and run(host, "--uninstall")[0] == 2 and (host / "LoraModel").is_symlink()


def test_dry_run_prints_the_diff_and_writes_nothing(host, run):
    before = tree(host)
    code, said = run(host, "--dry-run")
    assert code == 0 and tree(
        host) == before and '+            rvc_lora("inference_panel")' in said and "nothing was written" in said
    assert not re.search(r"^-(?!-)", said, re.M)
    run(host)
    after = tree(host)
    code, said = run(host, "--uninstall", "--dry-run")
    assert code == 0 and tree(
        host) == after and '-            rvc_lora("inference_panel")' in said and f"{len(SOURCE_FILES)} files" in said
    assert "nothing would change" in run(host, "--dry-run")[1] and tree(host) == after


@pytest.mark.parametrize("what", ["script", "folder", "LoraModel"])
def test_read_only(host, run, what):
    if what == "LoraModel":
        run(host)
        (host / "LoraModel" / "lora" / "functional.py").unlink()
    locked = {"script": script_of(host), "folder": host, "LoraModel": host / "LoraModel" / "lora"}[what]
    before = tree(host)
    mode = locked.stat().st_mode
    locked.chmod(0o444 if what == "script" else 0o555)
    code, said = run(host)
    locked.chmod(mode)
    assert code == 2 and "read-only" in said and str(locked) in said and tree(host) == before


def test_the_mode_of_the_script_stays(host, run):
    script_of(host).chmod(0o755)
    before = tree(host)
    run(host)
    assert stat.S_IMODE(script_of(host).stat().st_mode) == 0o755
    run(host, "--uninstall")
    assert tree(host) == before


@pytest.mark.parametrize("language, texts", [
    ("en", ("RVC-LoRA is not installed", "is installed", "was cut off", "layout")),
    ("zh", ("=> 未安装 RVC-LoRA", "=> 已安装 RVC-LoRA", "曾被中断", "布局")),
])
def test_status_in_both_languages(host, run, monkeypatch, language, texts):
    monkeypatch.setenv("RVC_LORA_LANG", language)
    code, said = run(host, "--status")
    assert code == 1 and texts[0] in said and texts[3] in said and str(host) in said
    run(host)
    code, said = run(host, "--status")
    assert code == 0 and texts[1] in said and script_of(host).name in said
    (host / "LoraModel" / "messages.py").unlink()
    code, said = run(host, "--status")
    assert code == 1 and texts[2] in said
    assert run(host)[0] == 0 and run(host, "--status")[0] == 0
    shutil.rmtree(str(host / "LoraModel"))
    code, said = run(host, "--status")
    assert code == 1 and texts[2] in said
    assert run(host, "--uninstall")[0] == 0 and texts[0] in run(host, "--status")[1]


def test_which_checkout(source, run, tmp_path, monkeypatch, capsys):
    code, said = run(tmp_path)
    assert code == 2 and str(tmp_path) in said and "infer-web.py or webui.py" in said
    installer = load(source / "install_into_rvc.py")
    with pytest.raises(UserError):
        installer.find_checkout(None)
    standin_hosts.make("2026", source.parent)
    assert installer.find_checkout(None) == ("2026", source.parent, source.parent / "webui.py")
    other = standin_hosts.make("classic", tmp_path / "other")
    monkeypatch.setenv("RVC_ROOT", str(other))
    assert installer.find_checkout(None).root == other and installer.find_checkout(str(source.parent)).layout == "2026"
    (other / "infer-web.py").unlink()
    assert run(other)[0] == 2


def test_unpacked_right_into_the_checkout(source, run):
    standin_hosts.make("classic", source)
    before = tree(source)
    assert run(source)[0] == 0 and run(source, "--status")[0] == 0
    assert {name for name, what in tree(source).items() if before.get(name) != what} == {"infer-web.py"}
    assert run(source, "--link")[0] == 2
    code, said = run(source, "--uninstall")
    assert code == 0 and "stays" in said and tree(source) == before


# ---------------------------------------------------------------- packages

def test_missing_packages(host, run, tmp_path, source):
    python = tmp_path / "a python"

    def lacks(*names):
        python.write_text("#!/bin/sh\necho some warning\necho found: {}\n".format(" ".join(names)))
        python.chmod(0o755)
        return run(host, "--python", str(python), "--status")[1]

    said = lacks("safetensors", "faiss")
    assert f'run this once: "{python}" -m pip install safetensors faiss-cpu\n' in said
    said = lacks("torch", "gradio", "safetensors")
    assert "lacks torch, gradio" in said and "pip install safetensors\n" in said
    assert "all there" in lacks()
    python.write_text("#!/bin/sh\necho no such thing\n")
    before = tree(host)
    code, said = run(host, "--python", str(python))
    assert code == 2 and "no such thing" in said and "--python" in said and tree(host) == before
    assert run(host, "--python", str(tmp_path / "nowhere"))[0] == 2
    installer = load(source / "install_into_rvc.py")
    assert {"torch", "numpy", "safetensors"}.isdisjoint(installer.lacking_packages(sys.executable, host))
    assert installer.python_for(installer.find_checkout(str(host)), None) == sys.executable
    (host / ".venv" / "bin").mkdir(parents=True)
    (host / ".venv" / "bin" / "python").touch()
    assert installer.python_for(installer.find_checkout(str(host)), None) == str(host / ".venv/bin/python")


@pytest.mark.skipif(os.name == "nt", reason="a link to this Python")
@pytest.mark.parametrize("named", ["py/python", "./py/python", "~/py/python", " 'py/python' "])
def test_the_python_named_is_found_from_where_it_was_named(tmp_path, host, source, monkeypatch, named):
    """It is run in the checkout."""
    (tmp_path / "py").mkdir()
    (tmp_path / "py/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "py/python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    installer = load(source / "install_into_rvc.py")
    python = installer.python_for(installer.find_checkout(str(host)), named)
    assert python == str(tmp_path / "py/python") and "numpy" not in installer.lacking_packages(python, host)
    assert installer.python_for(installer.find_checkout(str(host)), "python3") == "python3"


def test_the_installer_needs_the_standard_library_only(host, source):
    """-S: no site packages. Neither it nor what it loads leaves compiled files behind."""
    done = subprocess.run([sys.executable, "-S", "-s", str(source / "install_into_rvc.py"), "--rvc_root", str(host)],
                          capture_output=True, text=True,
                          env={**os.environ, "RVC_LORA_LANG": "zh", "PYTHONIOENCODING": "ascii"}, timeout=60)
    assert done.returncode == 0 and "\\u5df2\\u5b89\\u88c5" in done.stdout, done.stderr
    assert not list(source.rglob("__pycache__")) and not list(host.rglob("__pycache__"))
