"""What is measured at each save beside log-mel L1: whose voice it is, how much of another speaker is left in a
conversion (both by Resemblyzer), and how good it sounds (DNSMOS).

All where they are installed; a run without them says so once and goes by log-mel L1 and sharpness alone. They may take
five percent of the time that training takes: a run of less than two minutes does without, at the first save their time
is measured, and where that is more, only every k-th save is judged, and those between go by the figures of the
last one that was.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import librosa
import numpy as np
import soundfile
import torch

from ..files import system_name
from ..judges import SpeakerEncoder, SpeechQuality, cosine_to_mean, speaker_leak
from ..messages import UserError
from ..models.random_state import undisturbed
from .other_speaker import RATE, OtherSpeaker

CLIPS = 2
"""Held-out clips that are judged at a save."""
SECONDS = 3.0
"""Of each clip that are judged, from its middle."""
REFERENCES = 4
"""Training clips whose mean embedding stands for the speaker."""
SHARE = 0.05
"""Of the time that training takes, that judging may take."""
MOST_EVERY = 1000
WORTH = 120.0
"""Seconds that a run must be expected to take for the networks to be loaded, which takes some by itself."""
WORTH_HUBERT = 400.0
"""The same for the other speaker in a checkout, whose features HuBERT makes: to load it takes up to twenty seconds."""


class Judged(NamedTuple):
    """Means over the clips, None where they are not known. similarity: cosine to the speaker's own recordings.
    dnsmos: 1 to 5. dnsmos_real: that of the recordings themselves. leak: of another speaker, in a conversion of theirs
    (`judges.speaker_leak`)."""

    similarity: Optional[float] = None
    dnsmos: Optional[float] = None
    dnsmos_real: Optional[float] = None
    leak: Optional[float] = None

    @property
    def factor(self) -> float:
        """By which the score is worse: 1 plus what the similarity lacks to 1, times 1 plus a fourth of the points that
        DNSMOS lacks to the recordings, times 1 plus a tenth of the leak, which moves by 0.1 between equal saves."""
        unlike = 0.0 if self.similarity is None else max(0.0, 1 - self.similarity)
        bad = 0.0 if self.dnsmos is None or self.dnsmos_real is None else max(0.0, self.dnsmos_real - self.dnsmos)
        return (1 + unlike) * (1 + bad / 4) * (1 + max(0.0, self.leak or 0.0) / 10)

    def log(self) -> Dict[str, Any]:
        """For train.jsonl and TensorBoard: what is known."""
        known = {"heldout_similarity": self.similarity, "heldout_dnsmos": self.dnsmos, "heldout_leak": self.leak}
        return {key: value for key, value in known.items() if value is not None}


NOTHING = Judged()


class Judge:
    """Args:
        encoder, quality: the networks; None where they are not installed.
        references: training clips, (samples,) each at `rate` Hz.
        other: the other speaker; None measures no leak.

    Attributes:
        every: of how many saves one is judged; 0 before it is known. seconds: spent so far.
        missing: why a network is not there.
    """

    def __init__(self, encoder: Optional[SpeakerEncoder], quality: Optional[SpeechQuality],
                 references: Sequence[np.ndarray], rate: int, missing: Sequence[UserError] = (),
                 other: Optional[OtherSpeaker] = None):
        self._encoder, self._quality, self._rate = encoder, quality, rate
        self._references = list(references)
        self._speaker: Optional[List[np.ndarray]] = None
        self._real: Optional[float] = None
        self.other = other
        self._source: List[np.ndarray] = []
        self.missing = list(missing)
        self.every, self.seconds = 0, 0.0
        self._saves, self._last = 0, NOTHING

    def judge(self, made: Sequence[np.ndarray], real: Sequence[np.ndarray], since_last: float,
              convert: Optional[Callable[[OtherSpeaker], np.ndarray]] = None) -> Judged:
        """The figures of a save.

        Args:
            made, real: the held-out clips by the voice, and their recordings, (samples,) each.
            since_last: seconds of training since the last save.
            convert: lets the voice convert the other speaker's recording, (samples,).
        """
        if self._encoder is None and self._quality is None:
            return NOTHING
        self._saves += 1
        if self.every and (self._saves - 1) % self.every:
            return self._last
        if self._speaker is None:
            self._prepare(real)
        begun = time.perf_counter()
        self._last = self._hear([middle(clip, self._rate) for clip in made[:CLIPS]], convert)
        spent = time.perf_counter() - begun
        self.seconds += spent
        if not self.every:
            self.every = min(MOST_EVERY, max(1, math.ceil(spent / max(SHARE * since_last, 1e-9))))
        return self._last

    def _prepare(self, real: Sequence[np.ndarray]) -> None:
        begun = time.perf_counter()
        self._speaker = self._embeddings(self._references)
        if self._quality is not None:
            self._real = self._rating([middle(clip, self._rate) for clip in real[:CLIPS]])
        if self.other is not None:
            self._source = self._embeddings([self.other.sound], RATE)
        self.seconds += time.perf_counter() - begun

    def _hear(self, clips: Sequence[np.ndarray], convert: Optional[Callable[[OtherSpeaker], np.ndarray]]) -> Judged:
        likeness = leak = None
        if self._speaker:
            found = [cosine_to_mean(embedding, self._speaker) for embedding in self._embeddings(clips)]
            likeness = float(np.mean(found)) if found else None
            leak = self._leak(convert(self.other)) if convert is not None and self.other is not None else None
        return Judged(likeness, None if self._quality is None else self._rating(clips), self._real, leak)

    def _leak(self, converted: np.ndarray) -> Optional[float]:
        made = self._embeddings([converted])
        if not made or not self._source or not self._speaker:
            return None
        leak = speaker_leak(made[0], self._source[0], self._speaker)
        return leak if math.isfinite(leak) else None

    def _embeddings(self, clips: Sequence[np.ndarray], rate: Optional[int] = None) -> List[np.ndarray]:
        found = []
        for clip in clips if self._encoder is not None else ():
            try:
                found.append(self._encoder.embedding(clip, rate or self._rate))  # type: ignore[union-attr]
            except UserError:  # no speech in it
                continue
        return found

    def _rating(self, clips: Sequence[np.ndarray]) -> Optional[float]:
        assert self._quality is not None
        found = [self._quality.rate(clip, self._rate)["dnsmos"] for clip in clips if len(clip)]
        return float(np.mean(found)) if found else None

    def state(self) -> Dict[str, Any]:
        """What a resumed run needs."""
        return {"every": self.every, "saves": self._saves, "last": list(self._last), "leak": self.other is not None}

    def restore(self, state: Any) -> None:
        """Take back what `state` gave; None of a save from before. Raises where it is damaged."""
        if state is None:
            return
        every, saves = state["every"], state["saves"]
        if any(type(value) is not int or value < 0 for value in (every, saves)):
            raise ValueError("judge")
        self.every, self._saves, self._last = every, saves, read_judged(state["last"])


def read_judged(saved: Any) -> Judged:
    """What a save holds of the figures; `NOTHING` of a save from before.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if saved is None:
        return NOTHING
    figures = Judged(*saved)
    if any(value is not None and (type(value) is not float or not math.isfinite(value)) for value in figures):
        raise ValueError("judged")
    return figures


