"""One voice on several devices: `torchrun --nproc_per_node N -m LoraModel.training.train_lora …`, for long recordings.

Every process draws the same batch and the same random numbers and computes its own rows of it. What the rows came to is
exchanged, so that each process has the losses of the whole batch, and goes backward through its own rows; the sum of
the adapter's gradients over the processes is then exactly the gradient of those losses, the ones of several devices too
in which a mean over rows would not be (spectral convergence, the KL over clips of different lengths). So the losses are
those of one process with the same batch. What is exchanged is small: the adapter's gradients (some hundred KB), the
sound of the rows, and what the prior says of them. A discriminator sees the whole batch in every process.

The first process writes the run; the others have a folder of their own that is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import Tensor

from ..defaults import usual_defaults
from ..files import replace_file
from ..host import find_host
from ..host.networks import as_written
from ..messages import UserError
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import Prior
from .checkpoint import RUN_FILE, STATE_FILE, run_folder
from .config import TrainConfig
from .heldout import Reconstructed, Score
from .judge import Judged
from .losses import prior_losses
from .monitor import Monitor
from .objective import Stretch
from .step import Drawn
from .trainer import Trainer

CARRIED = (STATE_FILE, RUN_FILE, "train.jsonl")
"""Of a run that goes on, what every process needs."""


def several() -> bool:
    """Whether this process is one of several that train one voice."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def first() -> bool:
    """Whether this process is the only one, or the one that writes the run."""
    return not several() or dist.get_rank() == 0


def alone() -> bool:
    """Whether torchrun has started no other process for this voice; before they are joined, too."""
    return int(os.environ.get("WORLD_SIZE", "1")) < 2


@contextlib.contextmanager
def joined(config: TrainConfig, rvc_root: Optional[str], resume: bool) -> Iterator[TrainConfig]:
    """The settings of this process among those that torchrun has started, all of which are joined while the block runs;
    `config` itself where there is one alone.

    Raises:
        UserError: they cannot be joined.
    """
    if alone():
        yield config
        return
    on_gpu = config.device.startswith("cuda") or (config.device == "auto" and torch.cuda.is_available())
    if on_gpu:
        config = replace(config, device=f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}")
        torch.cuda.set_device(torch.device(config.device))
    try:
        dist.init_process_group("nccl" if on_gpu and dist.is_nccl_available() else "gloo")
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError("the processes of torchrun cannot be joined ({reason}): start them with torchrun "
                        "--nproc_per_node N -m LoraModel.training.train_lora …", reason=reason) from None
    try:
        if dist.get_rank() == 0:
            _carry(run_folder(find_host(rvc_root), config.output_dir, resume) if resume else None)
            yield config
        else:
            with tempfile.TemporaryDirectory(prefix="rvc-lora-rank-") as scratch, _silent():
                for name, data in _carry(None).items():
                    replace_file(Path(scratch) / "run" / name, data)
                yield replace(config, output_dir=str(Path(scratch) / "run"))
    finally:
        dist.destroy_process_group()


def _carry(folder: Optional[Path]) -> Dict[str, bytes]:
    """The first process's save, in every process; {} where it begins anew."""
    files: Dict[str, bytes] = {}
    if folder is not None:
        files = {name: (folder / name).read_bytes() for name in CARRIED if (folder / name).is_file()}
    return dict(_of_the_first(files))


