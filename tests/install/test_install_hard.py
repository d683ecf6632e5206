"""install_into_rvc.py killed before each of its steps, and on real checkouts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import installing
import pytest
import standin_hosts
from installing import MARKED, compile_ours, lines_of, script_of, tree

run, source = installing.run, installing.source  # fixtures


# ---------------------------------------------------------------- killed runs

KILLER = '''
import io, os, signal, sys
from contextlib import redirect_stdout
from pathlib import Path
import importlib.util
source, host, first, then = sys.argv[1:5]
spec = importlib.util.spec_from_file_location("installer", source + "/install_into_rvc.py")
installer = importlib.util.module_from_spec(spec); spec.loader.exec_module(installer)
installer.lacking_packages = lambda *a: []
os.fsync = lambda descriptor: None
EVENTS = {"open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "tempfile.mkstemp"}
host = Path(host)

def tree():
    return {str(p.relative_to(host)): os.readlink(str(p)) if p.is_symlink() else p.read_bytes() if p.is_file() else "folder"
            for p in sorted(host.rglob("*"))}

def main(*options):
    said = io.StringIO()
    with redirect_stdout(said):
        code = installer.main(["--rvc_root", str(host), *options])
    return code, said.getvalue()

def words(text):
    return [word for word in text.split(",") if word]

script = host / "infer-web.py"
plain = tree()
main(*words(first)); start = tree()
main(*words(then)); goal = tree()
main(*words(first)); assert tree() == start
steps = 0
while True:
    child = os.fork()
    if child == 0:
        left = steps
        def hook(event, args):
            global left
            if event in EVENTS and not (event == "open" and isinstance(args[1], str) and args[1].startswith("r")):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        sys.addaudithook(hook)
        main(*words(then))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    now = tree()
    assert now["infer-web.py"] in (start["infer-web.py"], goal["infer-web.py"]), "half a script"
    code, said = main("--status")
    verdict = said.split("=> ")[1].splitlines()[0]
    if now == plain:
        assert verdict == "RVC-LoRA is not installed", (steps, verdict)
    elif "is installed" in verdict and "another" not in verdict:
        assert code == 0 and now in (start, goal), (steps, verdict)
    else:
        assert code == 1 and ("cut off" in verdict or "another version" in verdict), (steps, verdict)
    if os.WIFEXITED(status):
        assert now == goal
        break
    if steps % 2:
        main(*words(then)); assert tree() == goal, steps
    main("--uninstall"); assert tree() == plain, (steps, sorted(set(tree()) ^ set(plain)))
    main(*words(first)); assert tree() == start
    steps += 1
print("killed", steps)
'''  # noqa: E501


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first, then, least", [("--uninstall", "", 25), ("", "--uninstall", 12), ("--link", "", 25),
                                                ("", "--link", 12)],
                         ids=["install", "uninstall", "link to copy", "copy to link"])
def test_killed_before_each_of_its_steps(first, then, least, source, tmp_path):
    """kill -9 before the 1st, 2nd, ... change to the file system: --status names what is left, install and uninstall
    both mend it."""
    host = standin_hosts.make("classic", tmp_path / "rvc")
    done = subprocess.run([sys.executable, "-S", "-c", KILLER, str(source), str(host), first, then],
                          capture_output=True, text=True, timeout=300, env={**os.environ, "RVC_LORA_LANG": "en"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("killed ")[1]) >= least


# ---------------------------------------------------------------- real checkouts

HOSTS = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]


@pytest.mark.host
@pytest.mark.skipif(not HOSTS, reason="RVC_HOSTS names no checkout")
@pytest.mark.parametrize("checkout", HOSTS or ["-"], ids=lambda path: Path(path).name)
@pytest.mark.parametrize("kind", ["as it is", "crlf", "bom"])
def test_on_a_real_checkout(checkout, kind, tmp_path, run):
    """All of the checkout's Python, git-committed in a copy: installed, used, uninstalled, clean."""
    host = tmp_path / "RVC 变声器"
    shutil.copytree(checkout, str(host), ignore=lambda folder, names: [
        name for name in names if not (Path(folder) / name).is_dir()
        and not name.endswith((".py", ".json", ".gitignore"))
        or name in (".git", "__pycache__", "logs", "pymss_core", "TEMP", "LoraModel")])
    script = script_of(host)
    content = lines_of.without_lines(script.read_bytes(), script.name)
    if kind == "crlf":
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    elif kind == "bom":
        content = b"\xef\xbb\xbf" + content
    script.write_bytes(content)

    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", "-c",
                               "core.quotepath=false", *words],
                              cwd=str(host), check=True, capture_output=True).stdout.decode()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "rvc")
    before = tree(host)
    assert run(host)[0] == 0
    done = script.read_bytes()
    compile(done, script.name, "exec")
    assert MARKED.sub(b"", done) == content
    added_and_deleted = git("diff", "--numstat").split()[:2]
    assert added_and_deleted == [str(sum(block.count(b"\n") for block in MARKED.findall(done))), "0"]
    assert git("status", "--short").split() == ["M", script.name, "??", "LoraModel/"]
    assert "nothing changed" in run(host)[1] and run(host, "--status")[0] == 0
    compile_ours(host)
    assert run(host, "--uninstall")[0] == 0
    assert git("status", "--short") == "" and tree(host) == before
