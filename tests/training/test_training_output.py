"""Where a run is to write: folders that cannot be, hold something else, or fill up."""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from refused_runs import _made, changed_base, files, refused, voice  # noqa: F401  (fixtures)
from training_data import DEMO, argv, environment, log, make_experiment, one_thread, settings
from voice_data import make_adapter

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training import in_programs, train_lora, validate
from LoraModel.training.monitor import Monitor
from LoraModel.training.publishing import put_into_list
from LoraModel.training.train_lora import main

BETTER = {"init_speaker": 0, "lr": 5e-4}
"""Settings of a short run that ends better than the base alone."""
one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


def test_another_voices_folder(voice, tmp_path, refused, capsys):
    output = tmp_path / "out"
    assert main(argv(settings(voice, output, epochs=1, **BETTER), config=tmp_path / "c.json")) == 0
    capsys.readouterr()
    for name, flags in (("holds a run of 'voice' already: pass --resume", ()),
                        ("run of another voice ('voice', now 'other')", ("--name", "other"))):
        assert name in refused(settings(voice, output, epochs=1), *flags, written=True)
        if flags:
            assert name in refused(settings(voice, output, epochs=1), *flags, "--resume", written=True)
    other = make_experiment(tmp_path / "b" / "voice", clips=4, seconds=0.9)
    assert "a run on other recordings: 4 of its 4 clips differ" in refused(settings(other, output), "--resume",
                                                                           written=True)
    base = changed_base(tmp_path, lambda checkpoint: checkpoint["model"]["dec.conv_pre.bias"].add_(1))
    said = refused(settings(voice, output, base_model=base), "--resume", written=True)
    assert re.search(r"of this voice on another base \(f0G16k \(\w{8}…\), now G \(\w{8}…\)\): give --base_model", said)
    (output / "run.json").write_text("{")
    assert "run.json is damaged" in refused(settings(voice, output), "--resume", written=True)
    (output / "run.json").unlink()
    assert "holds adapters but no run" in refused(settings(voice, output), written=True)


def test_a_finished_run_ends_with_a_preview_and_its_file_says_what_it_was_told(voice, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(train_lora.Previewer, "try_to_add", lambda self, *where: asked.append(where))
    output = tmp_path / "out"
    said = {"tags": "calm, woman", "language": "en", "consent": "own voice", "consent_note": "it is me"}
    line = argv(settings(voice, output, epochs=1, **BETTER, **said), config=tmp_path / "c.json")
    line.remove("--no_preview")
    capsys.readouterr()
    assert main(line) == 0
    assert re.search(r"a file of \d+ KB and about 27 KB more for its preview; ", capsys.readouterr().err)
    (adapter, base, read), = asked
    assert adapter == output / "voice.safetensors" and base == DEMO / "base" / "f0G16k.pth" and read().info.f0
    metadata = load_adapter(adapter).metadata
    assert {key: metadata[key] for key in said} == said
    assert main([*line, "--resume", "--epochs", "2", "--no_preview"]) == 0 and len(asked) == 1


def test_an_output_folder_that_cannot_be(voice, tmp_path, refused):
    (tmp_path / "file").write_text("a file")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert f"{tmp_path / 'file'} is no folder" in refused(settings(voice, output))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_place(voice, tmp_path, refused):
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "is write-protected" in refused(settings(voice, tmp_path / "locked" / "out"))


def test_not_enough_space(voice, tmp_path, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(validate.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 2**20, 2**20))
    assert "has 1 MB free, a run needs 60 MB" in refused(settings(voice, tmp_path / "out"))


def interrupted_by_a_full_disk(voice, output, tmp_path, run):
    """A run of one epoch is saved; `run` goes on with it on a full disk, and what was saved still serves."""
    line = argv(settings(voice, output, epochs=4, save_every=1, **BETTER), config=tmp_path / "c.json")
    (output / "stop").parent.mkdir(parents=True, exist_ok=True)
    (output / "stop").write_text("")
    assert main(line) == 0
    before = torch.load(str(output / "state.pt"), weights_only=True)
    err = run([*line, "--resume"])
    texts = [text for text in err.replace("\r", "\n").splitlines() if text.startswith("error:")]
    assert len(texts) == 1 and "the disk is full while writing" in texts[0] and "free some space" in texts[0], err
    assert "Traceback" not in err
    state = torch.load(str(output / "state.pt"), weights_only=True)
    assert state["steps"] == before["steps"] == 1 and all(torch.equal(a, b) for a,
                                                          b in zip(state["adapter"], before["adapter"]))
    for name in ("voice.safetensors", "voice_last.safetensors"):
        load_adapter(output / name)
    return line


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
def test_the_disk_fills_in_the_middle_of_a_save(voice, tmp_path):
    """A limit on the size of files, which the adapter fits and the state does not (EFBIG)."""
    def run(line):
        code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); " \
               "from LoraModel.commands import run; from LoraModel.training.train_lora import main; " \
               "sys.exit(run(main, sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, *line], cwd=str(DEMO.parents[1]), env=environment(),
                              capture_output=True, text=True, encoding="utf-8", timeout=200)
        assert done.returncode == 2, done.stderr
        return done.stderr

    output = tmp_path / "out"
    line = interrupted_by_a_full_disk(voice, output, tmp_path, run)
    assert main([*line, "--resume"]) == 0
    whole = argv(settings(voice, tmp_path / "whole", epochs=4, **BETTER), config=tmp_path / "c.json")
    assert main(whole) == 0 and log(output) == log(tmp_path / "whole")


