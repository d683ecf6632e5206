"""How far a conversion is from the recording it should equal: log-mel L1, mel-cepstral distortion, pitch and voicing.

Pure functions of numpy arrays. They compare two recordings of the same words at the same times, frame by frame and
without warping: what is compared here is a recording and its own resynthesis.

The log-mel spectrogram is RVC's own (magnitudes, Slaney's mel scale, natural logarithm, reflected edges), so that its
distances read like RVC's mel loss. Mel-cepstral distortion: R. Kubichek, "Mel-cepstral distance measure for objective
speech quality assessment", IEEE Pacific Rim Conference on Communications, Computers and Signal Processing, 1993.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Dict, Tuple

import librosa
import numpy as np
from scipy.fft import dct

from ..inference.stand_in import PITCH_HOP, pitch
from ..judges import at_16k

N_MELS = 80
FRAMES_PER_SECOND = 100
ALIGNED_WITHIN = 0.2  # seconds by which two recordings of the same words may differ in length
CEPSTRUM_ORDERS = 24  # 1 to 24: the spectrum's envelope; higher ones begin to follow single harmonics
FEWEST_VOICED = 10  # frames: a correlation of fewer says nothing
SINGLE_TONE = 0.01  # octaves, 12 cents: a pitch that moves less has no melody
SPEECH_WITHIN = 40.0  # dB below the loudest frame: what is quieter is taken for a pause


@lru_cache(maxsize=8)
def _mel_bands(sr: int, n_fft: int, bands: int) -> np.ndarray:
    """Mel filter bank from 0 Hz to half of `sr`: (bands, n_fft // 2 + 1) float32."""
    return librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=bands, fmin=0, fmax=sr / 2)


