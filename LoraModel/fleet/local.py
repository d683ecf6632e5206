"""The engine of one machine: a process for each voice that trains, as many as cores or GPUs and memory bear, and others
that prepare the next voices meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Callable, Dict, List, Optional

import torch

from ..host import find_host
from ..messages import Text, UserError, tr
from ..models import Base
from ..training.validate import NEEDED_BYTES
from .ledger import Entry, Ledger
from .memory import SHARE, free_memory, guess, own_memory
from .work import Job, Work
from .worker import Given, main, portable, preload

LOST = 2
"""So often a voice whose worker ended without a word is taken up again."""
LOOK = 0.2
"""Seconds between two looks at everything."""
STEPS_TO_MEASURE = 3
"""A worker that has done so many steps has taken what memory it will need."""


@dataclass
class _Process:
    """A worker, as this process sees it."""

    process: Any
    link: Any
    prepares: bool
    places: int
    jobs: Dict[str, Job] = field(default_factory=dict)
    since: Dict[str, float] = field(default_factory=dict)
    free: int = 0
    ending: bool = False
    worst: Optional[UserError] = None


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def bytes_of(base: Base) -> int:
    """Of the base's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in base.network.state_dict().values())


class Local:
    """Args:
        workers: at most so many voices are trained at a time; None for one a core, or a GPU.
        together: so many voices in one batch of one worker.
        device: of training; None for what the settings say. forks: whether workers are forked; None for what the system
            and the device allow.
    """

    def __init__(self, ledger: Ledger, work: Work, base: Base, workers: Optional[int] = None, together: int = 1,
                 devices: Optional[List[str]] = None, forks: Optional[bool] = None):
        self.ledger, self.work, self.base, self.together = ledger, work, base, together
        self.devices = devices or ["cpu"]
        on_gpu = self.devices[0] != "cpu"
        self.most = workers or (len(self.devices) if on_gpu else cores())
        self.forks = sys.platform.startswith("linux") and not on_gpu if forks is None else forks
        asked = os.environ.get("OMP_NUM_THREADS", "")
        self.threads = int(asked) if asked.isdigit() and int(asked) else max(1, cores() // self.most)
        self.need, self.measured = guess(bytes_of(base)), 0
        self._processes: List[_Process] = []
        self._shared: Any = None
        self._stopping = self._stop_asked = False
        self._said_memory = False
        self._told: Dict[str, Dict[str, Any]] = {}
        self._step_seconds: Optional[float] = None

    # From outside

    def run(self, watch: Callable[[], None]) -> None:
        """Work until nothing waits, the run pauses, or a stop was asked for. watch: called several times a second."""
        if self.forks:
            preload(find_host(self.work.rvc_root))
        try:
            while True:
                self._listen()
                if not self._stopping and (self._stop_asked or self.ledger.paused):
                    self._stop_all()
                entries = self.ledger.entries()
                if not self._stopping:
                    self._start_more(entries)
                watch()
                if not self._processes:
                    break
        finally:
            for one in self._processes:
                one.process.kill()
                one.process.join()
            for one in self._processes:
                for job in one.jobs.values():
                    self.ledger.given_back(job.name, job.attempt)

    def stop(self) -> None:
        """Let what trains save and end, and begin nothing more. May be called by a signal's handler."""
        self._stop_asked = True

    def _stop_all(self) -> None:
        self._stopping = True
        for one in self._processes:
            self._ask_to_end(one, "stop")
            if one.prepares:  # what it has done of it is kept
                one.process.terminate()

    def break_off(self) -> None:
        """End all workers at once; the last saves are kept."""
        self._stopping = True
        for one in self._processes:
            one.process.kill()

    # Workers

    def _start_more(self, entries: List[Entry]) -> None:
        ready = sum(entry.state == "waiting" and entry.data_dir is not None for entry in entries)
        raw = sum(entry.state == "waiting" and entry.data_dir is None for entry in entries)
        training = [one for one in self._processes if not one.prepares]
        preparing = [one for one in self._processes if one.prepares]
        for one in training:
            while one.free and not one.ending and (ready or not (raw or preparing)):
                entry = self._claim(False) if ready else None
                if entry is None:
                    self._ask_to_end(one, "end")
                    break
                ready -= 1
                self._give(one, entry)
        while ready and len(training) < self.most and self._bears(training):
            entry = self._claim(False)
            if entry is None:
                break
            started = self._start(entry, False, len(training))
            training.append(started)
            ready -= 1
        ahead = self.most * self.together
        while raw and len(preparing) < max(1, self.most - len(training)) and (not preparing or ready < ahead):
            entry = self._claim(True)
            if entry is None:
                break
            preparing.append(self._start(entry, True, 0))
            raw -= 1

    def _claim(self, to_prepare: bool) -> Optional[Entry]:
        """The next voice there is room for on the disk; those without room have failed."""
        while True:
            entry = self.ledger.claim(f"local {os.getpid()}", to_prepare)
            if entry is None:
                return None
            problem = no_room(self.work)
            if problem is None:
                return entry
            self.ledger.failed(entry.name, entry.attempt, problem)

    def _bears(self, training: List[_Process]) -> bool:
        """Whether there is memory for one worker more. Without any, one is started all the same."""
        free = free_memory()
        if not training or free is None:
            return True
        growing = sum(max(0, self.need - (own_memory(one.process.pid) or 0)) for one in training)
        if SHARE * free - growing >= self.need:
            return True
        if not self._said_memory:
            self._said_memory = True
            print(tr("memory for {count} workers and no more for now: a further one takes about {need:,} MB, and "
                     "{free:,} MB are free", count=len(training), need=self.need >> 20, free=free >> 20),
                  file=sys.stderr)
        return False

    def _start(self, entry: Entry, prepares: bool, number: int) -> _Process:
        context: Any = multiprocessing.get_context("fork") if self.forks else torch.multiprocessing.get_context("spawn")
        if not self.forks and self._shared is None:
            self._shared = portable(self.base)
        here, there = context.Pipe()
        device = None if prepares else self.devices[number % len(self.devices)]
        together = 1 if prepares else self.together
        given = Given(there, self.work, self.base if self.forks else self._shared, device, self.threads, together,
                      str(self.work.log(entry.name)))
        process = context.Process(target=main, args=(given,), daemon=False)
        process.start()
        there.close()
        one = _Process(process, here, prepares, together)
        self._processes.append(one)
        self._give(one, entry)
        return one

    def _give(self, one: _Process, entry: Entry) -> None:
        job = Job(entry.name, entry.attempt, entry.recordings, entry.settings, entry.data_dir,
                  self._step_seconds)
        one.jobs[job.name], one.since[job.name] = job, time.monotonic()
        one.free = max(0, one.free - 1)
        self._send(one, ("job", job))

    def _ask_to_end(self, one: _Process, word: str) -> None:
        one.ending = True
        self._send(one, (word,))

    @staticmethod
    def _send(one: _Process, message: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended: its sentinel tells
            one.link.send(message)

    # What they tell

    def _listen(self) -> None:
        links = {one.link: one for one in self._processes}
        ends = {one.process.sentinel: one for one in self._processes}
        ready = connection.wait([*links, *ends], LOOK) if links else []
        if not links:
            return
        for one in [links[link] for link in ready if link in links]:
            self._hear(one)
        for one in [ends[end] for end in ready if end in ends]:
            self._hear(one)  # its last messages
            self._ended(one)
        self.ledger.progress(list(self._told.values()))
        self._told.clear()

    def _hear(self, one: _Process) -> None:
        with contextlib.suppress(EOFError, OSError):
            while one.link.poll():
                self._take(one, one.link.recv())

    def _take(self, one: _Process, message: Any) -> None:
        kind, *rest = message
        if kind == "free":
            if one.jobs and one.free == 0 and one.places == 1:
                return  # its first job is on the way
            if one.prepares or (self.forks and one.places == 1):
                self._ask_to_end(one, "end")
            else:
                one.free = one.places - len(one.jobs)
            return
        name, attempt, *values = rest
        if kind == "step":
            step, steps, left = values
            if step >= STEPS_TO_MEASURE:
                self._measure(one)
            self._told[name] = {"name": name, "attempt": attempt, "step": step, "steps": steps, "seconds_left": left}
            return
        one.jobs.pop(name, None)
        seconds = time.monotonic() - one.since.pop(name, time.monotonic())
        self._told.pop(name, None)
        if kind == "prepared":
            self.ledger.prepared(name, attempt, values[0], seconds)
        elif kind == "done":
            self._step_seconds = step_seconds(values[0])
            self.ledger.done(name, attempt, values[0], seconds)
        elif kind == "stopped":
            self.ledger.given_back(name, attempt, seconds)
        elif kind == "lost":
            self.ledger.lost(name, attempt, LOST, values[0])
        else:
            self.ledger.failed(name, attempt, values[0], seconds)

    def _measure(self, one: _Process) -> None:
        own = own_memory(one.process.pid) if one.process.pid else None
        if own is not None and own > self.measured:
            self.measured = own
            self.need = int(1.2 * own)

    def _ended(self, one: _Process) -> None:
        """A worker is gone. What it was working on waits again, and has failed after too many times."""
        one.process.join()
        self._processes.remove(one)
        one.link.close()
        for job in one.jobs.values():
            if self._stopping:
                self.ledger.given_back(job.name, job.attempt, time.monotonic() - one.since[job.name])
            else:
                self.ledger.lost(job.name, job.attempt, LOST, died(one.process.exitcode, self.work, job))


def step_seconds(figures: Dict[str, Any]) -> Optional[float]:
    """What a step of a voice took, by what `work.figures_of` says."""
    return figures["train_seconds"] / figures["steps"] if figures.get("steps") else None


def died(code: Optional[int], work: Work, job: Job) -> UserError:
    """What to say of a worker that ended without a word."""
    how = Text("exit code {code}", code=code)
    if code is not None and code < 0:
        how = Text("signal {number}", number=-code)
    return UserError("its worker ended without a word ({how}), as where memory runs out: give fewer --workers, and "
                     "see {log}", how=how, log=work.log(job.name))


def no_room(work: Work) -> Optional[UserError]:
    """What to say where the disk has no room for one more voice."""
    free = shutil.disk_usage(work.output).free
    if free >= NEEDED_BYTES:
        return None
    return UserError("there are {free:,} MB free at {output}, a voice asks for {need:,} MB: free some space and run "
                     "the command again", free=free >> 20, output=work.output, need=NEEDED_BYTES >> 20)