# pytest's own hook; stderr is looked at below
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_is_really_full(voice, tmp_path, monkeypatch, capfd):
    """A small file system of its own (ENOSPC), filled to the last 40 KB: refused up front, and told in one line in the
    middle."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)],
                                                   capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        def run(line):
            with open(str(disk / "filler"), "wb") as stream:
                stream.write(bytes(shutil.disk_usage(str(disk)).free - 40_000))
            capfd.readouterr()
            assert cli(main, line) == 2
            assert "has 0 MB free, a run needs 60 MB" in capfd.readouterr().err
            monkeypatch.setattr(validate, "NEEDED_BYTES", 0)
            assert cli(main, line) == 2
            return capfd.readouterr().err

        line = interrupted_by_a_full_disk(voice, disk / "out", tmp_path, run)
        (disk / "filler").unlink()
        assert main([*line, "--resume"]) == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_terminal_of_eighty_columns_shows_the_loss_on_what_was_kept_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    monitor = Monitor(tmp_path, 0, 1000, 16000)
    monitor._bar.dynamic_ncols = lambda file: (80, 25)
    monitor.step({"step": 1, "epoch": 17, "mel": 0.4567, "kl": 1.5, "heldout_mel": 0.5512, "heldout_contrast": 0.9})
    monitor.close()
    line = capsys.readouterr().err.split("\r")[-1].strip()
    assert "| 1/1000 [" in line and ", held-out 0.551, mel" in line and len(line) <= 80


def test_the_command_prepares_a_folder_of_recordings_first(tmp_path, monkeypatch):
    (tmp_path / "anna").mkdir()
    shutil.copy(str(DEMO / "recordings/target/01.flac"), str(tmp_path / "anna"))
    seen = []

    def prepared(host, plan):  # test_library.py has it done in full
        assert (plan.source, plan.settings.sample_rate) == (tmp_path / "anna", 16000)
        plan.experiment.mkdir(parents=True)
        (plan.experiment / "filelist.txt").write_text("")

    monkeypatch.setattr(in_programs, "prepare_data", prepared)
    monkeypatch.setattr(train_lora, "_train", lambda config, *rest: seen.append(config) or 0)
    command = ["--base_model", str(DEMO / "base/f0G16k.pth"), "--data_dir", str(tmp_path / "anna"), "--output_dir",
               str(tmp_path / "run")]
    assert main(command) == 0 and (seen[0].name, seen[0].data_dir) == ("anna", str(tmp_path / "run" / "data"))
    assert main([*command[:3], seen[0].data_dir, *command[4:]]) == 0 and seen[1].data_dir == seen[0].data_dir
    for same in (tmp_path / "anna", tmp_path / "run" / ".." / "anna"):
        with pytest.raises(UserError, match="is the folder of the recordings: choose another --output_dir"):
            main([*command[:5], str(same)])
    assert [file.name for file in (tmp_path / "anna").iterdir()] == ["01.flac"]


def test_rvcs_page_lists_what_the_command_trained_and_no_file_of_the_users_is_lost(tmp_path, library):
    root, name = tmp_path / "RVC", "anna.safetensors"
    adapter = make_adapter(root / "runs/anna" / name, library, 1, heldout='{"base": 0.9, "adapter": 0.5}')
    place = root / "assets/lora" / name
    assert put_into_list(adapter, root) == place and place.read_bytes() == adapter.read_bytes()
    make_adapter(adapter, library, 2, heldout='{"base": 0.9, "adapter": 0.4}')  # trained again
    assert put_into_list(adapter, root) == place and place.read_bytes() == adapter.read_bytes()
    place.write_bytes(b"the user's own")
    assert put_into_list(adapter, root) is None and place.read_bytes() == b"the user's own"
    worse = make_adapter(root / "runs/b/b.safetensors", library, 3, heldout='{"base": 0.9, "adapter": 1.5}')
    assert put_into_list(worse, root) is None and not (root / "assets/lora/b.safetensors").exists()
    inside = make_adapter(root / "assets/lora/c/c.safetensors", library, 4, heldout='{"base": 0.9, "adapter": 0.5}')
    assert put_into_list(inside, root) == inside  # the run itself lies where the page looks


@pytest.mark.parametrize("best, code", [(0.5, 0), (0.9, 0), (1.2, 3)])
def test_a_run_that_ends_worse_than_the_base_says_so_and_has_an_exit_code_of_its_own(
        best, code, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    (tmp_path / "anna.safetensors").write_bytes(b"x" * 1234)
    ended = SimpleNamespace(best=best, base_heldout=0.9, best_sharp=(1.0, 1.0), best_step=3,
                            adapter_path=tmp_path / "anna.safetensors")
    assert train_lora.report(ended, 12.3) == code
    said = capsys.readouterr()
    assert "done in 12 s. Held-out log-mel L1: base 0.9000, adapter" in said.out and "1,234 bytes" in said.out
    assert ("THE ADAPTER IS WORSE THAN THE BASE ALONE" in said.err) is (code == 3)
