"""The evaluation command from recordings to report, on the demo's base, and what it says of what cannot be
evaluated."""

import base64
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from html_page import Page
from voice_data import BASE, ROOT, adapters, run  # noqa: F401  (a fixture)

from bench import quality
from LoraModel.demo.demo import RECORDINGS
from LoraModel.evaluation import compare, evaluate, recordings, results
from LoraModel.judges import SpeechQuality
from LoraModel.messages import UserError, cli

TEXTURE = {"global_variance", "frame_contrast", "band_contrast", "modulation_db", "high_db", "hnr_db"}
DISTANCES = {"mel_l1", "mcd_db", "f0_rmse_cents", "pitch_correlation", "voicing_error", "content"} | TEXTURE


def cut(name, path, rate=16000, seconds=1.0):
    """A short piece of one of the demo's recordings, as stereo at `rate` Hz."""
    audio = soundfile.read(str(RECORDINGS / name), dtype="float32")[0][: int(16000 * seconds)]
    audio = np.repeat(audio, rate // 16000)
    soundfile.write(str(path), np.stack([audio, audio], 1), rate)
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two recordings of the target at two rates, one of another speaker."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "target").mkdir()
    cut("reference/01.flac", folder / "target" / "a.wav")
    cut("reference/02.flac", folder / "target" / "b.wav", 48000)
    (folder / "heldout.txt").write_text(
        f"{folder / 'target' / 'a.wav'}|features.npy|pitch.npy|f0.npy|0\ntarget/b.wav|x|y|z|0\n", encoding="utf-8")
    cut("source/01.flac", folder / "source.wav")
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory, places, adapters):  # noqa: F811
    """One run of the command: the base, and an adapter at strength 0, which changes nothing."""
    out = tmp_path_factory.mktemp("out")
    arguments = ["--base", BASE, "--label", "the <base>", "--adapter", adapters[0], "--strength", "0", "--recordings",
                 places / "target",
                 "--sources", places / "source.wav", "--out", out, "--json", out / "copy" / "figures.json",
                 "--no_dnsmos"]
    finished = run(*arguments, script="evaluation/evaluate.py")
    assert finished.returncode == 0, finished.stderr
    return out, finished, json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_every_model_has_figures_of_every_clip(done):
    _, _, contents = done
    assert [model["label"] for model in contents["models"]] == ["real recordings", "the <base>", "one"]
    assert [model["kind"] for model in contents["models"]] == ["real", "base", "adapter"]
    real, base, adapter = contents["models"]
    for model in (base, adapter):
        assert [clip["clip"] for clip in model["recordings"]["clips"]] == ["a.wav", "b.wav"]
        assert all(DISTANCES | {"similarity", "clip"} == set(clip) for clip in model["recordings"]["clips"])
        assert all({"transpose", "pitch_correlation", "voicing_error", "content", "to_target", "to_source", "leak",
                    "clip"} | TEXTURE == set(clip) for clip in model["sources"]["clips"])
        for key in DISTANCES | {"similarity"}:
            mean = model["recordings"]["means"][key]
            values = [clip[key] for clip in model["recordings"]["clips"] if clip[key] is not None]
            assert mean["clips"] == len(values) and mean["mean"] == pytest.approx(np.mean(values))
            assert mean["low"] <= mean["mean"] <= mean["high"]
    assert set(real["recordings"]["means"]) == {"similarity"}
    assert set(real["sources"]["means"]) == {"to_target"} | TEXTURE
    assert real["recordings"]["means"]["similarity"]["mean"] > base["recordings"]["means"]["similarity"]["mean"]


def test_strength_0_is_the_base(done):
    _, _, contents = done
    _, base, adapter = contents["models"]
    assert base["recordings"]["clips"] == adapter["recordings"]["clips"] and base["sources"]["clips"] == adapter[
        "sources"]["clips"]
    assert base["recordings"]["difference"] == {}
    assert all(figure["mean"] == figure["low"] == figure["high"] == 0
               for figure in adapter["recordings"]["difference"].values())


