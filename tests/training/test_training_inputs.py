"""Everything that can be wrong with a run's input: one line, exit code 2, and nothing written."""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import dataclasses
import inspect
import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
import torch
from refused_runs import _made, changed_base, files, refused, voice  # noqa: F401  (fixtures)
from scipy.io import wavfile
from training_data import BASE, RATE, SMALL, argv, log, make_experiment, one_thread, start, write_filelist
from training_data import tiny_settings as settings

from LoraModel.lora import load_adapter
from LoraModel.messages import cli
from LoraModel.training import TrainConfig
from LoraModel.training.train_lora import main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


# The experiment folder


def test_missing_folder(tmp_path, refused):
    assert "there is no experiment folder" in refused(settings(tmp_path / "nowhere", tmp_path / "out"))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_filelist(voice, tmp_path, refused, text):
    (voice / "filelist.txt").write_text(text)
    assert "filelist.txt lists no clip" in refused(settings(voice, tmp_path / "out"))


def test_empty_folders(voice, tmp_path, refused):
    for path in (voice / "0_gt_wavs").glob("*"):
        path.unlink()
    assert "lists no clip" in refused(settings(voice, tmp_path / "out"))
    shutil.rmtree(str(voice / "0_gt_wavs"))
    assert "lacks 0_gt_wavs" in refused(settings(voice, tmp_path / "out"))


def test_missing_clip_of_the_filelist(voice, tmp_path, refused):
    write_filelist(voice)
    (voice / "3_feature768" / "1_0.npy").unlink()
    assert "1_0.npy is listed but missing" in refused(settings(voice, tmp_path / "out"))
    (voice / "0_gt_wavs" / "0_0.wav").unlink()
    assert "0_0.wav is listed but missing" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("line", ["one|two", "a|b|c|d|e|f", "a.wav|b.npy|c.npy|d.npy|zero"])
def test_a_line_that_is_none(voice, tmp_path, refused, line):
    write_filelist(voice, [line])
    assert "is no line of RVC's" in refused(settings(voice, tmp_path / "out"))


def test_a_filelist_in_another_encoding(voice, tmp_path, refused):
    write_filelist(voice).write_bytes("声音|a|0".encode("gbk"))
    assert "is no UTF-8 text" in refused(settings(voice, tmp_path / "out"))


def test_one_clip_only(voice, tmp_path, refused):
    for path in sorted((voice / "0_gt_wavs").glob("*.wav"))[1:]:
        path.unlink()
    assert "one clip is not enough" in refused(settings(voice, tmp_path / "out"))


def test_clips_shorter_than_a_segment(tmp_path, refused):
    voice = make_experiment(tmp_path / "short", clips=2, seconds=0.3)
    assert "are shorter than 32 frames" in refused(settings(voice, tmp_path / "out", segment_frames=32))
    audio, rate = soundfile.read(str(voice / "0_gt_wavs" / "0_0.wav"), dtype="float32")
    for path in (voice / "0_gt_wavs").glob("*.wav"):  # shorter than a spectrogram's window
        wavfile.write(str(path), rate, audio[:300])
    assert "are shorter than 32 frames" in refused(settings(voice, tmp_path / "out", segment_frames=32))


@pytest.mark.parametrize("text, what", [
    ("no json", "damaged"), ("[]", "damaged (it lacks 'data')"), ('{"data": 1, "train": {}}', "(it lacks 'data')"),
    ('{"data": {"sampling_rate": 16000}}', "damaged (it lacks 'train')"),
    ('{"data": {"sampling_rate": 16000}, "train": {}}', "damaged (it lacks 'filter_length')"),
    (None, "has no config.json"),
])
def test_a_bad_config_json(voice, tmp_path, refused, text, what):
    if text is None:
        (voice / "config.json").unlink()
    else:
        (voice / "config.json").write_text(text)
    assert what in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("key, value, what", [
    ("sampling_rate", 40000, "was prepared at 40000 Hz, base f0G16k is of 16000 Hz"),
    ("hop_length", 320, "320 samples a frame"),
    ("filter_length", 2048, "spectrograms of 1025 bins"), ("hop_length", 0, "damaged"), ("win_length", None, "damaged"),
    ("mel_fmin", "x", "mel_fmin is 'x'"), ("mel_fmax", 10**9, "mel_fmax 1000000000"),
    ("n_mel_channels", 1.5, "n_mel_channels is 1.5"),
])
def test_another_configuration_than_the_bases(voice, tmp_path, refused, key, value, what):
    config = json.loads((voice / "config.json").read_text())
    config["data"][key] = value
    (voice / "config.json").write_text(json.dumps(config))
    assert what in refused(settings(voice, tmp_path / "out"))


