"""The clips kept out of training, by the host's own inference path: the figure that tells whether a voice gets better."""

from __future__ import annotations

from typing import Dict, List, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..host.networks import Mel
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import infer
from .data_loader import ClipSet, recording_of


class Heard(NamedTuple):
    """One clip. error: L1 of natural log-mel against the recording; audio, real: (samples,); mel: (bands, frames), of `audio`."""

    error: float
    audio: np.ndarray
    real: np.ndarray
    mel: Tensor


PREVIEWS = 2
"""Held-out clips whose sound is kept at each save."""


def choose_previews(clips: ClipSet, most: int) -> List[int]:
    """Which of the first `most` clips are worth listening to: the longest of each recording, the longest first."""
    longest: Dict[str, int] = {}
    order = sorted(range(min(most, len(clips))), key=lambda index: -clips.frames[index])
    for index in order:
        longest.setdefault(recording_of(clips.clips[index]), index)
    chosen = list(longest.values())
    return (chosen + [index for index in order if index not in chosen])[:PREVIEWS]


class HeldOut:
    """Args:
        speaker: the row of the speaker table that the voice uses. most: at most so many clips are heard.

    Attributes:
        previews: which of them are to be listened to, by their place.
    """

    def __init__(self, clips: ClipSet, mel: Mel, speaker: int, device: torch.device, most: int):
        self._clips, self._mel, self._speaker, self._device, self._most = clips, mel, speaker, device, most
        self.previews = choose_previews(clips, most)

    @torch.no_grad()
    def measure(self, network: nn.Module) -> List[Heard]:
        """Every clip through `network`, which must be in evaluation mode.

        Each clip has its own fixed noise, so that measurements can be compared; random generators are left as they were.
        """
        heard = []
        with undisturbed(self._device):
            for index, batch in enumerate(self._clips.one_by_one(self._most)):
                batch = batch.to(self._device)
                torch.manual_seed(index)
                sid = torch.full_like(batch.speaker, self._speaker)
                audio = infer(network, batch.phone, batch.lengths, batch.pitch, batch.f0, sid).squeeze(1).float()
                mel, real = self._mel.of_audio(audio), self._mel.of_spectrogram(batch.spec)
                frames = min(mel.shape[2], real.shape[2])
                error = float(F.l1_loss(mel[..., :frames], real[..., :frames]))
                heard.append(Heard(error, audio[0].cpu().numpy(), batch.wave[0, 0].cpu().numpy(), mel[0]))
        return heard
