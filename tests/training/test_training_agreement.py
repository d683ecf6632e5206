"""Features and pitch that are not those of their clip, clips of several people, and levels: told before anything is
trained."""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from refused_runs import _made, refused, voice  # noqa: F401  (fixtures)
from training_data import BASE, DEMO, RATE, make_experiment, make_mute, one_thread, write_filelist
from training_data import tiny_settings as settings

from LoraModel.host.clips import ClipReader
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.pitch_scale import coarse_pitch
from LoraModel.preparation.fingerprint import slice_sizes
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.data_loader import ClipSet, read_experiment

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
PARTS = ("3_feature768", "2a_f0", "2b-f0nsf")


@pytest.fixture(scope="module")
def info(library):
    return load_base(BASE, library, config_json=DEMO / "base" / "config.json").info


def change(voice, part, make, name="1_0"):
    path = voice / part / (f"{name}.npy" if part == PARTS[0] else f"{name}.wav.npy")
    np.save(str(path), make(np.load(str(path))))


def later(path, seconds):
    moment = path.stat().st_mtime + seconds
    os.utime(str(path), (moment, moment))


# Lengths and values


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("make", [lambda a: a[: len(a) // 2], lambda a: np.concatenate([a, a])], ids=["half", "twice"])
def test_another_number_of_frames(voice, tmp_path, refused, part, make):
    change(voice, part, make)
    error = refused(settings(voice, tmp_path / "out"))
    assert "its clip 1_0.wav of 100: it belongs to another recording" in error and part in error


@pytest.mark.parametrize("off", [-2, 2])
def test_a_frame_or_two_is_rvcs_own_difference(voice, tmp_path, off):
    for part in PARTS[1:]:
        change(voice, part, lambda a: a[:off] if off < 0 else np.concatenate([a, a[-off:]]))
    change(voice, PARTS[0], lambda a: a[:-2])  # HuBERT's own length: one frame of 20 ms fewer
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))


@pytest.mark.parametrize("part, make, what", [
    (PARTS[2], lambda a: np.log(np.maximum(a, 1)), "which is no voice in Hz"),
    (PARTS[2], lambda a: a * 1e10, "which is no voice in Hz"),
    (PARTS[2], lambda a: -a, "which is no voice in Hz"), (PARTS[2], lambda a: a * 1.5, "does not follow from"),
    (PARTS[2], lambda a: a[::-1], "does not follow from"), (PARTS[1], np.zeros_like, "does not follow from"),
    (PARTS[2], np.zeros_like, "does not follow from"),
])
def test_pitch_that_is_none(voice, tmp_path, refused, part, make, what):
    change(voice, part, make)
    error = refused(settings(voice, tmp_path / "out"))
    assert what in error and "1_0.wav.npy" in error


def test_the_two_pitch_folders_exchanged(voice, tmp_path, refused):
    (voice / PARTS[1]).rename(voice / "x")
    (voice / PARTS[2]).rename(voice / PARTS[1])
    (voice / "x").rename(voice / PARTS[2])
    assert "the two folders are exchanged" in refused(settings(voice, tmp_path / "out"))


def test_the_coarse_scale_is_rvcs():
    hz = np.array([0, 49, 50, 150, 440, 1100, 3000.0])
    assert coarse_pitch(hz).tolist() == [1, 1, 1, 37, 122, 255, 255]


def test_no_voiced_frame_at_all_is_said(voice, tmp_path, capsys):
    for name in ("0_0", "1_0", "2_0", "3_0"):
        change(voice, PARTS[1], np.ones_like, name)
        change(voice, PARTS[2], np.zeros_like, name)
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))
    assert "no frame of all the clips" in capsys.readouterr().err


# Times and slices


@pytest.mark.parametrize("part", PARTS)
def test_a_file_older_than_its_clip(voice, tmp_path, refused, part):
    change(voice, part, lambda a: a)
    for path in voice.rglob("*_0.*"):
        if path.parent.name != part or not path.name.startswith("1_0"):
            later(path, 3600)
    error = refused(settings(voice, tmp_path / "out"))
    assert f"{part}/1_0." in error and "is older than its clip 1_0.wav: it was extracted from other recordings" in error


def test_a_copy_without_its_times_is_taken(voice, tmp_path):
    """Copied file by file, the clips last: features are older than their clips, without a pause between them."""
    files = [path for part in (*PARTS, "0_gt_wavs") for path in sorted((voice / part).iterdir())]
    for number, path in enumerate(files):
        os.utime(str(path), (1e9 + number, 1e9 + number))
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))


def test_slices_without_features(voice, tmp_path, refused, capsys):
    shutil.copyfile(str(voice / "0_gt_wavs" / "0_0.wav"), str(voice / "0_gt_wavs" / "9_0.wav"))
    # no filelist: each slice counts
    assert "9_0.npy is listed but missing" in refused(settings(voice, tmp_path / "out"))
    (voice / "0_gt_wavs" / "9_0.wav").unlink()
    write_filelist(voice)
    for number in range(2):
        shutil.copyfile(str(voice / "0_gt_wavs" / "0_0.wav"), str(voice / "0_gt_wavs" / f"9_{number}.wav"))
    assert "2 of 6 slices" in refused(settings(voice, tmp_path / "out"))


