"""One preparation at a time in a folder, and what is said of a folder that cannot be trained on."""

import errno
import os
import threading

import numpy as np
import pytest
import soundfile
from preparation_data import command

from LoraModel import folder_lock
from LoraModel.messages import UserError, cli
from LoraModel.preparation import checks
from LoraModel.scripts import prepare_data
from LoraModel.training import run_lock
from LoraModel.webui.runs import processes


def test_one_preparation_at_a_time_and_one_slice_is_not_called_ready(tmp_path, capsys):
    out, one = tmp_path / "logs/voice", tmp_path / "one.wav"
    soundfile.write(str(one), 0.3 * np.sin(np.arange(16000) / 10), 16000)
    with checks.only_preparation(out):  # as the page's
        assert cli(prepare_data.main, command(one, out)) == 2
    assert f"is being prepared already (process {os.getpid()})" in capsys.readouterr().err and not out.exists()
    (out / ".preparing").parent.mkdir(parents=True)
    (out / ".preparing").write_text('{"pid": 1, "started": 0}')  # of one that was killed
    assert cli(prepare_data.main, command(one, out)) == 0
    said = capsys.readouterr().out
    assert "has 1 slice, and training takes 2 at least" in said and "ready" not in said and not (
        out / ".preparing").exists()


@pytest.mark.skipif(os.name != "posix", reason="flock")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_one_that_is_taken(tmp_path, monkeypatch, code):
    """Network shares and FUSE. This process's own threads keep each other out there too."""
    import fcntl

    def none(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with checks.only_preparation(tmp_path), run_lock.only_run(tmp_path):
        assert (tmp_path / ".preparing").is_file()
        with pytest.raises(UserError, match=f"prepared already .process {os.getpid()}"):
            with checks.only_preparation(tmp_path / "." / "x" / ".."):
                pass
        with pytest.raises(UserError, match="another run"):
            run_lock.check_free(tmp_path)
    run_lock.check_free(tmp_path)
    order = []

    def wait():
        with processes.locked(tmp_path / "page.lock"):
            order.append("second")

    with processes.locked(tmp_path / "page.lock"):
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES, errno.EDEADLK])
def test_whatever_a_system_says_of_a_lock_that_is_held(monkeypatch, tmp_path, code):
    """Windows says EACCES, and EDEADLK after ten tries."""
    def held(*anything):
        raise OSError(code, os.strerror(code))

    name, function = ("msvcrt", "locking") if os.name == "nt" else ("fcntl", "flock")
    monkeypatch.setattr(pytest.importorskip(name), function, held)
    with open(str(tmp_path / "lock"), "wb") as file:
        assert not folder_lock.try_lock(file.fileno())
