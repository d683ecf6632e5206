"""A voice that turns into another: between two blends, and along a recording, without a click at the joints."""

import numpy as np
import pytest
import soundfile
import torch
from voice_data import BASE, SOURCE, state

from bench.realtime import FLUX_HOP, FLUX_WINDOW, flux
from LoraModel.inference import ConvertOptions, infer_lora
from LoraModel.inference.audio import read_audio, write_audio
from LoraModel.inference.converter import Converter
from LoraModel.messages import UserError
from LoraModel.realtime import morph


def test_a_morph_is_the_blend_on_the_straight_line(voice, adapters):
    one, two = (voice.load(path) for path in adapters)
    voice.morph([(one, 1), (two, 0)], [(one, 0), (two, 1)], 0.25)
    found = state(voice)
    voice.set_adapters([(one, 0.75), (two, 0.25)])
    assert all(torch.equal(value, found[name]) for name, value in state(voice).items())
    voice.morph([(one, 0.5)], [(str(adapters[1]), 1.5)], 1)
    assert [(applied.adapter.name, applied.strength) for applied in voice.applied] == [("two", 1.5)]
    voice.morph([(one, 0.5)], [], 0.5)
    assert [applied.strength for applied in voice.applied] == [0.25]
    for t in (-0.1, 1.1, float("nan"), "half", True, None):
        with pytest.raises(UserError, match="not between 0 and 1"):
            voice.morph([(one, 1)], [(two, 1)], t)
    with pytest.raises(UserError, match="strength '2'"):
        voice.morph([(one, 2)], [(two, 1)], 0.5)


def test_along_a_recording_no_joint_is_rougher_than_the_recording_itself(voice, adapters):
    start, end = ([(voice.load(path), 1.0)] for path in adapters)
    sound, converter, own = read_audio(SOURCE, 16000)[:40000], Converter(voice, "cpu"), []
    for blend in (start, end):  # what the recording itself has, in either voice: no joint is in it
        voice.set_adapters(blend)
        own.append(flux(converter(sound, ConvertOptions())).max())
    made = morph.convert_morphing(converter, sound, start, end, ConvertOptions(), (0.0, 2.0))
    assert len(made) == len(sound) and [one.adapter.name for one in voice.applied] == ["two"]
    found, fade = flux(made), int(morph.FADE * 16000)
    at = np.arange(len(found)) * FLUX_HOP + FLUX_WINDOW / 2
    near = np.zeros(len(found), dtype=bool)
    for joint in range(8000, len(made), 8000):
        near |= (at > joint - FLUX_WINDOW / 2) & (at < joint + fade + FLUX_WINDOW / 2)
    assert near.sum() > 20 and found[near].max() <= max(own)


def test_the_ends_are_the_two_voices(voice, adapters, monkeypatch):
    """What is converted first is in the first voice, what comes last in the second."""
    seen = []
    start, end = ([(voice.load(path), 1.0)] for path in adapters)
    converter = Converter(voice, "cpu")

    def listen(audio, options):
        seen.append(([(one.adapter.name, round(one.strength, 3)) for one in voice.applied], options.transpose))
        return np.zeros(len(audio), np.float32)

    listen.voice = voice
    morph.convert_morphing(listen, np.zeros(3 * 8000, np.float32), start, end, ConvertOptions(), (-12.0, 0.0))
    assert seen == [([("one", 1.0)], -12.0), ([("one", 0.5), ("two", 0.5)], -6.0), ([("two", 1.0)], 0.0)]
    assert converter.voice is voice


def test_after_a_recording_that_fails_the_next_begins_in_the_first_voice(tmp_path, adapters, monkeypatch, capsys):
    heard, failures = [], [UserError("it breaks")]

    def breaks_once(converter, sound, *rest):
        if failures:
            raise failures.pop()
        return np.zeros(len(sound), np.float32)

    def in_voice(voice, *rest):
        heard.append(voice.title)
        return 0.0

    monkeypatch.setattr(infer_lora, "convert_morphing", breaks_once)
    monkeypatch.setattr(infer_lora, "transposition", in_voice)
    for name in ("a.wav", "b.wav"):
        write_audio(tmp_path / "in" / name, read_audio(SOURCE, 16000)[:8000], 16000)
    line = ["--base_model", BASE, "--lora_weights", adapters[0], "--morph", adapters[1], "--input", tmp_path / "in"]
    with pytest.raises(UserError, match="1 of 2"):
        infer_lora.main([*map(str, line), "--output", str(tmp_path / "out")])
    assert "a.wav: it breaks" in capsys.readouterr().err
    assert heard == ["one", "two", "one", "two"]
    with soundfile.SoundFile(str(tmp_path / "out" / "b.wav")) as file:
        assert "voice: one → two" in file.copy_metadata()["comment"]


def test_the_command_morphs(tmp_path, adapters):
    source = write_audio(tmp_path / "in.wav", read_audio(SOURCE, 16000)[:14000], 16000)
    line = ["--base_model", BASE, "--lora_weights", adapters[0], "--morph", adapters[1], "--input", source]
    assert infer_lora.main([*map(str, line), "--output", str(tmp_path / "out.wav")]) == 0
    assert len(read_audio(tmp_path / "out.wav", 16000)) == 14000
    with soundfile.SoundFile(str(tmp_path / "out.wav")) as file:
        assert "voice: one → two" in file.copy_metadata()["comment"]
