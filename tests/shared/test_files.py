"""Files that are whole or not there: refusals, a full disk, kill -9 at random moments."""

import ctypes
import errno
import os
import random
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from killing import savers_killed

from LoraModel import files
from LoraModel.files import atomic_file, atomic_write, bounded_json, check_file_place, check_folder_place
from LoraModel.messages import UserError, cli, disk_full, language, tr

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and signals")


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    atomic_write(path, b"one")
    atomic_write(str(path), b"two")
    assert path.read_bytes() == b"two" and os.listdir(str(path.parent)) == ["a.bin"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    with pytest.raises(RuntimeError, match="half way"):
        with atomic_file(path) as stream:
            stream.write(b"half")
            raise RuntimeError("half way")
    assert path.read_bytes() == b"old" and os.listdir(str(tmp_path)) == ["a.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failing_step_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, step, existing):
    path = tmp_path / "a.bin"
    if existing:
        path.write_bytes(b"old")

    def fail(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError) as caught:
        atomic_write(path, b"new")
    monkeypatch.undo()
    assert disk_full(caught.value)
    assert os.listdir(str(tmp_path)) == (["a.bin"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


def test_an_interrupt_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        with atomic_file(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(str(tmp_path)) == ["a.bin"]


@POSIX
def test_permissions_are_the_users(tmp_path):
    path, old = tmp_path / "a.bin", os.umask(0o027)
    try:
        atomic_write(path, b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640  # not mkstemp's 0600
        path.chmod(0o604)
        atomic_write(path, b"two")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604  # an existing file keeps its own
    finally:
        os.umask(old)


@POSIX
def test_a_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.bin", tmp_path / "a.bin"
    real.write_bytes(b"old")
    link.symlink_to(real)
    atomic_write(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


SAVER = """
import sys
from LoraModel.files import atomic_write
n = 0
while True:
    n += 1
    atomic_write(sys.argv[1], bytes([n % 256]) * 400_000)
"""


@POSIX
def test_kill_9_at_random_moments_never_leaves_half_a_file(tmp_path):
    path, dice = tmp_path / "a.bin", random.Random(0)
    for _ in savers_killed(SAVER, path, [dice.uniform(0, 0.03) for _ in range(12)]):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 400_000 and len(set(data)) == 1
    assert path.exists()
    atomic_write(path, b"after")  # what a kill leaves beside the file is in nobody's way
    assert path.read_bytes() == b"after"


# Messages.


def test_language_follows_the_environment(monkeypatch):
    for name, value, expected in [("RVC_LORA_LANG", "zh", "zh"), ("RVC_LORA_LANG", "en", "en"),
                                  ("LC_ALL", "zh_CN.UTF-8", "zh"),
                                  ("LC_ALL", "Chinese (Simplified)_China.936", "zh"), ("LC_ALL", "C.UTF-8", "en"),
                                  ("LANG", "de_DE", "en")]:
        for variable in ("RVC_LORA_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(name, value)
        assert language() == expected and tr("done") == ("已完成" if expected == "zh" else "done")


def test_user_error_speaks_both_languages(monkeypatch):
    error = UserError("it is empty")
    assert str(error) == "it is empty" and isinstance(error, ValueError)
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    assert str(error) == "文件为空"


def test_cli_turns_errors_into_one_line_and_exit_code_2(capsys):
    def refuse(_argv):
        raise UserError("rank 0: choose 1 or more")

    def full(_argv):
        raise OSError(errno.ENOSPC, "No space left on device", "out.pth")

    def broken(_argv):
        raise OSError(errno.EACCES, "Permission denied", "out.pth")

    assert cli(lambda argv: None) == 0 and cli(lambda argv: 3) == 3
    assert cli(refuse) == 2
    assert capsys.readouterr().err == "error: rank 0: choose 1 or more\n"
    assert cli(full) == 2
    assert (capsys.readouterr().err == "error: the disk is full while writing out.pth: free some space and run the "
            "command again\n")
    assert cli(broken) == 2
    assert capsys.readouterr().err == ("error: out.pth: there is no permission for it: change its permissions or its "
                                       "folder's, or choose another place\n")


# Temporary names and places.


@POSIX
@pytest.mark.parametrize("name", ["歌" * 83 + ".wav", "a" * 242, "b" * 255, "é" * 127])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path, name):
    atomic_write(tmp_path / name, b"x")
    assert os.listdir(str(tmp_path)) == [name]


def left(path, process, machine=None):
    file = path.parent / f"{files._stem(path)}.{process}-{machine or files._machine()}-0123abcd.tmp"
    file.write_bytes(b"left")
    files._scans.clear()
    return file


@pytest.fixture
def windows(monkeypatch):
    """What Windows says of processes, as far as it is asked: an id -> its exit code."""
    codes = {os.getpid(): 259, 8: 0, 12: 1}

    class Function:
        def __init__(self, call):
            self.call = call

        def __call__(self, *values):
            return self.call(*(getattr(value, "value", value) for value in values))

    def tell(handle, place):
        place._obj.value = codes[handle]
        return 1

    kernel = SimpleNamespace(OpenProcess=Function(lambda access, inherits, process: process if process in codes else 0),
                             GetExitCodeProcess=Function(tell), CloseHandle=Function(lambda handle: 1))
    monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 87, raising=False)
    monkeypatch.setattr(files, "_alive", files._alive_windows)
    monkeypatch.setattr(files, "_HELD", True)


def test_on_windows_the_file_of_a_writer_that_lives_stays(tmp_path, windows, monkeypatch):
    """It is closed before it takes its name, and may wait for that: nothing but the process tells that it is held."""
    path = tmp_path / "voice.pth"
    dead, failed, gone, alive = (left(path, process) for process in (8, 12, 4, os.getpid()))
    atomic_write(path, b"new")
    assert not dead.exists() and not failed.exists() and not gone.exists() and alive.exists()
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)  # another user's: it is not said
    other = left(path, 4)
    atomic_write(path, b"new")
    assert other.exists()


@POSIX
def test_what_killed_processes_left_is_taken_away_and_nothing_else(tmp_path):
    path = tmp_path / "voice.pth"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive, elsewhere = left(path, ended.pid), left(path, os.getpid()), left(path, ended.pid, "zzzz")
    other = left(tmp_path / "voice.pth.x.pth", ended.pid)
    atomic_write(path, b"new")
    assert not dead.exists() and alive.exists() and elsewhere.exists() and other.exists()
    for file in (alive, elsewhere):
        os.utime(str(file), (1, 1))
    files._scans.clear()
    atomic_write(path, b"new")
    assert not alive.exists() and not elsewhere.exists() and other.exists()


FULL = """
import resource, sys
import numpy, soundfile, torch
from LoraModel.commands import run
from LoraModel.files import atomic_file
from LoraModel.inference.audio import write_audio
def main(_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    if sys.argv[2] == "torch":
        with atomic_file(sys.argv[1]) as stream:
            torch.save({"weight": torch.rand(300000)}, stream)
    elif sys.argv[2] == "numpy":
        with atomic_file(sys.argv[1]) as stream:
            numpy.save(stream, numpy.zeros(300000))
    else:
        write_audio(sys.argv[1], numpy.random.default_rng(0).uniform(-1, 1, 300000), 16000)
sys.exit(run(main))
"""


@POSIX
@pytest.mark.parametrize("kind, name",
                         [("torch", "a.pth"), ("numpy", "a.npy"), ("sound", "a.flac"), ("sound", "a.wav")])
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL, str(path), kind, "70000"], cwd=str(ROOT), capture_output=True,
                          env={**os.environ, "RVC_LORA_LANG": "en"}, check=False)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and "the disk is full" in lines[0] and name in lines[0]
    assert path.read_bytes() == b"old" and os.listdir(str(tmp_path)) == [name]


def test_places_are_looked_at_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert check_file_place(tmp_path / "new" / "a.wav") == tmp_path / "new" / "a.wav"
    assert check_folder_place(tmp_path / "new" / "b") == tmp_path / "new" / "b"
    for check, place, said in [(check_file_place, "folder", "is a folder"),
                               (check_file_place, "file/a.wav", "is a file"),
                               (check_folder_place, "file", "is a file"), (check_folder_place, "file/b", "is a file"),
                               (check_file_place, "n" * 300, "too long"), (check_folder_place, "n" * 300, "too long"),
                               (check_file_place, "CON.safetensors", "for a device"),
                               (check_folder_place, "new/aux", "for a device")]:
        with pytest.raises(UserError, match=said):
            check(tmp_path / place)
    monkeypatch.setattr(files.os, "open",
                        lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    for check in (check_file_place, check_folder_place):
        with pytest.raises(UserError, match="read-only"):
            check(tmp_path / "a.wav")
    monkeypatch.undo()
    assert sorted(os.listdir(str(tmp_path))) == ["file", "folder"]


def test_json_is_bounded(tmp_path):
    file = tmp_path / "a.json"
    for data, said in ((b"[" * 100_000, "nested"), (b"\xff", "decode"), (b"{", "Expecting"), (b" " * 50, "larger")):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=said):
            bounded_json(file, 20 if said.startswith("larger") else 2**20)
    file.write_bytes(b'\xef\xbb\xbf{"a": "\xff"}')
    assert bounded_json(file, errors="surrogateescape") == {"a": "\udcff"}


def test_what_is_read_is_never_overwritten(tmp_path):
    read, link = tmp_path / "in.wav", tmp_path / "link.wav"
    read.write_bytes(b"sound")
    os.link(str(read), str(link))
    for place in (read, link, tmp_path / "." / "in.wav"):
        with pytest.raises(UserError, match="never overwritten: give --json another name"):
            check_file_place(place, "--json", [None, tmp_path / "gone.wav", read])
    assert check_file_place(tmp_path / "new.json", "--json", [read]) == tmp_path / "new.json"


@pytest.mark.parametrize("write", [atomic_write, files.replace_file])
def test_a_name_that_another_program_holds_is_waited_for(tmp_path, monkeypatch, write):
    """As on Windows, where nothing takes the place of a file that is open."""
    path, held, real = tmp_path / "a.bin", [3], os.replace
    path.write_bytes(b"old")

    def replace(*names):
        held[0] -= 1
        if held[0] >= 0:
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError):  # elsewhere it means what it says
        write(path, b"new")
    monkeypatch.setattr(files, "_HELD", True)
    write(path, b"new")
    assert path.read_bytes() == b"new" and held == [-1] and os.listdir(str(tmp_path)) == ["a.bin"]
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    held[0] = 10**6
    with pytest.raises(PermissionError):
        write(path, b"other")
    assert path.read_bytes() == b"new" and os.listdir(str(tmp_path)) == ["a.bin"]
