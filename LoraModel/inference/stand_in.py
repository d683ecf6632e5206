"""A stand-in for HuBERT, and pitch: what the demo feeds to its base.

THIS IS NOT HUBERT. RVC takes its content features from a HuBERT network whose weights are a download of several hundred
megabytes; the demo must run without any download. What stands in for them here is plain signal processing: 80 log-mel
bands, each normalised over the utterance (which takes away most of what is the speaker's), with four frames of context
on either side, filled up with zeros to HuBERT's 768 values. The demo's base was trained on exactly these features; RVC's
own bases were not, and sound like noise with them. With a real RVC checkout, use RVC's own feature extraction.

Pitch follows RVC's "pm" method: Praat's autocorrelation, 50 to 1100 Hz, and the coarse scale of 255 steps in mel.
This file imports nothing of the package, so that it can be copied and read alone.
"""

from __future__ import annotations

from functools import lru_cache

import librosa
import numpy as np
import parselmouth

SAMPLE_RATE = 16000  # Hz, of every audio passed in
FEATURE_HOP = 320  # samples: 50 frames a second
PITCH_HOP = 160  # samples: 100 frames a second
FEATURE_SIZE = 768
N_FFT = 1024
N_MELS = 80
CONTEXT = 4  # frames on either side
F0_MIN, F0_MAX = 50.0, 1100.0  # Hz
F0_BINS = 256  # coarse pitch takes the values 1 to F0_BINS - 1; 0 is padding's


@lru_cache(maxsize=1)
def _mel_bands() -> np.ndarray:
    """Mel filter bank: (80, 513) float32."""
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS, fmin=0, fmax=SAMPLE_RATE // 2)


def _checked(audio16k: np.ndarray) -> np.ndarray:
    """Return `audio16k` as (samples,) float32; ValueError where it is empty, not mono or not finite."""
    audio = np.asarray(audio16k, dtype=np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio must be mono and not empty, of shape (samples,); got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return audio


def content_features(audio16k: np.ndarray) -> np.ndarray:
    """Content features of an utterance; the stand-in for HuBERT that this file's header describes.

    Args:
        audio16k: (samples,) at 16 kHz, full scale 1.

    Returns:
        (samples // 320 + 1, 768) float32, 50 frames a second. Columns 80 k to 80 k + 79 hold the 80 bands of the frame
        k - 4 away, for k from 0 to 8; columns 720 to 767 are zero. At either end the last frame is repeated.
    """
    audio = _checked(audio16k)
    spectrum = librosa.stft(audio, n_fft=N_FFT, hop_length=FEATURE_HOP, win_length=N_FFT, center=True, pad_mode="constant")
    bands = np.log(_mel_bands() @ np.abs(spectrum) ** 2 + 1e-6)  # (80, frames)
    bands = (bands - bands.mean(axis=1, keepdims=True)) / (bands.std(axis=1, keepdims=True) + 1e-5)
    frames = bands.shape[1]
    around = np.pad(bands, ((0, 0), (CONTEXT, CONTEXT)), mode="edge")  # (80, frames + 8)
    features = np.zeros((frames, FEATURE_SIZE), dtype=np.float32)
    for k in range(2 * CONTEXT + 1):
        features[:, k * N_MELS : (k + 1) * N_MELS] = around[:, k : k + frames].T
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


def coarse_pitch(f0: np.ndarray) -> np.ndarray:
    """Pitch on RVC's coarse scale: even steps in mel, 1127 ln(1 + f / 700), from 50 Hz at 1 to 1100 Hz at 255.

    Args:
        f0: (frames,) in Hz, 0 where unvoiced.

    Returns:
        (frames,) int64, 1 to 255; unvoiced frames are 1.
    """
    lowest, highest = (1127 * np.log(1 + edge / 700) for edge in (F0_MIN, F0_MAX))
    mel = 1127 * np.log(1 + np.asarray(f0, dtype=np.float64) / 700)
    steps = np.where(mel > 0, (mel - lowest) * (F0_BINS - 2) / (highest - lowest) + 1, 1)
    return np.rint(np.clip(steps, 1, F0_BINS - 1)).astype(np.int64)
