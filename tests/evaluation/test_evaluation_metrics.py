"""Distances between recordings, against numbers worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from LoraModel.evaluation import metrics
from LoraModel.inference import stand_in as features

VOICE = Path(features.__file__).parents[1] / "demo" / "recordings" / "target" / "01.flac"


def loud_noise(seconds: float, sr: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.8, 0.8, int(seconds * sr)).astype(np.float32)


def buzz(hz: float, seconds: float = 1.0, sr: int = 16000) -> np.ndarray:
    """A voice-like tone of steady pitch: harmonics falling with their number."""
    t = np.arange(int(seconds * sr)) / sr
    return (0.15 * sum(np.sin(2 * np.pi * k * hz * t + k * k) / k for k in range(1, 30))).astype(np.float32)


@pytest.fixture(scope="module")
def voice():
    return soundfile.read(str(VOICE), dtype="float32")[0]


# Log-mel
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sr", [16000, 40000, 48000])
def test_log_mel_has_100_frames_a_second_at_any_rate(sr):
    found = metrics.log_mel(loud_noise(1.5, sr), sr)
    assert found.shape == (80, 150) and found.dtype == np.float32


def test_log_mel_of_a_tone_by_hand():
    # A sine of amplitude a under a periodic Hann window of 1024 has the magnitude a * 1024 / 4 in its own bin and half
    # of it in the
    # two beside it. 1 kHz is bin 64 and Slaney's mel 15; 80 bands up to 8 kHz stand 45.2453 / 81 mel apart.
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)
    found = metrics.log_mel(tone, 16000)[:, 50]
    edges = np.arange(82) * (15 + 27 * math.log(8) / math.log(6.4)) / 81
    hz = np.where(edges < 15, edges * 200 / 3, 1000 * np.exp((edges - 15) * math.log(6.4) / 27))
    expected = np.zeros(80)
    for bin_hz, magnitude in ((984.375, 64.0), (1000.0, 128.0), (1015.625, 64.0)):
        for band in range(80):
            low, centre, high = hz[band : band + 3]
            weight = max(0.0, min((bin_hz - low) / (centre - low), (high - bin_hz) / (high - centre)))
            expected[band] += magnitude * weight * 2 / (high - low)
    bands = np.flatnonzero(expected > 0.1)
    assert len(bands) >= 2
    np.testing.assert_allclose(found[bands], np.log(expected[bands]), atol=2e-3)


def test_mel_l1_of_identical_audio_is_zero(voice):
    assert metrics.mel_l1(voice, voice.copy(), 16000) == 0.0


@pytest.mark.parametrize("sr", [16000, 40000])
def test_mel_l1_of_half_the_amplitude_is_log_2(sr):
    noise = loud_noise(1.0, sr)
    assert metrics.mel_l1(noise, 0.5 * noise, sr) == pytest.approx(math.log(2), abs=1e-4)


def test_mel_l1_cuts_the_longer_one_and_refuses_what_cannot_be_aligned():
    noise = loud_noise(2.0, 16000)
    assert metrics.mel_l1(noise, noise[:-400], 16000) == 0.0
    with pytest.raises(ValueError, match="2.00 and 1.00 seconds"):
        metrics.mel_l1(noise, noise[:16000], 16000)


def test_log_mel_refuses_nan_and_short_audio():
    with pytest.raises(ValueError, match="NaN"):
        metrics.log_mel(np.full(16000, np.nan), 16000)
    with pytest.raises(ValueError, match="1024 samples"):
        metrics.log_mel(np.zeros(500), 16000)


# Mel cepstrum
# ---------------------------------------------------------------------------------------------------------------


def test_mel_cepstrum_is_the_cosine_series():
    n = np.arange(8)
    mel = 3.0 + 0.5 * np.cos(np.pi * 2 * (n + 0.5) / 8) - 0.25 * np.cos(np.pi * 5 * (n + 0.5) / 8)
    np.testing.assert_allclose(metrics.mel_cepstrum(mel[:, None], 7)[:, 0], [0, 0.5, 0, 0, -0.25, 0, 0], atol=1e-12)
    with pytest.raises(ValueError, match="between 1 and 7"):
        metrics.mel_cepstrum(mel[:, None], 8)


def test_distortion_by_hand():
    # (10 / ln 10) sqrt(2 (0.3^2 + 0.4^2)) = 4.342945 * sqrt(0.5) = 3.070926; the second frame is equal: 0
    a = np.array([[0.3, 0.1], [0.0, 0.2]])
    b = np.array([[0.0, 0.1], [0.4, 0.2]])
    np.testing.assert_allclose(metrics.mel_cepstral_distortion(a, b), [3.070926, 0.0], atol=1e-6)


def test_distortion_is_the_rms_difference_of_the_smoothed_spectra():
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, (2, 24, 5))
    bands = np.cos(np.pi * np.outer(np.arange(80) + 0.5, np.arange(1, 25)) / 80)  # (bands, orders)
    decibels = 20 / np.log(10) * bands @ (one - two)
    np.testing.assert_allclose(metrics.mel_cepstral_distortion(one, two), np.sqrt(np.mean(decibels**2, axis=0)),
                               rtol=1e-9)


def test_mcd_of_identical_audio_is_zero_and_level_does_not_count(voice):
    assert metrics.mcd(voice, voice.copy(), 16000) == 0.0
    noise = loud_noise(1.0, 16000)
    assert metrics.mcd(0.5 * noise, noise, 16000) < 1e-3


def test_mcd_grows_with_the_change(voice):
    spectrum = np.fft.rfft(voice)
    hz = np.fft.rfftfreq(len(voice), 1 / 16000)
    tilted = [np.fft.irfft(spectrum * 10 ** (-decibels / 20 * hz / 8000), len(voice)) for decibels in (6, 18)]
    small, large = (metrics.mcd(audio, voice, 16000) for audio in tilted)
    assert 0 < small < large < 18


def test_mcd_leaves_pauses_out(voice):
    noise = 1e-4 * loud_noise(1.0, 16000)
    assert metrics.speech_frames(metrics.log_mel(np.concatenate([noise, loud_noise(1.0, 16000)]),
                                                 16000)).sum() == pytest.approx(100, abs=4)
    hiss = np.concatenate([3 * noise[::-1], voice])
    # only where the window reaches into the voice
    assert metrics.mcd(hiss, np.concatenate([noise, voice]), 16000) < 0.2


# Pitch
# ----------------------------------------------------------------------------------------------------------------------


def test_cents_by_hand():
    # an octave up is 1200 cents, equal is 0; frames that one does not voice are left out: sqrt((1200^2 + 0) / 2) =
    # 848.528
    a, b = np.array([200.0, 150, 0, 100]), np.array([100.0, 150, 90, 0])
    assert metrics.f0_rmse_cents(a, b) == pytest.approx(848.528, abs=1e-3)
    assert math.isnan(metrics.f0_rmse_cents(a[2:], b[2:]))


def test_voicing_error_by_hand():
    assert metrics.voicing_error(np.array([100.0, 0, 0, 90]), np.array([120.0, 0, 80, 0])) == 0.5
    assert metrics.voicing_error(np.array([100.0, 0]), np.array([300.0, 0])) == 0.0


@pytest.mark.parametrize("sr", [16000, 40000])
@pytest.mark.parametrize("cents", [50, -120])
def test_a_known_shift_is_found(cents, sr):
    found = metrics.pair_metrics(buzz(200 * 2 ** (cents / 1200), sr=sr), buzz(200, sr=sr), sr)
    assert found["f0_rmse_cents"] == pytest.approx(abs(cents), abs=2)
    assert found["voicing_error"] == 0


def test_half_without_voice_is_half_the_frames():
    real = buzz(150, 2.0)
    generated = real.copy()
    generated[16000:] = 0.05 * loud_noise(1.0, 16000)
    assert metrics.pair_metrics(generated, real, 16000)["voicing_error"] == pytest.approx(0.5, abs=0.03)


# All of them
# ----------------------------------------------------------------------------------------------------------------


def test_pair_metrics_of_identical_audio_is_zero(voice):
    assert metrics.pair_metrics(voice, voice.copy(), 16000) == {
        "mel_l1": 0, "mcd_db": 0, "f0_rmse_cents": 0, "pitch_correlation": 1, "voicing_error": 0}


def test_pair_metrics_of_noise_has_no_pitch():
    noise = loud_noise(1.0, 16000)
    found = metrics.pair_metrics(noise[::-1], noise, 16000)
    assert math.isnan(found["f0_rmse_cents"]) and found["voicing_error"] == 0 and found["mel_l1"] > 0


@pytest.mark.parametrize("generated, said", [(np.zeros(8000), "seconds"), (np.full(16000, np.nan), "NaN")])
def test_pair_metrics_refuses_what_cannot_be_compared(generated, said):
    with pytest.raises(ValueError, match=said):
        metrics.pair_metrics(generated, np.zeros(16000), 16000)


def test_pair_metrics_refuses_too_little_audio():
    with pytest.raises(ValueError, match="1024 samples"):
        metrics.pair_metrics(np.zeros(1000), np.zeros(1000), 16000)
