"""The data's doctor: each defect in a made-up recording is named with its file, clean ones have no finding."""

from __future__ import annotations

import json
import sys
import weakref

import numpy as np
import pytest
import soundfile
from doctor_sounds import (
    RATE,
    clipped,
    humming,
    in_a_hall,
    mostly_silent,
    noisy,
    upsampled,
    voice,
    with_music,
)
from voice_data import ROOT

from LoraModel.doctor import command, examine, together
from LoraModel.doctor.finding import Curve, Spectrogram
from LoraModel.doctor.level import clipped_share
from LoraModel.doctor.page import picture_html, write_report
from LoraModel.doctor.recording import analysed, read_recording
from LoraModel.doctor.spectrum import spectrum_end
from LoraModel.doctor.together import Print, duplicate_findings, length_findings, print_of, two_groups
from LoraModel.messages import Text, UserError, cli
from LoraModel.scripts import prepare_data


@pytest.fixture(autouse=True)
def no_speaker_network(monkeypatch):
    """The network that tells speakers apart is tried by its own tests."""
    def missing():
        raise UserError("there is none")

    monkeypatch.setattr(together, "SpeakerEncoder", missing)


DEFECTS = {
    "clipping": clipped, "noise": noisy, "hum": lambda x: humming(x, 50.0), "bandwidth": lambda x: upsampled(x, 16000),
    "reverberation": lambda x: in_a_hall(np.concatenate([x, x]), 1.2), "music": with_music, "quiet": lambda x: x * 0.02,
    "loud": lambda x: np.tanh(30 * x), "pauses": mostly_silent, "silent": lambda x: x * 0,
}


def kinds(report, file="bad.wav"):
    return {finding.kind for finding in report.findings if finding.file == file}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_is_found_and_the_clean_recording_beside_it_is_not_blamed(tmp_path, kind):
    soundfile.write(str(tmp_path / "good.wav"), voice(seed=1), RATE, subtype="PCM_24")
    soundfile.write(str(tmp_path / "bad.wav"), DEFECTS[kind](voice(seed=2)), RATE, subtype="PCM_24")
    report = examine(tmp_path)
    assert kind in kinds(report) and kinds(report, "good.wav") == set()
    found = next(finding for finding in report.findings if finding.kind == kind)
    assert found.figures and found.picture is not None
    for language in ("en", "zh_CN"):
        assert "{" not in found.what.in_language(language) + found.todo.in_language(language)


@pytest.mark.parametrize("seed", range(4))
def test_a_clean_recording_has_no_finding_at_any_rate(tmp_path, seed):
    rate = (16000, 32000, 40000, 48000)[seed]
    soundfile.write(str(tmp_path / "a.wav"), voice(10, seed + 10, rate, 100 + 40 * seed), rate, subtype="PCM_24")
    assert kinds(examine(tmp_path, rate), "a.wav") == set()


def test_what_is_measured_is_right():
    sound = voice(seed=3)
    assert clipped_share(sound)[0] == 0 and clipped_share(np.sin(np.arange(40000) / 50).astype(np.float32))[0] == 0
    share, place = clipped_share(clipped(sound))
    assert share == pytest.approx(float((np.abs(sound * 5) >= 0.9 * 0.985).mean()), rel=0.2)
    assert abs(clipped(sound)[place]) == pytest.approx(0.9)
    r = analysed("a", noisy(sound, 20), RATE)
    assert r.speech - r.floor == pytest.approx(20, abs=4)
    for low in (8000, 16000, 22000):
        end = spectrum_end(analysed("a", upsampled(sound, low), RATE))[0]
        assert end == pytest.approx(low / 2, rel=0.15)  # the resampler falls slowly
    assert spectrum_end(analysed("a", sound, RATE))[0] is None


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_the_hum_of_either_net_is_told_from_the_other(tmp_path, mains):
    soundfile.write(str(tmp_path / "bad.wav"), humming(voice(seed=4), mains), RATE)
    hum = next(finding for finding in examine(tmp_path).findings if finding.kind == "hum")
    assert hum.figures["mains_hz"] == mains


