"""What belongs to a saved run, who may resume it, and what happens to its folder in the middle."""

import json
import os
import pickletools
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import argv, log, make_experiment, one_thread
from training_data import tiny_settings as settings

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training import TrainConfig, Trainer, prepare
from LoraModel.training.checkpoint import load_state, lora_difference, save_state
from LoraModel.training.data_loader import Clip
from LoraModel.training.heldout import choose_previews
from LoraModel.training.run_lock import LOCK_FILE, only_run
from LoraModel.training.train_lora import WORSE, main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """An experiment folder of four clips; leave it as you found it."""
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=0.9)


def config(voice, output, **more):
    return TrainConfig.from_dict(settings(voice, output, **{"epochs": 2, "batch_size": 3, **more}))


def stopped(voice, output, **more):
    """A run of two steps of which the first is done and saved."""
    trainer = prepare(config(voice, output, **more))
    trainer.stop_asked = True
    assert trainer.run() is False
    return trainer


@pytest.fixture(scope="module")
def whole(voice, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    assert prepare(config(voice, output)).run() is True
    return output


@pytest.fixture(scope="module")
def _saved(voice, tmp_path_factory):
    output = tmp_path_factory.mktemp("saved") / "out"
    stopped(voice, output)
    return output


@pytest.fixture
def saved(_saved, tmp_path):
    """A stopped run of this test's own."""
    shutil.copytree(str(_saved), str(tmp_path / "out"))
    return tmp_path / "out"


def tensors(path):
    return load_adapter(path).tensors


# Its data


def test_a_run_goes_on_where_both_folders_were_renamed_and_carried(voice, saved, tmp_path, whole):
    """Neither name nor place of a folder says what is in it."""
    shutil.copytree(str(voice), str(tmp_path / "elsewhere" / "another name"))
    saved.rename(tmp_path / "renamed")
    assert prepare(config(tmp_path / "elsewhere" / "another name", tmp_path / "renamed"), resume=True).run() is True
    assert log(tmp_path / "renamed") == log(whole)
    ours, theirs = (tensors(path / "voice_last.safetensors") for path in (tmp_path / "renamed", whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("change, what", [("other", "3_0.wav has another sound now"), ("gone", "3_0.wav is missing"),
                                          ("more", "4_0.wav is new")])
def test_other_recordings_are_refused_and_named(voice, saved, tmp_path, change, what):
    shutil.copytree(str(voice), str(tmp_path / "voice"))
    if change == "gone":
        (tmp_path / "voice" / "0_gt_wavs" / "3_0.wav").unlink()
    else:
        other = make_experiment(tmp_path / "other", clips=6, seconds=0.9)
        for path in list(other.rglob("5_0.*")):
            shutil.copyfile(str(path),
                            str(tmp_path / "voice" / path.parent.name
                                / path.name.replace("5_0", "3_0" if change == "other" else "4_0")))
    before = (saved / "state.pt").read_bytes()
    with pytest.raises(UserError, match="a run on other recordings: 1 of its 4 clips differ") as refusal:
        prepare(config(tmp_path / "voice", saved), resume=True)
    assert what in str(refusal.value) and (saved / "state.pt").read_bytes() == before


def test_another_rank_is_said_in_words(voice, saved):
    lora = {"r": 3, "lora_alpha": 4, "targets": {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}}
    with pytest.raises(UserError) as refusal:
        prepare(config(voice, saved, lora=lora), resume=True)
    assert "the saved run has lora rank 2 for enc_p_ffn, this one rank 3:" in str(refusal.value)
    lora["targets"].pop("ups")
    with pytest.raises(UserError, match="rank 2 for enc_p_ffn|with target ups, this one without it"):
        prepare(config(voice, saved, lora=lora), resume=True)


# Its file


def test_every_pytorch_from_1_13_reads_the_state(saved):
    """What PyTorch 1.13 reads with `weights_only`: no floats and no long integers in the pickle, and no types but
    those of tensors."""
    with zipfile.ZipFile(str(saved / "state.pt")) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    found = {(opcode.name, argument if opcode.name == "GLOBAL" else None) for opcode, argument,
             _ in pickletools.genops(data)}
    assert {name for name, _ in found} <= {
        "PROTO", "EMPTY_DICT", "BINPUT", "LONG_BINPUT", "MARK", "BINUNICODE", "BININT", "BININT1", "BININT2",
        "EMPTY_LIST", "APPEND", "APPENDS",
        "SETITEM", "SETITEMS", "GLOBAL", "REDUCE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "NEWFALSE",
        "NEWTRUE", "NONE", "BINPERSID", "BINGET", "LONG_BINGET", "STOP"}
    assert {argument for _, argument in found if argument} <= {
        "torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch FloatStorage", "torch DoubleStorage",
        "torch LongStorage", "torch ByteStorage"}


def test_numbers_come_back_as_they_were(tmp_path):
    state = {"shape": {"seed": 2**32 - 1, "x": -5}, "steps": 3, "best": float("inf"), "none": None,
             "list": [0.1, True, "text", -(2**40)]}
    save_state(tmp_path, state)
    assert {key: value for key, value in load_state(tmp_path).items() if key != "version"} == state


KEYS = ("adapter", "average", "optimizer", "scaler", "random", "best", "best_step", "saves_without_gain",
        "base_heldout", "start_speaker", "posterior_speaker", "train_seconds", "shape", "steps", "data", "version")


@pytest.mark.parametrize("key", KEYS)
def test_a_state_that_lacks_a_part_or_has_another(voice, saved, key):
    state, trainer = load_state(saved), prepare(config(voice, saved), resume=True)
    for value in (None, [], "text", {"state": {"9": {}}}, [torch.zeros(1)], -1, "gone"):
        changed = {**state, key: value}
        if value == "gone":
            changed.pop(key)
        if key == "base_heldout" and value is None:  # a run that was saved before the base was evaluated
            continue
        if key == "scaler":  # asked for on a graphics card alone
            continue
        torch.save(changed if key == "version" else {"version": 2, **changed}, str(saved / "state.pt"))
        with pytest.raises(UserError, match="delete it to begin anew|the saved run has|saved by another version"):
            trainer.load()


def test_a_state_of_other_shapes_or_of_nan(voice, saved):
    trainer = prepare(config(voice, saved), resume=True)
    for key in ("adapter", "average"):
        for change in (lambda t: t[:-1], lambda t: t * float("nan"), lambda t: t.half()[..., None]):
            state = load_state(saved)
            state[key][0] = change(state[key][0])
            save_state(saved, state)
            with pytest.raises(UserError, match="delete it to begin anew"):
                trainer.load()
    state = load_state(saved)
    del state["version"]
    torch.save(state, str(saved / "state.pt"))
    with pytest.raises(UserError, match="saved by another version"):
        prepare(config(voice, saved), resume=True)


# Two at once


def test_a_second_run_in_the_folder_is_refused(voice, saved):
    with only_run(saved):
        assert json.loads((saved / LOCK_FILE).read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match=rf"another run \(process {os.getpid()}\) is working in"):
            prepare(config(voice, saved), resume=True)
    assert not (saved / LOCK_FILE).exists()


def test_two_that_began_before_either_ran(voice, tmp_path, saved):
    """Both looked at the folder before one of them worked in it."""
    for output, resume in ((tmp_path / "fresh", False), (saved, True)):
        first, second = (prepare(config(voice, output), resume=resume) for _ in range(2))
        assert first.run() is True
        with pytest.raises(UserError, match="another run has worked in"):
            second.run()
        assert len(log(output)) == 2


def test_what_a_dead_owner_left_is_taken_over(voice, saved):
    (saved / LOCK_FILE).write_text('{"pid": 1, "started": 0}')
    assert prepare(config(voice, saved), resume=True).run() is True and not (saved / LOCK_FILE).exists()


# Its folder in the middle


def interrupted(monkeypatch, capfd, line, act):
    """Run a command line; `act` is called after the first step -> what was said."""
    real = Trainer.step

    def step(self, indices):
        result = real(self, indices)
        if self.done_steps == 1:
            act()
        return result

    monkeypatch.setattr(Trainer, "step", step)
    capfd.readouterr()
    code = cli(main, line)
    return code, capfd.readouterr().err


def test_the_folder_is_removed_in_the_middle(voice, tmp_path, monkeypatch, capfd):
    output = tmp_path / "out"
    line = argv(settings(voice, output, epochs=2), config=tmp_path / "c.json")
    code, err = interrupted(monkeypatch, capfd, line, lambda: shutil.rmtree(str(output)))
    assert code == 2 and "the output folder was removed or renamed while training" in err and "Traceback" not in err
    assert not output.exists()


def test_tensorboards_file_is_removed_in_the_middle(voice, tmp_path, monkeypatch, capfd):
    output = tmp_path / "out"
    line = argv(settings(voice, output, epochs=2, init_speaker=0, lr=5e-4), config=tmp_path / "c.json")
    code, err = interrupted(monkeypatch, capfd, line, lambda: shutil.rmtree(str(output / "tensorboard")))
    assert "Traceback" not in err and code in (0, 2, WORSE)
    if code == 2:
        assert sum(text.startswith("error:")
                   for text in err.replace("\r", "\n").splitlines()) == 1 and "tensorboard" in err


@pytest.mark.parametrize("name", ["samples", "tensorboard", "filelists"])
def test_a_part_of_the_folder_that_cannot_be_written_is_found_before_the_work(voice, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("a file")
    with pytest.raises(UserError, match=f"{name} is a file"):
        prepare(config(voice, tmp_path / "out"))


def test_a_data_folder_that_cannot_be_written_is_enough(voice, tmp_path):
    shutil.copytree(str(voice), str(tmp_path / "voice"))
    folders = [path for path in (tmp_path / "voice").rglob("*") if path.is_dir()] + [tmp_path / "voice"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "voice").rglob("*")}
    for path in folders:
        path.chmod(0o555)
    try:
        assert prepare(config(tmp_path / "voice", tmp_path / "out")).run() is True
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "voice").rglob("*")} == before
    finally:
        for path in folders:
            path.chmod(0o755)


# How it ends


def test_a_diverged_run_says_so(voice, tmp_path, capsys):
    line = argv(settings(voice, tmp_path / "out", epochs=2, lr=10.0, warmup_steps=0, ema_decay=0.0),
                config=tmp_path / "c.json")
    code = cli(main, line)
    err = capsys.readouterr().err
    assert (code == WORSE and "THE ADAPTER IS WORSE THAN THE BASE ALONE" in err) or (code == 2 and "is not finite "
                                                                                     "at step" in err)


def test_worse_than_the_base_is_an_exit_code_of_its_own(voice, tmp_path, capsys):
    line = argv(settings(voice, tmp_path / "out", epochs=1, lr=0.05, warmup_steps=0, ema_decay=0.0),
                config=tmp_path / "c.json")
    assert cli(main, line) == WORSE == 3
    assert "THE ADAPTER IS WORSE THAN THE BASE ALONE" in capsys.readouterr().err


def test_a_held_out_loss_that_is_not_finite(voice, tmp_path, monkeypatch):
    trainer = prepare(config(voice, tmp_path / "out"))
    real = trainer.heldout.measure

    def measure(network):
        return [clip._replace(error=float("nan")) for clip in real(network)]

    monkeypatch.setattr(trainer.heldout, "measure", measure)
    with pytest.raises(UserError, match="is not finite"):
        trainer.run()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "failed"


# What is listened to


def test_previews_are_the_longest_of_different_recordings():
    class Clips:
        frames = [90, 300, 320, 200, 310, 400]
        clips = [Clip(Path(f"{name}.wav"), Path("x"), None, None, 0)
                 for name in ("3_0", "3_1", "3_2", "4_0", "4_1", "5_0")]

        def __len__(self):
            return len(self.clips)

    assert choose_previews(Clips(), 6) == [5, 2] and choose_previews(Clips(),
                                                                     5) == [2, 4] and choose_previews(Clips(),
                                                                                                      3) == [2, 1]
    assert choose_previews(Clips(), 1) == [0]


# Options


@pytest.mark.parametrize("flags, what", [
    (("--sample_rate", "40k"), "is of 16000 Hz, and 40000 Hz was asked for"),
    (("--sample_rate", "0"), "sample rate '0'"),
    (("--sample_rate", "infk"), "sample rate 'infk' is no number"),
    (("--seed", "9" * 5000), "must be between 0 and 4294967295"),
    (("--epochs", "9" * 5000), "must be between 1 and 1000000000"),
    (("--device", "gpu"), "device 'gpu' cannot be used: give auto, cpu, cuda"),
    (("--device", "meta"), "device 'meta' cannot be used"),
    (("--speaker_id", "-1"), "argument --speaker_id: '-1' must be"),
])
def test_options_that_cannot_be(voice, tmp_path, capsys, flags, what):
    assert cli(main, argv(settings(voice, tmp_path / "out"), *flags, config=tmp_path / "c.json")) == 2
    err = capsys.readouterr().err
    assert what in err and len(err) < 600 and not (tmp_path / "out").exists()


def test_the_bases_own_rate_is_taken(voice, tmp_path):
    np.testing.assert_equal(prepare(config(voice, tmp_path / "out"), sample_rate=16000).info.sample_rate, 16000)


@pytest.mark.parametrize("more", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"5\n", b'{"step": "1"}\n', b"{}\n"])
def test_a_damaged_log_is_no_end_of_a_run(voice, saved, more):
    with open(str(saved / "train.jsonl"), "ab") as file:
        file.write(more)
    assert prepare(config(voice, saved), resume=True).run() is True
    assert [line["step"] for line in log(saved)] == [1, 2]


@pytest.mark.parametrize("lora", ["{", "[]", '{"targets": 5}', '{"targets": {"ups": 5}}', "[" * 100_000, 5, None])
def test_settings_of_a_damaged_save_are_told_in_words(lora):
    assert all(isinstance(word, str) and len(word) < 200 for word in lora_difference(lora, '{"targets": {}, "r": 4}'))
