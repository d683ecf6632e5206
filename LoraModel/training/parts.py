"""The parts of a run, made from its settings; `Trainer` puts them to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from torch import nn

from ..host import Host
from ..host.networks import Mel
from ..models import Base, BaseInfo, SynthesizerLoRA
from . import checkpoint
from .adversary import Adversary
from .config import TrainConfig
from .data_loader import ClipSet, Experiment
from .device import choose_device, grad_scaler
from .heldout import HeldOut
from .objective import Objective
from .posteriors import Posteriors

BETAS = (0.8, 0.99)
GRADIENT_LIMIT = 50.0
"""Norm of all gradients together, above which they are scaled down."""


@dataclass
class Parts:
    """What a run is made of.

    Attributes:
        info: of the base. train, held: the clips to learn from, and those kept out. data: what identifies the clips.
        adversary: what the voice trains against; None without a discriminator. scaler: of gradients, for fp16 on CUDA.
        objective: the losses of a step.
    """

    config: TrainConfig
    host: Host
    info: BaseInfo
    train: ClipSet
    held: ClipSet
    data: List[List[Any]]
    device: torch.device
    model: SynthesizerLoRA
    optimizer: torch.optim.Optimizer
    adversary: Optional[Adversary]
    scaler: Any
    heldout: HeldOut
    posteriors: Posteriors
    objective: Objective
    mel: Mel


def assemble(
    config: TrainConfig, host: Host, base: Base, experiment: Experiment, train: ClipSet, held: ClipSet,
    discriminator: Optional[nn.Module] = None,
) -> Parts:
    """Make the parts of a run; nothing is written.

    Args:
        train, held: the clips to learn from, and those kept out.
        discriminator: trains against it; None trains without one.
    """
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    model = SynthesizerLoRA(base, config.lora_config(), config.speaker).to(device)
    mel = Mel(host, experiment.data)
    frames = config.segment_frames or experiment.segment_frames
    optimizer = torch.optim.AdamW(_groups(model, config.lora_plus), config.lr, betas=BETAS, eps=1e-9, weight_decay=0.0)
    adversary = None
    if discriminator is not None:
        adversary = Adversary(discriminator, host, config.lr / 5, BETAS, device, config.d_parts, config.d_every,
                              config.d_frozen)
    scaler = grad_scaler(config.precision == "fp16" and device.type == "cuda")
    return Parts(
        config=config, host=host, info=base.info, train=train, held=held,
        data=checkpoint.describe_clips(experiment.clips), device=device, model=model, optimizer=optimizer,
        adversary=adversary, scaler=scaler, heldout=HeldOut(held, mel, config.speaker, device, config.valid_clips),
        posteriors=Posteriors(train, model, mel, device), mel=mel,
        objective=Objective(model, host, mel, config, device, frames, experiment.data["hop_length"], adversary, scaler),
    )


def _groups(model: SynthesizerLoRA, times: float) -> List[Dict[str, Any]]:
    """What the optimiser is given: all alike, or B at `times` the rate of the rest.

    The latter is LoRA+ (Hayou et al. 2024, arXiv:2402.12354).
    """
    if times == 1:
        return [{"params": model.trainable}]
    tensors, up = model.injection.tensors(), model.injection.up()
    return [{"params": [tensor for name, tensor in tensors.items() if name not in up]},
            {"params": [tensor for name, tensor in tensors.items() if name in up], "times": times}]
