"""How sharp a spectrum is: what a blurred voice lacks, and what a mean distance such as log-mel L1 does not hear.

Pure functions of a log-mel spectrogram, (bands, frames) of natural logarithms. Each figure is compared with that of
real recordings: 1 is as sharp, below is blurred, above is rough. Global variance: T. Toda and K. Tokuda, "A Speech
Parameter Generation Algorithm Considering Global Variance for HMM-Based Speech Synthesis", IEICE Transactions, 2007;
taken here as the standard deviation.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Sequence

import numpy as np

PAUSES = 30.0
"""Percent of the frames, the quietest ones, that are taken for pauses: they are as sharp as the noise in them."""
STILL = 0.05
"""A band whose standard deviation is below (natural logarithm) holds nothing: what is above a recording's bandwidth."""


class Sharpness(NamedTuple):
    """Of one recording, or the mean of several.

    Attributes:
        variance: standard deviation of each band over time, (bands,).
        frame: mean difference from frame to frame, band: from band to band; natural logarithm.
    """

    variance: np.ndarray
    frame: float
    band: float


def spoken(mel: np.ndarray) -> np.ndarray:
    """Which frames are louder than the quietest 30%: (bands, frames) -> (frames,) bool. All where they are equally
    loud."""
    level = mel.mean(axis=0)
    chosen = level > np.percentile(level, PAUSES)
    return chosen if chosen.any() else np.ones(len(level), dtype=bool)


def global_variance(mel: np.ndarray) -> np.ndarray:
    """Standard deviation over time of each band: (bands, frames) -> (bands,)."""
    return mel.std(axis=1)


def frame_contrast(mel: np.ndarray) -> float:
    """Mean absolute difference between neighbouring frames of (bands, frames): onsets, and what moves within a
    sound."""
    return float(np.abs(np.diff(mel, axis=1)).mean()) if mel.shape[1] > 1 else 0.0


def band_contrast(mel: np.ndarray) -> float:
    """Mean absolute difference between neighbouring bands of (bands, frames): harmonics and formants against what is
    between them."""
    return float(np.abs(np.diff(mel, axis=0)).mean())


def sharpness(mel: np.ndarray) -> Sharpness:
    """All three, over the frames of (bands, frames) that are no pause.

    Raises:
        ValueError: no band, no frame, or values that are not finite.
    """
    mel = np.asarray(mel, dtype=np.float64)
    if mel.ndim != 2 or 0 in mel.shape or not np.isfinite(mel).all():
        raise ValueError(f"a log-mel spectrogram must be (bands, frames), finite and not empty; got shape {mel.shape}")
    kept = mel[:, spoken(mel)]
    return Sharpness(global_variance(kept), frame_contrast(kept), band_contrast(kept))


def mean_sharpness(several: Sequence[Sharpness]) -> Sharpness:
    """The mean of several recordings' figures, in each band."""
    return Sharpness(*(np.mean([one[part] for one in several], axis=0) for part in range(3)))


def sharpness_ratios(made: Sharpness, real: Sharpness) -> Dict[str, float]:
    """`global_variance` (mean over the bands), `frame_contrast` and `band_contrast` of `made` over those of `real`; 1
    is as sharp.

    Bands in which nothing moves in `real` are left out; NaN where there is nothing to compare with.
    """
    moving = real.variance > STILL
    variance = float(np.mean(made.variance[moving] / real.variance[moving])) if moving.any() else float("nan")
    contrast = [float(a / b) if b > 0 else float("nan") for a, b in ((made.frame, real.frame), (made.band, real.band))]
    return {"global_variance": variance, "frame_contrast": contrast[0], "band_contrast": contrast[1]}
