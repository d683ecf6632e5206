"""A small adapter learns what a full voice says: distillation (Hinton et al. 2015, arXiv:1503.02531) without the
speaker's recordings.

The full voice is the teacher, base and adapter the student; both get the same features, pitch and noise. The student
learns

* the teacher's prior: KL of two Gaussians, and z after the flow, from the same noise;
* the teacher's sound: log-mel and multi-resolution STFT of the decoder's audio, both decoders given the teacher's z
and the same
  excitation.

Like the two parts of training, these share no trained tensor but the speaker's row. Pitch is shifted at random, so that
the speaker of the content and the one of the voice need not be near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..host.networks import Mel
from ..models import GeneratorLoRA, SynthesizerLoRA
from ..models.random_state import undisturbed
from ..training import TrainConfig
from ..training.losses import slice_frames, stft_loss
from ..training.parts import BETAS, GRADIENT_LIMIT
from .content import Content, Piece

NOISE = 0.66666
"""Of the prior's noise, as in the host's `infer`."""


@dataclass(frozen=True)
class Settings:
    """How the student learns.

    Attributes:
        steps: of the optimiser. batch: stretches a step, for the prior. sounding: how many of them are decoded, too;
            the decoder takes most of a step's time and memory, and with four it learned no more than with two.
            frames, audio_frames: of a stretch, and of its part that is made to sound.
        rate: of learning, relative to the size of each factor: Adam moves a value by about this share of it a step.
        warmup: steps until the rate is full; it falls by a cosine to `last` of it. lowest, highest: shifts of the
            pitch, in semitones.
        mel, stft, z: weights of the losses beside the KL.
    """

    steps: int = 60
    batch: int = 4
    sounding: int = 2
    frames: int = 160
    audio_frames: int = 32
    rate: float = 0.02
    warmup: int = 5
    last: float = 0.03
    lowest: float = -14.0
    highest: float = 10.0
    mel: float = TrainConfig.c_mel
    stft: float = TrainConfig.c_stft
    z: float = 20.0
    seed: int = 0


class PriorOutput(NamedTuple):
    """What a network makes of a piece. mean, log_scale, z: (batch, channels, frames); mask: (batch, 1, frames)."""

    mean: Tensor
    log_scale: Tensor
    z: Tensor
    mask: Tensor


def run_prior(
    network: nn.Module, given: Piece, g: Tensor, noise: Optional[Tensor] = None
) -> Tuple[PriorOutput, Tensor]:
    """The prior's part: enc_p, then the flow backward as in the host's `infer`. -> (its output, the noise)."""
    mean, log_scale, mask = network.enc_p(given.phone, given.pitch, given.lengths)
    noise = torch.randn_like(mean) * NOISE if noise is None else noise
    z = network.flow((mean + torch.exp(log_scale) * noise) * mask, mask, g=g, reverse=True)
    return PriorOutput(mean, log_scale, z, mask), noise


def kl(student: PriorOutput, teacher: PriorOutput) -> Tensor:
    """KL(teacher || student) of the two priors, summed over channels' mean: a number a frame and channel."""
    (m, s), (mt, st) = student[:2], teacher[:2]
    values = s - st + 0.5 * (torch.exp(2 * st) + (m - mt).square()) * torch.exp(-2 * s) - 0.5
    return (values * student.mask).sum() / student.mask.sum()


def same_noise(seed: int, device: torch.device, decode: Callable[[], Tensor]) -> Tensor:
    """A decoder's audio, its excitation's phase and noise drawn from `seed`."""
    with undisturbed(device):
        torch.manual_seed(seed)
        return decode()


