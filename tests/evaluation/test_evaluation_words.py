"""What is said, whose voice is left in it and whether the melody follows: by hand, and with a recogniser that stands
in for Whisper."""

import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from LoraModel import judges
from LoraModel.evaluation import compare, metrics, words
from LoraModel.evaluation.recordings import Recording
from LoraModel.messages import UserError

# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It's 5 o'clock, Tom-Tom!", ["its", "five", "oclock", "tom", "tom"]),
        ("  ", []),
        ("今天 good", ["今", "天", "good"]),
        ("Ünï…é", ["ünï", "é"]),
        ("ＡＢ", ["ab"]),
        ("121 and 50 in 2020", ["one", "hundred", "twenty", "one", "and", "fifty", "in", "2020"]),
    ],
)
def test_words_of_a_text(text, expected):
    assert words.words_of(text) == expected


@pytest.mark.parametrize(
    "a, b, edits", [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
)
def test_edit_distance_by_hand(a, b, edits):
    assert words.edit_distance(a, b) == words.edit_distance(b, a) == edits


def test_word_error_by_hand():
    assert words.word_error("the cat sat", "The cat sat.") == 0
    assert words.word_error("a cat", "the cat sat") == pytest.approx(2 / 3)
    assert words.word_error("one two three four", "two") == 3.0 and math.isnan(words.word_error("x", "…"))


def test_content_distance_by_hand():
    a = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert words.content_distance(a, 3 * a) == pytest.approx(0) and words.content_distance(a, a[::-1]) == pytest.approx(
        1
    )
    assert words.content_distance(a, np.array([[1.0, 0.0]])) == pytest.approx(0)
    assert words.content_distance(a, np.array([[1.0, 1.0], [0.0, 1.0]])) == pytest.approx((1 - math.sqrt(1 / 2)) / 2)
    assert math.isnan(words.content_distance(a, a[:0]))


class Whisper:
    """Writes down how many samples it is given; text by the loudest of them."""

    made = []

    def __init__(self, path, **options):
        self.made.append((path, options))

    def transcribe(self, audio, language=None, **options):
        assert audio.dtype == np.float32 and options["temperature"] == 0.0
        text = "one two three" if np.abs(audio).max() > 0.3 else "one three"
        return iter([SimpleNamespace(text=" " + text)]), SimpleNamespace(language=language or "en")


@pytest.fixture
def listener(tmp_path, monkeypatch):
    package = ModuleType("faster_whisper")
    package.WhisperModel = Whisper
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    (tmp_path / "model.bin").write_bytes(b"x")
    return words.Listener(tmp_path)


def recording(path, level):
    return Recording("a.wav", path, np.full(16000, level, dtype=np.float32))


def test_words_beside_the_recordings_own(listener, tmp_path):
    clip = recording(tmp_path / "a.wav", 0.5)
    judge = compare.Judges(listener=listener)
    assert judge.words(clip, 0.5 * np.ones(40000, dtype=np.float32), 40000) == {"word_error": 0.0}
    assert judge.words(clip, 0.1 * np.ones(16000, dtype=np.float32), 16000) == {"word_error": pytest.approx(1 / 3)}
    assert clip.text == "one two three" and clip.language == "en"
    assert Whisper.made[-1][1]["local_files_only"] is True and Whisper.made[-1][0] == str(tmp_path)


def test_the_text_beside_a_recording_goes_before_what_is_heard_in_it(listener, tmp_path):
    (tmp_path / "a.txt").write_text("One, three.", encoding="utf-8")
    assert compare.Judges(listener=listener).words(recording(tmp_path / "a.wav", 0.5), np.full(16000, 0.1), 16000) == {
        "word_error": 0.0
    }
    (tmp_path / "a.txt").write_text("…", encoding="utf-8")
    assert words.text_beside(tmp_path / "a.wav") is None and words.text_beside(tmp_path / "b.wav") is None


def test_without_a_recogniser_there_are_no_words(tmp_path):
    assert compare.Judges().words(recording(tmp_path / "a.wav", 0.5), np.zeros(16000), 16000) == {}


def test_what_is_no_model_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no model.bin"):
        words.Listener(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UserError, match="pip install -r requirements-asr.txt"):
        words.Listener(tmp_path)
    broken = ModuleType("faster_whisper")

    def refuse(path, **options):
        raise RuntimeError("Unsupported model binary version")

    broken.WhisperModel = refuse
    monkeypatch.setitem(sys.modules, "faster_whisper", broken)
    with pytest.raises(UserError, match="cannot be loaded .*binary version"):
        words.Listener(tmp_path)


# Whose voice --------------------------------------------------------------------------------------------------------


def test_leak_by_hand():
    source, target = np.array([1.0, 0.0]), [np.array([0.0, 1.0])]
    assert judges.speaker_leak(source, source, target) == pytest.approx(1)
    assert judges.speaker_leak(target[0], source, target) == pytest.approx(0)
    half = np.array([0.5, math.sqrt(0.75)])
    assert judges.speaker_leak(half, source, target) == pytest.approx(0.5)
    assert math.isnan(judges.speaker_leak(source, source, [source]))


def test_swapped_speakers_leak_the_other_way():
    a, b = np.array([0.8, 0.6]), np.array([0.6, 0.8])  # cosine 0.96 is one speaker; move them apart
    b = np.array([0.0, 1.0])
    assert judges.speaker_leak(a, a, [b]) == pytest.approx(1) and judges.speaker_leak(b, a, [b]) == pytest.approx(0)
    assert judges.speaker_leak(a, b, [a]) == pytest.approx(0) and judges.speaker_leak(b, b, [a]) == pytest.approx(1)


# Pitch --------------------------------------------------------------------------------------------------------------


def test_a_shifted_pitch_has_the_same_melody():
    f0 = 200 * 2 ** np.sin(np.linspace(0, 6, 50))
    assert metrics.pitch_correlation(f0 * 1.5, f0) == pytest.approx(1) and metrics.f0_rmse_cents(
        f0 * 2, f0
    ) == pytest.approx(1200)
    assert metrics.pitch_correlation(200**2 / f0, f0) == pytest.approx(-1)


def test_pitch_correlation_by_hand():
    a, b = (
        2.0 ** np.array([1, 2, 3, 4] * 3),
        2.0 ** np.array([1, 3, 2, 4] * 3),
    )  # 1 - 6 * 2 / (4 * 15), Spearman's formula on ranks
    assert metrics.pitch_correlation(a, b) == pytest.approx(0.8)
    unvoiced = np.append(a, [0, 500.0]), np.append(b, [300.0, 0])
    assert metrics.pitch_correlation(*unvoiced) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "a, b", [(np.full(50, 200.0), np.arange(1, 51) * 1.0), (np.zeros(50), np.ones(50)), (np.arange(1, 10) * 1.0,) * 2]
)
def test_no_melody_no_correlation(a, b):
    assert math.isnan(metrics.pitch_correlation(a, b))


def test_pitch_of_recordings_of_other_lengths():
    t = np.arange(24000) / 16000
    voice = (
        sum(np.sin(2 * np.pi * k * np.cumsum(150 + 40 * np.sin(2 * np.pi * t)) / 16000) / k for k in range(1, 10)) * 0.1
    )
    figures = metrics.pitch_figures(voice[:-800], voice, 16000)
    assert figures["pitch_correlation"] > 0.99 and figures["voicing_error"] < 0.1
