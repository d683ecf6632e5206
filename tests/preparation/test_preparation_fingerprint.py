"""What an experiment folder was prepared of: fingerprints, what is set aside, and files that are not of their slice."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from LoraModel.host.index_names import put_away
from LoraModel.preparation import checks
from LoraModel.preparation.fingerprint import (
    MANIFEST,
    STEPS,
    Record,
    Settings,
    describe_recordings,
    fingerprints,
    fingerprints_after,
)
from LoraModel.preparation.steps import WORDS, _Steps

SETTINGS = Settings("v2", 40000, "rmvpe")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.wav").write_bytes(b"one")
    (folder / "sub" / "a.wav").write_bytes(b"two")
    return folder


def described(folder):
    return describe_recordings(sorted(folder.rglob("*.wav"), reverse=True), folder)


def fill(experiment, seconds=1.0, names=("0_0", "0_1"), version="v2", value=0.1):
    """Slices with features and pitch of the right lengths, an index and a filelist."""
    for part in ("0_gt_wavs", "1_16k_wavs", "2a_f0", "2b-f0nsf", "3_feature768", "3_feature256"):
        (experiment / part).mkdir(parents=True, exist_ok=True)
    samples = int(seconds * 16000)
    for name in names:
        for part in ("0_gt_wavs", "1_16k_wavs"):
            soundfile.write(str(experiment / part / f"{name}.wav"), np.full(samples, value), 16000)
        np.save(experiment / "3_feature768" / f"{name}.npy", np.zeros((samples // 320, 768), np.float32))
        for part in ("2a_f0", "2b-f0nsf"):
            np.save(experiment / part / f"{name}.wav.npy", np.full(samples // 160, 200.0))
    (experiment / "added_IVF1_Flat_nprobe_1_voice_v2.index").write_bytes(b"index")
    (experiment / "filelist.txt").write_text("list")
    return experiment


def done(experiment, marks):
    record = Record(experiment)
    for step in STEPS:
        assert record.begin(step, marks) is None or step == "slices"
        record.finish(step, marks)
    return record


def test_recordings_are_known_by_name_size_and_hash(raw):
    first = described(raw)
    assert [one[:2] for one in first] == [["b.wav", 3], ["sub/a.wav", 3]] and all(len(one[2]) == 64 for one in first)
    os.utime(raw / "b.wav", (1, 1))
    assert described(raw) == first
    (raw / "b.wav").write_bytes(b"eno")
    assert described(raw) != first


@pytest.mark.parametrize("change, steps", [
    ({"sample_rate": 48000}, set(STEPS)), ({"f0_method": "pm"}, {"f0"}), ({"version": "v1"}, {"features", "index"}),
    ({"features": "stand-in"}, set(STEPS)),
])
def test_a_setting_changes_the_steps_that_follow_from_it(raw, change, steps):
    old = fingerprints(described(raw), SETTINGS)
    new = fingerprints(described(raw), Settings(**{**vars(SETTINGS), **change}))
    assert {step for step in STEPS if old[step] != new[step]} == steps
    assert fingerprints_after(old["slices"], SETTINGS) == old


def test_other_recordings_set_everything_aside_and_it_can_be_had_back(tmp_path, raw):
    experiment = tmp_path / "voice"
    marks = fingerprints(described(raw), SETTINGS)
    record = Record(experiment)
    assert not record.known and record.begin("slices", marks) is None
    fill(experiment)
    for step in STEPS:
        record.finish(step, marks)
    (experiment / "G_1.pth").write_bytes(b"model")
    again = Record(experiment)
    assert again.known and all(again.is_done(step, marks) for step in STEPS)
    before = {path.relative_to(experiment).as_posix(): path.read_bytes() for path in experiment.rglob("*")
              if path.is_file()}
    (raw / "b.wav").write_bytes(b"another voice")
    other = fingerprints(described(raw), SETTINGS)
    assert not any(again.is_done(step, other) for step in STEPS)
    moved = again.begin("slices", other)
    assert moved is not None and moved.parent == experiment / "set_aside"
    kept = {path.relative_to(moved).as_posix(): path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    assert kept == {put_away(Path(name)).as_posix(): data for name, data in before.items()
                    if name not in ("prepared.json", "G_1.pth")}
    assert sorted(path.name for path in experiment.iterdir()) == ["3_feature256", "G_1.pth", "prepared.json",
                                                                  "set_aside"]
    assert not any(Record(experiment).is_done(step, other) for step in STEPS)
    assert Record(experiment).begin("slices", other) is None  # interrupted and begun again: it continues


def test_another_f0_method_leaves_slices_and_features(tmp_path, raw):
    experiment = tmp_path / "voice"
    marks = fingerprints(described(raw), SETTINGS)
    Record(experiment).begin("slices", marks)
    done(fill(experiment), marks)
    other = fingerprints(described(raw), Settings("v2", 40000, "pm"))
    record = Record(experiment)
    assert record.is_done("slices", other) and record.is_done("features", other) and record.is_done("index", other)
    moved = record.begin("f0", other)
    assert sorted(path.name for path in moved.iterdir()) == ["2a_f0", "2b-f0nsf", "filelist.txt"]


def test_slices_of_another_programs_making_are_not_taken_for_ours(tmp_path, raw):
    experiment = tmp_path / "voice"
    marks = fingerprints(described(raw), SETTINGS)
    Record(experiment).begin("slices", marks)
    record = done(fill(experiment, names=("0_0", "0_1")), marks)
    (experiment / "0_gt_wavs" / "0_1.wav").unlink()
    assert record.is_done("slices", marks)  # the user took one out
    fill(experiment, seconds=2.0)
    assert not record.is_done("slices", marks) and record.begin("slices", marks) is not None
    fill(experiment)  # nobody noted what these were made of
    (experiment / MANIFEST).unlink()
    assert Record(experiment).begin("f0", marks) is None and Record(experiment).begin("slices", marks) is not None


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": 2, "steps": [1]}',
                                  '{"format": 2, "steps": {"slices": {"mark": 1, "done": 2}}}',
                                  "[" * 100000, '{"format": 3, "steps": {}}'])
def test_a_damaged_record_is_an_empty_one(tmp_path, raw, text):
    (tmp_path / MANIFEST).write_text(text)
    marks = fingerprints(described(raw), SETTINGS)
    record = Record(tmp_path)
    assert record.mark("slices") == "" and not any(record.is_done(step, marks) for step in STEPS)
    assert record.begin("slices", marks) is None and json.loads((tmp_path / MANIFEST).read_text())["format"] == 2


def test_what_is_different_is_said_in_both_languages(tmp_path, raw, capsys, monkeypatch):
    assert set(WORDS) == {"recordings", *asdict(SETTINGS)}
    for language, said in (("en", "settings (the recordings, the pitch extraction algorithm): "),
                           ("zh", "设置生成（录音、音高提取算法）：")):
        monkeypatch.setenv("RVC_LORA_LANG", language)
        _Steps(Record(tmp_path), {}, None, ["recordings", "f0_method"])._say(tmp_path / "set_aside")
        assert said in capsys.readouterr().err


def test_the_record_says_what_is_different(tmp_path, raw):
    record = Record(tmp_path / "voice")
    assert record.changed(described(raw), SETTINGS) == []
    record.describe(described(raw), SETTINGS, raw)
    record.begin("slices", fingerprints(described(raw), SETTINGS))
    assert Record(tmp_path / "voice").changed(described(raw), SETTINGS) == []
    assert Record(tmp_path / "voice").source == str(raw) and Record(tmp_path / "none").source == ""
    other = Settings("v2", 48000, "pm")
    (raw / "c.wav").write_bytes(b"three")
    assert Record(tmp_path / "voice").changed(described(raw), other) == ["recordings", "sample_rate", "f0_method"]


def test_files_that_are_not_of_their_slice_are_moved_out_of_the_way(tmp_path):
    experiment = fill(tmp_path / "voice", names=[f"0_{number}" for number in range(8)])
    assert checks.drop_unfit(experiment, "v2") == ([], [], None)
    features = experiment / "3_feature768"
    np.save(features / "9_9.npy", np.zeros((50, 768), np.float32))  # of an earlier, longer set
    os.utime(features / "0_0.npy", (1, 1))  # older than its slice
    np.save(features / "0_1.npy", np.zeros((40, 768), np.float32))  # another number of frames
    np.save(features / "0_2.npy", np.zeros((50, 256), np.float32))
    (features / "0_3.npy").write_bytes((features / "0_3.npy").read_bytes()[:-100])  # half written
    with open(features / "0_4.npy", "wb") as stream:
        np.savez(stream, a=np.zeros((50, 768)))
    np.save(experiment / "2b-f0nsf" / "0_5.wav.npy", np.zeros(50))
    np.save(features / "0_6.npy", np.zeros((51, 768), np.float32))  # RVC's own spare frame
    pitch, unfit, moved = checks.drop_unfit(experiment, "v2")
    assert [path.name for path in pitch] == ["0_5.wav.npy"]
    assert [path.name for path in unfit] == ["0_0.npy", "0_1.npy", "0_2.npy", "0_3.npy", "0_4.npy", "9_9.npy"]
    assert len(list(moved.rglob("*.npy"))) == 7 and sorted(path.name
                                                           for path in features.iterdir()) == ["0_5.npy", "0_6.npy",
                                                                                               "0_7.npy"]
    assert checks.drop_unfit(experiment, "v2") == ([], [], None)


@pytest.mark.parametrize("content", [
    b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x02\x00{(", b"\x93NUMPY\x01\x00\x12\x00{'descr': '<f8', \x00}",
    b"\x93NUMPY\x01\x00\x4e\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }\n  ",
    b"\x93NUMPY\x01\x00\x3e\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (100,), }   \n".ljust(62),
], ids=["empty", "an archive", "half a header", "no header", "larger than a number", "objects"])
def test_pitch_that_is_no_array_is_moved_out_of_the_way(tmp_path, content):
    """Of whatever kind, it neither breaks the preparation off nor is taken for pitch."""
    experiment = fill(tmp_path / "voice", names=["0_0", "0_1"])
    path = experiment / "2b-f0nsf" / "0_0.wav.npy"
    path.write_bytes(content)
    assert checks.has_voice(experiment)
    assert checks.drop_unfit(experiment, "v2").pitch == [path] and not path.exists()


def test_an_index_older_than_its_features_and_data_without_a_voice(tmp_path):
    experiment = fill(tmp_path / "voice")
    assert not checks.index_is_old(experiment, "v2") and checks.has_voice(experiment)
    np.save(experiment / "3_feature768" / "0_1.npy", np.zeros((50, 768), np.float32))
    os.utime(experiment / "added_IVF1_Flat_nprobe_1_voice_v2.index", (1, 1))
    assert checks.index_is_old(experiment, "v2")
    for name in ("0_0", "0_1"):
        np.save(experiment / "2b-f0nsf" / f"{name}.wav.npy", np.zeros(100))
    assert not checks.has_voice(experiment) and checks.has_voice(tmp_path)
