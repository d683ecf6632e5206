"""How long a run will take, estimated before its first step: one step is tried out, and everything it touched is put
back."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Optional

from ..messages import tr
from ..models.random_state import undisturbed

if TYPE_CHECKING:
    from .trainer import Trainer

FEW_STEPS = 30
"""A run of fewer steps is over before it is worth trying one."""
SLOW = 8.0
"""Seconds. A step that took longer is not tried twice; the first one also counts what PyTorch sets up once."""


def seconds_to_go(trainer: Trainer, evaluating: float) -> Optional[float]:
    """About how many seconds the run will take from here: by `trainer.step_seconds`, else by trying a step.

    Args:
        evaluating: seconds of one evaluation on the held-out clips; 0 where that is not known.

    Returns:
        None where there are few steps to go, or trying one would change the scale of fp16's gradients.
    """
    c, steps = trainer.config, trainer.total_steps - trainer.done_steps
    if steps < FEW_STEPS or trainer.scaler.is_enabled():
        return None
    saves = -(-trainer.schedule.saves * steps // trainer.total_steps)
    if trainer.step_seconds is not None:
        return steps * trainer.step_seconds + saves * evaluating
    whole = _tried(trainer, True)
    if whole < SLOW:
        whole = _tried(trainer, True)
    prior = _tried(trainer, False) if c.decoder_every > 1 else whole
    with_decoder = -(-steps // c.decoder_every)
    return with_decoder * whole + (steps - with_decoder) * prior + saves * evaluating


def _tried(trainer: Trainer, decoder: bool) -> float:
    """Seconds of a step's losses and gradients on the first batch; nothing is learned by it."""
    epoch = trainer.done_steps // trainer.steps_per_epoch
    batch = trainer.posteriors.batch(trainer.train.epoch(trainer.config.batch_size, trainer.config.seed, epoch)[0])
    adversary = trainer.adversary
    kept = copy.deepcopy(adversary.state()) if adversary is not None else None
    trainer.model.injection.train()
    begun = time.perf_counter()
    with undisturbed(trainer.device):
        z = trainer.objective.latent(batch)
        trainer.backward(trainer.objective.prior_losses(batch, z))
        if decoder:
            trainer.backward(trainer.objective.decoder_losses(batch, z, 0))
    seconds = time.perf_counter() - begun
    trainer.optimizer.zero_grad(set_to_none=True)
    if adversary is not None and kept is not None:
        adversary.load_state(kept)
    return seconds


def in_words(steps: int, seconds: float) -> str:
    """What is to come, as exact as a guess is: "about 40 s", "about 12 min", "about 2 h 10 min"."""
    minutes = int(round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    if seconds < 90:
        rounded = max(1, int(round(seconds)))
        return tr("{steps} steps to go: about {rounded} s", steps=steps, rounded=rounded)
    if not hours:
        return tr("{steps} steps to go: about {minutes} min", steps=steps, minutes=minutes)
    return tr("{steps} steps to go: about {hours} h {rest} min", steps=steps, hours=hours, rest=rest)
