"""The voice's pitch in its adapter, the source's pitch, and the whole semitones between them."""

import importlib
import json

import numpy as np
import pytest
import soundfile
from training_data import RATE, make_experiment, settings
from voice_data import BASE, make_adapter

from LoraModel.inference import infer_lora, transpose
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.inference.transpose import AUTO, choose_transposition, parse_transpose, pitch_of_recording
from LoraModel.lora.adapter_file import read_metadata
from LoraModel.lora.voice_pitch import VoicePitch, pitch_of, pitch_of_blend, read_pitch, semitones_between
from LoraModel.messages import UserError, cli
from LoraModel.models import read_checkpoint
from LoraModel.models.voice_file import save_model
from LoraModel.training import TrainConfig, prepare


def tone(hertz, seconds=1.0):
    """A voice-like sound: harmonics of `hertz` that fall off."""
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * hertz * k * time) / k**1.5 for k in range(1, 8)).astype(np.float32) * 0.2


def test_pitch_is_median_and_the_range_of_nine_tenths():
    f0 = np.concatenate([np.zeros(500), np.linspace(100, 200, 101), [np.nan, np.inf, 1e6]])
    assert pitch_of(f0) == VoicePitch(150, 105, 195)
    assert pitch_of(np.full(19, 100.0)) is None and pitch_of(np.zeros(1000)) is None and pitch_of([]) is None


@pytest.mark.parametrize(
    "source, target, wanted",
    [(196, 118, -9), (118, 196, 9), (100, 100, 0), (100, 102, 0), (100, 104, 1), (50, 1000, 48)],
)
def test_whole_semitones(source, target, wanted):
    assert semitones_between(VoicePitch(source, source, source), VoicePitch(target, target, target)) == wanted


def test_text_and_back():
    assert (
        read_pitch(VoicePitch(118.234, 90.05, 160.3).to_text()) == VoicePitch(118.2, 90.0, 160.3)
        and read_pitch("") is None
    )
    for wrong in (
        "{}",
        "1",
        "nonsense",
        "[" * 499,
        '{"median": 1, "low": 1, "high": 1}',
        '{"median": 100, "low": 120, "high": 90}',
        '{"median": NaN, "low": 90, "high": 120}',
        '{"median": true, "low": 90, "high": 120}',
        json.dumps({"median": 100, "low": 90}),
        " " * 501,
    ):
        with pytest.raises(ValueError):
            read_pitch(wrong)


def test_a_strangers_pitch_is_left_out(tmp_path, library):
    path = make_adapter(tmp_path / "a.safetensors", library, 1, pitch='{"median": 1e308}')
    assert "pitch" not in read_metadata(path)
    path = make_adapter(tmp_path / "b.safetensors", library, 1, pitch=VoicePitch(118, 90, 160).to_text())
    assert read_pitch(read_metadata(path)["pitch"]) == VoicePitch(118, 90, 160)


@pytest.mark.parametrize("hertz", [98, 220, 440])
def test_a_recording_is_measured(hertz):
    assert pitch_of_recording(tone(hertz)).median == pytest.approx(hertz, rel=0.01)
    assert pitch_of_recording(np.zeros(RATE, np.float32)) is None


def test_a_long_recording_is_measured_in_pieces(monkeypatch):
    from LoraModel.inference import stand_in

    seen = []
    monkeypatch.setattr(stand_in, "pitch", lambda audio, frames: seen.append(len(audio)) or np.full(frames, 150.0))
    assert pitch_of_recording(np.zeros(3600 * RATE, np.float32)).median == 150 and seen == [10 * RATE] * 12


def voice_of(tmp_path, library, *pitches):
    fields = [{"pitch": pitch.to_text()} if pitch else {} for pitch in pitches]
    voice = VoiceLoader(BASE, library)
    voice.set_adapters(
        [
            (make_adapter(tmp_path / f"{number}.safetensors", library, number, **one), 1.0)
            for number, one in enumerate(fields)
        ]
    )
    return voice


LOW, HIGH = VoicePitch(110, 90, 130), VoicePitch(440, 400, 500)


