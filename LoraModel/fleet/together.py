"""Several voices in one batch: the frozen layers run once over the rows of all of them, and each voice's low-rank
branch beside them as batched products (`lora.rows`, the layers that conversion for several users has).

Each voice has its own clips, random numbers, losses, optimiser and clock, and comes to what it comes to alone, up to
the rounding of sums in another order. One that is done leaves, and the next takes its place. Method of the rows: Sheng
et al. 2023, "S-LoRA", arXiv:2311.03285, section 5; here with gradients.

A GPU that is not filled by one voice's step gains by it; a CPU computes what the voices cost, one way or the other.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..defaults import usual_defaults
from ..host.networks import as_written
from ..lora.lora_utils import Injection, extract, put_on
from ..lora.rows import Products, can_have_rows, rows_adapted
from ..messages import UserError
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import Posterior, Prior
from ..training.checkpoint import random_state, set_random_state
from ..training.losses import prior_losses
from ..training.objective import Stretch
from ..training.posteriors import pad
from ..training.step import Drawn
from ..training.trainer import Course, Trainer
from .work import Job, finish_voice, follow, trainer_of
from .worker import Worker, failure_message


class Member:
    """One voice of a batch, with a random generator of its own.

    Args:
        make: makes its trainer; called where its own random numbers are in use and no other voice's branches hang on
            the network.
    """

    def __init__(self, make: Callable[[], Trainer], device: torch.device):
        self._device = device
        self._random: Optional[Dict[str, Any]] = None
        self.indices: List[int] = []
        self.finished: Optional[bool] = None
        with undisturbed(device):
            self.trainer = make()
            self._random = random_state(device)
            self._injection: Injection = extract(self.trainer.model.network)
        self._course: Course = self.trainer.course()

    @contextlib.contextmanager
    def turn(self, hung: bool = True) -> Iterator[None]:
        """The voice alone: its random numbers, and with `hung` its branches on the network."""
        network = self.trainer.model.network
        with undisturbed(self._device):
            assert self._random is not None
            set_random_state(self._random, self._device)
            if hung:
                put_on(network, self._injection)
            try:
                yield
            finally:
                if hung:
                    extract(network)
                self._random = random_state(self._device)

    def go_on(self, values: Optional[Dict[str, Any]] = None) -> bool:
        """On to the next step: `indices` are its clips. values: what came of the last one. Whether there is a next.

        Raises:
            UserError, OSError: as the run gives them.
        """
        with self.turn():
            try:
                self.indices = next(self._course) if values is None else self._course.send(values)
            except StopIteration as end:
                self.finished = bool(end.value)
                return False
        return True

    def close(self) -> None:
        with self.turn():
            self._course.close()

    def products(self) -> Products:
        """The voice's factors by module path, with the graph to its parameters."""
        speaker = self.trainer.model.speaker
        found: Products = {}
        for name, layer in self._injection.items():
            adapter: Any = layer
            found[name] = adapter.product(adapter.base, dict(adapter.named_parameters()),
                                          getattr(adapter, "scaling", 1.0), speaker)
        return found


class _Part(NamedTuple):
    """A voice's part of a joint step. stretch: what its decoder is given."""

    member: Member
    drawn: Drawn
    stretch: Optional[Stretch]


def fits(trainer: Trainer) -> bool:
    """Whether a voice can share a batch: not with a discriminator, which would see one voice, nor with dropout or
    layers that the rows do not have."""
    injection = trainer.model.injection
    return (trainer.adversary is None and not injection.config.lora_dropout
            and all(can_have_rows(layer) for _, layer in injection.items()))


def kind_of(trainer: Trainer) -> Tuple[Any, ...]:
    """What voices of one batch must share, beside the base."""
    return trainer.objective.frames, trainer.config.precision, str(trainer.device)


@usual_defaults()
@as_written()
def joint_step(members: Sequence[Member]) -> List[Any]:
    """One step of every voice, in one forward and backward of the base.

    Returns:
        What `Trainer.step` gives, for each voice; or the UserError of one whose loss is not finite.
    """
    parts = [_draw(member) for member in members]
    outcome: List[Any] = [None] * len(parts)
    values: List[Dict[str, Any]] = [{} for _ in parts]
    wholes = [0.0] * len(parts)

    def backward(losses: Dict[int, Dict[str, Tensor]]) -> None:
        total: Optional[Tensor] = None
        for place, named in losses.items():
            try:
                each, whole, numbers = parts[place].member.trainer.weighed(named)
            except UserError as error:
                outcome[place] = error
                continue
            values[place].update(numbers)
            wholes[place] += whole
            if each.requires_grad:
                total = each if total is None else total + each
        if total is not None:
            total.backward()

    backward(_prior(parts))
    with_decoder = [place for place, part in enumerate(parts) if part.stretch is not None and outcome[place] is None]
    if with_decoder:
        backward(_decoder(parts, with_decoder))
    for place, part in enumerate(parts):
        if outcome[place] is None:
            try:
                outcome[place] = part.member.trainer.end_step(part.drawn, wholes[place], values[place])
            except UserError as error:
                outcome[place] = error
    return outcome


def _draw(member: Member) -> _Part:
    trainer = member.trainer
    with member.turn(hung=False):
        drawn = trainer.begin_step(member.indices)
        if not drawn.decoder:
            return _Part(member, drawn, None)
        return _Part(member, drawn, trainer.objective.held(trainer.objective.stretch(drawn.batch, drawn.z)))


