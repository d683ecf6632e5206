"""The networks that judge: whose voice it is, how good it sounds, and what is said where one is not installed."""

import builtins
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch_version import SINCE_2

from LoraModel import judges
from LoraModel.demo import demo
from LoraModel.messages import UserError


def recordings(group):
    return [soundfile.read(str(path), dtype="float32")[0] for path in sorted((demo.RECORDINGS / group).glob("*.flac"))]


def hide(monkeypatch, package):
    """Let `import package` fail as where it is not installed."""
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}", name=package)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.fixture(scope="module")
def encoder():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        return judges.SpeakerEncoder()


def test_similarity_tells_the_demo_voices_apart(encoder):
    target = recordings("target")[:4]
    same = encoder.similarity(recordings("reference")[0], 16000, target, 16000)
    other = encoder.similarity(recordings("source")[0], 16000, target, 16000)
    assert same > 0.9 and other < 0.75
    assert np.linalg.norm(encoder.embedding(target[0], 16000)) == pytest.approx(1, abs=1e-5)
    assert encoder.similarity(target[0], 16000, target[:1], 16000) == pytest.approx(1, abs=1e-5)


def test_encoder_holds_the_weights_of_its_package(encoder):
    import resemblyzer

    path = Path(resemblyzer.__file__).parent / "pretrained.pt"
    # a file of the package's own; PyTorch 1.13 cannot read its old form without running it
    stored = torch.load(str(path), map_location="cpu", weights_only=SINCE_2)["model_state"]
    network = encoder._network.state_dict()
    assert set(network) <= set(stored)
    assert all(torch.equal(network[name], stored[name]) for name in network)


def test_similarity_of_silence_is_refused(encoder):
    with pytest.raises(UserError, match="no speech|没有找到语音"):
        encoder.embedding(np.zeros(16000), 16000)


def test_missing_resemblyzer_says_what_to_install(monkeypatch):
    hide(monkeypatch, "resemblyzer")
    with pytest.raises(UserError, match="pip install --no-deps Resemblyzer") as caught:
        judges.SpeakerEncoder()
    assert "Resemblyzer" in caught.value.zh and "\n" not in caught.value.en + caught.value.zh


def test_cosine_to_the_mean_by_hand():
    # (1, 0) against the mean of (1, 0) and (0, 1): 0.5 / (1 * sqrt(0.5)) = 0.7071
    references = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    assert judges.cosine_to_mean(np.array([1.0, 0.0]), references) == pytest.approx(0.70711, abs=1e-5)


@pytest.fixture(scope="module")
def quality():
    return judges.SpeechQuality()


def test_quality_is_rated_from_1_to_5_and_noise_lowers_it(quality):
    voice = np.tile(recordings("target")[0], 3)[: 16000 * 9 + 1000]  # one window
    noise = 0.2 * np.random.default_rng(0).uniform(-1, 1, len(voice)).astype(np.float32)
    clean, noisy = quality.rate(voice, 16000), quality.rate(voice + noise, 16000)
    assert set(clean) == {"dnsmos", "dnsmos_signal", "dnsmos_background", "dnsmos_p808"}
    assert all(1 <= value <= 5 for value in clean.values())
    assert clean["dnsmos"] > noisy["dnsmos"] + 0.5 and clean["dnsmos_background"] > noisy["dnsmos_background"] + 1


def test_quality_is_speechmos_own(quality):
    from speechmos import dnsmos

    voice = np.tile(recordings("target")[0], 3)[: 16000 * 9 + 1000]  # one window
    theirs, ours = dnsmos.run(voice, 16000), quality.rate(voice, 16000)
    assert [ours[name] for name in judges.QUALITY.values()] == pytest.approx([theirs[key] for key in judges.QUALITY],
                                                                             abs=1e-4)


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.inf])])
def test_quality_refuses_what_is_no_recording(quality, audio):
    with pytest.raises(ValueError, match="finite"):
        quality.rate(audio, 16000)


@pytest.mark.parametrize("package, command", [("speechmos", "`pip install speechmos=="),
                                              ("onnxruntime", "`pip install onnxruntime speechmos==")])
def test_missing_dnsmos_says_what_to_install(monkeypatch, package, command):
    hide(monkeypatch, package)
    with pytest.raises(UserError) as caught:
        judges.SpeechQuality()
    assert command in caught.value.en and command in caught.value.zh and "\n" not in caught.value.en + caught.value.zh
