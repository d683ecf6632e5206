"""How good a conversion is: log-mel distance, and similarity to the target speaker.

The log-mel spectrogram is RVC's own (magnitudes, Slaney's mel scale, natural logarithm, reflected edges), so that its distances
read like RVC's mel loss. Speaker similarity is the cosine between embeddings of Resemblyzer, a speaker verification network
(Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018) whose weights come with its package.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Sequence

import librosa
import numpy as np

from LoraModel.messages import UserError

N_MELS = 80
FRAMES_PER_SECOND = 100
ALIGNED_WITHIN = 0.2  # seconds by which two recordings of the same words may differ in length
ENCODER_RATE = 16000  # Hz, Resemblyzer's


@lru_cache(maxsize=8)
def _mel_bands(sr: int, n_fft: int, bands: int) -> np.ndarray:
    """Mel filter bank from 0 Hz to half of `sr`: (bands, n_fft // 2 + 1) float32."""
    return librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=bands, fmin=0, fmax=sr / 2)


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
    hop = sr // FRAMES_PER_SECOND
    n_fft = round(hop * 6.4 / 2) * 2
    if audio.ndim != 1 or len(audio) < n_fft:
        raise ValueError(f"audio must be mono and at least {n_fft} samples long at {sr} Hz; got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    padded = np.pad(audio, (n_fft - hop) // 2, mode="reflect")
    spectrum = librosa.stft(padded, n_fft=n_fft, hop_length=hop, win_length=n_fft, center=False)  # (n_fft // 2 + 1, frames)
    magnitude = np.sqrt(np.abs(spectrum) ** 2 + 1e-6)
    return np.log(np.maximum(_mel_bands(sr, n_fft, bands) @ magnitude, 1e-5)).astype(np.float32)


def mel_l1(a: np.ndarray, b: np.ndarray, sr: int) -> float:
    """Mean absolute difference of the log-mel spectrograms of two recordings of the same words at the same times.

    0 is identical; half the amplitude everywhere gives log 2 = 0.69. Level is not evened out.

    Args:
        a, b: (samples,) at `sr` Hz. The longer one is cut at its end; more than 0.2 seconds of difference raises.
    """
    if abs(len(a) - len(b)) > ALIGNED_WITHIN * sr:
        raise ValueError(f"the recordings last {len(a) / sr:.2f} and {len(b) / sr:.2f} seconds: they cannot be compared frame by frame")
    samples = min(len(a), len(b))
    return float(np.mean(np.abs(log_mel(a[:samples], sr) - log_mel(b[:samples], sr))))


class SpeakerEncoder:
    """Resemblyzer's voice encoder on the CPU."""

    def __init__(self) -> None:
        with warnings.catch_warnings():  # it imports a name that SciPy moved; nothing else is hushed
            warnings.filterwarnings("ignore", message=r".*scipy\.ndimage\.morphology", category=DeprecationWarning)
            try:
                from resemblyzer import VoiceEncoder, preprocess_wav
            except ImportError as error:
                raise UserError(
                    f"speaker similarity needs Resemblyzer, which cannot be imported ({error}): run "
                    "`pip install webrtcvad-wheels` and `pip install --no-deps Resemblyzer==0.1.4`",
                    f"计算音色相似度需要 Resemblyzer，但无法导入（{error}）：请运行 "
                    "`pip install webrtcvad-wheels` 和 `pip install --no-deps Resemblyzer==0.1.4`",
                ) from error
        self._network = VoiceEncoder("cpu", verbose=False)
        self._prepare = preprocess_wav

    def embedding(self, audio: np.ndarray, sr: int) -> np.ndarray:
        """Embedding of one recording.

        Args:
            audio: (samples,) at `sr` Hz, full scale 1; pauses are left out.

        Returns:
            (256,) float32 of length 1.
        """
        audio = np.asarray(audio, dtype=np.float32)
        spoken = audio[:0]
        if audio.any():
            if sr != ENCODER_RATE:
                audio = librosa.resample(audio, orig_sr=sr, target_sr=ENCODER_RATE)
            spoken = self._prepare(np.clip(audio, -1, 1))
        if len(spoken) == 0:
            raise UserError(
                f"no speech was found in {len(audio) / sr:.1f} seconds of audio, so its speaker cannot be judged: listen to the recording",
                f"在 {len(audio) / sr:.1f} 秒的音频中没有找到语音，无法判断说话人：请试听该录音",
            )
        return self._network.embed_utterance(spoken)

    def similarity(self, audio: np.ndarray, sr: int, reference_audios: Sequence[np.ndarray], ref_sr: int) -> float:
        """Cosine between a recording's embedding and the mean of the reference recordings' embeddings.

        Args:
            audio: (samples,) at `sr` Hz.
            reference_audios: each (samples,) at `ref_sr` Hz, all of the target speaker.

        Returns:
            1 for the same embedding; about 0.97 between recordings of one of the demo's voices, 0.65 between its two.
        """
        reference = np.mean([self.embedding(each, ref_sr) for each in reference_audios], axis=0)
        return float(self.embedding(audio, sr) @ reference / np.linalg.norm(reference))