def test_left_over_and_changed_slices(voice, tmp_path, refused):
    def note(sizes):
        (voice / "prepared.json").write_text(
            json.dumps({"format": 2, "steps": {"slices": {"mark": "a", "done": True, "sizes": sizes}}}))

    sizes = slice_sizes(voice)
    note({name: size for name, size in sizes.items() if "3_0" not in name})
    assert "3_0.wav was not made by the preparation" in refused(settings(voice, tmp_path / "out"))
    note({name: size + ("2_0" in name) for name, size in sizes.items()})
    assert "2_0.wav was changed after the preparation" in refused(settings(voice, tmp_path / "out"))
    note(sizes)
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))


@pytest.mark.parametrize("text", ["{", "[]", '{"steps": 3}', "[" * 5000])
def test_a_damaged_record_of_the_preparation_counts_as_none(voice, tmp_path, text):
    (voice / "prepared.json").write_text(text)
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))


# Speakers


def with_speakers(voice, *speakers):
    path = write_filelist(voice)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[: line.rindex("|") + 1] + speaker for line, speaker in zip(lines, speakers)))


def test_a_list_of_another_speaker_than_the_row_that_is_trained_is_told(voice, tmp_path, capsys):
    with_speakers(voice, "3", "3", "3", "3")
    note = ("the filelist names speaker 3, and the voice is trained on row 0 of the base: --speaker 3 would take "
            "that row")
    prepare(TrainConfig(**settings(voice, tmp_path / "out")))
    assert note in capsys.readouterr().err
    for chosen in ({"speaker": 3}, {"speaker_id": 3}):
        prepare(TrainConfig(**settings(voice, tmp_path / "out", **chosen)))
        assert "names speaker" not in capsys.readouterr().err


def test_two_people_in_one_list(voice, tmp_path, refused, library, info):
    with_speakers(voice, "0", "0", "3", "3")
    error = refused(settings(voice, tmp_path / "out"))
    assert "has clips of 2 speakers (0, 3), an adapter is the voice of one: choose one with --speaker_id" in error
    assert "has no clip of speaker 5" in refused(settings(voice, tmp_path / "out"), "--speaker_id", "5")
    clips = read_experiment(voice, library, info, 3).clips
    assert [clip.wav.name for clip in clips] == ["2_0.wav", "3_0.wav"]


@pytest.mark.parametrize("speaker, what", [("500", "is of speaker 500, the base has 16"), ("²", "is no line of RVC's"),
                                           ("-1", "is no line of RVC's"),
                                           ("١", "is no line of RVC's"), ("9" * 5000, "is no line of RVC's")])
def test_speakers_that_are_none(voice, tmp_path, refused, speaker, what):
    with_speakers(voice, "0", speaker, "0", "0")
    error = refused(settings(voice, tmp_path / "out"))
    assert what in error and len(error) < 600


def test_a_line_without_end(voice, tmp_path, refused):
    for line in ("x" * 5_000_000, "|".join(["x" * 400_000] * 4 + ["0"])):
        (voice / "filelist.txt").write_text(line)
        assert len(refused(settings(voice, tmp_path / "out"))) < 600


# Files of every name


def test_clips_of_silence_from_windows(voice, tmp_path, library, info):
    """Our own preparation writes doubled backslashes there."""
    make_mute(tmp_path / "mute")
    names = ["0_gt_wavs\\\\mute16k.wav", "3_feature768\\\\mute.npy", "2a_f0\\\\mute.wav.npy",
             "2b-f0nsf\\\\mute.wav.npy"]
    write_filelist(voice, ["|".join(f"D:\\\\RVC\\\\logs\\\\mute\\\\{name}" for name in names) + "|0"])
    experiment = read_experiment(voice, library, info)
    assert [clip.mute for clip in experiment.clips] == [False] * 4 + [True]
    assert experiment.clips[-1].wav == tmp_path / "mute" / "0_gt_wavs" / "mute16k.wav"
    shutil.rmtree(str(tmp_path / "mute"))
    assert len(read_experiment(voice, library, info).clips) == 4


@pytest.mark.parametrize("name", ["a.wav.b", "line\u2028separator", "form\x0cfeed", "声音"])
def test_paths_of_every_kind(tmp_path, library, info, name):
    voice = make_experiment(tmp_path / name / "voice", clips=2, seconds=0.8)
    write_filelist(voice)
    experiment = read_experiment(voice, library, info)
    assert len(ClipSet(experiment.clips, library, experiment.data, True)) == 2


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are POSIX")
def test_a_folder_whose_name_is_no_utf8_is_trained_on(tmp_path):
    """As a zip from a Chinese Windows leaves it."""
    odd = tmp_path / os.fsdecode(b"\xd6\xd0")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    voice = make_experiment(tmp_path / "voice", clips=3, seconds=0.8)
    (voice / "filelist.txt").write_text("")
    (voice / "filelist.txt").unlink()
    shutil.move(str(voice), str(odd / "voice"))
    trainer = prepare(TrainConfig.from_dict(settings(odd / "voice", tmp_path / "out", epochs=1)))
    assert trainer.run() is True and trainer.adapter_path.is_file()
    with pytest.raises(UserError, match="no UTF-8 name"):  # before the work
        prepare(TrainConfig.from_dict(settings(odd / "voice", odd / "out", epochs=1)))


