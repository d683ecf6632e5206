"""How near an adapter is to the full voice that it was made from: both say the content that was kept apart, from the
same noise."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..host.networks import Mel
from ..models import GeneratorLoRA, SynthesizerLoRA
from .content import Content, Piece
from .distill import run_prior, same_noise, speak

PLAYED = 2
"""Clips whose sound is kept, for the report."""
Similarity = Callable[[np.ndarray, np.ndarray, int], Optional[float]]


class Renditions(NamedTuple):
    """One clip by each, (samples,) at the voice's rate."""

    base: np.ndarray
    full: np.ndarray
    adapter: np.ndarray


class Judgement(NamedTuple):
    """Means over the clips.

    Attributes:
        distance, base_distance: L1 of the natural log-mel to the full voice's sound, of the adapter and of the base
            alone.
        kept: 1 - distance / base_distance: the share of the way from the base to the full voice.
        parts: the same for what each part makes of equal inputs: "prior" (the mean of enc_p), "flow" (z), "decoder"
            (log-mel).
        similarity, base_similarity: of the speakers of two sounds, None where it was not measured.
        sounds: some of the clips. rate: Hz.
    """

    distance: float
    base_distance: float
    kept: float
    parts: Dict[str, float]
    similarity: Optional[float]
    base_similarity: Optional[float]
    sounds: List[Renditions]
    rate: int
    clips: int

    def figures(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "mel_distance": round(self.distance, 4),
            "base_mel_distance": round(self.base_distance, 4),
            "kept": round(self.kept, 4),
            "parts_kept": {name: round(value, 4) for name, value in self.parts.items()},
            "clips": self.clips,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "base_similarity": None if self.base_similarity is None else round(self.base_similarity, 4),
        }


class _Plain:
    """The base alone, for as long as a `with` block lasts: the adapter's branches are off, its speaker's row too."""

    def __init__(self, model: SynthesizerLoRA):
        self._layers = [layer for _, layer in model.injection.items()]

    def __enter__(self) -> None:
        for layer in self._layers:
            layer.detach()

    def __exit__(self, *_: Any) -> None:
        for layer in self._layers:
            layer.attach()


@torch.no_grad()
def judge(
    model: SynthesizerLoRA,
    teacher: nn.Module,
    g: Tensor,
    content: Content,
    mel: Mel,
    rate: int,
    similarity: Optional[Similarity] = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Judgement:
    """Compare base + adapter with the full voice.

    Args:
        g: the full voice's speaker, (1, gin, 1). content: clips that nothing was learnt from.
    """
    ours, plain = [], []
    near: List[Optional[float]] = []
    base_near: List[Optional[float]] = []
    parts: Dict[str, List[float]] = {}
    sounds: List[Renditions] = []
    device = g.device
    for index in range(len(content)):
        progress(index / len(content))
        given = Piece(*(value if value is None else value.to(device) for value in content.one(index)))
        full = speak(teacher, given, g, index)
        own = speak(model.network, given, _speaker(model), index)
        with _Plain(model):
            base = speak(model.network, given, _speaker(model), index)
        target = mel.of_audio(full)
        ours.append(float(F.l1_loss(mel.of_audio(own), target)))
        plain.append(float(F.l1_loss(mel.of_audio(base), target)))
        for name, share in _parts(model, teacher, g, given, mel, index).items():
            parts.setdefault(name, []).append(share)
        renditions = Renditions(*(audio[0].cpu().numpy() for audio in (base, full, own)))
        if similarity is not None:
            near.append(similarity(renditions.full, renditions.adapter, rate))
            base_near.append(similarity(renditions.full, renditions.base, rate))
        if index < PLAYED:
            sounds.append(renditions)
    distance, base_distance = sum(ours) / len(ours), sum(plain) / len(plain)
    kept = 1 - distance / base_distance if base_distance > 1e-9 else 1.0
    return Judgement(
        distance,
        base_distance,
        kept,
        {name: sum(some) / len(some) for name, some in parts.items()},
        _mean(near),
        _mean(base_near),
        sounds,
        rate,
        len(content),
    )


def _mean(values: List[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _speaker(model: SynthesizerLoRA) -> Tensor:
    return model.speaker_vector(torch.tensor([model.speaker], device=model.network.emb_g.weight.device))


def _parts(
    model: SynthesizerLoRA, teacher: nn.Module, g: Tensor, given: Piece, mel: Mel, seed: int
) -> Dict[str, float]:
    """What each part keeps of its change, by what it makes of the full voice's inputs: 1 - distance / distance of
    the base."""
    torch.manual_seed(seed)
    real, noise = run_prior(teacher, given, g)
    noisy = (real.mean + torch.exp(real.log_scale) * noise) * real.mask
    f0 = given.f0

    def of_network() -> Dict[str, Tensor]:
        own = _speaker(model)
        mean = model.network.enc_p(given.phone, given.pitch, given.lengths)[0]
        z = model.network.flow(noisy, real.mask, g=own, reverse=True)
        audio = same_noise(seed, g.device, lambda: model.decode(real.z * real.mask, f0, own))
        return {"prior": mean, "flow": z, "decoder": mel.of_audio(audio.squeeze(1).float())}

    full = same_noise(seed, g.device, lambda: GeneratorLoRA(teacher.dec)(real.z * real.mask, f0, g))
    wanted = {"prior": real.mean, "flow": real.z, "decoder": mel.of_audio(full.squeeze(1).float())}
    adapted = of_network()
    with _Plain(model):
        base = of_network()
    shares = {}
    for name, target in wanted.items():
        before = float((base[name] - target).abs().mean())
        shares[name] = 1 - float((adapted[name] - target).abs().mean()) / before if before > 1e-9 else 1.0
    return shares
