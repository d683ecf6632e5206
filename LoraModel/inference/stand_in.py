"""What takes the place of RVC's feature extraction where there is no RVC: content features, and pitch.

RVC takes its content features from HuBERT, a download of several hundred megabytes. Here the encoder of Whisper base
gives them (content_encoder.py): 512 values a frame, filled up with zeros to HuBERT's 768. The demo's base was trained
on exactly these features; RVC's own bases were not, and sound like noise with them. With a real RVC checkout, use RVC's
own feature extraction.

Pitch follows RVC's "pm" method: Praat's autocorrelation, 50 to 1100 Hz, and the coarse scale of 255 steps in mel.
"""

from __future__ import annotations

import numpy as np
import parselmouth

from ..pitch_scale import F0_MAX, F0_MIN, coarse_pitch  # noqa: F401  (for who takes its features here)
from .content_encoder import standardised

SAMPLE_RATE = 16000  # Hz, of every audio passed in
FEATURE_HOP = 320  # samples: 50 frames a second
PITCH_HOP = 160  # samples: 100 frames a second
FEATURE_SIZE = 768


def _checked(audio16k: np.ndarray) -> np.ndarray:
    """Return `audio16k` as (samples,) float32; ValueError where it is empty, not mono or not finite."""
    audio = np.asarray(audio16k, dtype=np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio must be mono and not empty, of shape (samples,); got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return audio


def content_features(audio16k: np.ndarray) -> np.ndarray:
    """Content features of an utterance, in place of HuBERT's.

    Args:
        audio16k: (samples,) at 16 kHz, full scale 1.

    Returns:
        (samples // 320 + 1, 768) float32, 50 frames a second. Columns 0 to 511 are the encoder's, standardised; the
        rest are zero.
    """
    found = standardised(_checked(audio16k))
    features = np.zeros((len(found), FEATURE_SIZE), dtype=np.float32)
    features[:, : found.shape[1]] = found
    return features


def pitch(audio16k: np.ndarray, frames: int) -> np.ndarray:
    """Fundamental frequency by Praat's autocorrelation.

    Args:
        audio16k: (samples,) at 16 kHz.
        frames: how many frames to return, at 100 frames a second. Praat's frames are centred among them, as RVC does.

    Returns:
        (frames,) float64 in Hz, 0 where unvoiced.
    """
    audio = _checked(audio16k).astype(np.float64)
    f0 = np.zeros(frames)
    if len(audio) <= 3 * SAMPLE_RATE / F0_MIN:  # Praat needs three periods of the lowest pitch
        return f0
    track = parselmouth.Sound(audio, SAMPLE_RATE).to_pitch_ac(
        time_step=PITCH_HOP / SAMPLE_RATE, voicing_threshold=0.6, pitch_floor=F0_MIN, pitch_ceiling=F0_MAX
    )
    found = track.selected_array["frequency"]
    before = max((frames - len(found) + 1) // 2, 0)
    found = found[: frames - before]
    f0[before : before + len(found)] = found
    return f0


def median_pitch(clips: list[np.ndarray]) -> float:
    """Median f0 in Hz over the voiced frames of all clips, each (samples,) at 16 kHz."""
    track = np.concatenate([pitch(clip, len(clip) // PITCH_HOP) for clip in clips])
    return float(np.median(track[track > 0]))
