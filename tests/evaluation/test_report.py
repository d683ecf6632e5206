"""Pictures, and the demo's report as a page that stands alone."""

import base64
import io
import json
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from html_page import Page

from LoraModel import charts
from LoraModel.demo import report
from LoraModel.demo.measures import sound_figures
from LoraModel.evaluation import pictures

RECORDINGS = Path(report.__file__).parent / "recordings"
FIGURES = {
    "voice": "<rms>", "base_params": 5403170, "adapter_params": 168240, "adapter_bytes": 352412, "seconds_train": 142.3,
    "steps": 180,
    "loss_first": 61.2, "loss_last": 33.9, "heldout_mel_base": 0.861, "heldout_mel_adapter": 0.531,
    "speaker_similarity_base": 0.702,
    "speaker_similarity_adapter": 0.861, "merge_max_abs_diff": 3.1e-5, "unload_identical": True,
    "chips": "fish & chips",
}  # fmt: skip


def recordings(group):
    return [soundfile.read(str(path), dtype="float32")[0] for path in sorted((RECORDINGS / group).glob("*.flac"))]


def loud_noise(seconds: float, sr: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.8, 0.8, int(seconds * sr)).astype(np.float32)


# Pictures
# -------------------------------------------------------------------------------------------------------------------


def read_png(content):
    """Chunks of a PNG file, their checksums verified, and its (height, width) indices."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        name, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return chunks, rows[:, 1:]


def test_palette_png_is_a_png_of_those_indices():
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    chunks, found = read_png(pictures.palette_png(indices))
    np.testing.assert_array_equal(found, indices)
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"] and len(chunks[b"PLTE"]) == 768


def test_spectrogram_shows_a_low_tone_at_the_bottom():
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)
    _, picture = read_png(pictures.spectrogram_png(tone, 16000))
    assert picture.shape == (128, 100)
    assert 110 < picture[:, 50].argmax() < 128
    assert picture[:60, 10:90].max() == 0  # the reflected edges do click


def test_line_chart_draws_points_and_skips_what_is_not_finite():
    svg = charts.line_chart([(0, 1.0), (10, float("nan")), (20, 0.5)], "a < b", dots=True, level=1.2)
    assert svg.count("<circle") == 2 and "nan" not in svg and 'aria-label="a &lt; b"' in svg and 'class="level"' in svg
    (points,) = re.findall(r'points="([^"]+)"', svg)
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in points.split())
    assert x0 < x1 and y0 < y1  # a falling loss falls on the page too
    assert charts.line_chart([], "none") == "" and charts.line_chart([(1, math.inf)], "none") == ""
    assert charts.line_chart([(5, 2.0)], "one").count("<circle") == 1


@pytest.mark.parametrize("low, high", [(0.53, 0.861), (0, 0), (2.0, 2.0), (-3e-5, 7e-5), (0, 61000)])
def test_ticks_enclose_the_values(low, high):
    ticks = charts.round_ticks(low, high)
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8
    assert np.all(np.diff(ticks) > 0)


# The page
# -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    sound = tmp_path / "stereo.wav"
    soundfile.write(str(sound), np.stack([loud_noise(0.5, 40000)] * 2, axis=1), 40000, subtype="FLOAT")
    return {
        "figures": dict(FIGURES),
        "audio": [
            {"key": "source", "title": {"en": "Source", "zh": "源录音"}, "path": RECORDINGS / "source" / "01.flac"},
            {"key": "adapter", "title": {"en": "Base & adapter", "zh": "底模与适配器"}, "path": str(sound)},
        ],
        "curves": {
            "loss": [{"step": s, "mel": 1 / s, "kl": 2 / s} for s in range(1, 9)] + [{"step": 9, "odd<part>": 1.0}],
            "heldout": [{"step": 0, "mel": 0.86}, {"step": 8, "mel": 0.53}],
        },
        "notes": ["plain <note>", {"en": "english note", "zh": "中文说明"}],
    }


def test_report_stands_alone(tmp_path, data):
    path = report.write_report(tmp_path, data)
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.stands_alone()
    assert "http" not in text and "url(" not in text and "@import" not in text and not page.tags("link")


def test_report_embeds_every_sound_and_its_picture(tmp_path, data):
    page = Page(report.write_report(tmp_path, data).read_text(encoding="utf-8"))
    sounds = [a["src"] for a in page.tags("audio")]
    pngs = [a["src"] for a in page.tags("img")]
    assert len(sounds) == len(pngs) == 2
    for entry, sound, png in zip(data["audio"], sounds, pngs):
        wanted, sr = soundfile.read(str(entry["path"]), dtype="float32", always_2d=True)
        assert sound.startswith("data:audio/flac;base64,")
        content = io.BytesIO(base64.b64decode(sound.split(",", 1)[1]))
        found, found_sr = soundfile.read(content, dtype="float32")
        assert found_sr == sr and soundfile.info(io.BytesIO(content.getvalue())).subtype == "PCM_16"
        np.testing.assert_allclose(found, wanted.mean(axis=1), atol=1 / 32768)
        _, picture = read_png(base64.b64decode(png.split(",", 1)[1]))
        assert picture.shape == (128, len(wanted) * 100 // sr)


def test_report_shows_figures_curves_and_notes(tmp_path, data):
    text = report.write_report(tmp_path, data).read_text(encoding="utf-8")
    shown = " ".join(Page(text).text)
    for expected in ("352 KB", "168,240", "3.11%", "5,403,170", "0.861", "0.531", "−38%", "+0.159", "3.1e-05",
                     "61.20 → 33.90", "2 min 22 s"):
        assert expected in shown, expected
    for expected in ("bit for bit", "逐位相同", "plain <note>", "english note", "中文说明", "fish & chips"):
        assert expected in shown, expected
    for expected in ("Mel loss", "KL 损失", "odd<part>", "<rms>"):
        assert expected in shown, expected
    assert text.count("<figure") == 4 and 'class="level"' in text
    data["figures"].update(unload_identical=False, heldout_mel_adapter=0.9, speaker_similarity_base=None)
    worse = report.write_report(tmp_path, data).read_text(encoding="utf-8")
    assert '<span class="worse">+5%</span>' in worse and "bit for bit" not in worse


def test_report_tells_what_a_listener_would(tmp_path, data):
    assert "Word error rate" not in report.write_report(tmp_path, data).read_text(encoding="utf-8")
    data["said"] = "Salt & <pepper>."
    data["figures"].update(word_error_base=0.1, word_error_adapter=0.2, word_error_reference=0.03,
                           global_variance_base=0.8, global_variance_adapter=1.1, dnsmos_base=3.0, dnsmos_adapter=3.1)
    text = report.write_report(tmp_path, data).read_text(encoding="utf-8")
    shown = " ".join(Page(text).text)
    for expected in ("Salt & <pepper>.", "Word error rate", "词错误率", "Sharpness: global variance", "DNSMOS"):
        assert expected in shown, expected
    assert '<span class="worse">+100%</span>' in text  # twice the words are lost
    assert '<span class="better">+0.300</span>' in text  # 1.1 is nearer to 1 than 0.8
    assert "Content distance" not in shown  # not measured


def test_report_says_what_the_stand_in_is_and_how_the_sound_is(tmp_path, data):
    silence, tone = np.zeros(16000), 0.1 * np.sqrt(2) * np.sin(np.arange(32000) * 2 * np.pi * 200 / 16000)
    clip = np.concatenate([tone, silence + 1e-3 * np.sign(np.sin(np.arange(16000)))]) + 0.01
    found = sound_figures([clip.astype(np.float32)])
    assert found["level_db"] == pytest.approx(10 * math.log10((2 * 0.0101 + 0.000101) / 3), abs=0.01)  # 20 dB apart
    assert found["noise_floor_db"] == pytest.approx(-39.96, abs=0.05)
    assert found["dc_offset"] == pytest.approx(0.01, abs=1e-4)
    data["figures"].update({f"{key}_{name}": value for key, value in found.items() for name in ("base", "adapter")})
    shown = " ".join(Page(report.write_report(tmp_path, data).read_text(encoding="utf-8")).text)
    for expected in ("stand-in, the encoder of the speech recogniser Whisper", "Loudness, dB", "Noise in pauses, dB",
                     "停顿中的噪声", "Offset from zero", "0.010"):
        assert expected in shown, expected


@pytest.mark.parametrize("chosen", ["en", "zh"])
def test_report_opens_in_the_users_language(tmp_path, data, monkeypatch, chosen):
    monkeypatch.setenv("RVC_LORA_LANG", chosen)
    page = Page(report.write_report(tmp_path, data).read_text(encoding="utf-8"))
    assert page.tags("html")[0]["data-shown"] == chosen
    languages = [a["lang"] for tag, a in page.seen if tag == "span" and "lang" in a]
    assert languages.count("en") == languages.count("zh-CN") > 30


def test_report_refuses_missing_figures(tmp_path, data):
    del data["figures"]["steps"], data["figures"]["adapter_bytes"]
    with pytest.raises(ValueError, match="adapter_bytes, steps"):
        report.write_report(tmp_path, data)
    assert not (tmp_path / "report.html").exists()


def test_required_figures_survive_json(tmp_path, data):
    data["figures"] = json.loads(json.dumps(data["figures"]))
    assert set(report.REQUIRED) <= set(data["figures"])
    assert report.write_report(tmp_path, data).stat().st_size > 50_000
