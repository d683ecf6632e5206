"""One recording as the doctor hears it: its sound at its own rate, how loud it is over time, and where it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
import soundfile

from ..files import system_name
from ..inference.audio import read_audio

FRAMES = 100
"""A second, of `levels`."""
LOWEST = -120.0
"""Decibels below full scale that stand for digital silence."""
SPOKEN = 30.0
"""Decibels below the loudest frames (95%) down to which a frame counts as speech."""
USUAL_RATE = 44100
"""Hz, of what libsndfile cannot open and ffmpeg converts."""


@dataclass
class Recording:
    """One recording.

    Attributes:
        name: as messages call it. audio: (samples,) float32 at `rate` Hz, the file's own; full scale 1.
        levels: (frames,) dB of full scale, 100 a second. spoken: (frames,) bool.
        speech: level of the spoken frames, dB. floor: of the quietest ones that are not digital silence, dB.
    """

    name: str
    audio: np.ndarray
    rate: int
    levels: np.ndarray
    spoken: np.ndarray
    speech: float
    floor: float

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate

    @property
    def spoken_seconds(self) -> float:
        return float(self.spoken.sum()) / FRAMES

    def excerpt(self, frame: int, seconds: float) -> np.ndarray:
        """(samples,) of about `seconds` around a frame."""
        length = int(seconds * self.rate)
        start = int(np.clip(frame * self.rate // FRAMES - length // 2, 0, max(len(self.audio) - length, 0)))
        return self.audio[start:start + length]

    def loudest(self, seconds: float) -> np.ndarray:
        """The excerpt of most speech."""
        width = max(1, int(seconds * FRAMES))
        if len(self.spoken) <= width:
            return self.audio
        sums = np.convolve(self.spoken.astype(np.float32), np.ones(width), "valid")
        return self.excerpt(int(sums.argmax()) + width // 2, seconds)


def own_rate(path: Path) -> int:
    """Hz that a file has; `USUAL_RATE` where libsndfile cannot tell."""
    try:
        return int(soundfile.info(system_name(path)).samplerate)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError):
        return USUAL_RATE


def read_recording(path: Union[str, Path], name: str) -> Recording:
    """Read a file.

    Raises:
        UserError: it cannot be read as audio.
    """
    rate = own_rate(Path(path))
    return analysed(name, read_audio(path, rate, tell=lambda text: None), rate)


def analysed(name: str, audio: np.ndarray, rate: int) -> Recording:
    """The measurements of (samples,) at `rate` Hz."""
    levels = levels_of(audio, rate)
    loud = float(np.percentile(levels, 95))
    spoken = (levels > loud - SPOKEN) & (levels > -80.0)
    sounding = levels[levels > -100.0]
    speech = float(10 * np.log10(np.mean(10 ** (levels[spoken] / 10)))) if spoken.any() else LOWEST
    floor = float(np.percentile(sounding, 5)) if len(sounding) else LOWEST
    return Recording(name, audio, rate, levels, spoken, speech, floor)


def levels_of(audio: np.ndarray, rate: int) -> np.ndarray:
    """Root mean square over 20 ms, 100 a second: (samples,) -> (frames,) dB of full scale; at least one frame."""
    hop = max(1, rate // FRAMES)
    count = max(1, len(audio) // hop)
    padded = np.zeros(count * hop, np.float32)
    padded[:min(len(audio), count * hop)] = audio[:count * hop]
    energy = np.square(padded.reshape(count, hop), dtype=np.float64).mean(axis=1)
    both = (energy + np.concatenate([energy[1:], energy[-1:]])) / 2
    return 10 * np.log10(both + 10 ** (LOWEST / 10))
