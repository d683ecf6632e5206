"""One step of a run: what is drawn for it, the losses' gradients, and what is learnt from them."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..defaults import usual_defaults
from ..host.networks import as_written
from ..messages import UserError
from ..models import SynthesizerLoRA
from .config import TrainConfig
from .objective import Objective
from .posteriors import Posteriors, TrainBatch
from .schedule import Schedule

GRADIENT_LIMIT = 50.0


class Drawn(NamedTuple):
    """What a step learns from. z: (batch, channels, frames). decoder: whether its part is trained at this step."""

    batch: TrainBatch
    z: Tensor
    decoder: bool


class Stepping:
    """The half of a `Trainer` that knows one step; what it uses is made there."""

    config: TrainConfig
    model: SynthesizerLoRA
    posteriors: Posteriors
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: Any
    average: List[Tensor]
    done_steps: int
    schedule: Schedule

    @usual_defaults()
    @as_written()
    def step(self, indices: Sequence[int]) -> Dict[str, Optional[float]]:
        """Learn from some of the training clips and return the losses; without the decoder's part there is no `mel`
        and no `total`."""
        drawn = self.begin_step(indices)
        whole, values = self.backward(self.objective.prior_losses(drawn.batch, drawn.z))
        if drawn.decoder:  # the prior's graph is gone by now: one part at a time is in memory
            more, losses = self.backward(self.objective.decoder_losses(drawn.batch, drawn.z, self.done_steps))
            whole, values = whole + more, {**values, **losses}
        return self.end_step(drawn, whole, values)

    def begin_step(self, indices: Sequence[int]) -> Drawn:
        """Set the rate of this step and draw what it learns from."""
        batch = self.posteriors.batch(indices)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group.get("times", 1.0)
        self.model.injection.train()
        self.optimizer.zero_grad(set_to_none=True)
        return Drawn(batch, self.objective.latent(batch), self.done_steps % self.config.decoder_every == 0)

    def end_step(self, drawn: Drawn, whole: float, values: Dict[str, Optional[float]]) -> Dict[str, Optional[float]]:
        """Learn from the gradients that stand in the adapter now. whole: the weighted sum of the losses `values`."""
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.trainable, GRADIENT_LIMIT))
        if not self.scaler.is_enabled():  # where it is, it leaves out such steps by itself and lowers its scale
            self._finite(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.done_steps += 1
        self._update_average()
        if drawn.decoder:
            values["total"] = whole
        return {**values, "grad_norm": norm if math.isfinite(norm) else None,
                "lr": self.optimizer.param_groups[0]["lr"]}

    def backward(self, losses: Dict[str, Tensor]) -> Tuple[float, Dict[str, Optional[float]]]:
        """Add the gradient of a part's weighted losses to the adapter's; give their sum, and each as a number.

        Raises:
            UserError: the sum is not finite.
        """
        total, whole, values = self.weighed(losses)
        if total.requires_grad:  # an adapter may have nothing in this part
            total.backward()
        return whole, values

    def weighed(self, losses: Dict[str, Tensor]) -> Tuple[Tensor, float, Dict[str, Optional[float]]]:
        """A part's weighted losses: their sum to go backward from, scaled for fp16; the sum as a number, and each.

        Raises:
            UserError: the sum is not finite.
        """
        total = self.objective.total(losses)
        whole = float(total.detach())
        self._finite(whole)
        return self.scaler.scale(total), whole, {key: float(value.detach()) for key, value in losses.items()}

    def _finite(self, value: float, step: Optional[int] = None) -> None:
        """step: the one whose value it is; None for the one that is being done."""
        if not math.isfinite(value):
            raise UserError("the loss or its gradient is not finite at step {done_steps}: lower --lr, or use "
                            "--precision fp32. The last save is kept",
                            done_steps=self.done_steps + 1 if step is None else step)

    def learning_rate(self) -> float:
        """That of the next step."""
        return self.schedule.rate(self.done_steps)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run; of one that ends by itself, at most so many."""
        return self.schedule.total_steps

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short run's average would still hold the start: let the decay grow with the steps (Polyak averaging with
        # warm-up).
        decay = min(self.config.ema_decay, (1 + self.done_steps) / (10 + self.done_steps))
        for average, parameter in zip(self.average, self.model.trainable):
            average.lerp_(parameter.detach(), 1 - decay)