def test_a_low_rate_is_told_by_the_file_itself(tmp_path):
    soundfile.write(str(tmp_path / "bad.wav"), voice(seed=5, rate=16000), 16000)
    assert "bandwidth" in kinds(examine(tmp_path, 40000)) and "bandwidth" not in kinds(examine(tmp_path, 16000))


def test_a_copy_is_known_again_at_another_level_and_in_another_format(tmp_path):
    sound = voice(5, seed=6)
    soundfile.write(str(tmp_path / "a.wav"), sound, RATE)
    soundfile.write(str(tmp_path / "b.ogg"), np.concatenate([np.zeros(RATE // 10, np.float32), sound * 0.3]), RATE,
                    format="OGG", subtype="VORBIS")
    soundfile.write(str(tmp_path / "c.wav"), voice(5, seed=7), RATE)
    twice = [finding for finding in examine(tmp_path).findings if finding.kind == "duplicate"]
    assert [(finding.file, finding.figures["same_as"]) for finding in twice] == [("b.ogg", "a.wav")]


def test_many_recordings_are_not_all_compared_with_all():
    same = [print_of(analysed(str(n), voice(1 + n / 4, seed=n), RATE)) for n in range(8)]
    assert list(duplicate_findings(same)) == []


def test_a_coarse_look_at_the_shapes_leaves_no_copy_out(monkeypatch):
    """The same pairs as by comparing each with each, which of 2000 recordings of one length took half an hour."""
    rng = np.random.default_rng(0)
    prints = []
    for number, frames in enumerate([3, 4, 5, 9, 12, 20, 47, 48, 49, 50, 198, 199, 200] * 8 + [199] * 60):
        shape = rng.standard_normal((together.PRINT_BANDS, frames)).cumsum(axis=1)
        if number % 3 == 1:  # a copy, later or earlier, with so much noise that some are still one and some are not
            shape = np.roll(prints[-1].shape, int(rng.integers(-5, 6)), axis=1)
            shape = shape + rng.uniform(0, 0.4) * shape.std() * rng.standard_normal(shape.shape)
        shape = (shape - shape.mean(axis=1, keepdims=True)).astype(np.float32)
        prints.append(Print(str(number), shape.shape[1] / 20, shape))
    alike, calls = together.likeness, []

    def pairs():
        return [(finding.file, finding.figures["same_as"]) for finding in duplicate_findings(prints)]

    monkeypatch.setattr(together, "likeness", lambda *two: calls.append(1) or alike(*two))
    found, few = pairs(), len(calls)
    monkeypatch.setattr(together, "_may_be_alike", lambda of: (
        (place, [other for other in range(place + 1, len(of)) if of[other].seconds - of[place].seconds
                 <= together.LENGTHS]) for place in range(len(of))))
    assert found == pairs() and len(found) > 10 and few < (len(calls) - few) / 5
    monkeypatch.setattr(together, "MOST_TOGETHER", 7)
    assert found == pairs()


def test_the_sound_of_the_recordings_is_not_kept(tmp_path, monkeypatch):
    """Of ten hours it is 7 GB, and the page's process goes on."""
    class Encoder:
        def embedding(self, audio, sr):
            return np.array([1.0, 0.0])

    heard, left = [], []

    def read(path, name):
        left.append(sum(sound() is not None for sound in heard))
        r = read_recording(path, name)
        heard.append(weakref.ref(r.audio))
        return r

    monkeypatch.setattr(together, "SpeakerEncoder", Encoder)
    monkeypatch.setattr(sys.modules["LoraModel.doctor.examine"], "read_recording", read)
    for number, sound in enumerate([voice(8), with_music(voice(8, 1)), noisy(voice(8, 2)), voice(8) / 2]):
        soundfile.write(str(tmp_path / f"{number}.wav"), sound, RATE)
    report = examine(tmp_path)
    assert left[:4] == [0, 1, 1, 1] and not any(sound() is not None for sound in heard)  # the newest until the next
    found = {finding.kind: finding for finding in report.findings}
    assert found["duplicate"].file == "3.wav" and {"music", "noise"} <= set(found)
    assert all(isinstance(found[kind].picture, Spectrogram) for kind in ("duplicate", "music"))
    assert 'alt="music 1.wav"' in picture_html(found["music"].picture, "music 1.wav")


def test_two_speakers_are_two_groups_and_one_is_one():
    rng = np.random.default_rng(0)

    def people(count, centre):
        rows = centre + rng.normal(0, 0.02, (count, 256))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    one, other = rng.normal(0, 1, (2, 256))
    one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    both = two_groups(np.concatenate([people(7, one), people(3, other)]))
    assert both is not None and (both == both[0]).tolist() == [True] * 7 + [False] * 3
    assert two_groups(people(9, one)) is None


def test_the_other_speaker_is_named(tmp_path, monkeypatch):
    class Encoder:
        def embedding(self, audio, sr):
            return np.array([1.0, 0.0]) if np.abs(audio).max() > 0.3 else np.array([0.3, 0.954])

    monkeypatch.setattr(together, "SpeakerEncoder", Encoder)
    for number in range(4):
        soundfile.write(str(tmp_path / f"{number}.wav"), voice(4, number) * (1 if number < 3 else 0.4), RATE)
    report = examine(tmp_path)
    assert [finding.file for finding in report.findings if finding.kind == "speaker"] == ["3.wav"]
    assert report.not_looked_at == []


@pytest.mark.parametrize("seconds, grave", [(5, "warning"), (100, "note"), (600, None), (9000, "note")])
def test_the_length_in_all(seconds, grave):
    found = list(length_findings([seconds / 2, seconds / 2]))
    assert [finding.grave for finding in found] == ([grave] if grave else [])


def test_the_command_says_it_in_words_json_and_a_page_and_changes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw <b>"
    raw.mkdir()
    soundfile.write(str(raw / "x & y.wav"), clipped(voice(3)), RATE)
    (raw / "broken.wav").write_bytes(b"RIFF")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.iterdir()}
    assert cli(prepare_data.main, ["--check", "--input_dir", str(raw)]) == 0
    said = capsys.readouterr().out
    assert "x & y.wav: " in said and "cut off at the top" in said and "broken.wav: It cannot be read" in said
    assert "not looked at: whether a second speaker" in said
    text = (tmp_path / "raw <b>_check.html").read_text(encoding="utf-8")
    assert "x &amp; y.wav" in text and "<b>_check" not in text and text.count("<svg") >= 2
    page = tmp_path / "p.html"
    assert cli(prepare_data.main, ["--check", "--json", "--report", str(page), "--input_dir", str(raw)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"clipping", "unreadable", "length"} <= {each["kind"] for each in found["findings"]} and page.is_file()
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "raw <b>", "raw <b>_check.html"]


@pytest.mark.parametrize("name, words", [("x.wav", "never overwritten: give --report"), ("no.wav", "never overwritten"),
                                         ("", "is a folder: give --report"), ("x.wav/p.html", "--report")])
def test_the_page_takes_the_place_of_no_recording(tmp_path, capsys, monkeypatch, name, words):
    soundfile.write(str(tmp_path / "x.wav"), voice(1), RATE)
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(command, "examine", None)  # said before the work
    assert cli(prepare_data.main, ["--check", "--input_dir", str(tmp_path), "--report", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("options, words", [
    (["--input_dir", "x"], "--output_dir"), (["--input_dir", "x", "--output_dir", "y", "--json"], "--check"),
    (["--input_dir", "x", "--output_dir", "y", "--report", "z"], "--check"),
    (["--check", "--input_dir", "nowhere"], "nowhere")])
def test_what_does_not_go_together_is_one_line(capsys, options, words):
    assert cli(prepare_data.main, options) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]


def test_a_name_is_escaped_once():
    html = picture_html(Curve([(0, 1), (1, 2)], Text("seconds"), Text("recordings")), 'a&b "c" <d>.wav')
    assert 'aria-label="a&amp;b &quot;c&quot; &lt;d&gt;.wav"' in html


def test_the_demos_recordings_are_clean(tmp_path):
    report = examine(ROOT / "LoraModel" / "demo" / "recordings" / "target", 16000)
    assert [finding.kind for finding in report.findings] == ["length"]
    assert write_report(tmp_path / "a.html", report).stat().st_size < 200_000
