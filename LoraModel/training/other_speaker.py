"""Another speaker's recording, which a voice in training converts: how much of that speaker is left is the leak."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import soundfile
import torch
from torch import nn

from ..host import Host
from ..lora.voice_pitch import VoicePitch, pitch_of, semitones_between
from ..models import BaseInfo
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import infer
from ..pitch_scale import coarse_pitch
from ..preparation.one_recording import features_of

RECORDING = Path(__file__).resolve().parents[1] / "demo" / "recordings" / "source" / "01.flac"
"""A sentence of four seconds by a synthetic voice."""
RATE = 16000
SECONDS = 3.0


class OtherSpeaker:
    """What the network takes for the recording, its pitch moved by whole semitones to where the voice speaks.

    Args:
        pitch: of the voice; None leaves the recording's.

    Attributes:
        sound: the recording, (samples,) at 16 kHz.

    Raises:
        UserError: its features cannot be had here.
    """

    def __init__(self, host: Host, info: BaseInfo, pitch: Optional[VoicePitch], device: torch.device):
        self.sound: np.ndarray = soundfile.read(str(RECORDING), frames=int(SECONDS * RATE), dtype="float32")[0]
        with undisturbed(device):
            heard = features_of(self.sound, host, info.version, info.f0)
        self._device = device
        self._phone = torch.from_numpy(heard.phone)[None].to(device)
        self._lengths = torch.tensor([len(heard.phone)], device=device)
        self._coarse = self._f0 = None
        if heard.f0 is not None:
            own = pitch_of(heard.f0)
            shift = semitones_between(own, pitch) if own is not None and pitch is not None else 0
            f0 = heard.f0 * 2 ** (shift / 12)
            self._coarse = torch.from_numpy(coarse_pitch(f0))[None].to(device)
            self._f0 = torch.from_numpy(f0)[None].to(device)

    @torch.no_grad()
    def convert(self, network: nn.Module, speaker: int) -> np.ndarray:
        """The recording through `network`, which must be in evaluation mode -> (samples,) at the network's rate. The
        noise is the same each time, and random generators are left as they were."""
        with undisturbed(self._device):
            torch.manual_seed(0)
            sid = torch.tensor([speaker], device=self._device)
            audio = infer(network, self._phone, self._lengths, self._coarse, self._f0, sid)
        sound: np.ndarray = audio[0, 0].float().cpu().numpy()
        return sound
