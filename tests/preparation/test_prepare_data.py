"""Experiment folders with the stand-in."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from preparation_data import RECORDINGS, command, contents
from voice_data import ROOT, run

from LoraModel.host.clips import ClipReader
from LoraModel.host.experiment import read_lines, write_clips, write_filelist
from LoraModel.host.index import build_index, find_index
from LoraModel.host.index_names import put_away
from LoraModel.messages import UserError, cli
from LoraModel.preparation import by_stand_in, checks
from LoraModel.preparation.recordings import find_recordings, flat_folder
from LoraModel.scripts import prepare_data


def test_the_command_makes_a_folder_that_rvcs_own_dataset_reads(tmp_path, raw, library):
    out = tmp_path / "logs" / "voice"
    done = run(*command(raw, out), script="scripts/prepare_data.py")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stand-in, not from HuBERT") == 1 and "slices, ready" in done.stdout
    config = json.loads((out / "config.json").read_text())
    assert config == json.loads((ROOT / "LoraModel/demo/base/config.json").read_text())
    rows = [line.split("|") for line in (out / "filelist.txt").read_text().split("\n")]
    assert len(rows) == len(list((out / "0_gt_wavs").iterdir())) >= 3
    for wav, feature, coarse, f0, speaker in rows:
        sound, rate = soundfile.read(wav)
        assert rate == 16000 and 0.5 * rate <= len(sound) <= 4 * rate and np.abs(sound).max() == pytest.approx(
            0.85, abs=0.01)
        frames = len(sound) // 160
        assert np.load(feature).shape == (frames // 2 + 1,
                                          768) and np.load(coarse).shape == np.load(f0).shape == (frames,)
        assert 1 <= np.load(coarse).min() and np.load(coarse).max() <= 255 and speaker == "0"
    assert {row[0].rpartition("/")[2].split("_")[0] for row in rows} == {"0", "1", "2"}
    import faiss

    index = faiss.read_index(str(find_index(out)))
    assert index.d == 768 and index.ntotal == sum(len(np.load(row[1])) for row in rows)
    reader = ClipReader(library, config["data"], True)
    assert len(library.collate(True)([reader.read([Path(part) for part in row[:4]], 0) for row in rows[:2]])) == 9


def test_a_second_run_reuses_what_is_there_and_an_interrupted_one_goes_on(tmp_path, raw, monkeypatch):
    out = tmp_path / "voice"
    real = by_stand_in.extract_features
    monkeypatch.setattr(by_stand_in, "extract_features", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert cli(prepare_data.main, command(raw, out)) == 130
    assert not (out / "filelist.txt").exists()
    monkeypatch.setattr(by_stand_in, "extract_features", real)
    slices = contents(out / "0_gt_wavs")
    assert cli(prepare_data.main, command(raw, out)) == 0
    assert contents(out / "0_gt_wavs") == slices
    made = {name: stamp for name, (stamp, _) in contents(out).items() if name.endswith((".npy", ".wav", ".index"))}
    assert cli(prepare_data.main, command(raw, out)) == 0
    assert made == {name: stamp for name, (stamp, _) in contents(out).items() if name in made}


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, raw, capsys):
    out = tmp_path / "voice"
    (out / "0_gt_wavs").mkdir(parents=True)
    (out / "0_gt_wavs" / "0_0.wav").write_bytes(b"mine")
    before = contents(out)
    assert cli(prepare_data.main, command(raw, out)) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and "--output_dir" in seen.err and contents(out) == before


@pytest.mark.parametrize("change", ["fewer recordings", "another recording of the same name", "rate"])
def test_what_follows_from_other_recordings_or_settings_is_made_anew(tmp_path, raw, change, capsys):
    out, more = tmp_path / "voice", []
    assert cli(prepare_data.main, command(raw, out)) == 0
    before = {name: data for name, (_, data) in contents(out).items()}
    if change == "fewer recordings":
        (raw / "03.wav").unlink()
    elif change == "rate":
        more = ["--sample_rate", "40k"]
    else:
        shutil.copy(RECORDINGS / "04.flac", raw / "01.flac")
    assert cli(prepare_data.main, command(raw, out, *more)) == 0
    assert "were moved to" in capsys.readouterr().err
    kept, = (out / "set_aside").iterdir()
    old = {name: data for name, (_, data) in contents(kept).items()}
    assert old == {put_away(Path(name)).as_posix(): data for name, data in before.items()
                   if name not in ("prepared.json", "config.json")}
    fresh = tmp_path / "fresh"
    assert cli(prepare_data.main, command(raw, fresh, *more)) == 0
    made = {name: data for name, (_, data) in contents(out).items() if name.endswith((".npy", ".wav"))
            and not name.startswith("set_aside")}
    assert made == {name: data for name, (_, data) in contents(fresh).items() if name.endswith((".npy", ".wav"))}


def test_subfolders_are_searched_and_what_is_no_audio_or_broken_is_named(tmp_path, raw, capsys):
    (raw / "day 2" / "deep").mkdir(parents=True)
    (raw / "03.wav").rename(raw / "day 2" / "deep" / "03.wav")
    (raw / "cover.jpg").write_bytes(b"picture")
    out = raw / "logs" / "voice"  # inside the folder of recordings: its slices are no recordings
    assert cli(prepare_data.main, command(raw, out)) == 0
    said = capsys.readouterr().err
    assert "left out, since they are no audio: cover.jpg, notes.txt" in said
    slices = contents(out / "0_gt_wavs")
    assert {name.split("_")[0] for name in slices} == {"0", "1", "2"}
    (raw / "cover.jpg").unlink()
    (raw / "song.asd").write_bytes(b"warp")
    (raw / "04.wav").write_bytes(b"no audio")
    assert cli(prepare_data.main, command(raw, out)) == 0
    assert "left out: 04.wav: " in capsys.readouterr().err and contents(out / "0_gt_wavs") == slices
    assert not (out / "set_aside").exists()


def test_one_recording_is_taken_and_pasted_paths_are_cleaned(tmp_path, raw):
    out = tmp_path / "voice"
    assert cli(prepare_data.main, ["--input_dir", f'"{raw / "01.flac"}" ', "--output_dir", f"'{out}' "]) == 0
    assert {name.split("_")[0] for name in contents(out / "0_gt_wavs")} == {"0"}


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_utf8_work(tmp_path, raw, capsys):
    os.rename(os.fsencode(str(raw / "01.flac")), os.fsencode(str(raw)) + b"/\xc4\xe3.flac")
    out = tmp_path / "voice"
    for _ in range(2):
        assert cli(prepare_data.main, command(raw, out)) == 0, capsys.readouterr().err
    assert not (out / "set_aside").exists() and len(read_lines(out / "filelist.txt")) >= 3


def test_features_of_other_slices_are_made_anew_and_data_without_a_voice_is_said(tmp_path, raw, capsys, monkeypatch):
    out = tmp_path / "voice"
    monkeypatch.setattr(by_stand_in.features, "pitch", lambda audio, frames: np.zeros(frames))
    assert cli(prepare_data.main, command(raw, out)) == 0
    assert "no voiced frame" in capsys.readouterr().err
    features = out / "3_feature768"
    right = {name: data for name, (_, data) in contents(features).items()}
    names = sorted(right)
    os.utime(features / names[0], (1, 1))
    np.save(features / names[1], np.zeros((7, 768), np.float32))
    np.save(features / "9_9.npy", np.zeros((7, 768), np.float32))
    (features / names[2]).unlink()
    assert cli(prepare_data.main, command(raw, out)) == 0
    assert "3 files of pitch and features do not belong to their slices" in capsys.readouterr().err
    assert {name: data for name,
            (_, data) in contents(features).items()} == right and not checks.index_is_old(out, "v2")


def test_a_speaker_that_the_base_has_not_is_refused(tmp_path, raw, capsys):
    assert cli(prepare_data.main, command(raw, tmp_path / "out", "--speaker", 500)) == 2
    assert "speaker 500" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_filelists_have_forward_slashes_and_lines_end_at_line_feeds_alone(tmp_path):
    from pathlib import PureWindowsPath

    write_clips(tmp_path / "list.txt", [([PureWindowsPath(r"C:\RVC\logs\mute\0_gt_wavs\mute40k.wav")], 3),
                                        ([Path("/a\u2028b.wav")], 0)])
    assert read_lines(tmp_path / "list.txt") == ["C:/RVC/logs/mute/0_gt_wavs/mute40k.wav|3", "/a\u2028b.wav|0"]


def test_no_f0_and_another_rate(tmp_path, raw, library):
    out = tmp_path / "voice"
    assert cli(prepare_data.main, command(raw, out, "--no_f0", "--sample_rate", "40k", "--speaker", 3)) == 0
    assert not (out / "2a_f0").exists()
    rows = [line.split("|") for line in (out / "filelist.txt").read_text().split("\n")]
    assert all(len(row) == 3 and row[2] == "3" and soundfile.info(row[0]).samplerate == 40000 for row in rows)
    assert json.loads((out / "config.json").read_text()) == library.config_for("v2", 40000)


@pytest.mark.parametrize("more, said", [
    (["--version", "v1"], "v1 takes 256"), (["--f0_method", "rmvpe"], "rmvpe"), (["--sample_rate", "44100"], "44100"),
    (["--workers", "0"], "--workers"),
    (["--config_json", "nowhere.json"], "nowhere.json"), (["--rvc_root", "/nonexistent"], "no RVC checkout"),
    (["--sample_rate", "40k", "--config_json", str(ROOT / "LoraModel/demo/base/config.json")], "16000 Hz"),
])
def test_bad_options_write_nothing(tmp_path, raw, more, said, capsys):
    assert cli(prepare_data.main, command(raw, tmp_path / "out", *more)) == 2
    seen = capsys.readouterr()
    assert said in seen.err and seen.out == "" and not (tmp_path / "out").exists() and len(seen.err.splitlines()) == 1


@pytest.mark.parametrize("change, said", [
    (lambda c: c["data"].update(hop_length=7), "hop_length is 7"), (lambda c: c.pop("model"), "lacks 'model'"),
    (lambda c: c["data"].update(sampling_rate="16000"), "no usable configuration"),
])
def test_a_configuration_of_nonsense_is_named_before_anything_is_made(tmp_path, raw, change, said, capsys):
    config = json.loads((ROOT / "LoraModel/demo/base/config.json").read_text(encoding="utf-8"))
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert cli(prepare_data.main, command(raw, tmp_path / "out", "--config_json", tmp_path / "config.json")) == 2
    seen = capsys.readouterr().err
    assert said in seen and len(seen.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_named_before_the_work(tmp_path, raw, monkeypatch, capsys):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(prepare_data, "prepare", lambda *given: pytest.fail("the work was begun"))
    for place in (tmp_path / "file" / "voice", tmp_path / ("あ" * 82)):
        assert cli(prepare_data.main, command(raw, place)) == 2
        assert "choose another --output_dir" in capsys.readouterr().err


def test_bad_input_gets_one_line(tmp_path, raw, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "04.wav").write_bytes(b"no audio")
    assert cli(prepare_data.main, command(tmp_path / "broken", tmp_path / "a")) == 2
    assert "that can be read" in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "a").exists()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.cue").write_bytes(b"")
    for folder, said in ((tmp_path / "empty", "holds no audio"), (tmp_path / "none", "no folder"),
                         (tmp_path / "broken" / "04.wav", "04.wav cannot be prepared: it is no audio"),
                         (tmp_path / "a.cue", "a.cue cannot be prepared: it is no recording")):
        assert cli(prepare_data.main, command(folder, tmp_path / "b")) == 2
        assert said in capsys.readouterr().err
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(str(silent / "a.wav"), np.zeros(32000), 16000)
    assert cli(prepare_data.main, command(silent, tmp_path / "c")) == 2
    assert "no sound" in capsys.readouterr().err


def test_slices_join_short_pauses_and_cut_long_sounds():
    rate = 16000
    tone = lambda seconds: 0.5 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)  # noqa: E731
    quiet = lambda seconds: np.zeros(int(seconds * rate))  # noqa: E731
    audio = np.concatenate([tone(1), quiet(0.2), tone(1), quiet(1), tone(9), quiet(1), tone(0.2)]).astype(np.float32)
    found = [(stop - start) / rate for start, stop in by_stand_in.slices(audio, rate)]
    assert found == pytest.approx([2.2, 3, 3, 3], abs=0.1)


def test_the_index_follows_rvcs_recipe(tmp_path):
    import faiss

    folder = tmp_path / "voice"
    (folder / "3_feature256").mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(200, 256)).astype(np.float32)
    np.save(folder / "3_feature256" / "0.npy", vectors[:120])
    np.save(folder / "3_feature256" / "1.npy", vectors[120:])
    path = build_index(folder, "v1")
    assert path.name == "added_IVF5_Flat_nprobe_1_voice_v1.index" and find_index(folder) == path
    index = faiss.read_index(str(path))
    assert (index.d, index.ntotal, faiss.extract_index_ivf(index).nprobe) == (256, 200, 1)
    stored = index.reconstruct_n(0, 200)
    assert np.array_equal(stored[np.lexsort(stored.T)], vectors[np.lexsort(vectors.T)])
    with pytest.raises(UserError, match="no features"):
        build_index(tmp_path, "v2")


def test_mute_entries_are_added_where_the_checkout_has_them(tmp_path):
    out, mute = tmp_path / "voice", tmp_path / "mute"
    for folder, stem in ((out, "0_0"), (mute, "mute")):
        for part, name in (("0_gt_wavs", f"{stem if folder == out else 'mute40k'}.wav"),
                           ("3_feature768", f"{stem}.npy"),
                           ("2a_f0", f"{stem}.wav.npy"), ("2b-f0nsf", f"{stem}.wav.npy")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / name).write_bytes(b"")
    assert write_filelist(out, "v2", True, 0, mute, "40k") == 1
    lines = (out / "filelist.txt").read_text().split("\n")
    assert len(lines) == 3 and sum(str(mute / "0_gt_wavs" / "mute40k.wav") in line for line in lines) == 2
    write_filelist(out, "v2", True, 0, mute, "48k")
    assert len((out / "filelist.txt").read_text().split("\n")) == 1


def test_only_the_recordings_are_handed_to_rvc(raw):
    files = find_recordings(raw)
    with flat_folder(files) as folder:
        assert sorted(file.name for file in folder.iterdir()) == ["01.flac", "02.flac", "03.wav"]
        assert (folder / "01.flac").read_bytes() == (raw / "01.flac").read_bytes()
    assert not folder.exists()
    (raw / "notes.txt").unlink()
    with flat_folder(files) as folder:
        assert folder == raw
