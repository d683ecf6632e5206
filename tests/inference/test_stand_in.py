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
    # what Whisper base's own encoder gives, in CTranslate2 and before its weights were rounded to 95 levels
    wanted = {
        10: [-0.99, 1.22, 0.21, -1.5, -0.28, -0.32, -0.12, -0.4, -2.14, -0.06, -0.93, -0.31, -0.04, 0.82, 0.22, -0.72],
        30: [-0.36, -0.26, -0.1, -0.21, 0.64, 1.52, 0.15, 0.73, -1.02, 1.44, 0.58, 1.5, -0.04, 1.05, -0.02, 1.94],
    }
    for frame, values in wanted.items():
        np.testing.assert_allclose(found[frame, 0:512:32], values, atol=0.4)
        assert np.corrcoef(found[frame, 0:512:32], values)[0, 1] > 0.97
    assert np.abs(found).sum(dtype=float) == pytest.approx(16873.4, rel=2e-3)


def test_content_features_are_the_encoders_then_zeros():
    found = features.content_features(gliding_voice())
    assert found[:, :512].std(axis=0).min() > 0.01
    assert not found[:, 512:].any() and np.abs(found).max() <= 6


def test_content_features_hardly_depend_on_level():
    voice = gliding_voice()
    difference = features.content_features(voice) - features.content_features(0.5 * voice)
    assert np.median(np.abs(difference[:, :512])) < 0.15  # of a standard deviation


def test_long_audio_is_encoded_in_stretches_that_join():
    recording = soundfile.read(str(DEMO / "recordings" / "source" / "01.flac"), dtype="float32")[0]
    speech = np.tile(recording, 8)[: 25 * 16000]
    found = features.content_features(speech)
    assert found.shape == (1251, 768)
    alone = features.content_features(speech[18 * 16000:])
    joint = np.corrcoef(found[960:1240, :512].ravel(), alone[60:340, :512].ravel())[0, 1]
    assert joint > 0.9


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
    # 1127 ln(1 + 50/700) = 77.755, of 1100 Hz 1064.408
    # at 220 Hz 307.880: (307.880 - 77.755) * 254 / 986.653 + 1 = 60.24
    found = features.coarse_pitch(np.array([0, 50, 100, 220, 440, 1100, 2000.0]))
    np.testing.assert_array_equal(found, [1, 1, 20, 60, 122, 255, 255])
    assert found.dtype == np.int64


def imports(path: Path) -> set:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return imported | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_features_stand_alone():
    stand_in = Path(features.__file__)
    assert imports(stand_in) == {"__future__", "numpy", "parselmouth", "content_encoder", "pitch_scale"}
    assert imports(stand_in.with_name("content_encoder.py")) == {
        "__future__", "functools", "pathlib", "typing", "librosa", "numpy", "torch", "torch.nn.functional"}


def test_base_and_encoder_are_small():
    assert (DEMO / "base" / "f0G16k.pth").stat().st_size < 15_000_000
    assert Path(features.__file__).with_name("content_encoder.npz").stat().st_size < 15_000_000


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