class Student:
    """Base and adapter, learning from a full voice.

    Args:
        model: the base with LoRA injected, in evaluation mode. teacher: the full voice's network. row: of its
            speaker table.
        mel: the host's log-mel at the voice's rate. content: to learn from.
    """

    def __init__(
        self,
        model: SynthesizerLoRA,
        teacher: nn.Module,
        row: int,
        mel: Mel,
        content: Content,
        settings: Settings,
        device: torch.device,
    ):
        self.model, self.teacher, self.content, self.settings, self.device = (
            model,
            teacher.eval(),
            content,
            settings,
            device,
        )
        self._mel, self._voice = mel, GeneratorLoRA(teacher.dec)
        self._g = teacher.emb_g.weight[row][None, :, None]  # (1, gin, 1)
        self._random = torch.Generator().manual_seed(settings.seed)
        self._groups = [
            {"params": [p], "size": max(float(p.detach().square().mean().sqrt()), 1e-4)} for p in model.trainable
        ]
        self.optimizer = torch.optim.Adam(self._groups, lr=0.0, betas=BETAS)
        self.done = 0

    def rate(self) -> float:
        """Of learning, at the step that comes."""
        s = self.settings
        whole = s.last + (1 - s.last) * 0.5 * (1 + math.cos(math.pi * min(self.done / max(s.steps, 1), 1)))
        return s.rate * min(1.0, (self.done + 1) / max(s.warmup, 1)) * whole

    def step(self) -> Dict[str, float]:
        """Learn from one batch. -> the losses: kl, z, mel, stft."""
        s = self.settings
        shift = float(torch.rand((), generator=self._random)) * (s.highest - s.lowest) + s.lowest
        given = Piece(
            *(
                value if value is None else value.to(self.device)
                for value in self.content.draw(s.batch, s.frames, shift, self._random)
            )
        )
        with torch.no_grad():
            target, noise = run_prior(self.teacher, given, self._g)
        self.optimizer.zero_grad()
        losses = self._prior(given, target, noise)
        losses.update(self._sound(given, target.z))
        torch.nn.utils.clip_grad_norm_(self.model.trainable, GRADIENT_LIMIT)
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["size"]
        self.optimizer.step()
        self.done += 1
        return losses

    def _speaker(self, count: int) -> Tensor:
        return self.model.speaker_vector(
            torch.full((count,), self.model.speaker, dtype=torch.long, device=self.device)
        )

    def _prior(self, given: Piece, target: PriorOutput, noise: Tensor) -> Dict[str, float]:
        own, _ = run_prior(self.model.network, given, self._speaker(len(given.lengths)), noise)
        distance = kl(own, target)
        z = ((own.z - target.z).abs() * target.mask).sum() / target.mask.sum() / own.z.shape[1]
        (distance + self.settings.z * z).backward()
        return {"kl": float(distance.detach()), "z": float(z.detach())}

    def _sound(self, given: Piece, z: Tensor) -> Dict[str, float]:
        count, frames = min(self.settings.sounding, len(z)), min(self.settings.audio_frames, z.shape[2])
        starts = torch.randint(z.shape[2] - frames + 1, (count,), generator=self._random)
        f0 = None if given.f0 is None else slice_frames(given.f0[:count], starts, frames)
        losses = self._sound_losses(slice_frames(z[:count], starts, frames), f0)
        (self.settings.mel * losses["mel"] + self.settings.stft * losses["stft"]).backward()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _sound_losses(self, z: Tensor, f0: Optional[Tensor]) -> Dict[str, Tensor]:
        """Both decoders' audio of the teacher's z (batch, channels, frames), with one excitation."""
        seed, count = int(torch.randint(2**31, (), generator=self._random)), len(z)
        with torch.no_grad():
            real = (
                same_noise(seed, self.device, lambda: self._voice(z, f0, self._g.expand(count, -1, -1)))
                .squeeze(1)
                .float()
            )
        g = self._speaker(count)
        made = same_noise(seed, self.device, lambda: self.model.decode(z, f0, g)).squeeze(1).float()
        return {"mel": F.l1_loss(self._mel.of_audio(made), self._mel.of_audio(real)), "stft": stft_loss(made, real)}


@torch.no_grad()
def speak(network: nn.Module, given: Piece, g: Tensor, seed: int = 0) -> Tensor:
    """A piece through the whole network as the host's `infer` runs it. -> audio, (batch, samples). g: (1, gin, 1)."""
    with undisturbed(given.phone.device):
        torch.manual_seed(seed)
        prior, _ = run_prior(network, given, g)
        return (
            GeneratorLoRA(network.dec)(prior.z * prior.mask, given.f0, g.expand(len(given.lengths), -1, -1))
            .squeeze(1)
            .float()
        )


@torch.no_grad()
def hear(network: nn.Module, given: Piece, g: Tensor, frames: int = 32) -> None:
    """A piece through the whole network, for who listens to its layers: of its sound, only `frames` from the middle
    are made."""
    z = run_prior(network, given, g)[0].z
    start = max(0, (z.shape[2] - frames) // 2)
    f0 = None if given.f0 is None else given.f0[:, start : start + frames]
    GeneratorLoRA(network.dec)(z[:, :, start : start + frames], f0, g.expand(len(z), -1, -1))