def test_each_model_is_heard_with_the_noise_that_is_named_after_it(places, adapters, tmp_path, capsys):  # noqa: F811
    arguments = ["--base", BASE, "--model", BASE, "--label", "less", "--noise", "0.3", "--adapter", adapters[0],
                 "--recordings", places / "target" / "a.wav", "--out", tmp_path, "--no_dnsmos", "--no_similarity"]
    assert cli(evaluate.main, list(map(str, arguments))) == 0
    models = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["models"][1:]
    assert [model["about"]["noise"] for model in models] == [1, 0.3, 1]
    base, less, _ = (model["recordings"]["clips"] for model in models)
    assert base[0]["mel_l1"] != less[0]["mel_l1"]


def test_json_says_what_was_measured(done):
    out, _, contents = done
    assert json.loads((out / "copy" / "figures.json").read_text(encoding="utf-8")) == contents
    assert contents["format"] == results.FORMAT and contents["format_version"] == 1
    about = contents["models"][2]["about"]
    assert about["strength"] == 0 and about["sample_rate"] == 16000 and len(about["base_hash"]) == 64 and about[
        "base"] == BASE.stem
    assert {"rvc_lora", "python", "torch", "numpy"} <= set(contents["settings"]["versions"])
    assert contents["settings"]["features"] == "stand-in" and contents["settings"]["seed"] == 0
    assert [entry["seconds"] for entry in contents["recordings"]] == [1.0, 1.0]


def test_terminal_shows_the_table_and_the_time_left(done):
    _, finished, _ = done
    assert ("mel-cepstral distortion [dB]" in finished.stdout and "the <base>" in finished.stdout and "similarity to "
            "the source" in finished.stdout)
    assert "report.html" in finished.stdout and "2 recordings" in finished.stdout
    assert "9/9" in finished.stderr and "Traceback" not in finished.stderr and finished.stderr.count("stand-in") == 1


def test_report_stands_alone_and_plays_everything(done):
    out, _, _ = done
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.stands_alone() and "http" not in text
    sounds = [soundfile.read(io.BytesIO(base64.b64decode(tag["src"].split(",", 1)[1]))) for tag in page.tags("audio")]
    assert len(sounds) == len(page.tags("img")) == 3 * 3  # three recordings; as they are, by the base, by the adapter
    assert all(rate == 16000 and len(audio) == 16000 and np.abs(audio).max() > 0.01 for audio, rate in sounds)
    np.testing.assert_array_equal(sounds[1][0], sounds[2][0])
    shown = " ".join(page.text)
    for expected in ("the <base>", "real recording", "mel-cepstral distortion", "梅尔倒谱失真", "a.wav", "source.wav",
                     "base_hash"):
        assert expected in shown, expected
    assert text.count("<figure") == 25 and text.count('class="whisker"') > 10


