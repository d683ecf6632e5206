"""A worker's process: it is handed the base, then voices, and tells what becomes of them through a pipe.

Where the system forks, the base is the parent's own memory (copy on write: nothing is copied, since nothing writes to
a frozen base), nothing is imported anew, and a worker ends with its voice: whatever that leaves behind is gone.
Elsewhere (Windows, macOS, CUDA) the base's tensors lie in shared memory, and a worker lives on, since it takes seconds
to begin.

    worker -> parent: ("free",), ("step", name, attempt, step, steps, seconds left),
                      ("prepared", name, attempt, folder), ("done", name, attempt, figures), ("stopped", name, attempt),
                      ("failed", name, attempt, UserError), ("lost", name, attempt, UserError)
    parent -> worker: ("job", Job), ("stop",): save and end, ("end",): nothing more
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, Deque, Dict, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

from ..faults import describe_fault, out_of_memory
from ..host import Host, find_host, hush_torch
from ..lora.lora_utils import extract
from ..messages import UserError
from ..models import Base, BaseInfo
from .work import Job, Work, prepare_voice, train_voice

TELL_SECONDS = 0.25
"""Between two reports of a voice's steps."""


class Portable(NamedTuple):
    """A base whose tensors lie in shared memory: another process can build its network around them."""

    info: BaseInfo
    tensors: Dict[str, Tensor]


def portable(base: Base) -> Portable:
    """The base's tensors, moved into shared memory; the network stays as it is."""
    base.network.share_memory()
    return Portable(base.info, OrderedDict(base.network.state_dict()))


def rebuilt(shared: Portable, host: Host) -> Base:
    """A network around tensors that another process holds: none of them is copied."""
    info = shared.info
    network = host.build_synthesizer(info.config, info.version, info.f0)
    if not info.has_posterior:
        del network.enc_q
    named: Dict[str, Any] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in shared.tensors.items():
        named[name].data = tensor
    return Base(network.float().eval().requires_grad_(False), info)


class Given(NamedTuple):
    """What a worker is started with.

    Attributes:
        link: to the parent. device: of training; None for what the settings say. threads: of PyTorch's.
        together: so many voices are trained in one batch.
    """

    link: Any
    work: Work
    base: Union[Base, Portable, None]
    device: Optional[str]
    threads: int
    together: int
    log: str


def preload(host: Host) -> None:
    """Import what every voice's run imports when it first needs it: a forked worker finds it there, where each took
    two seconds for it."""
    host.module("mel")
    value = torch.zeros(1, requires_grad=True)
    torch.optim.AdamW([value]).zero_grad()


def main(given: Given) -> None:
    """The body of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it asks us to save
    signal.signal(signal.SIGTERM, _broken_off)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError, ValueError):
        _speak_into(Path(given.log))
    torch.set_num_threads(given.threads)
    hush_torch()
    host = find_host(given.work.rvc_root)
    base = rebuilt(given.base, host) if isinstance(given.base, Portable) else given.base
    worker = Worker(given.link, given.work, host, base, given.device)
    try:
        if given.together > 1:
            from .together import Together

            Together(worker, given.together).run()
        else:
            worker.run()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()


class Worker:
    """One voice after the other."""

    def __init__(self, link: Any, work: Work, host: Host, base: Optional[Base], device: Optional[str]):
        self.link, self.work, self.host, self.base, self.device = link, work, host, base, device
        self.stopping = False
        self._told: Dict[str, float] = {}
        self._unread: Deque[Tuple[Any, ...]] = deque()  # of the parent's words, in their order

    def run(self) -> None:
        while not self.stopping:
            self.link.send(("free",))
            job = self.receive()
            if job is None:
                return
            self.do(job)

    def receive(self) -> Optional[Job]:
        """Wait for the parent's word: a voice, or None for the end."""
        message = self._unread.popleft() if self._unread else self._word()
        return message[1] if message[0] == "job" and not self.stopping else None

    def has_word(self) -> bool:
        """Whether there is a word of the parent's that was not acted on."""
        return bool(self._unread) or self.link.poll()

    def do(self, job: Job) -> None:
        """Do one piece of work and tell what became of it."""
        try:
            if job.data_dir is None:
                assert self.base is not None
                self.link.send(("prepared", job.name, job.attempt,
                                prepare_voice(self.work, job, self.host, self.base.info)))
                return
            figures = train_voice(self.work, job, self.host, self.base, self.tell, self.device)
            self.link.send(("stopped", job.name, job.attempt) if figures is None
                           else ("done", job.name, job.attempt, figures))
        except Exception as error:
            self.link.send(failure_message(job, error, self.work))
        finally:
            if self.base is not None:
                with contextlib.suppress(UserError):
                    extract(self.base.network)

    def tell(self, job: Job, step: int, steps: int, left: Optional[float]) -> bool:
        """Report a step, not too often; whether to go on."""
        now = time.monotonic()
        if step == steps or now - self._told.get(job.name, 0.0) > TELL_SECONDS:
            self._told[job.name] = now
            self.link.send(("step", job.name, job.attempt, step, steps, left))
        self.listen()
        return not self.stopping

    def listen(self) -> None:
        """Take note of a wish to stop; what else the parent says is kept for `receive`: a voice may be sent, and the
        end, while others of the same worker are under way."""
        while self.link.poll():
            self._unread.append(self._word())

    def _word(self) -> Tuple[Any, ...]:
        message: Tuple[Any, ...] = self.link.recv()
        self.stopping = self.stopping or message[0] == "stop"
        return message


def failure_message(job: Job, error: Exception, work: Work) -> Tuple[Any, ...]:
    """What to tell of work that ended in an error: what the user or the machine did wrong in its own words."""
    words = describe_fault(error)
    if words is not None:  # memory may be there the next time
        memory = out_of_memory(error) or isinstance(error, UserError) and words is not error
        return ("lost" if memory else "failed", job.name, job.attempt, words)
    traceback.print_exc()
    return ("failed", job.name, job.attempt,
            UserError("a fault of this program ({error}); its log is {log}",
                      error=f"{type(error).__name__}: {str(error)[:200]}", log=work.log(job.name)))


def _broken_off(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A worker whose parent is gone has nobody to tell anything: it ends at once, and the next run takes its voice
    up from the last save."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _speak_into(log: Path) -> None:
    """Let all that this process and its children say go into the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)