def _rows(parts: Sequence[_Part]) -> Tuple[List[Products], List[slice]]:
    """The factors of each row of the batch, and which rows are whose."""
    rows: List[Products] = []
    where: List[slice] = []
    for part in parts:
        count = len(part.drawn.batch.lengths)
        where.append(slice(len(rows), len(rows) + count))
        rows += [part.member.products()] * count
    return rows, where


def _speakers(parts: Sequence[_Part]) -> Tensor:
    """The row of the speaker table of each row of the batch: (rows,)."""
    return torch.cat([torch.full_like(part.drawn.batch.lengths, part.member.trainer.model.speaker) for part in parts])


def _prior(parts: Sequence[_Part]) -> Dict[int, Dict[str, Tensor]]:
    """The losses of the prior's part of each voice."""
    model, objective = parts[0].member.trainer.model, parts[0].member.trainer.objective
    rows, where = _rows(parts)
    batches = [part.drawn.batch for part in parts]
    with rows_adapted(model.network, rows), objective.autocast():
        pitch = None if batches[0].pitch is None else pad([batch.pitch for batch in batches])
        prior = model.prior(pad([batch.phone for batch in batches], 1), pitch,
                            torch.cat([batch.lengths for batch in batches]), pad([part.drawn.z for part in parts]),
                            pad([batch.posterior.mask for batch in batches]), model.speaker_vector(_speakers(parts)))
    losses = {}
    for place, (part, mine) in enumerate(zip(parts, where)):
        posterior: Posterior = part.drawn.batch.posterior
        frames = posterior.mean.shape[2]
        own = Prior(*(tensor[mine, :, :frames] for tensor in prior))
        losses[place] = prior_losses(part.member.trainer.host, own, posterior)
    return losses


def _decoder(parts: Sequence[_Part], places: Sequence[int]) -> Dict[int, Dict[str, Tensor]]:
    """The losses of the decoder's part of each voice that trains it at this step."""
    chosen = [parts[place] for place in places]
    stretches: List[Stretch] = [part.stretch for part in chosen if part.stretch is not None]
    trainer = chosen[0].member.trainer
    model = trainer.model
    rows, where = _rows(chosen)
    alike = [one._replace(base_mel=None) for one in stretches]  # that of some voices alone
    together = Stretch(*(None if column[0] is None else torch.cat(column) for column in zip(*alike)))
    with rows_adapted(model.network, rows):
        audio = trainer.objective.decoded(together, model.speaker_vector(_speakers(chosen)))
    return {place: part.member.trainer.objective.audio_losses(audio[mine], stretch,
                                                              part.member.trainer.done_steps)
            for place, part, mine, stretch in zip(places, chosen, where, stretches)}


class Together:
    """A worker that trains several voices in one batch.

    Args:
        places: so many.
    """

    def __init__(self, worker: Worker, places: int):
        self._worker, self._places = worker, places
        self._members: List[Tuple[Job, Member]] = []
        self._apart: List[Job] = []
        self._more = True

    def run(self) -> None:
        worker = self._worker
        worker.link.send(("free",))
        while True:
            self._welcome(wait=not self._members and not self._apart)
            if not self._members and not self._apart:
                if not self._more:
                    return
                continue
            if self._members:
                self._step()
            elif self._apart:
                worker.do(self._apart.pop(0))
                worker.link.send(("free",))

    def _welcome(self, wait: bool) -> None:
        """Take in the voices that the parent sends; with `wait`, wait for a word of it."""
        worker = self._worker
        while self._more and (wait or worker.has_word()):
            job = worker.receive()
            wait = False
            if job is None:
                self._more = False
            else:
                self._enter(job)

    def _enter(self, job: Job) -> None:
        worker, base = self._worker, self._worker.base
        assert base is not None
        try:
            member = Member(lambda: trainer_of(worker.work, job, base, worker.device), self._device())
            trainer = member.trainer
            if not fits(trainer) or worker.work.own_base(job) or (
                    self._members and kind_of(trainer) != kind_of(self._members[0][1].trainer)):
                self._apart.append(job)
                return
            follow(trainer, job, worker.tell)
            if member.go_on():
                self._members.append((job, member))
            else:
                self._leave(job, member)
        except Exception as error:
            with contextlib.suppress(UserError):
                extract(base.network)
            self._tell(failure_message(job, error, worker.work))

    def _device(self) -> torch.device:
        return torch.device(self._worker.device or "cpu")

    def _step(self) -> None:
        outcomes = joint_step([member for _, member in self._members])
        for (job, member), outcome in zip(list(self._members), outcomes):
            if isinstance(outcome, UserError):
                self._members.remove((job, member))
                member.close()
                self._tell(failure_message(job, outcome, self._worker.work))
                continue
            try:
                if not member.go_on(outcome):
                    self._members.remove((job, member))
                    self._leave(job, member)
            except Exception as error:
                self._members.remove((job, member))
                self._tell(failure_message(job, error, self._worker.work))

    def _leave(self, job: Job, member: Member) -> None:
        worker = self._worker
        if member.finished:
            self._tell(("done", job.name, job.attempt, finish_voice(worker.work, job, worker.host, member.trainer)))
        else:
            self._tell(("stopped", job.name, job.attempt))

    def _tell(self, message: Tuple[Any, ...]) -> None:
        self._worker.link.send(message)
        if self._more:
            self._worker.link.send(("free",))

