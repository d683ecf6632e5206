"""The engine of a cluster: each voice is a task of Ray's (https://docs.ray.io).

A task tells its steps, hands back every save, and at the end its figures, as a stream of objects. This process alone
writes them into the run's folder: a voice whose worker or whole machine goes is given to another one with its last
save, and what a task that was given up sends later is not read any more. So results are written once, and the machines
need no drive in common: recordings that a task cannot see are sent to it. The base is put into Ray's store once, and
each machine's workers share it there.

Ray is imported here alone (requirements-fleet.txt).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch

from ..host import find_host, hush_torch
from ..lora.lora_utils import extract
from ..messages import UserError, tr
from ..models import Base
from ..training import checkpoint
from ..training.monitor import TENSORBOARD
from ..training.run_lock import LOCK_FILE
from .ledger import Entry, Ledger
from .local import no_room
from .parcel import Listing, Parcel, is_here, listing, packed, unpack
from .work import Job, Work, figures_of, prepare_voice, publish_voice, trainer_of
from .worker import Portable, failure_message, rebuilt

LOST = 5
"""So often a voice whose worker or machine went is taken up again: in a cluster that is no sign of its own fault."""
TELL_SECONDS = 1.0
NOT_SENT = (TENSORBOARD, LOCK_FILE)
"""Of a run's folder, what stays on the machine that trained it."""


def ray_module() -> Any:
    """Ray.

    Raises:
        UserError: it is not installed, or cannot start beside the packages that are.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise UserError("--engine ray needs the package ray: pip install -r requirements-fleet.txt, or use --engine "
                        "local") from None
    pydantic = getattr(sys.modules.get("pydantic"), "VERSION", "2")  # Ray imports it where it is there
    if _version(pydantic) < [2] and _version(ray.__version__) >= [2, 53]:
        raise UserError("Ray {version} needs pydantic 2, and this environment has pydantic {pydantic}, which RVC's "
                        "Gradio 3 needs: pip install -r requirements-fleet.txt installs a Ray that takes it",
                        version=ray.__version__, pydantic=pydantic)
    return ray


def _version(text: str) -> List[int]:
    """"2.53.0" -> [2, 53, 0]"""
    return [int(number) for number in re.findall(r"\d+", text)]


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: some versions of Ray wait twelve minutes for it."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d{1,5})", address)
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


class Sent(NamedTuple):
    """What a task is sent.

    Attributes:
        weights: of the base, by name. saved: the files of the voice's run so far. one_file: whether its recordings are
            one file. listing, parcel: what its recordings or its experiment folder hold, and Ray's reference to the
            files, in a list so that Ray fetches them only where they are asked for.
    """

    work: Work
    job: Job
    info: Any
    saved: Parcel
    one_file: bool
    listing: Listing
    parcel: List[Any]
    threads: int


Message = Tuple[Any, ...]
ALIGNED = 64
"""Bytes: PyTorch's own tensors begin at a multiple of it."""

_bases: Dict[str, Base] = {}
"""The base of the tasks before, in a worker that Ray keeps."""


def do(sent: Sent, weights: Dict[str, np.ndarray]) -> Iterator[Message]:
    """The body of a task: ("step", step, steps, seconds left), ("save", files), and at the end ("prepared", folder,
    files), ("done", figures, files), ("failed", UserError) or ("lost", UserError); or ("need",): this machine does not
    see the recordings, and they were not sent."""
    hush_torch()
    torch.set_num_threads(sent.threads)
    job, scratch = sent.job, Path(tempfile.mkdtemp(prefix="rvc-lora-fleet-"))
    network = None
    try:
        source = Path(job.data_dir or job.recordings)
        here = is_here(source, sent.listing)
        if not here and not sent.parcel:
            yield ("need",)
            return
        if not here:
            source = scratch / "data" / source.name
            unpack(_get(sent.parcel[0]), source.parent if sent.one_file else source)
            job = replace(job, data_dir=str(source)) if job.data_dir else replace(job, recordings=str(source))
        base = _base(sent, weights)
        network = base.network
        if job.data_dir is None:
            yield _prepared(sent, job, base, here, scratch)
        else:
            yield from _train(sent, job, base, scratch)
    except Exception as error:
        kind, _, _, words = failure_message(sent.job, error, sent.work)
        yield (kind, words)
    finally:
        if network is not None:
            with contextlib.suppress(UserError):
                extract(network)
        shutil.rmtree(str(scratch), ignore_errors=True)