def _of_the_first(value: Any) -> Any:
    """The first process's `value`, in all of them."""
    box: List[Any] = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What all processes would say, the first one says."""
    stderr, stdout = sys.stderr, sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stderr = sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stderr, sys.stdout = stderr, stdout


class RankTrainer(Trainer):
    """A `Trainer` that computes its share of each batch's rows."""

    _stop_agreed = False
    """What all processes know since the last step; `stop_asked` is what this one alone was asked, at any moment."""

    @usual_defaults()
    @as_written()
    def step(self, indices: Sequence[int]) -> Dict[str, Optional[float]]:
        drawn = self.begin_step(indices)
        stretch = self.objective.stretch(drawn.batch, drawn.z) if drawn.decoder else None
        mine = list(range(dist.get_rank(), len(drawn.batch.lengths), dist.get_world_size()))
        whole, values = self.backward(self._prior(drawn, mine))
        if stretch is not None:
            audio, stretch = self._decoded(stretch, mine)
            more, losses = self.backward(self.objective.audio_losses(audio, stretch, self.done_steps))
            whole, values = whole + more, {**values, **losses}
        self._sum_gradients()
        return self.end_step(drawn, whole, values)

    def _speakers(self, count: int) -> Tensor:
        sid = torch.full((count,), self.model.speaker, dtype=torch.long, device=self.device)
        return self.model.speaker_vector(sid)

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """What a process computes for itself draws no numbers that the others would not draw: of dropout alone."""
        with undisturbed(self.device):
            torch.manual_seed(self.config.seed + 7919 * self.done_steps + dist.get_rank())
            yield

    def _prior(self, drawn: Drawn, mine: List[int]) -> Dict[str, Tensor]:
        batch, posterior = drawn.batch, drawn.batch.posterior
        like = drawn.z
        parts: Tuple[Optional[Tensor], ...] = (None, None, None)
        if mine:
            with self._own(), self.objective.autocast():
                parts = tuple(self.model.prior(
                    batch.phone[mine], None if batch.pitch is None else batch.pitch[mine], batch.lengths[mine],
                    drawn.z[mine], posterior.mask[mine], self._speakers(len(mine))))
        z_p, mean, log_scale = (_gathered(part, mine, like) for part in parts)
        return prior_losses(self.host, Prior(z_p, mean, log_scale), posterior)

    def _decoded(self, stretch: Stretch, mine: List[int]) -> Tuple[Tensor, Stretch]:
        """The sound of all rows, and the stretch with the base's sound, where that is compared with it."""
        audio: Optional[Tensor] = None
        own = stretch.of_rows(mine)
        if mine:
            with self._own():
                own = self.objective.held(own)
                audio = self.objective.decoded(own, self._speakers(len(mine)))
        if self.objective.holds:
            stretch = stretch._replace(base_mel=_gathered(own.base_mel, mine, stretch.mel))
        return _gathered(audio, mine, stretch.wave), stretch

    def stopping(self) -> bool:
        """The same in all processes: what one of them is asked after its gradients were summed counts at the next
        step."""
        return self._stop_agreed

    def _sum_gradients(self) -> None:
        """Sum the adapter's gradients over the processes, and whether one of them was asked to stop."""
        parameters = self.model.trainable
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
                         + [torch.tensor([float(super().stopping())], device=self.device)])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat[:-1].split([p.numel() for p in parameters])):
            parameter.grad = part.view_as(parameter).clone()
        self._stop_agreed = bool(flat[-1] > 0)

    def _call_judge(self, monitor: Monitor) -> None:
        """No networks judge, but in a run that one process began with them."""

    def _put_judge(self, value: Any) -> None:
        if dist.get_rank() == 0:
            super()._put_judge(value)

    def _with_judgement(self, score: Score, clips: List[Reconstructed]) -> Score:
        """The first process's, which alone has the clips, in all of them."""
        judged = super()._with_judgement(score, clips).judged if dist.get_rank() == 0 else None
        return score._replace(judged=Judged(*_of_the_first(judged)))

    def evaluate(self) -> Tuple[Score, List[Reconstructed]]:
        """The first process's, in all of them: they must agree on what is best and when to end."""
        score, clips = super().evaluate() if dist.get_rank() == 0 else (None, [])
        return Score(*_of_the_first(score)), clips

    def _find_start(self) -> int:
        return int(_of_the_first(super()._find_start() if dist.get_rank() == 0 else None))


def _gathered(part: Optional[Tensor], mine: List[int], like: Tensor) -> Tensor:
    """The rows of all processes, each at its place: those of this one with their graph. like: a tensor of the shape of
    all of them."""
    rest = torch.zeros_like(like, dtype=torch.float32)
    if part is not None:
        rest[mine] = part.detach().float()
    dist.all_reduce(rest)
    if part is None:
        return rest
    return rest.index_copy(0, torch.tensor(mine, device=rest.device), part.float())
