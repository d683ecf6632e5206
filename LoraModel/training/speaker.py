"""Which of the base's speakers a new voice is nearest to: training starts from that row."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..host import Host
from ..models import SynthesizerLoRA
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import Prior
from .data_loader import Batch, ClipSet
from .losses import prior_loss, slice_frames

FEW_ROWS = 4
"""As many rows are all tried on whole clips."""
FINALISTS = 2
"""Of more rows, as many get the second look."""
LOOKS = 64
"""Rows times clips of the first look, at most, as long as four clips are left."""
WHOLE = 10_000
"""Rows times frames of the clips up to which whole clips are heard."""
FIRST_FRAMES, SECOND_FRAMES = 96, 384
"""Frames of all clips together that a look is given; of each clip at least a quarter and an eighth of that. enc_p sees
twice the second look's. So on twelve voices and the demo's rows the choice was that of whole clips, in a fraction of
the time."""


class Heard(NamedTuple):
    """Clips and what enc_p makes of them. spec: (batch, bins, frames); lengths: (batch,) in frames; mean, log_scale:
    (batch, channels, frames)."""

    spec: Tensor
    lengths: Tensor
    mean: Tensor
    log_scale: Tensor

    def middle(self, frames: int) -> Heard:
        """At most so many frames from the middle of each clip."""
        starts, cut = _middle(self.lengths, frames), min(frames, self.spec.shape[2])
        mean, log_scale, spec = (slice_frames(x, starts, cut) for x in (self.mean, self.log_scale, self.spec))
        return Heard(spec, (self.lengths - starts).clamp(max=cut), mean, log_scale)


@torch.no_grad()
def find_speaker(model: SynthesizerLoRA, host: Host, clips: ClipSet, seed: int, device: torch.device,
                 most: int = 8) -> int:
    """The base's row that fits the recordings best: the lowest KL of prior against posterior over some clips.

    Rows that are equal (a base can have many that nobody trained) are tried once. Where there are more than a few,
    those that do best on a short stretch of each clip are tried on more of it: whole clips would take minutes for RVC's
    109.
    """
    table = model.network.emb_g.weight
    distinct: Dict[bytes, int] = {}
    for row in range(model.info.speakers):
        distinct.setdefault(table[row].cpu().numpy().tobytes(), row)
    rows = list(distinct.values())
    count = min(most if len(rows) <= FEW_ROWS else max(4, min(most, LOOKS // len(rows))), len(clips))
    indices = [i * len(clips) // count for i in range(count)]
    few = len(rows) <= FEW_ROWS or len(rows) * sum(clips.frames[index] for index in indices) <= WHOLE
    second = max(SECOND_FRAMES // 8, SECOND_FRAMES // count)
    heard = _hear(model, clips.batch(indices).to(device), None if few else 2 * second)
    if not few:
        looked = heard.middle(max(FIRST_FRAMES // 4, FIRST_FRAMES // count))
        rows = [row for _, row in sorted(_losses(model, host, looked, seed, device, rows))[:FINALISTS]]
        heard = heard.middle(second)
    return min(_losses(model, host, heard, seed, device, rows))[1]


def _middle(lengths: Tensor, frames: int) -> Tensor:
    """(batch,) in frames -> where the middle `frames` begin."""
    return ((lengths - frames) // 2).clamp(min=0)


def _hear(model: SynthesizerLoRA, batch: Batch, frames: Optional[int]) -> Heard:
    """enc_p of the clips, which is the same for all rows; of each only `frames` from its middle where given."""
    phone, pitch, lengths, spec = batch.phone, batch.pitch, batch.lengths, batch.spec
    if frames is not None:
        starts, cut = _middle(lengths, frames), min(frames, spec.shape[2])
        phone = slice_frames(phone.transpose(1, 2), starts, cut).transpose(1, 2)
        pitch = pitch if pitch is None else slice_frames(pitch[:, None], starts, cut)[:, 0]
        spec, lengths = slice_frames(spec, starts, cut), (lengths - starts).clamp(max=cut)
    mean, log_scale, _ = model.network.enc_p(phone, pitch, lengths)
    return Heard(spec, lengths, mean, log_scale)


def _losses(model: SynthesizerLoRA, host: Host, heard: Heard, seed: int, device: torch.device, rows: List[int]
            ) -> List[Tuple[float, int]]:
    """(KL, row) of each row over some clips."""
    network, losses = model.network, []
    with undisturbed(device):
        for row in rows:
            torch.manual_seed(seed)
            posterior = model.posterior(heard.spec, heard.lengths, row)
            g = network.emb_g.weight[row].expand(len(heard.lengths), -1).unsqueeze(-1)
            z_p = network.flow(posterior.sample(), posterior.mask, g=g)
            prior = Prior(z_p, heard.mean, heard.log_scale)
            losses.append((float(prior_loss(host, prior, posterior).detach()), row))
    return losses
