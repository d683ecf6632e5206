"""RVC's coarse scale of pitch: even steps in mel, 50 Hz at 1 and 1100 Hz at 255. NumPy alone."""

from __future__ import annotations

import numpy as np

F0_MIN, F0_MAX = 50.0, 1100.0
"""Hz, between which RVC looks for pitch."""
F0_BINS = 256
"""Coarse pitch takes the values 1 to F0_BINS - 1; 0 is padding's."""


def coarse_pitch(f0: np.ndarray) -> np.ndarray:
    """Pitch on RVC's coarse scale, in mel as RVC has it: 1127 ln(1 + f / 700).

    Args:
        f0: (frames,) in Hz, 0 where unvoiced.

    Returns:
        (frames,) int64, 1 to 255; unvoiced frames are 1.
    """
    lowest, highest = (1127 * np.log(1 + edge / 700) for edge in (F0_MIN, F0_MAX))
    mel = 1127 * np.log(1 + np.maximum(np.asarray(f0, dtype=np.float64), 0) / 700)
    steps = np.where(mel > 0, (mel - lowest) * (F0_BINS - 2) / (highest - lowest) + 1, 1)
    return np.rint(np.clip(steps, 1, F0_BINS - 1)).astype(np.int64)
