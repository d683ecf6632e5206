"""What a step minimises: the prior's part and the decoder's, which share no trained tensor but the speaker's row."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, ContextManager, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from ..host import Host
from ..host.networks import Mel, excitation, given_excitation, takes_pitch
from ..lora.lora_utils import taken_off
from ..models import SynthesizerLoRA
from .adversary import Adversary
from .config import TrainConfig
from .losses import DECODER_LOSSES, PRIOR_LOSSES, Decoded, present, prior_losses, random_starts, slice_frames
from .posteriors import TrainBatch

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stretch(NamedTuple):
    """What a step gives the decoder, and what should come of it.

    z: (batch, channels, frames), f0: (batch, frames) in Hz or None, wave: (batch, 1, samples), mel: (batch, bands,
    frames), source: the excitation, (batch, samples, 1), None for a decoder without pitch, base_mel: as mel, of what
    the base alone makes of z, f0 and source, or None.
    """

    z: Tensor
    f0: Optional[Tensor]
    wave: Tensor
    mel: Tensor
    source: Optional[Tensor] = None
    base_mel: Optional[Tensor] = None

    def of_rows(self, rows: List[int]) -> Stretch:
        """Some rows of the batch."""
        return Stretch(*(None if part is None else part[rows] for part in self))


class Objective:
    """The losses of a batch by name, and their weighted sum.

    Args:
        frames: of audio the decoder is trained on. hop: samples a frame.
        adversary: takes the place of the STFT loss; its own step is part of the decoder's. scaler: of gradients, for
            that step.
    """

    def __init__(
        self, model: SynthesizerLoRA, host: Host, mel: Mel, config: TrainConfig, device: torch.device, frames: int,
        hop: int, adversary: Optional[Adversary], scaler: Any,
    ):
        self._model, self._host, self._mel, self._config, self._device = model, host, mel, config, device
        self._frames, self._hop, self._adversary, self._scaler = frames, hop, adversary, scaler
        own = {name: getattr(config, f"c_{name}", loss.weight)
               for name, loss in {**PRIOR_LOSSES, **DECODER_LOSSES}.items()}
        self.weights: Dict[str, float] = {**own, "gen": 1.0, "fm": 1.0}

    @property
    def frames(self) -> int:
        """Of audio that the decoder is trained on."""
        return self._frames

    def latent(self, batch: TrainBatch) -> Tensor:
        """A sample of enc_q's posterior of the clips: (batch, channels, frames). No gradient goes through it."""
        with torch.no_grad(), self.autocast():
            return batch.posterior.sample()

    def prior_losses(self, batch: TrainBatch, z: Tensor) -> Dict[str, Tensor]:
        """What trains enc_p and flow: those of PRIOR_LOSSES."""
        posterior = batch.posterior
        with self.autocast():
            prior = self._model.prior(batch.phone, batch.pitch, batch.lengths, z, posterior.mask, self._speaker(batch))
        return prior_losses(self._host, prior, posterior)

    def _speaker(self, batch: TrainBatch) -> Tensor:
        """(batch, gin, 1): anew for each part, which goes backward by itself."""
        return self._model.speaker_vector(torch.full_like(batch.lengths, self._model.speaker))

    def decoder_losses(self, batch: TrainBatch, z: Tensor, step: int) -> Dict[str, Tensor]:
        """What trains the decoder: a random stretch of z, (batch, channels, frames), against the clip's own sound.

        Those of DECODER_LOSSES; against a discriminator those that stay beside it, gen and fm, and where it learns its
        own loss disc, without a graph to the voice.
        step: how many there were.
        """
        part = self.held(self.stretch(batch, z))
        return self.audio_losses(self.decoded(part, self._speaker(batch)), part, step)

    def stretch(self, batch: TrainBatch, z: Tensor) -> Stretch:
        """A random stretch of each clip with a random excitation, not yet decoded."""
        starts = random_starts(batch.lengths, self._frames)
        f0 = None if batch.f0 is None else slice_frames(batch.f0, starts, self._frames)
        wave = slice_frames(batch.wave, starts * self._hop, self._frames * self._hop)
        # RVC takes the target's mel from the whole clip's spectrogram, not from the slice: the edges differ.
        mel = slice_frames(batch.mel, starts, self._frames)
        return Stretch(slice_frames(z, starts, self._frames), f0, wave, mel, self._source(f0))

    def _source(self, f0: Optional[Tensor]) -> Optional[Tensor]:
        decoder: Any = self._model.network.dec
        if f0 is None or not takes_pitch(decoder):
            return None
        with torch.no_grad(), self.autocast():
            return excitation(decoder, f0, self._hop)

    def decoded(self, part: Stretch, speaker: Tensor) -> Tensor:
        """The sound of a stretch as the network stands, (batch, 1, samples). speaker: (batch, gin, 1)."""
        decoder: Any = self._model.network.dec
        given = contextlib.nullcontext() if part.source is None else given_excitation(decoder, part.source)
        with given, self.autocast():
            return self._model.decode(part.z, part.f0, speaker).float()

    @property
    def holds(self) -> bool:
        """Whether the voice's sound is compared with the base's own."""
        return bool(self.weights["hold"]) and self._adversary is None

    def held(self, part: Stretch) -> Stretch:
        """A stretch with what the base alone makes of it, as the speaker that the voice started from; as it is where
        nothing is compared with that."""
        if not self.holds:
            return part
        row = torch.full((len(part.z),), self._model.posterior_speaker, dtype=torch.long, device=part.z.device)
        with torch.no_grad(), taken_off(self._model.injection):
            audio = self.decoded(part, self._model.speaker_vector(row))
            return part._replace(base_mel=self._mel.of_audio(audio.squeeze(1)))

    def audio_losses(self, audio: Tensor, part: Stretch, step: int) -> Dict[str, Tensor]:
        """The losses of what the decoder made of a stretch. audio: (batch, 1, samples)."""
        made = Decoded(audio.squeeze(1), part.wave.squeeze(1), self._mel.of_audio(audio.squeeze(1)), part.mel,
                       part.base_mel)
        losses = present({name: loss.of(made) for name, loss in DECODER_LOSSES.items()
                          if self._adversary is None or not loss.alone})
        if self._adversary is not None:
            disc = self._adversary.update(part.wave, audio, step, self._scaler, self.autocast())
            if disc is not None:
                losses["disc"] = disc
            with self.autocast():
                losses.update(self._adversary.generator_losses(audio))
        return losses

    def total(self, losses: Dict[str, Tensor]) -> Tensor:
        """The weighted sum of what trains the voice."""
        return sum(weight * losses[name] for name, weight in self.weights.items() if name in losses)

    def autocast(self) -> ContextManager[Any]:
        """The precision that the run computes in."""
        kind = _AUTOCAST.get(self._config.precision)
        return contextlib.nullcontext() if kind is None else torch.autocast(self._device.type, dtype=kind)


def can_autocast(device: torch.device, precision: str) -> bool:
    """Whether this PyTorch computes on `device` in `precision` ("fp32", "bf16", "fp16"): older ones know no fp16 on a
    CPU, and refuse it (1.13) or go on in fp32 with a warning (2.0 to 2.2)."""
    if precision not in _AUTOCAST:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            autocast = torch.autocast(device.type, dtype=_AUTOCAST[precision])
            with autocast:  # what 1.13 gives to `as` is None
                return bool(autocast._enabled)
    except RuntimeError:
        return False
