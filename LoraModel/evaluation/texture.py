"""How a voice sounds beside real recordings of it, whatever the words: sharpness, modulation, the high band, harmonics
against noise.

These are the figures in which a blurred, dull or buzzy voice shows. They need no recording of the same words, so
conversions of other speakers are held against the target's own recordings, and resyntheses against the very recording.
"""

from __future__ import annotations

import math
from typing import Dict, NamedTuple, Sequence

import numpy as np
import parselmouth

from ..inference.stand_in import SAMPLE_RATE
from ..sharpness import STILL, Sharpness, mean_sharpness, sharpness, sharpness_ratios
from .metrics import FRAMES_PER_SECOND, at_16k, log_mel, pitch_of

LEVEL = 0.1
"""Root mean square that every recording is brought to, so that the spectrogram's floor lies equally far below each."""
HIGH_FROM = 4000.0  # Hz
SEGMENT = 64  # frames of one modulation spectrum: 0.64 s, 1.56 Hz between its lines
MODULATIONS = (2.0, 25.0)  # Hz: syllables at the lower end, the attack of a plosive at the upper
HARMONIC_FLOOR = 75.0  # Hz, the lowest pitch whose harmonics are looked for


class Texture(NamedTuple):
    """Of one recording, or the mean of several.

    Attributes:
        sharp: see there. modulation: dB, (bands, lines). high: level above 4 kHz in dB of the whole. hnr: harmonics
            over noise in dB.
    """

    sharp: Sharpness
    modulation: np.ndarray
    high: float
    hnr: float


def texture(audio: np.ndarray, sr: int) -> Texture:
    """All of (samples,) at `sr` Hz. The high band reaches up to sr / 2, the rest is of 16 kHz.

    Raises:
        ValueError: less than 64 ms, or samples that are not finite.
    """
    low = at_16k(audio, sr)
    low = low * (LEVEL / max(float(np.sqrt(np.mean(low.astype(np.float64) ** 2))), 1e-9))
    mel = log_mel(low.astype(np.float32), SAMPLE_RATE)
    return Texture(sharpness(mel), modulation_spectrum(mel), high_band(audio, sr), harmonics_to_noise(low))


def modulation_spectrum(mel: np.ndarray) -> np.ndarray:
    """How strongly each band moves at each rate (Takamichi et al., "Postfilters to Modify the Modulation Spectrum for
    Statistical Parametric Speech Synthesis", IEEE/ACM TASLP, 2016): power of the band's course in time, from 2 to 25
    Hz.

    Args:
        mel: (bands, frames), natural logarithm, 100 frames a second.

    Returns:
        (bands, lines) in dB, the mean power of half overlapping segments under a Hann window; NaN where `mel` is
        shorter than 0.64 s.
    """
    lines = np.fft.rfftfreq(SEGMENT, 1 / FRAMES_PER_SECOND)
    chosen = (lines >= MODULATIONS[0]) & (lines <= MODULATIONS[1])
    if mel.shape[1] < SEGMENT:
        return np.full((mel.shape[0], int(chosen.sum())), np.nan)
    starts = range(0, mel.shape[1] - SEGMENT + 1, SEGMENT // 2)
    parts = np.stack([mel[:, start : start + SEGMENT] for start in starts]).astype(
        np.float64
    )  # (segments, bands, SEGMENT)
    parts = (parts - parts.mean(axis=2, keepdims=True)) * np.hanning(SEGMENT + 1)[:-1]
    power = (np.abs(np.fft.rfft(parts, axis=2)) ** 2).mean(axis=0)[:, chosen]
    return 10 * np.log10(np.maximum(power, 1e-12))


def high_band(audio: np.ndarray, sr: int) -> float:
    """Energy above 4 kHz over all energy of (samples,) at `sr` Hz, in dB: 0 where nothing is below, -120 at least."""
    power = np.abs(np.fft.rfft(np.asarray(audio, dtype=np.float64))) ** 2
    share = power[np.fft.rfftfreq(len(audio), 1 / sr) >= HIGH_FROM].sum() / max(float(power.sum()), 1e-30)
    return 10 * math.log10(max(float(share), 1e-12))


def harmonics_to_noise(audio16k: np.ndarray) -> float:
    """Harmonics over noise in dB, mean over the voiced frames, by Praat's cross-correlation (Boersma, "Accurate
    short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound", 1993).

    Args:
        audio16k: (samples,) at 16 kHz.

    Returns:
        NaN where no frame is voiced.
    """
    voiced = pitch_of(audio16k, SAMPLE_RATE) > 0
    if not voiced.any():
        return math.nan
    sound = parselmouth.Sound(np.asarray(audio16k, dtype=np.float64), SAMPLE_RATE)
    track = sound.to_harmonicity_cc(time_step=1 / FRAMES_PER_SECOND, minimum_pitch=HARMONIC_FLOOR)
    frames = np.minimum((track.xs() * FRAMES_PER_SECOND).astype(int), len(voiced) - 1)
    found = track.values[0]
    kept = found[voiced[frames] & (found > -200)]  # -200 is Praat's mark for silence
    return float(kept.mean()) if kept.size else math.nan


def mean_texture(several: Sequence[Texture]) -> Texture:
    """The mean of several recordings' figures; one that has no value is left out of that figure."""

    def middle(values: Sequence[np.ndarray]) -> np.ndarray:
        kept = [value for value in values if np.isfinite(value).all()]
        return np.mean(kept, axis=0) if kept else values[0]

    return Texture(
        mean_sharpness([one.sharp for one in several]),
        middle([one.modulation for one in several]),
        float(middle([np.asarray(one.high) for one in several])),
        float(middle([np.asarray(one.hnr) for one in several])),
    )


def texture_figures(made: Texture, real: Texture) -> Dict[str, float]:
    """A conversion beside real recordings of the voice.

    Returns:
        `global_variance`, `frame_contrast`, `band_contrast`: made over real, 1 is as sharp. `modulation_db`,
        `high_db`, `hnr_db`: made less real in dB, 0 is as it should be. NaN where one of the two has no value.
    """
    moving = real.sharp.variance > STILL
    change = (made.modulation - real.modulation)[moving]
    return {
        **sharpness_ratios(made.sharp, real.sharp),
        "modulation_db": float(change.mean()) if change.size else math.nan,
        "high_db": made.high - real.high,
        "hnr_db": made.hnr - real.hnr,
    }
