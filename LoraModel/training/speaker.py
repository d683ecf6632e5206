"""Which of the base's speakers a new voice is nearest to: training starts from that row."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import torch

from ..host import Host
from ..models import SynthesizerLoRA
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import Prior
from .data_loader import ClipSet
from .losses import prior_loss, slice_frames

FEW_ROWS = 4
"""As many rows are all tried on whole clips; of more, as many get the second look."""
LOOKS = 64
"""Rows times clips of the first look, at most, as long as four clips are left."""
SHORT_FRAMES = 32
"""Frames of a clip for the first look; the second takes twice as many. On nine voices and the demo's rows it chose what
whole clips choose, in a sixth of the time."""


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
    rows, few = list(distinct.values()), len(distinct) <= FEW_ROWS
    count = min(most if few else max(4, min(most, LOOKS // len(rows))), len(clips))
    indices = [i * len(clips) // count for i in range(count)]
    if few:
        return min(_losses(model, host, clips, seed, device, rows, indices))[1]
    first = sorted(_losses(model, host, clips, seed, device, rows, indices, SHORT_FRAMES))
    rows = [row for _, row in first[:FEW_ROWS]]
    return min(_losses(model, host, clips, seed, device, rows, indices, 2 * SHORT_FRAMES))[1]


def _losses(
    model: SynthesizerLoRA, host: Host, clips: ClipSet, seed: int, device: torch.device, rows: List[int],
    indices: List[int], frames: Optional[int] = None,
) -> List[Tuple[float, int]]:
    """(KL, row) of each row over some clips, of each only `frames` frames from its middle where given."""
    network = model.network
    batch = clips.batch(indices).to(device)
    lengths, spec = batch.lengths, batch.spec
    mean, log_scale, _ = network.enc_p(batch.phone, batch.pitch, lengths)  # the same for all rows
    if frames is not None:
        starts = ((lengths - frames) // 2).clamp(min=0)
        cut = min(frames, spec.shape[2])
        mean, log_scale, spec = (slice_frames(x, starts, cut) for x in (mean, log_scale, spec))
        lengths = (lengths - starts).clamp(max=cut)
    losses = []
    with undisturbed(device):
        for row in rows:
            torch.manual_seed(seed)
            posterior = model.posterior(spec, lengths, row)
            g = network.emb_g.weight[row].expand(len(lengths), -1).unsqueeze(-1)
            z_p = network.flow(posterior.sample(), posterior.mask, g=g)
            losses.append((float(prior_loss(host, Prior(z_p, mean, log_scale), posterior).detach()), row))
    return losses
