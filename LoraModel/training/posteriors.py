"""The training clips with what the frozen parts make of them: computed once for each clip, then kept.

enc_q never changes and is conditioned on a row of the base, so its mean and log variance for a clip are the same at
every step (z is drawn from them anew each time); so is the log-mel that the decoder's output is compared with. The
linear spectrogram, from which both come, is twice their size and is let go.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host.networks import Mel
from ..models import SynthesizerLoRA
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import Posterior
from .data_loader import Batch, ClipSet


class TrainBatch(NamedTuple):
    """Clips padded to the longest. phone: (batch, frames, features), lengths: (batch,) in frames, pitch and f0: (batch,
    frames) or None, wave: (batch, 1, samples), mel: (batch, bands, frames), mean and log_scale: (batch, channels,
    frames), of the posterior."""

    phone: Tensor
    lengths: Tensor
    pitch: Optional[Tensor]
    f0: Optional[Tensor]
    wave: Tensor
    mel: Tensor
    mean: Tensor
    log_scale: Tensor

    @property
    def posterior(self) -> Posterior:
        frames = torch.arange(self.mean.shape[2], device=self.mean.device)
        mask = (frames < self.lengths[:, None]).to(self.mean.dtype)[:, None]  # (batch, 1, frames)
        return Posterior(self.mean, self.log_scale, mask)

    to = Batch.to  # type: ignore[misc]


class Posteriors:
    """Batches of training clips. A clip's posterior is computed when it is first asked for.

    Args:
        clips: the training clips; each is taken over from there, and can then be had here alone.
        model: its `posterior_speaker` must be settled before the first batch.
    """

    def __init__(self, clips: ClipSet, model: SynthesizerLoRA, mel: Mel, device: torch.device):
        self._clips, self._model, self._mel, self._device = clips, model, mel, device
        self._known: Dict[int, TrainBatch] = {}

    def batch(self, indices: Sequence[int]) -> TrainBatch:
        """Some clips, on the device of training."""
        fields = dict(zip(TrainBatch._fields, zip(*(self._clip(index) for index in indices))))
        batch = {name: None if parts[0] is None else pad(parts) for name,
                 parts in fields.items() if name not in ("phone", "lengths")}
        return TrainBatch(phone=pad(fields["phone"], 1), lengths=torch.cat(fields["lengths"]), **batch).to(self._device)

    def _clip(self, index: int) -> TrainBatch:
        if index not in self._known:
            self._known[index] = self._compute(index)
        return self._known[index]

    @torch.no_grad()
    def _compute(self, index: int) -> TrainBatch:
        raw = self._clips.take(index).to(self._device)
        with undisturbed(self._device):  # enc_q draws a z of its own
            posterior = self._model.posterior(raw.spec, raw.lengths)
        clip = TrainBatch(  # type: ignore[call-arg]
            raw.phone, raw.lengths, raw.pitch, raw.f0, raw.wave, self._mel.of_spectrogram(raw.spec), posterior.mean,
                          posterior.log_scale)
        return clip.to(torch.device("cpu"))


def pad(tensors: Sequence[Tensor], time: int = -1) -> Tensor:
    """Batches of one as one batch, zeros after the shorter ones. time: the dimension that may differ."""
    longest = max(tensor.shape[time] for tensor in tensors)
    after = (0, 0) * (tensors[0].dim() - 1 - time if time >= 0 else 0)  # F.pad counts dimensions from the last
    return torch.cat([F.pad(tensor, (*after, 0, longest - tensor.shape[time])) for tensor in tensors])
