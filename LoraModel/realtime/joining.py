"""Blocks of a stream joined without a click: SOLA, the synchronised overlap-add that RVC's realtime window uses.

Each block is generated with some more sound after it. The next one, which begins with the same moment, is shifted by
up to 10 ms to where it resembles that sound most (the highest normalised correlation), and the two cross-fade.
Method: Roucos and Wilgus, "High quality time-scale modification for speech", ICASSP 1985.
"""

from __future__ import annotations

import numpy as np


class Joiner:
    """Joins the generated blocks of one stream.

    Args:
        block, fade, search: samples of a block, of the cross-fade, and of the largest shift.
    """

    def __init__(self, block: int, fade: int, search: int):
        self.block, self.fade, self.search = block, fade, search
        self._tail = np.zeros(fade, dtype=np.float32)
        rise = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, fade, dtype=np.float32)) ** 2
        self._rise, self._fall = rise, 1.0 - rise

    @property
    def needed(self) -> int:
        """Samples that `join` takes."""
        return self.block + self.fade + self.search

    def join(self, sound: np.ndarray) -> np.ndarray:
        """sound: (at least `needed` samples,) that begins where the last block ended -> (block,) float32."""
        offset = self._offset(sound)
        piece = sound[offset:offset + self.block + self.fade].astype(np.float32)  # a copy
        piece[:self.fade] = piece[:self.fade] * self._rise + self._tail * self._fall
        self._tail = piece[self.block:].copy()
        return piece[:self.block]

    def _offset(self, sound: np.ndarray) -> int:
        """The shift at which the new sound resembles the last one's tail most."""
        if not self.fade:
            return 0
        head = sound[:self.fade + self.search].astype(np.float64)
        likeness = np.correlate(head, self._tail.astype(np.float64), mode="valid")  # (search + 1,)
        energy = np.concatenate([[0.0], np.cumsum(head**2)])
        return int(np.argmax(likeness / np.sqrt(energy[self.fade:] - energy[:-self.fade] + 1e-8)))
