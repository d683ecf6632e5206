"""Clips as RVC's own dataset gives them to training, read without it.

RVC's dataset keeps each clip's spectrogram beside the clip, in a file whose name it makes by replacing ".wav", and
reads that file by plain `torch.load`. So it can run a program that somebody hid in a data folder, and overwrites a
clip called `X.WAV`. Here the spectrogram is computed each time, by RVC's own function; nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from ..arrays import read_array
from ..files import system_name
from .layout import Host

MOST_FRAMES = 900
"""RVC trains on the first 9 seconds of a clip."""
WAV_FORMATS = ("WAV", "WAVEX", "RF64")
"""What RVC reads, as soundfile names it."""


class ClipReader:
    """Args:
        data: the "data" part of the experiment's config.json. f0: whether the base takes pitch.
    """

    def __init__(self, host: Host, data: Dict[str, Any], f0: bool):
        self._spectrogram = host.module("mel").spectrogram_torch
        self._data, self._f0 = data, f0

    def read(self, files: Sequence[Path], speaker: int) -> Tuple[Tensor, ...]:
        """One clip: (spec, wave, phone, [pitch, f0,] speaker), cut to the shorter of its sound and its features.

        spec: (bins, frames), wave: (1, samples), phone: (frames, features), pitch and f0: (frames,).

        Args:
            files: wav and features, and where the base takes pitch coarse pitch and Hz.

        Raises:
            UserError: an array that is none. ValueError, RuntimeError, OSError: the sound cannot be read.
        """
        wave = self._wave(files[0])
        spec = self.spectrogram(wave)
        phone = torch.from_numpy(np.repeat(read_array(files[1], 2).astype(np.float32), 2, axis=0))[:MOST_FRAMES]
        frames = min(len(phone), spec.shape[1])
        wave = wave[:, : frames * self._data["hop_length"]] if len(phone) != spec.shape[1] else wave
        labels: List[Optional[Tensor]] = []
        if self._f0:
            labels = [torch.from_numpy(read_array(files[2], 1).astype(np.int64))[:frames],
                      torch.from_numpy(read_array(files[3], 1).astype(np.float32))[:frames]]
        return (spec[:, :frames], wave, phone[:frames], *labels, torch.LongTensor([speaker]))

    def spectrogram(self, wave: Tensor) -> Tensor:
        """wave: (1, samples) -> linear amplitude, (bins, frames)."""
        d = self._data
        return self._spectrogram(wave, d["filter_length"], d["sampling_rate"], d["hop_length"], d["win_length"],
                                 center=False)[0]

    def _wave(self, path: Path) -> Tensor:
        """(1, samples). Floats are taken as they are, as RVC does; integers are scaled to full scale 1, which RVC
        leaves out."""
        if soundfile.info(system_name(path)).format not in WAV_FORMATS:
            raise ValueError("it is no WAV file, whatever its name")
        audio, rate = soundfile.read(system_name(path), dtype="float32")
        if rate != self._data["sampling_rate"]:
            raise ValueError(f"{rate} Hz, not {self._data['sampling_rate']} Hz")
        return torch.from_numpy(audio)[None]
