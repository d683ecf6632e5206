"""How long the work took on this machine, kept in logs/.rvc-lora/paces.json, so that the next time can be estimated
before it begins."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Dict, Optional

from ...files import atomic_write

USUAL = {"preprocess": 0.06, "extract": 0.4, "index": 0.03}
"""Seconds of each step of the preparation for a second of recordings, on a CPU, where nothing is known yet."""
MOST = 500
"""So many paces are kept."""
UNLIKELY = 1000
"""So many times the usual pace, or so many times less than it, no machine takes."""


class Paces:
    """Args:
        file: where they are kept. A damaged one counts as empty; one that cannot be written loses what was learned.
    """

    def __init__(self, file: Path):
        self._file, self._lock = file, threading.Lock()

    def of(self, key: str) -> Optional[float]:
        """Seconds a unit; None where nothing is known."""
        with self._lock:
            return self._read().get(key)

    def learn(self, key: str, seconds: float) -> None:
        """Remember what was measured; half of it counts, so that one slow hour does not stay."""
        if not _likely(key, seconds):
            return
        with self._lock:
            kept = self._read()
            kept[key] = seconds if key not in kept else (kept.pop(key) + seconds) / 2
            try:
                atomic_write(self._file, json.dumps(dict(list(kept.items())[-MOST:])).encode())
            except OSError:
                pass

    def _read(self) -> Dict[str, float]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(kept, dict):
            return {}
        return {key: float(value) for key, value in kept.items() if isinstance(value, (int, float))
                and not isinstance(value, bool) and _likely(key, value)}


def _likely(key: str, seconds: float) -> bool:
    """Whether a pace can be: one that was measured against a wrong length of the recordings cannot."""
    low, high = (USUAL[key] / UNLIKELY, USUAL[key] * UNLIKELY) if key in USUAL else (1e-5, 1e6)
    return low < seconds < high
