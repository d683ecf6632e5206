"""RVC's synthesizer with LoRA on it, run part by part: training needs the parts, not the host's whole `forward`.

With enc_q frozen the loss splits into two parts that share no trained tensor but the speaker's row:

* the prior's: enc_p and flow, against the posterior z of enc_q (KL). No decoder, no discriminator;
* the decoder's: z of enc_q, sliced, to audio. No enc_p, no flow.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from ..defaults import usual_defaults
from ..host.networks import takes_pitch
from ..lora import Injection, LoRAConfig, SpeakerRow, count_parameters, inject, mark_only_lora_as_trainable
from ..lora.lora_utils import ParameterCount
from ..messages import UserError
from .generator_lora import GeneratorLoRA
from .model_utils import Base


class Posterior(NamedTuple):
    """What enc_q says of a clip. mean, log_scale: (batch, channels, frames); mask: (batch, 1, frames)."""

    mean: Tensor
    log_scale: Tensor
    mask: Tensor

    def sample(self) -> Tensor:
        """z = mean + exp(log_scale) * noise, (batch, channels, frames)."""
        return (self.mean + torch.randn_like(self.mean) * torch.exp(self.log_scale)) * self.mask


class Prior(NamedTuple):
    """What the KL term compares: z_p, mean, log_scale: (batch, channels, frames)."""

    z_p: Tensor
    mean: Tensor
    log_scale: Tensor


class SynthesizerLoRA:
    """A base with LoRA injected, for any of RVC's four synthesizer classes.

    Args:
        base: the loaded base; its network stays the host's own object.
        config: what to adapt.
        speaker: the row of the speaker table that the voice uses.
    """

    def __init__(self, base: Base, config: LoRAConfig, speaker: int = 0):
        self.base, self.info, self.network = base, base.info, base.network
        if not 0 <= speaker < base.info.speakers:
            raise UserError("speaker {speaker} is not among the base's {speakers}: choose 0 to {speakers_2}",
                            speaker=speaker, speakers=base.info.speakers, speakers_2=base.info.speakers - 1)
        self.speaker = self.posterior_speaker = speaker
        self.injection: Injection = inject(self.network, config, speaker)
        self.trainable = mark_only_lora_as_trainable(self.network)
        self.generator = GeneratorLoRA(self.network.dec)

    def count(self) -> ParameterCount:
        """Parameters of base and adapter."""
        return count_parameters(self.network)

    def to(self, device: torch.device) -> SynthesizerLoRA:
        """Take network and adapter to a device."""
        self.network.to(device)
        self.injection.to(device)
        return self

    def speaker_vector(self, sid: Tensor) -> Tensor:
        """sid: (batch,) -> (batch, gin, 1), the adapter's row included."""
        return self.network.emb_g(sid).unsqueeze(-1)

    @torch.no_grad()
    def start_from(self, row: int) -> None:
        """Let the voice start as another of the base's speakers: its row becomes that one, and so does the posterior's.

        Does nothing to the row where target `spk_row` is off.
        """
        table = self.network.emb_g.weight
        for _name, layer in self.injection.items():
            if isinstance(layer, SpeakerRow):
                layer.lora_row.weight.copy_((table[row] - table[self.speaker])[None])
                self.posterior_speaker = row

    @torch.no_grad()
    def posterior(self, spec: Tensor, lengths: Tensor, row: Optional[int] = None) -> Posterior:
        """The frozen posterior, conditioned on a row of the base's own table so that it never changes in training.

        spec: (batch, bins, frames), lengths: (batch,) in frames. row: the base's speaker, else the one started from.
        """
        row = self.posterior_speaker if row is None else row
        g = self.network.emb_g.weight[row].expand(spec.shape[0], -1).unsqueeze(-1)
        _, mean, log_scale, mask = self.network.enc_q(spec, lengths, g=g)
        return Posterior(mean, log_scale, mask)

    def prior(self, phone: Tensor, pitch: Optional[Tensor], lengths: Tensor, z: Tensor, mask: Tensor, g: Tensor
              ) -> Prior:
        """phone: (batch, frames, features), pitch: (batch, frames) of 1..255 or None, z: (batch, channels, frames)."""
        mean, log_scale, _ = self.network.enc_p(phone, pitch, lengths)
        return Prior(self.network.flow(z, mask, g=g), mean, log_scale)

    def decode(self, z: Tensor, f0: Optional[Tensor], g: Tensor) -> Tensor:
        """z: (batch, channels, frames), f0: (batch, frames) in Hz or None -> audio (batch, 1, samples)."""
        return self.generator(z, f0, g)


@torch.no_grad()
@usual_defaults()
def infer(
    network: torch.nn.Module, phone: Tensor, lengths: Tensor, pitch: Optional[Tensor], f0: Optional[Tensor], sid: Tensor
) -> Tensor:
    """Call the `infer` of any of the four classes. phone: (batch, frames, features) -> audio (batch, 1, samples)."""
    if takes_pitch(network.dec):
        return network.infer(phone, lengths, pitch, f0, sid)[0]
    return network.infer(phone, lengths, sid)[0]
