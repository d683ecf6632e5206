"""Recordings as people have them: channels, scale, level, length, files cut short, impossible headers."""

import os
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from LoraModel.inference import audio as audio_io
from LoraModel.inference.audio import problem_of, read_audio
from LoraModel.inference.sound import check_length
from LoraModel.messages import UserError

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)).astype(np.float32)
NOTHING = np.zeros_like(TONE)


def read(path):
    notes = []
    return read_audio(path, RATE, notes.append), notes


def rms(audio):
    return float(np.sqrt(np.mean(np.square(audio))))


@pytest.mark.parametrize("channels", [[TONE, NOTHING], [NOTHING, TONE], [TONE, TONE], [NOTHING, NOTHING, TONE],
                                      [TONE, 0.01 * TONE], [TONE]])
def test_a_voice_on_some_channels_keeps_its_level(tmp_path, channels):
    soundfile.write(str(tmp_path / "a.wav"), np.stack(channels, 1), RATE)
    audio, notes = read(tmp_path / "a.wav")
    assert rms(audio) == pytest.approx(rms(TONE), rel=0.01) and not notes


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_voice_on_the_left_keeps_its_level_through_ffmpeg(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), np.stack([TONE, NOTHING], 1), RATE)
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "a.wav"), "-c:a", "alac",
                    str(tmp_path / "a.m4a")], check=True)
    assert rms(read(tmp_path / "a.m4a")[0]) == pytest.approx(rms(TONE), rel=0.02)


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def piped(*before, channels=1, after=b""):
    """What ffmpeg's WAV muxer writes into a pipe, which it cannot go back in: the sound's length is not known, and
    titles stand before it."""
    sound = np.repeat(TONE, channels).astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, RATE, 4 * channels * RATE, 4 * channels, 32)
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(before) + chunk(b"fmt ", form) + after + (
        b"data\xff\xff\xff\xff" + sound)


TITLES = [b"data", b"my data", b"xdata\0\0\0\0data", b"fmt data fmt ", b"odd"]


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_sound_is_found_behind_a_title_of_any_words(tmp_path, monkeypatch, title, channels):
    """A title with "data" in it was read as the beginning of the sound."""
    said = chunk(b"LIST", b"INFO" + chunk(b"INAM", title))
    (tmp_path / "a.m4a").write_bytes(b"no format of libsndfile's")
    monkeypatch.setattr(audio_io.shutil, "which", lambda name: name)
    for data in (piped(after=said, channels=channels), piped(said, channels=channels), piped(channels=channels)):
        monkeypatch.setattr(audio_io, "_ffmpeg", lambda *_, data=data: subprocess.CompletedProcess([], 0, data, b""))
        audio, notes = read(tmp_path / "a.m4a")
        assert np.array_equal(audio, TONE) and not notes


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\xff\xff\xff\xffWAVE", piped()[:30], piped()[:44],
                                  piped()[:47], piped(channels=0), piped(chunk(b"LIST", b"data" * 9))[:64],
                                  b"RIFF\xff\xff\xff\xffWAVE" + chunk(b"data", bytes(8)), b"data" * 40])
def test_what_holds_no_sound_is_no_recording(tmp_path, monkeypatch, data):
    (tmp_path / "a.m4a").write_bytes(b"no format of libsndfile's")
    monkeypatch.setattr(audio_io.shutil, "which", lambda name: name)
    monkeypatch.setattr(audio_io, "_ffmpeg", lambda *_: subprocess.CompletedProcess([], 0, data, b""))
    with pytest.raises(UserError, match="no audio that libsndfile or ffmpeg can read"):
        read(tmp_path / "a.m4a")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("title", ["data", "my data", "fmt data", "数据 data"])
def test_a_title_changes_nothing_of_what_ffmpeg_reads(tmp_path, title):
    soundfile.write(str(tmp_path / "a.wav"), TONE, RATE)
    for name, more in (("plain", []), ("named", ["-metadata", f"title={title}", "-metadata", f"artist={title}"])):
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "a.wav"), "-c:a", "alac", *more,
                        str(tmp_path / f"{name}.m4a")], check=True)
    assert np.array_equal(read(tmp_path / "named.m4a")[0], read(tmp_path / "plain.m4a")[0])


def test_channels_that_cancel_each_other_are_not_averaged(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), np.stack([TONE, -TONE], 1), RATE)
    audio, notes = read(tmp_path / "a.wav")
    assert not notes and np.corrcoef(audio, TONE)[0, 1] > 0.9999 and np.std(audio) == pytest.approx(np.std(TONE), 1e-3)


@pytest.mark.parametrize("factor, said", [(2**15, "integers"), (2**23, "integers"), (2**31 - 200, "integers"),
                                          (16, "full scale"), (1.5, None)])
