"""Sharpness, modulation, the high band and harmonics, against cases worked out by hand."""

import math

import numpy as np
import pytest

from LoraModel import sharpness
from LoraModel.evaluation import texture
from LoraModel.evaluation.figures import FIGURES

RNG = np.random.default_rng(0)


def noise(seconds=1.0, level=0.1):
    return RNG.normal(0, level, int(16000 * seconds)).astype(np.float32)


# Sharpness ----------------------------------------------------------------------------------------------------------


def test_sharpness_by_hand():
    mel = np.array([[0.0, 2.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(sharpness.global_variance(mel), [1.0, 0.0])
    assert sharpness.frame_contrast(mel) == 1.0  # 2 in the first band, 0 in the second
    assert sharpness.band_contrast(mel) == 1.0


def test_the_quietest_frames_are_pauses():
    mel = np.zeros((2, 10)) + np.arange(10)
    assert sharpness.spoken(mel).tolist() == [False] * 3 + [True] * 7
    assert sharpness.spoken(np.ones((2, 4))).all()


def test_a_smoothed_spectrum_is_less_sharp_by_what_was_taken():
    """Bands that go towards their mean by a third lose a third of variance and frame contrast; towards their
    neighbours, of band contrast."""
    mel = RNG.normal(0, 1, (20, 400)) + 3 * (np.arange(400) >= 120)  # the first 30% are the pauses, in both
    middle = mel[:, 120:].mean(axis=1, keepdims=True)
    blurred = np.where(np.arange(400) >= 120, middle + (mel - middle) * 2 / 3, mel)
    ratios = sharpness.sharpness_ratios(sharpness.sharpness(blurred), sharpness.sharpness(mel))
    assert ratios["global_variance"] == pytest.approx(2 / 3) and ratios["frame_contrast"] == pytest.approx(2 / 3)
    across = np.where(np.arange(400) >= 120, mel.mean(axis=0) + (mel - mel.mean(axis=0)) / 2, mel)
    assert sharpness.sharpness_ratios(sharpness.sharpness(across), sharpness.sharpness(mel))[
        "band_contrast"
    ] == pytest.approx(1 / 2)


def test_bands_above_a_recordings_bandwidth_are_left_out():
    real = sharpness.Sharpness(np.array([1.0, 2.0, 0.0]), 1.0, 1.0)
    made = sharpness.Sharpness(np.array([0.5, 2.0, 9.0]), 0.5, 2.0)
    assert sharpness.sharpness_ratios(made, real) == {
        "global_variance": 0.75,
        "frame_contrast": 0.5,
        "band_contrast": 2.0,
    }
    still = sharpness.Sharpness(np.zeros(2), 0.0, 0.0)
    assert all(
        math.isnan(value) for value in sharpness.sharpness_ratios(made, still._replace(variance=np.zeros(3))).values()
    )


@pytest.mark.parametrize("mel", [np.zeros((0, 4)), np.zeros((4, 0)), np.zeros(4), np.full((2, 3), np.nan)])
def test_what_is_no_spectrogram_is_refused(mel):
    with pytest.raises(ValueError, match="log-mel"):
        sharpness.sharpness(mel)


# Modulation ---------------------------------------------------------------------------------------------------------


def test_half_the_movement_is_6_db_less():
    mel = RNG.normal(0, 1, (5, 300))
    change = texture.modulation_spectrum(mel / 2) - texture.modulation_spectrum(mel)
    np.testing.assert_allclose(change, 20 * math.log10(1 / 2), atol=1e-9)


def test_modulation_stands_at_its_own_rate():
    t = np.arange(320) / 100
    found = texture.modulation_spectrum(np.sin(2 * np.pi * 12.5 * t)[None])[
        0
    ]  # 12.5 Hz is line 8; the first one shown is line 2
    # a Hann window of 64 leaves 64/4 of a unit sine in its own line, half of that in the two beside it
    assert found.argmax() == 8 - 2 and found[6] == pytest.approx(20 * math.log10(16), abs=0.05)
    assert found[5] == pytest.approx(20 * math.log10(8), abs=0.1)


def test_frames_averaged_in_pairs_lose_what_the_filter_takes():
    """(x[n] + x[n - 1]) / 2 passes cos(pi f / 100) of what moves f times a second."""
    mel = RNG.normal(0, 1, (200, 2000))
    smooth = (mel[:, 1:] + mel[:, :-1]) / 2
    change = (texture.modulation_spectrum(smooth) - texture.modulation_spectrum(mel)).mean(axis=0)
    lines = np.arange(2, 17) * 100 / 64
    np.testing.assert_allclose(change, 20 * np.log10(np.cos(np.pi * lines / 100)), atol=0.15)


def test_too_short_for_a_segment():
    assert np.isnan(texture.modulation_spectrum(np.zeros((3, 63)))).all() and texture.modulation_spectrum(
        np.zeros((3, 64))
    ).shape == (3, 15)


# High band and harmonics --------------------------------------------------------------------------------------------


def test_high_band_of_two_tones_by_hand():
    t = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 6000 * t)
    assert texture.high_band(low + high, 16000) == pytest.approx(10 * math.log10(1 / 2), abs=0.01)
    assert texture.high_band(low + 0.1 * high, 16000) == pytest.approx(10 * math.log10(0.01 / 1.01), abs=0.01)
    assert texture.high_band(high, 16000) == pytest.approx(0, abs=0.01) and texture.high_band(low, 16000) < -100
    assert texture.high_band(np.zeros(100), 16000) == -120


@pytest.mark.parametrize("decibels", [5.0, 15.0])
def test_harmonics_to_noise_is_what_was_mixed(decibels):
    t = np.arange(32000) / 16000
    voice = sum(np.sin(2 * np.pi * k * 150 * t) / k for k in range(1, 20)) * 0.1
    hiss = RNG.normal(0, math.sqrt(np.mean(voice**2) / 10 ** (decibels / 10)), 32000)
    assert texture.harmonics_to_noise(voice + hiss) == pytest.approx(decibels, abs=1.0)


def test_no_harmonics_without_a_voice():
    assert math.isnan(texture.harmonics_to_noise(np.zeros(16000))) and math.isnan(
        texture.harmonics_to_noise(np.zeros(500))
    )


# Together -----------------------------------------------------------------------------------------------------------


def test_a_recording_beside_itself_and_at_another_level():
    audio = noise() * np.repeat(RNG.uniform(0, 1, 16), 1000)
    own = texture.texture(audio, 16000)
    figures = texture.texture_figures(texture.texture(audio / 4, 16000), own)
    for key in ("global_variance", "frame_contrast", "band_contrast"):
        assert figures[key] == pytest.approx(1, abs=1e-3), key
    assert figures["high_db"] == pytest.approx(0, abs=1e-6) and figures["modulation_db"] == pytest.approx(0, abs=1e-2)
    assert set(figures) < set(FIGURES)


def test_the_mean_of_several_leaves_out_what_has_no_value():
    a, b = texture.texture(noise(1.0), 16000), texture.texture(noise(0.5), 16000)
    assert np.isnan(b.modulation).all() and math.isnan(b.hnr)
    both = texture.mean_texture([a, b])
    np.testing.assert_array_equal(both.modulation, a.modulation)
    np.testing.assert_allclose(both.sharp.variance, (a.sharp.variance + b.sharp.variance) / 2)


def test_every_figure_says_what_it_means_and_which_way_is_better():
    for key, figure in FIGURES.items():
        assert figure.means.english.endswith(".") and figure.means.in_language("zh_CN").endswith("。"), key
        way = {"lower": "lower", "higher": "higher", "near": f"{figure.aim:g} is"}[figure.better]
        assert way in figure.means.english, key
    assert FIGURES["global_variance"].badness(0.9) == pytest.approx(FIGURES["global_variance"].badness(1.1))
    assert FIGURES["dnsmos"].badness(3) < FIGURES["dnsmos"].badness(2) and FIGURES["mel_l1"].badness(1) < FIGURES[
        "mel_l1"
    ].badness(2)
    assert FIGURES["global_variance"].way == "nearest 1" and FIGURES["hnr_db"].way == "nearest 0"
