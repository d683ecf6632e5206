"""Audio files in and out, and the inference command as a user types it."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from voice_data import BASE, ROOT, go, run

from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.inference import audio as audio_io
from LoraModel.messages import UserError


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_what_is_written_can_be_read(tmp_path, ending):
    sound = 0.3 * np.sin(2 * np.pi * 220 * np.arange(40000) / 40000).astype(np.float32)
    if audio_io.FORMATS[ending][0] not in soundfile.available_formats():
        with pytest.raises(UserError, match="cannot write"):
            audio_io.write_audio(tmp_path / f"a{ending}", sound, 40000)
        return
    path = audio_io.write_audio(tmp_path / f"a{ending}", sound, 40000)
    back = audio_io.read_audio(path, 40000)
    assert abs(len(back) - len(sound)) < 4000
    spectrum = np.abs(np.fft.rfft(back[:32000]))
    assert np.argmax(spectrum) * 40000 / 32000 == pytest.approx(220, abs=2)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_stereo_becomes_mono_and_rates_change(tmp_path):
    left = np.ones(4410, np.float32) * 0.5
    soundfile.write(str(tmp_path / "a.wav"), np.stack([left, left / 2], 1), 44100)
    found = audio_io.read_audio(tmp_path / "a.wav", 16000)
    assert found.shape == (1600,) and np.median(found) == pytest.approx(0.375, abs=1e-3)


@pytest.mark.parametrize("content, said", [(b"hello", "no audio|cannot be read"),
                                           (b"", "no audio|cannot be read|no sound"), (None, "no audio file"),
                                           (b"<html><title>Quota exceeded", "web page, 'Quota exceeded'"),
                                           (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
                                           (b"PK\3\4\0", "zip archive: unpack it"),
                                           (BASE.read_bytes(), "no recording .it is a model file of PyTorch")])
def test_what_is_no_audio_is_refused(tmp_path, content, said):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        audio_io.read_audio(path, 16000)
    problem = audio_io.problem_of(path)
    assert problem is not None and (content is None or content == b"" or re.search(said, str(problem)))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path):
    sound = (0.3 * np.sin(2 * np.pi * 220 * np.arange(16000) / 16000)).astype("<f4")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "f32le", "-ar", "16000", "-ac", "1", "-i", "-", "-c:a", "aac",
               str(tmp_path / "-a:b.m4a")]
    subprocess.run(command, input=sound.tobytes(), check=True)
    found = audio_io.read_audio(tmp_path / "-a:b.m4a", 16000)
    assert np.argmax(np.abs(np.fft.rfft(found[:16000]))) == pytest.approx(220, abs=2)


def test_without_ffmpeg_the_error_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    monkeypatch.setattr(audio_io.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install ffmpeg"):
        audio_io.read_audio(tmp_path / "a.m4a", 16000)


# ---------------------------------------------------------------- the command

@pytest.fixture(scope="module")
def short(tmp_path_factory, speech):
    return audio_io.write_audio(tmp_path_factory.mktemp("in") / "in.wav", speech[:16000], 16000)


def test_command_converts_a_folder_and_reports_what_it_could_not_read(tmp_path, short, adapters):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        shutil.copy(short, folder / name)
    (folder / "c.wav").write_bytes(b"no audio")
    done = run("--base_model", "demo/base/f0G16k.pth", "--lora_weights", adapters[0], "--lora_weights", adapters[1],
               "--strength", "0.5",
               "--strength", "0.5", "--input", folder, "--output", tmp_path / "out", "--format", "flac")
    assert done.returncode == 2 and "1 of 3 recordings" in done.stderr and "c.wav" in done.stderr
    assert "wrote" not in done.stdout and done.stderr.count("stand-in") == 1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.flac", "b.flac"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("output, said", [(".", "is the folder of the recordings: choose another --output"),
                                          ("../in", "is the folder of the recordings"),
                                          ("../x.wav", "is named like a file: give --output a folder"),
                                          ("../x.FLAC", "is named like a file")])
def test_a_folders_results_have_a_folder_of_their_own(tmp_path, short, capsys, output, said):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(short, folder / "a.flac")
    assert cli(infer_lora.main, ["--model", str(BASE), "--input", str(folder), "--output", str(folder / output),
                                 "--format", "wav"]) == 2
    assert said in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "a.flac"]


def test_command_never_overwrites_its_input(short):
    before = short.read_bytes()
    done = run("--model", "demo/base/f0G16k.pth", "--input", short, "--output", short)
    assert done.returncode == 2 and "never overwritten" in done.stderr and done.stdout == ""
    assert short.read_bytes() == before


def test_in_process_command_is_the_conversion(tmp_path, short, adapters, voice, monkeypatch, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", "0.8", "--input",
                 str(short), "--output", str(tmp_path / "o.wav"), "--transpose", "3", "--seed", "4"]
    assert cli(infer_lora.main, arguments) == 0 and "wrote" in capsys.readouterr().out
    voice.set_adapters([(adapters[0], 0.8)])
    wanted = go(voice, audio_io.read_audio(short, 16000), ConvertOptions(transpose=3, seed=4))
    found = soundfile.read(str(tmp_path / "o.wav"))[0]
    np.testing.assert_allclose(found, wanted, atol=1 / 32000)


def bad_command(kind, short, adapters, tmp_path):
    good = {"--base_model": [BASE], "--lora_weights": [adapters[0]], "--input": [short],
            "--output": [tmp_path / "o.wav"]}
    changed = {
        "no base": {"--base_model": []}, "missing base": {"--base_model": ["nowhere.pth"]},
        "missing input": {"--input": ["nowhere.wav"]},
        "ending": {"--output": [tmp_path / "o.xyz"]}, "strengths": {"--strength": [1, 2]},
        "method": {"--f0_method": ["crepe"]},
        "rate": {"--sample_rate": ["fast"]}, "device": {"--device": ["nonsense"]}, "both": {"--model": [BASE]},
        "root": {"--rvc_root": [tmp_path]}, "index": {"--index": [short]}, "rms": {"--rms_mix_rate": [1.5]},
        "text": {"--protect": ["much"]}, "strength": {"--strength": ["1e30"]},
    }[kind]
    return [str(part) for option, values in {**good, **changed}.items() for value in values for part in (option, value)]


@pytest.mark.parametrize("kind, said", [
    ("no base", "--base_model"), ("missing base", "nowhere.pth"), ("missing input", "nowhere.wav"), ("ending", ".xyz"),
    ("strengths", "2 strengths"),
    ("method", "crepe"), ("rate", "fast"), ("device", "nonsense"), ("both", "either"), ("root", "no RVC checkout"),
    ("index", "faiss"), ("rms", "rms_mix_rate"), ("text", "between 0 and 0.5"), ("strength", "between -100 and 100"),
])
def test_bad_options_get_one_line_and_code_2(kind, said, short, adapters, tmp_path, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    assert cli(infer_lora.main, bad_command(kind, short, adapters, tmp_path)) == 2
    seen = capsys.readouterr()
    lines = [line for line in seen.err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and said in lines[0] and seen.out == ""
    assert not (tmp_path / "o.wav").exists()


def test_a_v1_base_needs_a_checkout(tmp_path, library, short, full_network, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    torch.save({"model": full_network("v1", True).state_dict()}, tmp_path / "f0G40k.pth")
    assert cli(infer_lora.main, ["--model", str(tmp_path / "f0G40k.pth"), "--input", str(short), "--output",
                                 str(tmp_path / "o.wav")]) == 2
    assert "v1" in capsys.readouterr().err and not (tmp_path / "o.wav").exists()


def test_an_unsafe_model_is_not_loaded(tmp_path, short, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    torch.save({"model": Trap()}, tmp_path / "bad.pth")
    assert cli(infer_lora.main, ["--model", str(tmp_path / "bad.pth"), "--input", str(short), "--output",
                                 str(tmp_path / "o.wav")]) == 2
    assert "unsafe" in capsys.readouterr().err and not (tmp_path / "sprung").exists()


def test_the_config_beside_a_custom_base_is_found(tmp_path, library):
    shutil.copy(BASE, tmp_path / "mine.pth")
    with pytest.raises(UserError, match="config.json"):
        VoiceLoader(tmp_path / "mine.pth", library)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((BASE.parent / "config.json").read_text())))
    assert VoiceLoader(tmp_path / "mine.pth", library).info.sample_rate == 16000


def test_the_example_runs_and_gives_the_base_back(tmp_path, adapters):
    script = str(ROOT / "LoraModel" / "examples" / "infer_example.py")
    done = subprocess.run([sys.executable, script, *map(str, adapters)], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "infer_example"
    assert sorted(file.stem for file in out.iterdir()) == ["base", "base_again", "blend", "half", "voice"]
    assert (out / "base.wav").read_bytes() == (out / "base_again.wav").read_bytes() != (out / "voice.wav").read_bytes()


def test_two_recordings_never_share_an_output():
    from pathlib import Path

    from LoraModel.inference.infer_lora import output_names

    files = [Path(name) for name in ("SONG.mp3", "song.flac", "song.wav", "song.wav.flac", "song.wav.wav", "b.wav")]
    names = output_names(files, "wav")
    assert len({name.casefold() for name in names}) == len(files) and names[-1] == "b.wav"
    assert output_names([Path("a.wav"), Path("b.mp3")], "flac") == ["a.flac", "b.flac"]
    assert output_names([Path("aux.wav")], "wav") == ["aux_2.wav"]
    long = output_names([Path("あ" * 83 + "ab.wav"), Path("あ" * 83 + "ac.wav")], "flac")
    assert long == ["あ" * 83 + "a.flac", "あ" * 82 + "_2.flac"] and len(long[0].encode()) == 255


def test_a_folder_goes_on_whatever_one_file_raises(tmp_path, short, monkeypatch, capsys):
    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    folder, real = tmp_path / "in", infer_lora.read_audio
    folder.mkdir()
    for name in ("a.wav", "b.wav", "c.wav"):
        shutil.copy(short, folder / name)

    def read(path, rate):
        if path.name == "b.wav":
            raise ZeroDivisionError("strange")
        return real(path, rate)

    monkeypatch.setattr(infer_lora, "read_audio", read)
    assert cli(infer_lora.main, ["--model", str(BASE), "--input", str(folder), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "b.wav: ZeroDivisionError: strange" in said and "1 of 3 recordings" in said and "Traceback" not in said
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.wav", "c.wav"]


@pytest.mark.parametrize("output, said", [("file/o.wav", "is a file|folder"), ("folder.wav", "is a folder")])
def test_the_place_of_the_output_is_looked_at_before_the_work(tmp_path, short, monkeypatch, capsys, output, said):
    import re

    from LoraModel.inference import infer_lora
    from LoraModel.messages import cli

    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.wav" / "in.wav").mkdir(parents=True)
    monkeypatch.setattr(infer_lora, "VoiceLoader", lambda *_: pytest.fail("the base was read"))
    assert cli(infer_lora.main, ["--model", str(BASE), "--input", str(short), "--output", str(tmp_path / output)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(said, lines[0])