# Clips, features and pitch


def test_wrong_sample_rate(voice, tmp_path, refused):
    wavfile.write(str(voice / "0_gt_wavs" / "2_0.wav"), 44100, np.zeros(44100, dtype=np.float32))
    assert "2_0.wav is of 44100 Hz, the experiment of 16000 Hz" in refused(settings(voice, tmp_path / "out"))


def test_stereo(voice, tmp_path, refused):
    wavfile.write(str(voice / "0_gt_wavs" / "2_0.wav"), RATE, np.zeros((RATE, 2), dtype=np.float32))
    assert "2_0.wav has 2 channels" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound"])
def test_damaged_wav(voice, tmp_path, refused, content):
    (voice / "0_gt_wavs" / "2_0.wav").write_bytes(content)
    assert "2_0.wav cannot be read as a WAV" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_wav_of_nan(voice, tmp_path, refused, value):
    audio = np.zeros(RATE, dtype=np.float32)
    audio[500] = value
    wavfile.write(str(voice / "0_gt_wavs" / "2_0.wav"), RATE, audio)
    assert "2_0.wav holds NaN or infinite samples" in refused(settings(voice, tmp_path / "out"))


def test_a_wav_that_only_rvc_cannot_read(voice, tmp_path, refused):
    """soundfile reads Ogg whatever its file is called, RVC's reader does not."""
    soundfile.write(str(voice / "0_gt_wavs" / "2_0.wav"), np.zeros(RATE, dtype=np.float32), RATE, format="OGG",
                    subtype="VORBIS")
    assert "RVC cannot read" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("with_filelist", [True, False])
def test_features_of_256(voice, tmp_path, refused, with_filelist):
    if with_filelist:
        write_filelist(voice)
        np.save(str(voice / "3_feature768" / "1_0.npy"), np.zeros((51, 256), dtype=np.float32))
        assert "1_0.npy has features of 256, base f0G16k is v2 and takes 768" in refused(settings(voice,
                                                                                                  tmp_path / "out"))
    else:
        (voice / "3_feature768").rename(voice / "3_feature256")
        assert "lacks 3_feature768" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("part, value", [("3_feature768/1_0.npy", np.nan), ("3_feature768/1_0.npy", -np.inf),
                                         ("2b-f0nsf/1_0.wav.npy", np.nan)])
def test_nan(voice, tmp_path, refused, part, value):
    values = np.load(str(voice / part)).copy()
    values.reshape(-1)[7] = value
    np.save(str(voice / part), values)
    assert "holds NaN or infinite values" in refused(settings(voice, tmp_path / "out"))


