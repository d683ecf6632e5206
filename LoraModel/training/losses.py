"""The losses of training: RVC's own KL, feature matching and adversarial terms, called in the host, and
multi-resolution STFT, which stands in for the discriminator where there is none.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host import Host
from ..models.synthesizer_lora import Posterior, Prior

STFT_SIZES = (256, 512, 1024)


def prior_loss(host: Host, prior: Prior, posterior: Posterior) -> Tensor:
    """KL between posterior and prior for each frame and channel, as VITS (Kim et al. 2021, arXiv:2106.06103, eq. 4),
    by RVC's code."""
    return host.module("losses").kl_loss(prior.z_p, posterior.log_scale, prior.mean, prior.log_scale, posterior.mask)


def stft_loss(generated: Tensor, target: Tensor, sizes: Sequence[int] = STFT_SIZES) -> Tensor:
    """Multi-resolution STFT loss (Yamamoto et al. 2020, arXiv:1910.11480, eq. 6): log magnitude L1 plus spectral
    convergence.

    generated, target: (batch, samples).
    """
    total = torch.zeros((), device=generated.device)
    for size in sizes:
        window = torch.hann_window(size, device=generated.device)
        a, b = (
            torch.stft(x.float(), size, size // 4, size, window, return_complex=True).abs() + 1e-5
            for x in (generated, target)
        )
        total = total + F.l1_loss(a.log(), b.log()) + (a - b).norm() / b.norm().clamp(min=1e-3)
    return total


class Decoded(NamedTuple):
    """A stretch of a clip, as the decoder makes it and as it was recorded."""

    audio: Tensor
    """(batch, samples), by the decoder."""
    real: Tensor
    """(batch, samples), of the recording."""
    mel: Tensor
    """(batch, bands, frames), log-mel of `audio`."""
    real_mel: Tensor
    """(batch, bands, frames), cut out of the whole clip's log-mel, as RVC does: the edges differ."""
    base_mel: Optional[Tensor] = None
    """(batch, bands, frames), log-mel of what the base alone makes of the same z, pitch and excitation; None where
    nothing is compared with it."""


def hold_loss(made: Decoded) -> Optional[Tensor]:
    """Log-mel L1 to the base's own sound. The base has heard more words than one speaker says in a minute; what it
    makes of a sound is not unlearnt where the recordings do not ask for it (as knowledge distillation is used against
    forgetting: Li and Hoiem 2016, arXiv:1606.09282). Below a tenth it is a parabola: at the start the two are equal to
    rounding, and rounding must not give the direction."""
    return None if made.base_mel is None else F.smooth_l1_loss(made.base_mel, made.mel, beta=0.1)


class Loss(NamedTuple):
    """A term of the loss.

    Attributes:
        of: what PRIOR_LOSSES and DECODER_LOSSES give each of theirs -> a number; None where it has nothing to compare.
        alone: left out where a discriminator takes its place.
        weight: where the configuration has no `c_NAME` for it.
    """

    of: Callable[..., Optional[Tensor]]
    alone: bool = False
    weight: float = 1.0


PRIOR_LOSSES: Dict[str, Loss] = {"kl": Loss(prior_loss)}
"""What compares what enc_p and flow expect with what enc_q heard, by name: of (host, Prior, Posterior)."""


def prior_losses(host: Host, prior: Prior, posterior: Posterior) -> Dict[str, Tensor]:
    """Those of PRIOR_LOSSES."""
    return present({name: loss.of(host, prior, posterior) for name, loss in PRIOR_LOSSES.items()})


def present(losses: Dict[str, Optional[Tensor]]) -> Dict[str, Tensor]:
    """Those that had something to compare."""
    return {name: value for name, value in losses.items() if value is not None}


DECODER_LOSSES: Dict[str, Loss] = {
    "mel": Loss(lambda made: F.l1_loss(made.real_mel, made.mel)),
    "stft": Loss(lambda made: stft_loss(made.audio, made.real), alone=True),
    "hold": Loss(hold_loss, alone=True),
}
"""What compares the decoder's sound with the recording's, by name: of `Decoded`. A further loss is a function above and
a line in one of the two tables; its value stands in train.jsonl, TensorBoard and the demo's report under its name."""


def slice_frames(x: Tensor, starts: Tensor, frames: int) -> Tensor:
    """x: (batch, ..., time), starts: (batch,) -> (batch, ..., frames): another stretch of each row."""
    return torch.stack([row[..., start:start + frames] for row, start in zip(x, starts.tolist())])


def random_starts(lengths: Tensor, frames: int) -> Tensor:
    """A start for each clip so that `frames` frames fit. lengths: (batch,), none below `frames`."""
    room = (lengths - frames + 1).clamp(min=1)
    return (torch.rand(lengths.shape[0]).to(lengths.device) * room).long()