def middle(clip: np.ndarray, rate: int) -> np.ndarray:
    """At most `SECONDS` of (samples,) from its middle."""
    most = int(SECONDS * rate)
    start = max(0, (len(clip) - most) // 2)
    return clip[start:start + most]


def judge_of(clips: Sequence[Path], rate: int, device: torch.device,
             other_speaker: Optional[Callable[[], OtherSpeaker]] = None) -> Judge:
    """With the networks that are installed. clips: WAVs of the speaker; rate: of what will be judged, Hz.
    other_speaker: makes the one whose leak is measured."""
    with undisturbed(device):  # a network that is made draws random numbers
        encoder, quality, missing = _networks()
    other = None
    if encoder is not None and other_speaker is not None:
        try:
            other = other_speaker()
        except UserError as error:
            missing = (*missing, error)
    return Judge(encoder, quality, [_sound(path, rate) for path in clips[:REFERENCES]], rate, missing, other)


@lru_cache(maxsize=1)
def _networks() -> Tuple[Optional[SpeakerEncoder], Optional[SpeechQuality], Tuple[UserError, ...]]:
    """What is installed, once for all runs of a process, and why the others are not there."""
    missing: List[UserError] = []
    encoder: Optional[SpeakerEncoder] = None
    quality: Optional[SpeechQuality] = None
    try:
        encoder = SpeakerEncoder()
    except UserError as error:
        missing.append(error)
    try:
        quality = SpeechQuality()
    except UserError as error:
        missing.append(error)
    return encoder, quality, tuple(missing)


def _sound(path: Path, rate: int) -> np.ndarray:
    audio, found = soundfile.read(system_name(path), dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    return mono if found == rate else librosa.resample(mono, orig_sr=found, target_sr=rate)