def _prepared(sent: Sent, job: Job, base: Base, here: bool, scratch: Path) -> Message:
    host = find_host(sent.work.rvc_root)
    if here:
        return ("prepared", prepare_voice(sent.work, job, host, base.info), {})
    work = replace(sent.work, output=str(scratch / "out"))
    folder = Path(prepare_voice(work, job, host, base.info))
    return ("prepared", "", packed(folder))


def _train(sent: Sent, job: Job, base: Base, scratch: Path) -> Iterator[Message]:
    work = replace(sent.work, output=str(scratch / "out"), publish=False, index=False)
    folder = work.folder(job.name)
    unpack(sent.saved, folder)
    trainer = trainer_of(work, job, base)
    course = trainer.course()
    known: Dict[str, Tuple[int, int]] = {}
    written = checkpoint.written(folder)
    begun, first, last = time.monotonic(), trainer.done_steps, 0.0
    try:
        indices = next(course)
        while True:
            indices = course.send(trainer.step(indices))
            now, steps = time.monotonic(), trainer.total_steps
            if now - last > TELL_SECONDS:
                last = now
                each = (now - begun) / (trainer.done_steps - first)
                yield ("step", trainer.done_steps, steps, each * (steps - trainer.done_steps))
            if checkpoint.written(folder) != written:
                written = checkpoint.written(folder)
                yield ("save", packed(folder, NOT_SENT, known))
    except StopIteration:
        pass
    finally:
        course.close()
    yield ("done", figures_of(trainer), packed(folder, NOT_SENT, known))


def _base(sent: Sent, weights: Dict[str, np.ndarray]) -> Base:
    """The network around the weights in this machine's store. Only small ones are copied, those that the store does
    not align as PyTorch does: PyTorch rounds what it computes from such a tensor differently."""
    key = sent.work.base_hash
    if key not in _bases:
        _bases.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the arrays are read-only, as a frozen base should be
            tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        tensors = {name: tensor.clone() if tensor.data_ptr() % ALIGNED else tensor for name, tensor in tensors.items()}
        _bases[key] = rebuilt(Portable(sent.info, tensors), find_host(sent.work.rvc_root))
    return _bases[key]


def _get(reference: Any) -> Parcel:
    parcel: Parcel = ray_module().get(reference)
    return parcel


