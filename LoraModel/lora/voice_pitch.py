"""How high a voice speaks: what an adapter's field `pitch` holds, and how far another voice has to be transposed to
it."""

from __future__ import annotations

import json
import math
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

LOWEST, HIGHEST = 20.0, 5000.0
"""Hz. What no voice goes below or above."""
FEWEST_FRAMES = 20
"""Voiced frames, 100 a second: of fewer the median says little."""
MOST_SEMITONES = 48
MODEL_KEY = "voice_pitch"
"""Under which a merged model's file has what an adapter has in `pitch`; RVC passes over it."""


class VoicePitch(NamedTuple):
    """Fundamental frequency of a voice over its voiced frames, in Hz: the median, and the range that nine tenths of
    them lie in."""

    median: float
    low: float
    high: float

    def to_text(self) -> str:
        """As the adapter file stores it: {"median": 118.2, "low": 90.1, "high": 160.3}."""
        return json.dumps({name: round(value, 1) for name, value in self._asdict().items()})


def pitch_of(f0: Any) -> Optional[VoicePitch]:
    """The pitch of a voice.

    Args:
        f0: (frames,) in Hz, 0 where unvoiced.

    Returns:
        None where there are fewer than `FEWEST_FRAMES` voiced frames.
    """
    values = np.asarray(f0, dtype=np.float64)
    values = values[np.isfinite(values) & (values >= LOWEST) & (values <= HIGHEST)]
    if values.size < FEWEST_FRAMES:
        return None
    low, median, high = (float(np.percentile(values, share)) for share in (5, 50, 95))
    return VoicePitch(float(median), float(low), float(high))


def read_pitch(text: str) -> Optional[VoicePitch]:
    """What `VoicePitch.to_text` wrote; None for "".

    Raises:
        ValueError: it is no such thing.
    """
    if not text:
        return None
    if len(text) > 500:
        raise ValueError("too long")
    try:
        read = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    values: List[Any] = [read.get(name) for name in VoicePitch._fields] if isinstance(read, dict) else []
    if len(values) != 3 or not all(type(value) in (int, float) and LOWEST <= value <= HIGHEST for value in values):
        raise ValueError("not three frequencies")
    pitch = VoicePitch(*(float(value) for value in values))
    if not pitch.low <= pitch.median <= pitch.high:
        raise ValueError("not in order")
    return pitch


def pitch_told(fields: Mapping[str, Any], key: str = "pitch") -> Optional[VoicePitch]:
    """What the metadata of an adapter tell of its voice's pitch; None where they tell nothing, or nothing that can
    be."""
    text = fields.get(key)
    try:
        return read_pitch(text) if isinstance(text, str) else None
    except ValueError:
        return None


def semitones_between(source: VoicePitch, target: VoicePitch) -> int:
    """Whole semitones from the source's median to the target's, at most four octaves."""
    return max(-MOST_SEMITONES, min(MOST_SEMITONES, int(round(12 * math.log2(target.median / source.median)))))


def pitch_of_blend(voices: Sequence[Tuple[Mapping[str, Any], float]]) -> Optional[VoicePitch]:
    """The pitch of a blend of voices: the mean of their logarithms, weighed by the strengths.

    Args:
        voices: the metadata of each adapter, with its strength.

    Returns:
        None where one of them does not tell its pitch, or its strength is not above 0.
    """
    found = [pitch_told(fields) for fields, _ in voices]
    strengths = [strength for _, strength in voices]
    if not voices or None in found or min(strengths) <= 0:
        return None
    total = sum(strengths)
    return VoicePitch(*(math.exp(sum(weight * math.log(value) for weight, value in zip(strengths, values)) / total)
                        for values in zip(*found)))  # type: ignore[arg-type]