def test_nothing_is_written_beside_the_clips_and_no_cache_is_read(voice, tmp_path, library, info):
    """A clip called X.WAV, one outside the folder, and a spectrogram beside it that is a program: all are as they
    were."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/exploded",)

    lines = write_filelist(voice).read_text().splitlines()
    for number, target in ((0, voice / "0_gt_wavs" / "LOUD.WAV"), (1, outside / "mine.wav")):
        shutil.move(str(voice / "0_gt_wavs" / f"{number}_0.wav"), str(target))
        lines[number] = lines[number].replace(f"{voice}/0_gt_wavs/{number}_0.wav", str(target))
    (voice / "filelist.txt").write_text("\n".join(lines))
    torch.save(Bomb(), str(outside / "mine.spec.pt"))
    torch.save(torch.zeros(513, 100), str(voice / "0_gt_wavs" / "2_0.spec.pt"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", valid_fraction=0.3)))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")
            if path.is_file()} == before
    assert not (tmp_path / "exploded").exists()
    specs = [trainer.train.batch([i]).spec for i in range(len(trainer.train))]
    assert len(specs) == 3 and all(float(spec.max()) > 0.1 for spec in specs)


@pytest.mark.parametrize("f0", [True, False])
def test_a_clip_is_as_rvcs_own_dataset_gives_it(voice, tmp_path, library, info, f0):
    from types import SimpleNamespace

    module, experiment = library.module("data_utils"), read_experiment(voice, library, info)
    change(voice, PARTS[0], lambda a: a[:-2])  # shorter than the sound
    names = [["0_gt_wavs/1_0.wav", "3_feature768/1_0.npy", "2a_f0/1_0.wav.npy",
              "2b-f0nsf/1_0.wav.npy"][: 4 if f0 else 2]]
    lines = ["|".join([str(voice / part) for part in names[0]] + ["0"])]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    cls = module.TextAudioLoaderMultiNSFsid if f0 else module.TextAudioLoader
    theirs = cls(str(tmp_path / "list.txt"), SimpleNamespace(**experiment.data))[0]
    ours = ClipReader(library, experiment.data, f0).read([voice / part for part in names[0]], 0)
    assert len(ours) == len(theirs) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs))


# Arrays


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["archive", "texts", "huge", "cut", "header", "objects", "empty"])
def test_arrays_that_are_none(voice, tmp_path, refused, part, kind):
    path = voice / part / ("1_0.npy" if part == PARTS[0] else "1_0.wav.npy")
    if kind == "archive":
        with open(str(path), "wb") as stream:
            np.savez(stream, a=np.zeros((51, 768)))
    elif kind in ("texts", "objects"):
        np.save(str(path),
                np.array([["a"]] * 51 if kind == "texts" else [None] * 51, dtype=None if kind == "texts" else object))
    elif kind == "huge":
        with open(str(path), "wb") as stream:
            np.lib.format.write_array_header_1_0(stream,
                                                 {"descr": "<f4", "fortran_order": False, "shape": (2**40, 768)})
    elif kind == "header":
        path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"(" * 1000)
    else:
        path.write_bytes(path.read_bytes()[:-5] if kind == "cut" else b"")
    assert "cannot be read as an array" in refused(settings(voice, tmp_path / "out"))


# Levels


def scaled(voice, factor, clip=None, names=("0_0", "1_0")):
    for name in names:
        path = voice / "0_gt_wavs" / f"{name}.wav"
        audio, _ = soundfile.read(str(path), dtype="float32")
        audio = audio * factor
        stamp = path.stat().st_mtime
        soundfile.write(str(path), audio if clip is None else np.clip(audio, -clip, clip), RATE, subtype="FLOAT")
        os.utime(str(path), (stamp, stamp))


@pytest.mark.parametrize("factor, clip, what", [(19524, None, "far too loud"), (30, 0.9, "clipped"),
                                                (0, None, "silent"), (1e-5, None, "silent")])
def test_levels_are_said(voice, tmp_path, capsys, factor, clip, what):
    scaled(voice, factor, clip)
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))
    err = capsys.readouterr().err
    assert "warning: 2 of 4 clips (0_0.wav, 1_0.wav) are" in err and what in err


def test_ordinary_levels_need_no_word(voice, tmp_path, capsys):
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))
    assert "warning" not in capsys.readouterr().err


def test_silence_alone_is_refused(voice, tmp_path):
    scaled(voice, 0, names=("0_0", "1_0", "2_0", "3_0"))
    with pytest.raises(UserError, match="all 4 clips of .* are silent"):
        prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")))
    assert not Path(tmp_path / "out").exists()
