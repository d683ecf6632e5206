"""install_into_rvc.py against links, hostile manifests, a full disk, read-only folders, a second installer, Ctrl-C and
kill -9."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import installing
import pytest
import standin_hosts
from installing import script_of, tree
from killing import kill

from LoraModel.install import checkout as checkouts

run, source = installing.run, installing.source  # fixtures
pytestmark = pytest.mark.attack
posix = pytest.mark.skipif(os.name == "nt", reason="flock, limits and signals are POSIX's")

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# says when it is about to change the checkout, and waits there, until a file says to go on: time for another to come,
# for Ctrl-C, for a kill
SLOW = """
import os, runpy, sys, time
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[0]).parent))
from LoraModel.install import plan
real = plan.Plan.run
def slow(self):
    print("at work", flush=True)
    end = time.time() + float(os.environ["SECONDS"])
    while time.time() < end and not os.path.exists(os.environ["GO_ON"]):
        time.sleep(0.02)
    real(self)
plan.Plan.run = slow
"""


@pytest.fixture
def host(tmp_path):
    return standin_hosts.make("classic", tmp_path / "rvc")


def environment():
    return {**{name: value for name, value in os.environ.items() if name != "RVC_ROOT"}, "RVC_LORA_LANG": "en"}


def installer(source: Path, host: Path, *options: str, before: str = "", seconds: float = 0):
    """The installer as a process of its own; `before` is Python that runs first."""
    script = str(source / "install_into_rvc.py")
    start = [sys.executable, "-S", script] if not before else [
        sys.executable, "-S", "-c", f"import sys; sys.argv[0] = {script!r}\n{before}\nrunpy.run_path({script!r}, "
        f"run_name='__main__')"]
    # Ctrl-C as a terminal gives it: a suite started in the background hands its children a SIGINT that is ignored
    heard = {} if os.name == "nt" else {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([*start, "--rvc_root", str(host), "--python", sys.executable, *options], text=True, **heard,
                            env={**environment(), "SECONDS": str(seconds), "GO_ON": f"{host}.go on"},
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


# ---------------------------------------------------------------- links, and folders in the way

@pytest.mark.parametrize("when", ["before", "after", "after, files gone"])
@pytest.mark.parametrize("name", ["install", "lora"])
def test_nothing_goes_through_a_link_to_a_folder_of_the_users(host, run, tmp_path, name, when):
    """LoraModel/NAME is a link: an installation refuses and writes nothing, a removal takes its own and leaves the
    link."""
    users = tmp_path / "mine"
    if when == "before":
        users.mkdir()
        (users / "notes.txt").write_text("mine")
        (host / "LoraModel").mkdir()
    else:
        assert run(host)[0] == 0
        (host / "LoraModel" / name).rename(users)
        if when != "after":
            for path in users.iterdir():
                path.unlink()
    (host / "LoraModel" / name).symlink_to(users, target_is_directory=True)
    before, there = tree(users), tree(host)
    code, said = run(host)
    assert code == 2 and name in said and "move them away" in said and len(said.splitlines()) == 1
    assert tree(users) == before and tree(host) == there
    assert run(host, "--uninstall")[0] == 0
    assert tree(users) == before and (host / "LoraModel" / name).is_symlink()


def test_a_file_of_ours_made_a_link_is_the_users(host, run, tmp_path):
    """The link is set aside by an update, kept by a removal; the file that it leads to is never written or deleted."""
    run(host)
    ours = host / "LoraModel" / "files.py"
    mine = tmp_path / "files.py"
    ours.rename(mine)
    ours.symlink_to(mine)
    content = mine.read_bytes()
    code, said = run(host)
    assert code == 0 and "files.py" in said and not ours.is_symlink() and ours.read_bytes() == content
    assert (host / "LoraModel" / "files.py.yours1").is_symlink()
    ours.unlink()
    ours.symlink_to(mine)
    assert run(host, "--uninstall")[0] == 0 and ours.is_symlink() and mine.read_bytes() == content


@pytest.mark.parametrize("what", ["link to a file", "broken link", "folder", "file for a folder"])
def test_what_lies_in_the_way_is_refused_before_a_byte_is_written(host, run, tmp_path, what):
    (host / "LoraModel").mkdir()
    at = host / "LoraModel" / ("lora" if what == "file for a folder" else "files.py")
    (tmp_path / "mine.py").write_text("mine")
    if what == "folder":
        at.mkdir()
    elif what == "file for a folder":
        at.write_text("mine")
    else:
        at.symlink_to(tmp_path / ("mine.py" if what == "link to a file" else "nothing"))
    before = tree(host)
    code, said = run(host)
    assert code == 2 and at.name in said and tree(host) == before and (tmp_path / "mine.py").read_text() == "mine"


# ---------------------------------------------------------------- a stranger's manifest and script

def test_a_hostile_manifest_is_damaged_in_one_line_and_nothing_outside_is_touched(host, run, tmp_path, attack_rounds):
    run(host)
    manifest = host / "LoraModel" / "installed.json"
    whole = manifest.read_bytes()
    (tmp_path / "outside.txt").write_text("mine")
    files = json.loads(whole)["files"]
    cases = [b"[" * 100_000, b'{"files": ' * 50_000, b"\xff\xfe", b"null", b'{"files": 3}', b" " * (9 * 2**20),
             b'{"files": {"a": 5}}']
    rng = random.Random(1)
    for _ in range(20 * attack_rounds):
        cut = bytearray(whole)
        for _ in range(rng.randint(1, 40)):
            cut[rng.randrange(len(cut))] = rng.randrange(256)
        cases.append(bytes(cut))
    cases.append(json.dumps({"version": "1", "state": "whole",
                             "files": {**files, "../../outside.txt": ["x"], "/etc/passwd": ["x"],
                                       "C:x": ["x"]}}).encode())
    for case in cases:
        manifest.write_bytes(case)
        for options in (["--status"], ["--dry-run"], ["--uninstall", "--dry-run"]):
            code, said = run(host, *options)
            assert code in (0, 1, 2) and "Traceback" not in said, case[:60]
    assert code in (0, 1) and (tmp_path / "outside.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["x = " + "(" * 5000 + "1" + ")" * 5000, "x = " + "+".join(["1"] * 20_000),
                                  "x = " + "[" * 150 + "]" * 150])
def test_a_script_nested_deep_is_refused_or_taken(host, run, text):
    script = script_of(host)
    script.write_text(script.read_text(encoding="utf-8") + text + "\n", encoding="utf-8")
    before = tree(host)
    code, said = run(host)
    if code:
        assert code == 2 and "left as it is" in said and len(said.splitlines()) == 1 and tree(host) == before
    else:
        assert run(host, "--uninstall")[0] == 0 and tree(host) == before


# ---------------------------------------------------------------- the machine's faults

@posix
@pytest.mark.parametrize("option", [[], ["--uninstall"]], ids=["install", "uninstall"])
def test_a_full_disk_is_one_line_and_the_next_run_mends_it(host, source, run, option):
    """A limit on the size of a file stands for the disk: at each size another file fails."""
    before = tree(host)
    for limit in (0, 300, 2000, 8000):
        if option:
            run(host)
        script = str(source / "install_into_rvc.py")
        done = subprocess.run([sys.executable, "-S", "-c", LIMITED, str(limit), script, "--rvc_root", str(host),
                               *option],
                              env=environment(), capture_output=True, text=True)
        failed = done.returncode == 2 and "disk is full" in done.stderr and len(done.stderr.splitlines()) == 1
        # a removal writes less than that
        assert failed or (limit == 8000 and option and done.returncode == 0), done.stderr
        assert not list(host.rglob("*.tmp"))
        assert run(host, "--uninstall")[0] == 0 and tree(host) == before, limit


@posix
def test_two_installers_at_once(host, source, run):
    """The second says in one line who is at work; when the first has ended, killed or not, the next goes on."""
    before = tree(host)
    first = installer(source, host, before=SLOW, seconds=300)
    assert first.stdout.readline() == "at work\n"
    second = installer(source, host)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 2 and "another installer" in err and len(err.splitlines()) == 1 and out == ""
    if Path("/proc/locks").exists():
        assert f"process {first.pid}" in err
    Path(f"{host}.go on").touch()
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0 and err == ""
    Path(f"{host}.go on").unlink()
    assert run(host, "--status")[0] == 0 and run(host, "--uninstall")[0] == 0 and tree(host) == before
    dead = installer(source, host, before=SLOW, seconds=60)
    assert dead.stdout.readline() == "at work\n"
    assert kill(dead)
    assert run(host)[0] == 0 and run(host, "--uninstall")[0] == 0 and tree(host) == before


@posix
def test_a_file_system_without_locks_is_worked_on_all_the_same(tmp_path, monkeypatch):
    import errno
    import fcntl

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with checkouts.alone_in(tmp_path):
        pass


@posix
def test_ctrl_c_is_one_line(host, source, run):
    before = tree(host)
    process = installer(source, host, before=SLOW, seconds=60)
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and len(err.splitlines()) == 1
    assert run(host)[0] == 0 and run(host, "--uninstall")[0] == 0 and tree(host) == before


@posix
def test_killed_at_any_time_every_uninstall_is_byte_identical(host, source, run, attack_rounds):
    """kill -9 after a random time, installing and removing in turn, each on top of what the last one left."""
    before = tree(host)
    rng = random.Random(2)
    killed = 0
    for turn in range(12 * attack_rounds):
        process = installer(source, host, *(["--uninstall"] if turn % 3 == 2 else []))
        killed += kill(process, rng.uniform(0.05, 0.35))
        if turn % 4 == 3:
            assert run(host, "--uninstall")[0] == 0 and tree(host) == before, turn
    assert run(host, "--uninstall")[0] == 0 and tree(host) == before and killed


def test_a_missing_part_of_the_installer_does_not_touch_the_checkout(host, source):
    """A copy of RVC-LoRA unpacked by halves."""
    before = tree(host)
    shutil.rmtree(str(source / "LoraModel" / "lora"))
    process = installer(source, host)
    process.communicate(timeout=60)
    assert process.returncode == 0  # what is there is installed whole
    process = installer(source, host, "--uninstall")
    process.communicate(timeout=60)
    assert process.returncode == 0 and tree(host) == before
