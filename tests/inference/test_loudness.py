"""A conversion's loudness: it follows the source's, and silence stays silent."""

import numpy as np
import pytest
from voice_data import go, speech, voice  # noqa: F401

from LoraModel.inference import ConvertOptions
from LoraModel.inference.loudness import centred, envelope, follow

RATE = 16000


def level(audio):
    """RMS in dB, full scale 0."""
    return 20 * np.log10(max(float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))), 1e-9))


def tone(decibels, seconds=2.0, rate=RATE, hertz=300.0):
    """A sine whose RMS is `decibels`."""
    phase = 2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sqrt(2) * np.sin(phase)).astype(np.float32)


def test_envelope_by_hand():
    audio = np.array([1, 1, 1, 1, 3, 3, 3, 3], np.float32)  # windows of 4 samples around samples 0, 4 and 8
    np.testing.assert_allclose(envelope(audio, 4, 1.0, 1.0), [1.0, np.sqrt(5.0), 3.0])


def test_silence_gives_silence():
    assert not follow(np.zeros(2 * RATE, np.float32), RATE, tone(-17), RATE).any()


@pytest.mark.parametrize("decibels", [-69, -90])
def test_what_is_hardly_there_gets_no_louder(decibels):
    assert level(follow(tone(decibels), RATE, tone(-12), RATE)) < decibels + 1


@pytest.mark.parametrize("mix, expected", [(0.0, -30.0), (0.5, -20.0), (1.0, -10.0)])
def test_levels_are_mixed_as_powers(mix, expected):
    """Source at -30 dB, result at -10: the decibels are mixed as 1 - mix to mix."""
    assert level(follow(tone(-30), RATE, tone(-10), RATE, mix)) == pytest.approx(expected, abs=0.1)


def test_one_leaves_every_sample():
    result = tone(-10)
    assert np.array_equal(follow(tone(-30), RATE, result, RATE, 1.0), result)


def test_a_pause_within_speech_stays_a_pause():
    noise = np.random.default_rng(0).normal(0, 10 ** (-75 / 20), 3 * RATE).astype(np.float32)
    source = noise.copy()
    source[:RATE] += tone(-20, 1.0)
    source[2 * RATE:] += tone(-20, 1.0)
    made = follow(source, RATE, tone(-15, 3.0, 40000), 40000, 0.25)
    assert level(made[int(1.1 * 40000):int(1.9 * 40000)]) < -73
    assert level(made[:36000]) > -24 and level(made[84000:]) > -24  # the speech around it is heard


def test_no_peak_above_full_scale_is_made():
    source = np.clip(tone(-3) * 3, -1, 1)  # nearly a square wave: its RMS is that of full scale
    assert np.abs(follow(source, RATE, tone(-40), RATE, 0.0)).max() <= 1.0


def test_a_conversion_of_silence_is_silent(voice):  # noqa: F811
    assert not go(voice, np.zeros(RATE, np.float32)).any()
    assert level(go(voice, tone(-69, 1.0))) < -68


def test_a_conversion_follows_its_source(voice, speech):  # noqa: F811
    loud, quiet = go(voice, speech), go(voice, 0.1 * speech)
    assert level(loud) - level(quiet) == pytest.approx(15, abs=3)  # 20 dB less in, three quarters of it out
    assert abs(level(go(voice, speech, ConvertOptions(rms_mix_rate=0.0))) - level(speech)) < 1.5


@pytest.mark.parametrize("hertz, kept", [(60, 0.99), (100, 0.99), (1000, 0.999)])
def test_a_voice_beside_zero_is_centred_and_keeps_its_sound(hertz, kept):
    seconds = np.arange(2 * 16000) / 16000
    speaks = (seconds > 0.5) & (seconds < 1.5)
    spoken = np.sin(2 * np.pi * hertz * seconds) * 0.1 * speaks
    found = centred(spoken - 0.01 * speaks, 16000)
    inside = slice(11200, 20800)  # away from where it begins and ends
    assert abs(found[inside].mean()) < 1e-4 and abs(found.mean()) < 1e-5
    assert kept < found[inside].std() / spoken[inside].std() < 2 - kept
    followed = follow(spoken, 16000, (spoken - 0.01 * speaks).astype(np.float32), 16000)
    assert abs(followed[inside].mean()) < 2e-4
    assert (follow(spoken, 16000, followed, 16000, mix=1) == followed).all()


def test_a_long_recording_is_centred_in_blocks():
    audio = np.random.default_rng(0).normal(0.01, 0.1, 20_000)
    whole = centred(audio, 16000)
    for block in (999, 7000):
        assert np.allclose(centred(audio, 16000, block), whole, rtol=0, atol=1e-7)