def test_the_transposition_and_why(tmp_path, library, monkeypatch):
    voice = voice_of(tmp_path, library, LOW)
    chosen = choose_transposition(voice, tone(220))
    assert (
        chosen.semitones == -12 and chosen.words == "transpose -12: the recording speaks at 220 Hz, the voice at 110 Hz"
    )
    assert "变调 -12" in chosen.reason.in_language("zh_CN")
    assert "hardly a sound" in choose_transposition(voice, np.zeros(RATE, np.float32)).words
    monkeypatch.setattr(transpose, "pitch_of_recording", lambda _audio: importlib.import_module("no_such_package"))
    assert "praat-parselmouth" in choose_transposition(voice, tone(220)).words


def test_a_blend_lies_between_and_an_old_adapter_tells_nothing(tmp_path, library):
    both = voice_of(tmp_path, library, LOW, HIGH)
    assert both.pitch.median == pytest.approx(220) and choose_transposition(both, tone(220)).semitones == 0
    blend = pitch_of_blend([({"pitch": LOW.to_text()}, 3), ({"pitch": HIGH.to_text()}, 1)])
    assert blend.median == pytest.approx(110 * 2**0.5)
    both.unload()
    assert both.pitch is None and choose_transposition(both, tone(220)).words.startswith(
        "note: this model has no record of its voice's pitch"
    )
    old = choose_transposition(voice_of(tmp_path, library, LOW, None), tone(220))
    assert old.semitones == 0 and "this voice's file has no record of its pitch" in old.words


def test_a_merged_voice_tells_its_pitch(tmp_path, library):
    save_model(tmp_path / "m.pth", voice_of(tmp_path, library, LOW).as_model())
    merged = VoiceLoader(tmp_path / "m.pth", library)
    assert merged.pitch == LOW and choose_transposition(merged, tone(220)).semitones == -12
    save_model(tmp_path / "odd.pth", {**read_checkpoint(tmp_path / "m.pth"), "voice_pitch": [1, {}]})
    assert VoiceLoader(tmp_path / "odd.pth", library).pitch is None


def test_the_option():
    assert (
        parse_transpose(" Auto ") == AUTO
        and parse_transpose("-9") == -9
        and infer_lora.parser().get_default("transpose") == AUTO
    )
    with pytest.raises(UserError, match="between -48 and 48"):
        parse_transpose("automatic")


def test_training_stores_the_pitch_of_the_recordings(tmp_path):
    experiment = make_experiment(tmp_path / "voice", clips=4, seconds=1.0)
    trainer = prepare(TrainConfig.from_dict(settings(experiment, tmp_path / "run", epochs=1)))
    trainer.save_adapter_file(tmp_path / "a.safetensors", None)
    f0 = np.concatenate([np.load(str(file)) for file in sorted((experiment / "2b-f0nsf").glob("*.npy"))])
    stored = read_pitch(read_metadata(tmp_path / "a.safetensors")["pitch"])
    assert (
        stored.median == pytest.approx(np.median(f0[f0 > 0]), rel=0.01)
        and 80 < stored.low < stored.median < stored.high < 300
    )


def test_the_command_transposes_and_says_so(tmp_path, library, monkeypatch, capsys):
    monkeypatch.setattr("LoraModel.inference.sound._told", set())
    adapter = make_adapter(tmp_path / "a.safetensors", library, 1, pitch=VoicePitch(110, 90, 130).to_text())
    soundfile.write(str(tmp_path / "in.wav"), tone(220), RATE)
    common = [
        "--base_model",
        str(BASE),
        "--lora_weights",
        str(adapter),
        "--input",
        str(tmp_path / "in.wav"),
        "--output",
    ]
    assert cli(infer_lora.main, [*common, str(tmp_path / "auto.wav")]) == 0
    assert "in.wav: transpose -12: the recording speaks at 220 Hz" in capsys.readouterr().err
    for value in ("-12", "0"):
        assert cli(infer_lora.main, [*common, str(tmp_path / f"{value}.wav"), "--transpose", value]) == 0
        assert "transpose" not in capsys.readouterr().err
    sounds = {name: soundfile.read(str(tmp_path / f"{name}.wav"))[0] for name in ("auto", "-12", "0")}
    assert np.array_equal(sounds["auto"], sounds["-12"]) and not np.array_equal(sounds["auto"], sounds["0"])