def test_damaged_features(voice, tmp_path, refused):
    path = voice / "3_feature768" / "1_0.npy"
    path.write_bytes(path.read_bytes()[:5000])
    assert "1_0.npy cannot be read as an array" in refused(settings(voice, tmp_path / "out"))
    np.save(str(path), np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    assert "1_0.npy cannot be read as an array" in refused(settings(voice, tmp_path / "out"))
    np.save(str(path), np.zeros((0, 768), dtype=np.float32))
    assert "1_0.npy has shape (0, 768)" in refused(settings(voice, tmp_path / "out"))


@pytest.mark.parametrize("case", ["folders", "file", "filelist", "values"])
def test_no_f0_for_an_f0_base(voice, tmp_path, refused, case):
    if case == "folders":
        shutil.rmtree(str(voice / "2a_f0"))
    elif case == "file":
        (voice / "2b-f0nsf" / "1_0.wav.npy").unlink()
    elif case == "filelist":
        write_filelist(voice).write_text("\n".join(f"{voice}/0_gt_wavs/{i}_0.wav|{voice}/3_feature768/{i}_0.npy|0"
                                                   for i in range(4)))
    else:
        np.save(str(voice / "2a_f0" / "1_0.wav.npy"), np.full(100, 900))
        assert "values outside 0 to 255" in refused(settings(voice, tmp_path / "out"))
        return
    error = refused(settings(voice, tmp_path / "out"))
    assert "f0" in error and "takes pitch" in error


# The base and the discriminator


def test_base_without_enc_q(voice, tmp_path, refused):
    def change(checkpoint):
        for key in [key for key in checkpoint["model"] if key.startswith("enc_q")]:
            del checkpoint["model"][key]

    base = changed_base(tmp_path, change)
    assert "has no posterior encoder (enc_q)" in refused(settings(voice, tmp_path / "out", base_model=base))


def test_a_base_that_is_none(voice, tmp_path, refused):
    assert "there is no file" in refused(settings(voice, tmp_path / "out", base_model=str(tmp_path / "G.pth")))
    (tmp_path / "D.pth").write_bytes(b"nothing")
    assert "is no RVC model or is damaged" in refused(settings(voice, tmp_path / "out",
                                                               base_model=str(tmp_path / "D.pth")))
    base = changed_base(tmp_path, lambda checkpoint: checkpoint["model"].pop("dec.ups.0.weight_v"))
    assert "lacks the key dec.ups.0.weight_v" in refused(settings(voice, tmp_path / "out", base_model=base))


@pytest.mark.parametrize("option", ["base_model", "base_d"])
def test_an_unsafe_file(voice, tmp_path, refused, option):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/exploded",)

    torch.save({"model": {"weight": Bomb()}}, str(tmp_path / "bomb.pth"))
    error = refused(settings(voice, tmp_path / "out", **{option: str(tmp_path / "bomb.pth")}))
    assert "is unsafe" in error and "system" in error and not (tmp_path / "exploded").exists()


def test_a_discriminator_that_is_none(voice, tmp_path, refused):
    assert "is a generator, not a discriminator" in refused(settings(voice, tmp_path / "out", base_d=str(BASE)))
    torch.save({"model": {"weight": torch.zeros(1)}}, str(tmp_path / "D.pth"))
    assert "lacks the key discriminators." in refused(settings(voice, tmp_path / "out", base_d=str(tmp_path / "D.pth")))


# Options


@pytest.mark.parametrize("more, what", [
    ({"epochs": 0}, "epochs=0 must be a whole number of at least 1"), ({"epochs": 2.5}, "epochs=2.5"),
    ({"batch_size": True}, "batch_size=True"),
    ({"lr": 0}, "lr=0 must be above 0"), ({"lr": -1.0}, "lr=-1.0"), ({"lr": "fast"}, "lr='fast'"),
    ({"lr": float("nan")}, "lr=nan"),
    ({"lr": float("inf")}, "lr=inf"), ({"valid_fraction": 0}, "valid_fraction=0"),
    ({"valid_fraction": 1.0}, "valid_fraction=1.0"),
    ({"valid_fraction": "half"}, "valid_fraction='half'"), ({"ema_decay": 1.0}, "ema_decay=1.0"),
    ({"precision": "int4"}, "precision 'int4'"),
    ({"c_mel": -1}, "c_mel=-1"), ({"seed": -1}, "seed=-1"), ({"seed": 2**40}, "seed=1099511627776"),
    ({"name": 5}, "name=5"),
    ({"device": "tpu"}, "device 'tpu' cannot be used"), ({"device": "meta"}, "device 'meta' cannot be used"),
    ({"speaker": 16}, "speaker 16 is not among the base's 16"), ({"init_speaker": 99}, "init_speaker 99 is not among"),
    ({"init_speaker": -2}, "init_speaker=-2"), ({"lora": None, "preset": "best"}, "unknown preset 'best'"),
    ({"lora": [1]}, "lora=[1]"),
    ({"lora": {"targets": {"nose": True}}}, "unknown target 'nose'"), ({"lora": {"rank": 3}}, "unknown key 'rank'"),
    ({"lora": None, "lora_rank": 0}, "r=0"),
    ({"learning_rte": 1}, "unknown setting 'learning_rte': did you mean lr?"),
    ({"nonsense": 1}, "unknown setting 'nonsense'"),
    ({"lr": 1e-3, "learning_rate": 1e-3}, "lr is given twice"), ({"lora_alpha": 0}, "lora_alpha=0"),
])
def test_settings(voice, tmp_path, refused, more, what):
    assert what in refused(settings(voice, tmp_path / "out", **more))


@pytest.mark.parametrize("name", [".hidden", "a/b", "a\\b", "..", "x:y", " a", "tab\tname", "声" * 80])
def test_names(voice, tmp_path, refused, name):
    assert "cannot be a file name" in refused(settings(voice, tmp_path / "out", name=name))


@pytest.mark.parametrize("flags, what", [
    (("--epochs", "many"), "argument --epochs: 'many' is no whole number"),
    (("--epochs", "²"), "argument --epochs: '²' is no whole number"),
    (("--lr", "nan"), "argument --lr/--learning_rate: 'nan' is no number"),
    (("--lr", "1e99"), "argument --lr/--learning_rate: '1e99' must be between"),
    (("--valid_fraction", "2"), "argument --valid_fraction"),
    (("--colour", "red"), "there is no option '--colour'"),
    (("--preset", "best"), "argument --preset: invalid choice"), (("--precision", "fp8"), "argument --precision"),
    (("--device", "cuda:99"), "device 'cuda:99' cannot be used"), (("--rvc_root", "/"), "is no RVC checkout"),
    (("--lr",), "expected one argument"),
])
def test_options(voice, tmp_path, refused, flags, what):
    assert what in refused(settings(voice, tmp_path / "out"), *flags)


def test_missing_options_and_config_files(voice, tmp_path, capsys):
    for line, what in (
        ([], "--base_model is missing"), (["--base_model", str(BASE)], "--data_dir is missing"),
        (["--config", str(tmp_path / "none.json")], "there is no configuration file"),
        (["--config", str(voice / "0_gt_wavs" / "0_0.wav")], "is not JSON"),
    ):
        assert cli(main, line) == 2
        err = capsys.readouterr().err
        assert what in err and err.count("\n") == 1
    (tmp_path / "list.json").write_text("[1]")
    assert cli(main,
               ["--config", str(tmp_path / "list.json")]) == 2 and "must hold a JSON object" in capsys.readouterr().err


def test_a_config_file_alone(voice, tmp_path):
    """Everything may stand in the file; the command line overrides it. A Windows editor's byte order mark does no
    harm."""
    values = settings(voice, tmp_path / "out", epochs=7, name="", init_speaker=0, lr=5e-4)
    (tmp_path / "all.json").write_text(json.dumps(values), encoding="utf-8-sig")
    assert main(["--config", str(tmp_path / "all.json"), "--epochs", "1"]) == 0
    assert log(tmp_path / "out")[-1]["epoch"] == 1 and (tmp_path / "out" / "voice.safetensors").is_file()
    assert set(load_adapter(tmp_path / "out" / "voice.safetensors").config.targets) == set(SMALL["lora"]["targets"])


# As real processes


@pytest.mark.parametrize("module", [True, False], ids=["python -m", "inside LoraModel"])
def test_a_real_process(voice, tmp_path, module):
    if module:
        np.save(str(voice / "3_feature768" / "1_0.npy"), np.full((51, 768), np.nan, dtype=np.float32))
    else:
        (voice / "filelist.txt").write_text("")
    run = start(argv(settings(voice, tmp_path / "out"), config=tmp_path / "c.json"), module)
    out, err = run.communicate(timeout=100)
    texts = [text for text in err.replace("\r", "\n").splitlines() if text.strip() and "checking clips" not in text]
    assert run.returncode == 2 and not out and len(texts) == 1 and not (tmp_path / "out").exists()
    assert ("holds NaN" if module else "lists no clip") in texts[0]


def test_every_setting_is_described():
    described = inspect.cleandoc(TrainConfig.__doc__)  # as Python 3.13 keeps it
    told = re.findall(r"^    (\w+): \S", described, re.MULTILINE)
    assert told == [field.name for field in dataclasses.fields(TrainConfig)]
