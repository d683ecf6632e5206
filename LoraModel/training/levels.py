"""How loud the clips are: what was recorded too loud, clipped or silent trains a voice that sounds so."""

from __future__ import annotations

import sys
from typing import List

from torch import Tensor

from ..messages import UserError, tr

SILENT = 1e-3
"""Peak below which a clip is silence: -60 dB of full scale."""
LOUD = 1.5
"""Peak above which a clip is too loud. RVC brings each slice to at most 1."""
CLIPPED = 0.002
"""Share of a clip's samples at its peak from which it is clipped, where the peak is near full scale."""


class Levels:
    """The names of the clips that are too loud, clipped or silent."""

    def __init__(self) -> None:
        self.count = 0
        self.loud: List[str] = []
        self.clipped: List[str] = []
        self.silent: List[str] = []

    def add(self, name: str, wave: Tensor) -> None:
        """wave: (1, samples), full scale 1."""
        self.count += 1
        size = wave.abs()
        peak = float(size.max()) if size.numel() else 0.0
        if peak < SILENT:
            self.silent.append(name)
        elif peak > LOUD:
            self.loud.append(name)
        elif peak > 0.5 and float((size >= 0.999 * peak).float().mean()) > CLIPPED:
            self.clipped.append(name)

    def join(self, other: Levels) -> Levels:
        """Both together."""
        both = Levels()
        both.count = self.count + other.count
        for kind in ("loud", "clipped", "silent"):
            setattr(both, kind, sorted(getattr(self, kind) + getattr(other, kind)))
        return both

    def tell(self, folder: object) -> None:
        """Name on standard error what will harm the voice.

        Raises:
            UserError: every clip is silent.
        """
        if self.count and len(self.silent) == self.count:
            raise UserError("all {count} clips of {folder} are silent: look at the recordings, and prepare them again",
                            count=self.count, folder=folder)
        kinds = (
            (self.loud, tr("far too loud, so the voice will be distorted: prepare the recordings again at a lower "
                           "level")),
            (self.clipped, tr("clipped, and the voice learns that sound: use recordings that are not overdriven")),
            (self.silent, tr("silent: delete these slices")),
        )
        for names, what in kinds:
            if names:
                some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
                print(tr("warning: {count} of {count_2} clips ({some}) are {what}", count=len(names),
                         count_2=self.count, some=some, what=what), file=sys.stderr)
