"""Converted audio says that voice conversion made it, in the comment field of its own container."""

import io
import struct

import numpy as np
import pytest
import soundfile
from voice_data import BASE

from LoraModel.inference import infer_lora, marking
from LoraModel.inference.audio import FORMATS, read_audio, write_audio

SOUND = 0.3 * np.sin(2 * np.pi * 220 * np.arange(8000) / 16000).astype(np.float32)
NAME = "爱丽丝 & a name that is longer than the thirty characters of an old tag"


def comment_of(path):
    """The comment as other programs find it: libsndfile's reading, of an MP3 the ID3v2 frame's own text."""
    data = path.read_bytes()
    if data[:3] != b"ID3":
        with soundfile.SoundFile(str(path)) as file:
            return file.copy_metadata().get("comment", "")
    assert data[3:6] == b"\x03\x00\x00"
    size = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0)))
    name, length, flags = struct.unpack(">4sIH", data[10:20])
    assert name == b"COMM" and flags == 0 and length == size - 10 and data[20] == 1
    assert data[10 + size] == 0xFF  # the first frame of the sound follows at once
    return data[24:20 + length].decode("utf-16")[1:].lstrip("\ufeff")


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_the_words_stand_in_the_containers_own_field_and_the_sound_is_the_same(tmp_path, ending):
    if FORMATS[ending][0] not in soundfile.available_formats():
        pytest.skip("this libsndfile writes no such files")
    words = marking.mark_of(NAME)
    assert NAME in words and "made by voice conversion" in words
    marked = write_audio(tmp_path / f"a{ending}", SOUND, 16000, words)
    plain = write_audio(tmp_path / f"b{ending}", SOUND, 16000)
    assert comment_of(marked) == words and comment_of(plain) == ""
    np.testing.assert_array_equal(read_audio(marked, 16000), read_audio(plain, 16000))


@pytest.mark.parametrize("setting, marked", [("", True), ("1", True), ("0", False), ("off", False)])
def test_a_setting_switches_it_off(monkeypatch, setting, marked):
    monkeypatch.setenv(marking.SETTING, setting)
    assert bool(marking.mark_of("a")) == marked and marking.mark_of("a", False) == ""


def test_a_strangers_name_is_one_short_line():
    words = marking.mark_of("a\n\x1b[2Jb" + "x" * 5000)
    assert words.isprintable() and len(words) < 400
    assert len(marking.id3(words)) < 1000 and io.BytesIO(marking.id3(words)).read(3) == b"ID3"


def test_the_command_marks_unless_it_is_told_not_to(tmp_path, speech, monkeypatch):
    monkeypatch.delenv(marking.SETTING, raising=False)
    source = write_audio(tmp_path / "in.wav", speech[:4000], 16000)
    for name, more in (("a.flac", []), ("b.flac", ["--no_mark"])):
        assert infer_lora.main(["--base_model", str(BASE), "--input", str(source), "--output", str(tmp_path / name),
                                *more]) == 0
    assert comment_of(tmp_path / "a.flac").endswith("voice: f0G16k") and comment_of(tmp_path / "b.flac") == ""