def test_in_process_a_filelist_gives_the_same_figures(done, places, tmp_path, capsys):
    _, _, contents = done
    assert cli(evaluate.main, ["--model", str(BASE), "--recordings", str(places / "heldout.txt"), "--out",
                               str(tmp_path), "--no_dnsmos", "--no_similarity", "--players", "0"]) == 0
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["models"][1]
    assert found["kind"] == "model" and found["sources"]["clips"] == []
    for ours, theirs in zip(found["recordings"]["clips"], contents["models"][1]["recordings"]["clips"]):
        assert ours == {key: pytest.approx(theirs[key]) if key in DISTANCES else theirs[key] for key in ours}
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).tags("audio") == []
    capsys.readouterr()


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are text there")
def test_names_that_are_no_utf8_are_evaluated_and_shown(tmp_path):
    """From folders, from filelists, as a model's file: in the table, in report.json and in report.html."""
    name = os.fsdecode(b"d\xe9j\xe0.wav")
    (tmp_path / "target").mkdir()
    sound = cut("reference/01.flac", tmp_path / "a.wav", seconds=0.6)
    shutil.copy(str(sound), str(tmp_path / "target" / name))
    shutil.copy(str(sound), str(tmp_path / "target" / "two\u2028lines.wav"))
    lines = f"target/{name}|x|0\ntarget/two\u2028lines.wav|x|0\n"
    (tmp_path / "heldout.txt").write_bytes(lines.encode("utf-8", "surrogateescape"))
    model = tmp_path / os.fsdecode(b"voi\xe9.pth")
    shutil.copy(str(BASE), str(model))
    shutil.copy(str(BASE.with_name("config.json")), str(tmp_path))
    for number, place in enumerate(("target", "heldout.txt")):
        out = tmp_path / f"out{number}"
        finished = run("--model", model, "--recordings", tmp_path / place, "--out", out, "--no_dnsmos",
                       "--no_similarity", script="evaluation/evaluate.py")
        assert finished.returncode == 0, finished.stderr
        contents = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert [clip["clip"] for clip in contents["recordings"]] == ["d\\udce9j\\udce0.wav", "two\\u2028lines.wav"]
        assert contents["recordings"][0]["path"] == str(tmp_path / "target" / name)
        assert contents["models"][1]["label"] == "voi\\udce9"
        assert "d\\udce9j\\udce0.wav" in (out / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- what cannot be evaluated

def bad_recording(kind, folder):
    path = folder / "bad.wav"
    if kind == "damaged":
        path.write_bytes(b"no audio")
    elif kind == "short":
        soundfile.write(str(path), 0.1 * np.ones(4000), 16000)
    elif kind == "silent":
        soundfile.write(str(path), np.zeros(32000), 16000)
    elif kind == "empty list":
        path = folder / "list.txt"
        path.write_text("\n")
    elif kind == "empty folder":
        path = folder / "empty"
        path.mkdir()
    return path


@pytest.mark.parametrize("kind, said", [("damaged", "bad.wav"), ("short", "0.25 s"), ("silent", "is silent"),
                                        ("missing", "there is no recording"),
                                        ("empty list", "lists no recording"), ("empty folder", "no audio files")])
def test_recordings_that_cannot_be_used_get_one_line(kind, said, tmp_path, capsys):
    arguments = ["--base", str(BASE), "--recordings", str(bad_recording(kind, tmp_path)), "--out",
                 str(tmp_path / "out"), "--no_dnsmos", "--no_similarity"]
    assert cli(evaluate.main, arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and said in lines[0] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, said", [
    ([], "nothing to evaluate"),
    (["--adapter", "a.safetensors"], "has no base"),
    (["--label", "x", "--base", str(BASE)], "--label belongs to a model"),
    (["--base", str(BASE), "--strength", "0.5"], "--strength is an adapter's"),
    (["--noise", "0.5", "--base", str(BASE)], "--noise belongs to a model"),
    (["--base", str(BASE), "--noise", "0"], "argument --noise"),
    (["--base", "nowhere.pth"], "nowhere.pth"),
    (["--base", str(BASE), "--adapter", "nowhere.safetensors"], "nowhere.safetensors"),
    (["--base", str(BASE), "--adapter", str(BASE)], "f0G16k.pth"),
    (["--base", str(BASE), "--base", str(BASE)], "two models are called 'f0G16k'"),
    (["--base", str(BASE), "--index", "nowhere.index"], "nowhere.index"),
    (["--base", str(BASE), "--players", "-1"], "--players -1"),
    (["--base", str(BASE), "--index_rate", "2"], "argument --index_rate: '2' must be between 0 and 1"),
    (["--base", str(BASE), "--f0_method", "crepe"], "crepe"),
])
def test_bad_options_get_one_line_before_anything_is_read(arguments, said, tmp_path, capsys):
    assert cli(evaluate.main, [*arguments, "--recordings", str(tmp_path / "nowhere"), "--out",
                               str(tmp_path / "out")]) == 2
    seen = capsys.readouterr()
    assert seen.err.count("error: ") == 1 and said in seen.err and len(seen.err.splitlines()) == 1 and seen.out == ""


