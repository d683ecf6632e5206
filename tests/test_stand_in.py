"""The stand-in for HuBERT, pitch, and the bundled recordings and base that go with them."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from LoraModel.inference import stand_in as features

DEMO = Path(features.__file__).parents[1] / "demo"


def gliding_voice() -> np.ndarray:
    """One second at 16 kHz: 39 harmonics of a pitch that rises from 120 to 200 Hz, swelling three times."""
    t = np.arange(16000) / 16000
    phase = 2 * np.pi * (120 * t + 40 * t**2)
    loudness = 0.2 + 0.1 * np.sin(2 * np.pi * 3 * t)
    return 0.2 * loudness * sum(np.sin(k * phase + k * k) / k for k in range(1, 40))


def test_content_features_match_those_that_the_base_was_trained_on():
    found = features.content_features(gliding_voice())
    assert found.shape == (51, 768) and found.dtype == np.float32
    columns = [0, 40, 79, 320, 360, 719]
    np.testing.assert_allclose(found[10, columns],
                               [1.0178552, 0.6814478, -0.39414033, 0.3336899, -0.5265129, -0.39414033], atol=2e-4)
    np.testing.assert_allclose(found[30, columns], [-0.34565127, -0.44048324, -0.39414033, -0.6834161, -0.5179522,
                                                    -0.39414033], atol=2e-4)
    assert np.abs(found).sum(dtype=float) == pytest.approx(30806.558, rel=1e-4)


def test_content_features_layout_is_nine_frames_then_zeros():
    found = features.content_features(gliding_voice())
    for k in range(9):  # block k of frame i is the middle block of frame i + k - 4
        middle = found[4 + k - 4 : 47 + k - 4, 320:400]
        np.testing.assert_array_equal(found[4:47, k * 80 : (k + 1) * 80], middle)
    np.testing.assert_array_equal(found[0, 0:80], found[0, 320:400])
    assert not found[:, 720:].any()
    np.testing.assert_allclose(found[:, 320:400].mean(axis=0), 0, atol=1e-4)


def test_content_features_hardly_depend_on_level():
    voice = gliding_voice()
    difference = features.content_features(voice) - features.content_features(0.5 * voice)
    # bands near the floor of 1e-6 do move; unnormalised it is 1.39
    assert np.median(np.abs(difference[:, :720])) < 0.01


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((2, 800)), np.array([0.0, np.nan, 0.0])])
def test_unusable_audio_raises(audio):
    with pytest.raises(ValueError, match="audio"):
        features.content_features(audio)
    with pytest.raises(ValueError, match="audio"):
        features.pitch(audio, 10)


def test_pitch_follows_the_glide():
    found = features.pitch(gliding_voice(), 100)
    assert found.shape == (100,) and found.dtype == np.float64
    voiced = np.flatnonzero(found)
    assert len(voiced) > 90
    np.testing.assert_allclose(found[voiced], 120 + 80 * (voiced + 0.5) / 100, rtol=0.02)


def test_pitch_fits_the_frames_asked_for():
    voice = gliding_voice()
    whole = features.pitch(voice, 100)
    for frames in (1, 60, 97, 140):
        assert features.pitch(voice, frames).shape == (frames,)
    np.testing.assert_array_equal(features.pitch(voice, 140)[20:120], whole)
    assert not features.pitch(np.zeros(16000), 100).any()
    assert not features.pitch(voice[:900], 5).any()


def test_coarse_pitch_by_hand():
    # 1127 ln(1 + 50/700) = 77.755, of 1100 Hz 1064.408; at 220 Hz 307.880: (307.880 - 77.755) * 254 / 986.653 + 1 =
    # 60.24
    found = features.coarse_pitch(np.array([0, 50, 100, 220, 440, 1100, 2000.0]))
    np.testing.assert_array_equal(found, [1, 1, 20, 60, 122, 255, 255])
    assert found.dtype == np.int64


def test_features_stand_alone():
    tree = ast.parse(Path(features.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "functools", "librosa", "numpy", "parselmouth"}


def test_recordings_are_those_of_the_manifest():
    folder = DEMO / "recordings"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    seconds = {}
    for group in ("target", "source", "reference"):
        files = sorted((folder / group).glob("*"))
        assert [f.name for f in files] == [f"{n:02d}.flac" for n in range(1, len(manifest[group]["texts"]) + 1)]
        for file in files:
            info = soundfile.info(str(file))
            assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")
        seconds[group] = sum(soundfile.info(str(file)).duration for file in files)
    assert 60 <= seconds["target"] <= 70
    assert 60 <= sum(seconds.values()) <= 90
    assert manifest["reference"]["texts"] == manifest["source"]["texts"][:2]
    assert not set(manifest["reference"]["texts"]) & set(manifest["target"]["texts"])


def test_base_is_fp16_and_loads_safely():
    loaded = torch.load(str(DEMO / "base" / "f0G16k.pth"), map_location="cpu", weights_only=True)
    assert list(loaded) == ["model"]
    tensors = loaded["model"]
    assert sum(t.numel() for t in tensors.values()) == 5403170
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert all(torch.isfinite(t).all() for t in tensors.values())
    config = json.loads((DEMO / "base" / "config.json").read_text(encoding="utf-8"))
    assert tensors["emb_g.weight"].shape == (config["model"]["spk_embed_dim"], config["model"]["gin_channels"])
    assert (DEMO / "base" / "f0G16k.pth").stat().st_size < 11.5e6