def test_samples_of_another_scale_are_brought_to_full_scale(tmp_path, factor, said):
    soundfile.write(str(tmp_path / "a.wav"), TONE * np.float32(factor), RATE, subtype="FLOAT")
    audio, notes = read(tmp_path / "a.wav")
    assert 0.2 < np.abs(audio).max() <= 1
    assert (not notes) if said is None else len(notes) == 1 and said in notes[0]
    assert np.corrcoef(audio, TONE)[0, 1] > 0.9999


@pytest.mark.parametrize("audio, said", [
    (np.clip(TONE * 4, -0.99, 0.99), "clipped"), (TONE + np.float32(0.4), "centred"),
    (TONE * np.float32(0.001), "very quiet"), (TONE * 0, "silent from"),
])
def test_clipping_offset_and_level_are_said(tmp_path, audio, said):
    soundfile.write(str(tmp_path / "a.wav"), audio, RATE)
    found, notes = read(tmp_path / "a.wav")
    assert len(notes) == 1 and said in notes[0] and abs(found.mean()) < 1e-3


def test_an_ordinary_recording_is_read_as_it_is(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), TONE, RATE, subtype="FLOAT")
    audio, notes = read(tmp_path / "a.wav")
    assert np.array_equal(audio, TONE) and not notes


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_file_cut_short_is_said_to_be(tmp_path, name):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
    soundfile.write(str(tmp_path / name), noise, RATE)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    audio, notes = read(tmp_path / name)
    assert RATE < len(audio) < 3 * RATE and len(notes) == 1 and "cut short" in notes[0]


def test_a_flac_that_claims_2_to_the_36_samples_takes_no_memory_for_them(tmp_path):
    soundfile.write(str(tmp_path / "a.flac"), TONE, RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"  # STREAMINFO: 36 bits of samples
    (tmp_path / "a.flac").write_bytes(data)
    if shutil.which("ffmpeg") is None:
        with pytest.raises(UserError, match="promises samples"):
            read(tmp_path / "a.flac")
        return
    audio, _ = read(tmp_path / "a.flac")
    assert len(audio) == RATE and np.abs(audio - TONE).max() < 1e-3


@pytest.mark.parametrize("rate", [1, 100, 2_000_000])
def test_rates_that_no_sound_has_are_refused(tmp_path, rate):
    soundfile.write(str(tmp_path / "a.wav"), TONE, RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UserError, match="samples a second"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("samples", [1, 160, 1599])
def test_too_little_to_convert_is_refused(samples):
    with pytest.raises(UserError, match="shorter than 0.1 s"):
        check_length(np.zeros(samples), RATE)
    check_length(np.zeros(1600), RATE)


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes")
def test_names_that_are_no_utf8_are_read(tmp_path):
    path = os.path.join(os.fsencode(str(tmp_path)), b"caf\xe9.wav")
    soundfile.write(path, TONE, RATE)
    assert len(read(os.fsdecode(path))[0]) == RATE


def flac_that_claims(path, rate, samples):
    """One second of sound whose header (STREAMINFO: 20 bits of rate, 36 bits of samples) says something else."""
    soundfile.write(str(path), TONE, RATE)
    data = bytearray(path.read_bytes())
    packed = int.from_bytes(data[18:26], "big")
    kept = packed >> 36 & 0xFF  # channels and bits
    data[18:26] = (rate << 44 | kept << 36 | samples).to_bytes(8, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.05, 15])
def test_a_flac_that_does_not_tell_its_length_is_read_to_its_end(tmp_path, monkeypatch, seconds, channels):
    """As ffmpeg writes it to a pipe. ffmpeg itself is not needed to read it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    noise = np.random.default_rng(0).integers(-9000, 9000, (int(seconds * RATE), channels), dtype=np.int16)
    path = tmp_path / "piped.flac"
    soundfile.write(str(path), noise, RATE)
    told, _ = read(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # STREAMINFO: 36 bits of samples, of which 0 says that they were not counted
    path.write_bytes(data)
    assert soundfile.info(str(path)).frames == audio_io.UNKNOWN and problem_of(path) is None
    audio, notes = read(path)
    assert np.array_equal(audio, told) and len(audio) == len(noise) and not notes
    path.write_bytes(data[:len(data) * 3 // 4])
    if seconds > 1:
        audio, notes = read(path)
        assert 0.5 < len(audio) / len(noise) < 0.76 and len(notes) == 1 and "cut short or damaged" in notes[0]
        assert "header" not in notes[0]


def test_what_a_header_claims_is_named_before_another_program_believes_it(tmp_path):
    assert problem_of(flac_that_claims(tmp_path / "true.flac", RATE, RATE)) is None
    assert problem_of(flac_that_claims(tmp_path / "stream.flac", RATE, 0)) is None  # a stream's header need not tell
    long = problem_of(flac_that_claims(tmp_path / "long.flac", RATE, 2**36 - 1))
    assert "longer than 12 hours" in long.en and "12 小时" in long.zh
    slow = tmp_path / "slow.wav"
    soundfile.write(str(slow), TONE, RATE)
    data = bytearray(slow.read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    slow.write_bytes(data)
    assert "its header says 1 samples a second" in problem_of(slow).en