def shortest(sr: int) -> int:
    """The samples that `log_mel` needs at `sr` Hz: one window of 64 ms."""
    return round(sr // FRAMES_PER_SECOND * 6.4 / 2) * 2


def log_mel(audio: np.ndarray, sr: int, bands: int = N_MELS) -> np.ndarray:
    """Log-mel spectrogram, natural logarithm of magnitudes, 100 frames a second.

    Args:
        audio: (samples,) full scale 1.
        sr: samples a second. Window and hop are 1024 and 160 samples at 16 kHz and keep their duration at other rates.
        bands: mel bands from 0 Hz to sr / 2.

    Returns:
        (bands, samples // hop) float32, never below log(1e-5).
    """
    audio = np.asarray(audio, dtype=np.float32)
    hop, n_fft = sr // FRAMES_PER_SECOND, shortest(sr)
    if audio.ndim != 1 or len(audio) < n_fft:
        raise ValueError(f"audio must be mono and at least {n_fft} samples long at {sr} Hz; got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    padded = np.pad(audio, (n_fft - hop) // 2, mode="reflect")
    # (n_fft // 2 + 1, frames)
    spectrum = librosa.stft(padded, n_fft=n_fft, hop_length=hop, win_length=n_fft, center=False)
    magnitude = np.sqrt(np.abs(spectrum) ** 2 + 1e-6)
    return np.log(np.maximum(_mel_bands(sr, n_fft, bands) @ magnitude, 1e-5)).astype(np.float32)


def _aligned(a: np.ndarray, b: np.ndarray, sr: int) -> Tuple[np.ndarray, np.ndarray]:
    """Both cut to the shorter one's length; more than `ALIGNED_WITHIN` seconds of difference raises ValueError."""
    if abs(len(a) - len(b)) > ALIGNED_WITHIN * sr:
        raise ValueError(f"the recordings last {len(a) / sr:.2f} and {len(b) / sr:.2f} seconds: they cannot be "
                         f"compared frame by frame")
    samples = min(len(a), len(b))
    return a[:samples], b[:samples]


def mel_l1(a: np.ndarray, b: np.ndarray, sr: int) -> float:
    """Mean absolute difference of the log-mel spectrograms of two recordings of the same words at the same times.

    0 is identical; half the amplitude everywhere gives log 2 = 0.69. Level is not evened out.

    Args:
        a, b: (samples,) at `sr` Hz. The longer one is cut at its end; more than 0.2 seconds of difference raises
            ValueError.
    """
    a, b = _aligned(a, b, sr)
    return float(np.mean(np.abs(log_mel(a, sr) - log_mel(b, sr))))


def mel_cepstrum(mel: np.ndarray, orders: int = CEPSTRUM_ORDERS) -> np.ndarray:
    """Mel cepstrum of a log-mel spectrogram: the cosine series along the bands, without its mean (level).

    With L_n the value of band n of N, c_m = 2/N sum_n L_n cos(pi m (n + 1/2) / N), so that L_n = c_0 / 2 + sum_m c_m
    cos(…).

    Args:
        mel: (bands, frames), natural logarithm of magnitudes.
        orders: how many, from the first on; fewer than bands.

    Returns:
        (orders, frames).
    """
    bands = mel.shape[0]
    if not 0 < orders < bands:
        raise ValueError(f"orders={orders} must be between 1 and {bands - 1}, the bands being {bands}")
    return dct(np.asarray(mel, dtype=np.float64), type=2, axis=0)[1 : orders + 1] / bands


def mel_cepstral_distortion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mel-cepstral distortion of each frame, (10 / ln 10) sqrt(2 sum_m (a_m - b_m)^2) (Kubichek 1993).

    By Parseval it is the root mean square over the mel bands of the difference, in dB, between the two smoothed
    spectra.

    Args:
        a, b: (orders, frames) from `mel_cepstrum`, of aligned recordings.

    Returns:
        (frames,) in dB.
    """
    return 10 / np.log(10) * np.sqrt(2 * np.sum((a - b) ** 2, axis=0))


def speech_frames(mel: np.ndarray) -> np.ndarray:
    """Which frames are within 40 dB of the loudest one: (bands, frames) of `log_mel` -> (frames,) bool."""
    level = 10 * np.log10(np.sum(np.exp(2 * np.asarray(mel, dtype=np.float64)), axis=0))
    return level >= level.max() - SPEECH_WITHIN


def mcd(generated: np.ndarray, real: np.ndarray, sr: int) -> float:
    """Mean mel-cepstral distortion in dB over the frames in which `real` speaks, orders 1 to 24 of 80 mel bands.

    Level is left out (order 0), pauses too: in them it would compare two noises.

    Args:
        generated, real: (samples,) at `sr` Hz, aligned as in `mel_l1`.
    """
    generated, real = _aligned(generated, real, sr)
    mel = log_mel(real, sr)
    each = mel_cepstral_distortion(mel_cepstrum(log_mel(generated, sr)), mel_cepstrum(mel))
    return float(np.mean(each[speech_frames(mel)]))


def f0_rmse_cents(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square of 1200 log2(a / b) over the frames voiced in both, in cents (100 are a semitone).

    Args:
        a, b: (frames,) in Hz, 0 where unvoiced.

    Returns:
        NaN where no frame is voiced in both.
    """
    both = (a > 0) & (b > 0)
    if not both.any():
        return float("nan")
    return float(np.sqrt(np.mean((1200 * np.log2(a[both] / b[both])) ** 2)))


def voicing_error(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the frames, 0 to 1, of which one is voiced and the other is not. a, b: (frames,) in Hz, 0 where
    unvoiced."""
    return float(np.mean((a > 0) != (b > 0)))


def pitch_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation (Pearson) of the logarithms of two pitches over the frames voiced in both: 1 where one is the other,
    at whatever transposition, 0 where the melody is lost.

    Args:
        a, b: (frames,) in Hz, 0 where unvoiced.

    Returns:
        NaN where fewer than ten frames are voiced in both, or one of the two is a single tone.
    """
    both = (a > 0) & (b > 0)
    if both.sum() < FEWEST_VOICED:
        return float("nan")
    x, y = (np.log2(each[both]) - np.log2(each[both]).mean() for each in (a, b))
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / size) if min(np.ptp(x), np.ptp(y)) > SINGLE_TONE else float("nan")


def pitch_figures(generated: np.ndarray, real: np.ndarray, sr: int) -> Dict[str, float]:
    """`pitch_correlation` and `voicing_error` of two recordings with the same timing, (samples,) at `sr` Hz each."""
    ours, theirs = pitch_of(generated, sr), pitch_of(real, sr)
    frames = min(len(ours), len(theirs))
    ours, theirs = ours[:frames], theirs[:frames]
    return {"pitch_correlation": pitch_correlation(ours, theirs), "voicing_error": voicing_error(ours, theirs)}


def pitch_of(audio: np.ndarray, sr: int) -> np.ndarray:
    """Pitch by Praat's autocorrelation on 16 kHz audio, 50 to 1100 Hz: (samples,) at `sr` Hz -> (frames,) in Hz, 100 a
    second, 0 unvoiced."""
    audio = at_16k(audio, sr)
    return pitch(audio, len(audio) // PITCH_HOP)


def pair_metrics(generated: np.ndarray, real: np.ndarray, sample_rate: int) -> Dict[str, float]:
    """All distances between a resynthesised recording and the recording itself; 0 is identical in each, a correlation
    of 1.

    Args:
        generated, real: (samples,) at `sample_rate` Hz, full scale 1; the longer one is cut at its end.

    Returns:
        `mel_l1` (natural logarithm), `mcd_db`, `f0_rmse_cents` and `pitch_correlation` (NaN where too few frames are
        voiced in both), `voicing_error` (0 to 1).

    Raises:
        ValueError: more than 0.2 seconds of difference in length, less than 64 ms of audio, samples that are not
            finite.
    """
    generated, real = _aligned(generated, real, sample_rate)
    distances = {"mel_l1": mel_l1(generated, real, sample_rate), "mcd_db": mcd(generated, real, sample_rate)}
    ours, theirs = pitch_of(generated, sample_rate), pitch_of(real, sample_rate)
    return {**distances, "f0_rmse_cents": f0_rmse_cents(ours, theirs),
            "pitch_correlation": pitch_correlation(ours, theirs), "voicing_error": voicing_error(ours, theirs)}