def test_a_folder_that_cannot_be_made_gets_one_line(places, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli(evaluate.main, ["--base", str(BASE), "--recordings", str(places / "target"), "--out",
                               str(tmp_path / "file" / "out"), "--no_dnsmos", "--no_similarity"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_missing_package_leaves_its_figure_out_with_a_note(places, tmp_path, monkeypatch, capsys):
    def missing(self):
        raise UserError("speech quality (DNSMOS) needs speechmos: run `pip install onnxruntime speechmos`")

    monkeypatch.setattr(SpeechQuality, "__init__", missing)
    assert cli(evaluate.main, ["--base", str(BASE), "--recordings", str(places / "target" / "a.wav"), "--out",
                               str(tmp_path), "--no_similarity"]) == 0
    contents = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert any("pip install onnxruntime speechmos" in note["en"] for note in contents["notes"])
    assert "left out" in capsys.readouterr().err and set(contents["models"][1]["recordings"]["means"]) <= DISTANCES


def test_training_and_conversion_import_nothing_of_it():
    code = ("import sys, LoraModel.training.trainer, LoraModel.inference.infer_lora, LoraModel.scripts.prepare_data, "
            "LoraModel.scripts.merge_lora\n"
            "found = [name for name in sys.modules if name.split('.')[0] in ('speechmos', 'onnxruntime', "
            "'resemblyzer') or 'evaluation' in name]\n"
            "assert not [name for name in found if name.startswith(('LoraModel', 'speechmos', 'onnx', 'resem'))], "
            "found")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=str(ROOT))


# ---------------------------------------------------------------- parts

def recording(hz, name="x", seconds=1.0):
    t = np.arange(int(16000 * seconds)) / 16000
    audio = 0.15 * sum(np.sin(2 * np.pi * k * hz * t + k * k) / k for k in range(1, 20))
    return recordings.Recording(name, Path(name), audio.astype(np.float32))


def test_transposition_is_the_difference_of_the_median_pitches():
    assert compare.transposition(recording(110), [recording(220), recording(220)]) == 12
    assert compare.transposition(recording(240), [recording(180)]) == -5  # 12 log2(180 / 240) = -4.98
    silent = recordings.Recording("s", Path("s"), np.zeros(16000, np.float32))
    assert compare.transposition(silent, [recording(220)]) == 0


def test_a_voice_that_gives_its_input_back_is_perfect():
    clips = [recording(150), recording(200)]
    voice = compare.Voice(lambda audio, semitones: audio, 16000, content=lambda audio: audio[:300].reshape(30, 10))
    found = compare.evaluate_clips(voice, clips)
    for figures in found:
        assert math.isnan(figures.pop("pitch_correlation"))  # a steady tone has no melody
        assert figures.pop("content") == pytest.approx(0)
    assert found == [{"mel_l1": 0, "mcd_db": 0, "f0_rmse_cents": 0, "voicing_error": 0, "global_variance": 1,
                      "frame_contrast": 1, "band_contrast": 1, "modulation_db": 0, "high_db": 0, "hnr_db": 0}] * 2


def test_a_voice_that_gives_no_numbers_is_named():
    voice = compare.Voice(lambda audio, semitones: np.full(16000, np.nan), 16000, "broken")
    with pytest.raises(UserError, match="broken turns"):
        compare.evaluate_clips(voice, [recording(150)])


def test_means_leave_out_clips_without_the_figure():
    found = compare.means([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": math.nan}, {"a": math.nan}])
    assert set(found) == {"a"} and found["a"]["mean"] == 2.0 and found["a"]["clips"] == 2
    paired = compare.differences([{"a": 1.0}, {"a": 5.0}], [{"a": 2.0}, {"a": math.nan}])
    assert paired == {"a": {"mean": -1.0, "low": -1.0, "high": -1.0, "clips": 1}}


def test_equal_names_get_their_folder():
    assert recordings.names_of([Path("/x/a/1.wav"), Path("/x/b/1.wav"), Path("/x/b/2.wav")]) == ["a/1.wav", "b/1.wav",
                                                                                                 "2.wav"]


def test_recordings_are_taken_once(places):
    twice = recordings.find([places / "target", places / "target" / "a.wav"])
    assert [path.name for path in twice] == ["a.wav", "b.wav"]


def test_bench_is_the_same_command(tmp_path, capsys):
    for name in ("reference", "source"):
        assert (RECORDINGS / name).is_dir()
    arguments = quality.quick()
    assert evaluate.parser().parse_args(arguments).recordings == [str(RECORDINGS / "reference")]
    assert [entry.speaker for entry in evaluate.parser().parse_args(arguments).entries] == list(quality.SPEAKERS)
    shutil.copy(RECORDINGS / "source" / "01.flac", tmp_path / "one.flac")
    assert cli(quality.main, ["--recordings", str(tmp_path / "nowhere"), "--base", str(BASE)]) == 2
    assert "nowhere" in capsys.readouterr().err