class ByRay:
    """Args:
        workers: at most so many voices at a time; None for as many as the cluster has cores for.
        address: of the cluster; None starts Ray on this machine.
        needs: of a voice, as Ray names resources: {"CPU": 1, "GPU": 0.25}.
        shared: whether to hope that all machines see the recordings; what they do not see is sent.
        work_of_task: the body of a task, for tests that train nothing.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, ledger: Ledger, work: Work, base: Base, workers: Optional[int] = None,
                 address: Optional[str] = None, needs: Optional[Dict[str, float]] = None, shared: bool = True,
                 work_of_task: Callable[..., Iterator[Message]] = do):
        self.ray = ray_module()
        self.ledger, self.work, self.base, self.shared = ledger, work, base, shared
        self.host = find_host(work.rvc_root)
        self._connect(address)
        self.needs = {"CPU": 1.0, **(needs or {})}
        self.most = workers or max(1, int(self.ray.cluster_resources().get("CPU", 1) / max(self.needs["CPU"], 0.01)))
        self._weights = self.ray.put({name: tensor.numpy() for name, tensor in base.network.state_dict().items()})
        more = {name: value for name, value in self.needs.items() if name not in ("CPU", "GPU")}
        self._task = self.ray.remote(num_returns="streaming", max_retries=0, num_cpus=self.needs["CPU"],
                                     num_gpus=self.needs.get("GPU", 0), resources=more or None)(work_of_task)
        self.lost_at_most = LOST
        self._going: Dict[Any, Tuple[Entry, float, List[Any]]] = {}
        self._stopping = False
        self._told: Dict[str, Dict[str, Any]] = {}

    def _connect(self, address: Optional[str]) -> None:
        self._ours = not self.ray.is_initialized()
        if not self._ours:
            return
        code = str(Path(__file__).resolve().parents[2])
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH")))),
                       "OMP_NUM_THREADS": "1"}
        options: Dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if address:
                _knock(address)
                self.ray.init(address=address, runtime_env={"env_vars": environment}, **options)
            else:
                with _environment(environment):  # which the workers of this machine inherit
                    self.ray.init(address="local", include_dashboard=False, **options)
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError("the Ray cluster {address} cannot be reached ({reason}): check --address, and that `ray "
                            "status` answers there", address=address or "local", reason=reason) from None

    def stop(self) -> None:
        """Begin nothing more and end what goes on; each voice goes on from its last save the next time."""
        self._stopping = True

    break_off = stop

    def run(self, watch: Callable[[], None]) -> None:
        """Work until nothing waits, the run pauses, or a stop was asked for."""
        try:
            while True:
                if self.ledger.paused:
                    self._stopping = True
                if self._stopping:
                    break
                self._submit()
                if not self._going:
                    break
                self._listen()
                watch()
        finally:
            for stream, (entry, begun, _) in self._going.items():
                with contextlib.suppress(Exception):
                    self.ray.cancel(stream, force=True)
                self.ledger.given_back(entry.name, entry.attempt, time.monotonic() - begun)
            self._going.clear()
            if self._ours:
                self.ray.shutdown()

    def _submit(self) -> None:
        while len(self._going) < self.most:
            me = f"ray {os.getpid()}"
            entry = self.ledger.claim(me, False) or self.ledger.claim(me, True)
            if entry is None:
                return
            problem = no_room(self.work)
            try:
                if problem is not None:
                    raise problem
                self._send(entry)
            except (UserError, OSError) as error:
                words = error if isinstance(error, UserError) else UserError("{reason}", reason=str(error))
                self.ledger.failed(entry.name, entry.attempt, words)

    def _send(self, entry: Entry) -> None:
        job = Job(entry.name, entry.attempt, entry.recordings, entry.settings, entry.data_dir)
        source = Path(job.data_dir or job.recordings)
        if not source.exists():
            raise UserError("there is no folder {place}{near}: give the folder that holds the recordings of the voice",
                            place=source, near="")
        parcel: List[Any] = [] if self.shared else [self.ray.put(packed(source))]
        folder = self.work.folder(job.name)
        saved = packed(folder, (*NOT_SENT, "data")) if job.data_dir and folder.is_dir() else {}
        wanted = listing(source) if self.shared else []
        sent = Sent(self.work, job, self.base.info, saved, source.is_file(), wanted, parcel, 1)
        self._going[self._task.remote(sent, self._weights)] = (entry, time.monotonic(), parcel)

    def _listen(self) -> None:
        ready, _ = self.ray.wait(list(self._going), num_returns=len(self._going), timeout=0.2)
        for stream in ready:
            entry, begun, _ = self._going[stream]
            try:
                message = self.ray.get(next(stream))
            except StopIteration:
                self._end(stream)  # lost, unless it has reported how it ended
                self.ledger.lost(entry.name, entry.attempt, self.lost_at_most, _gone(None))
                continue
            except Exception as error:
                self._end(stream)
                self.ledger.lost(entry.name, entry.attempt, self.lost_at_most, _gone(error))
                continue
            self._take(entry, message, time.monotonic() - begun)
        self.ledger.progress(list(self._told.values()))
        self._told.clear()

    def _end(self, stream: Any) -> None:
        self._going.pop(stream, None)

    def _take(self, entry: Entry, message: Message, seconds: float) -> None:
        kind, *values = message
        folder = self.work.folder(entry.name)
        if kind == "need":
            self.shared = False
            self.ledger.given_back(entry.name, entry.attempt)
        elif kind == "step":
            step, steps, left = values
            self._told[entry.name] = {"name": entry.name, "attempt": entry.attempt, "step": step, "steps": steps,
                                      "seconds_left": left}
        elif kind == "save":
            self._write(values[0], folder)
        elif kind == "prepared":
            place, files = values
            if not place:
                place = str(folder / "data")
                self._write(files, Path(place))
            self.ledger.prepared(entry.name, entry.attempt, place, seconds)
        elif kind == "done":
            figures, files = values
            self._write(files, folder)
            job = Job(entry.name, entry.attempt, entry.recordings, entry.settings, entry.data_dir)
            try:
                publish_voice(self.work, job, self.host, figures, folder)
            except (UserError, OSError) as error:
                print(f"{entry.name}: {error}", file=sys.stderr)
            self._told.pop(entry.name, None)
            self.ledger.done(entry.name, entry.attempt, figures, seconds)
        elif kind == "lost":
            self.ledger.lost(entry.name, entry.attempt, self.lost_at_most, values[0])
        else:
            self.ledger.failed(entry.name, entry.attempt, values[0], seconds)

    @staticmethod
    def _write(files: Parcel, folder: Path) -> None:
        """A save whose state comes last: a run that ends in between goes on from the one before."""
        state = {name: data for name, data in files.items() if name == checkpoint.STATE_FILE}
        unpack({name: data for name, data in files.items() if name not in state}, folder)
        unpack(state, folder)


@contextlib.contextmanager
def _environment(values: Dict[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _gone(error: Optional[Exception]) -> UserError:
    reason = tr("it ended without a word") if error is None else type(error).__name__
    return UserError("the task was lost on the cluster ({reason}): its machine or worker went away, or memory ran out",
                     reason=reason)
