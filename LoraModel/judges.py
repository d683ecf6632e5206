"""Networks that judge a recording: whose voice it is (Resemblyzer), and how good it sounds without a reference
(DNSMOS).

Speaker similarity is the cosine between embeddings of Resemblyzer, a speaker verification network (Wan et al.,
"Generalized End-to-End Loss for Speaker Verification", 2018). DNSMOS (Reddy et al., "DNSMOS P.835", 2022, and
"DNSMOS", 2021) predicts how people rate speech from 1 to 5. The weights of both come with their packages, which only
evaluation needs.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Dict, Sequence, Union

import librosa
import numpy as np
import torch

from .messages import Text, UserError

SAMPLE_RATE = 16000
"""Hz, at which both networks listen."""

QUALITY = {"ovrl_mos": "dnsmos", "sig_mos": "dnsmos_signal", "bak_mos": "dnsmos_background", "p808_mos": "dnsmos_p808"}
"""What speechmos calls its figures -> what they are called here."""

SAME_SPEAKER = 0.95
"""Cosine from which two embeddings say nothing of two speakers."""


def at_16k(audio: np.ndarray, sr: int) -> np.ndarray:
    """(samples,) at `sr` Hz -> (samples,) float32 at 16 kHz."""
    audio = np.asarray(audio, dtype=np.float32)
    return audio if sr == SAMPLE_RATE else librosa.resample(audio, orig_sr=sr, target_sr=SAMPLE_RATE)


def missing_package(what: Text, package: str, error: ImportError, commands: Sequence[str]) -> UserError:
    """What to say where the package of a figure cannot be imported. commands: what installs it."""
    run: Union[Text, str] = f"`{commands[0]}`"
    for command in commands[1:]:
        run = Text("{first} and {then}", first=run, then=f"`{command}`")
    return UserError("{what} needs {package}, which cannot be imported ({error}): run {run}",
                     what=what, package=package, error=error, run=run)


def cosine_to_mean(embedding: np.ndarray, references: Sequence[np.ndarray]) -> float:
    """Cosine between an embedding (size,) and the mean of the reference embeddings, (size,) each."""
    reference = np.mean(references, axis=0)
    return float(embedding @ reference / (np.linalg.norm(embedding) * np.linalg.norm(reference)))


def speaker_leak(made: np.ndarray, source: np.ndarray, target: Sequence[np.ndarray]) -> float:
    """How much of the source speaker is left in a conversion: 0 where it is no more like the source than the target's
    own recordings are, 1 where it is the source; below 0 it is less like the source than they are.

    With s(x) the cosine between x and the source, t the mean of the target's embeddings: (s(made) - s(t)) / (1 - s(t)).

    Args:
        made, source: embeddings (size,). target: of the target's recordings.

    Returns:
        NaN where source and target are one speaker to the network.
    """
    between = cosine_to_mean(source, target)
    return (cosine_to_mean(made, [source]) - between) / (1 - between) if between < SAME_SPEAKER else math.nan


class SpeakerEncoder:
    """Resemblyzer's voice encoder on the CPU.

    Raises:
        UserError: Resemblyzer is not installed; the message says how.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():  # it imports a name that SciPy moved; nothing else is hushed
            warnings.filterwarnings("ignore", message=r".*scipy\.ndimage\.morphology", category=DeprecationWarning)
            try:
                from resemblyzer import VoiceEncoder, preprocess_wav
            except ImportError as error:
                raise missing_package(Text("speaker similarity"), "Resemblyzer", error,
                               ["pip install webrtcvad-wheels", "pip install --no-deps Resemblyzer==0.1.4"]) from error
        self._network = VoiceEncoder("cpu", verbose=False)
        self._prepare = preprocess_wav

    def embedding(self, audio: np.ndarray, sr: int) -> np.ndarray:
        """Embedding of one recording.

        Args:
            audio: (samples,) at `sr` Hz, full scale 1; pauses are left out.

        Returns:
            (256,) float32 of length 1.

        Raises:
            UserError: no speech was found in it.
        """
        audio = np.asarray(audio, dtype=np.float32)
        spoken = audio[:0]
        if audio.any():
            spoken = self._prepare(np.clip(at_16k(audio, sr), -1, 1))
        if len(spoken) == 0:
            raise UserError("no speech was found in {count:.1f} seconds of audio, so its speaker cannot be judged: "
                            "listen to the recording", count=len(audio) / sr)
        return self._network.embed_utterance(spoken)

    def similarity(self, audio: np.ndarray, sr: int, reference_audios: Sequence[np.ndarray], ref_sr: int) -> float:
        """Cosine between a recording's embedding and the mean of the reference recordings' embeddings.

        Args:
            audio: (samples,) at `sr` Hz.
            reference_audios: each (samples,) at `ref_sr` Hz, all of the target speaker.

        Returns:
            1 for the same embedding; about 0.97 between recordings of one of the demo's voices, 0.65 between its two.
        """
        return cosine_to_mean(self.embedding(audio, sr), [self.embedding(each, ref_sr) for each in reference_audios])


class SpeechQuality:
    """DNSMOS by the package speechmos, on as many CPU threads as PyTorch takes.

    Raises:
        UserError: speechmos or onnxruntime is not installed; the message says how.
    """

    def __init__(self) -> None:
        try:
            import onnxruntime
            from speechmos import dnsmos
        except ImportError as error:
            # named only where it is missing: beside onnxruntime-gpu, which RVC may have brought, it would do harm
            both = "onnxruntime " if error.name == "onnxruntime" else ""
            raise missing_package(Text("speech quality (DNSMOS)"), "speechmos", error,
                           [f"pip install {both}speechmos==0.0.1.1"]) from error
        onnxruntime.set_default_logger_severity(3)  # it warns of graphics cards that it does not find
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # waiting threads leave the CPU to others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"

        class Networks(dnsmos.DNSMOS):  # speechmos's own would take every core
            def __init__(self) -> None:
                self.onnx_sess, self.p808_onnx_sess = (
                    onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
                    for name in ("sig_bak_ovr.onnx", "model_v8.onnx"))

        self._networks = Networks()

    def rate(self, audio: np.ndarray, sr: int) -> Dict[str, float]:
        """Predicted ratings from 1 to 5 of a recording; shorter ones than 9 seconds are repeated up to that.

        Args:
            audio: (samples,) at `sr` Hz, full scale 1; what lies beyond is clipped.

        Returns:
            `dnsmos` (overall), `dnsmos_signal`, `dnsmos_background` (P.835) and `dnsmos_p808`.

        Raises:
            ValueError: no samples, or samples that are not finite.
        """
        audio = np.asarray(audio, dtype=np.float32)
        if audio.ndim != 1 or audio.size == 0 or not np.isfinite(audio).all():
            raise ValueError(f"audio must be mono, finite and not empty; got shape {audio.shape}")
        # False: not the personalised model
        found = self._networks(np.clip(at_16k(audio, sr), -1, 1), SAMPLE_RATE, False)
        return {name: float(found[key]) for key, name in QUALITY.items()}
