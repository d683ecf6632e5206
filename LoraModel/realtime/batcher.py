"""Requests of several users gathered into batches: what arrives together goes through the network together."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import List, NamedTuple, Optional

import numpy as np

from ..inference.model_loader import Adapters
from ..messages import UserError
from .batch import VoiceBatch


class Request(NamedTuple):
    """A recording, (samples,) at 16 kHz, the voice that it is converted to, and semitones."""

    sound: np.ndarray
    voice: Adapters
    transpose: float
    answer: Future[np.ndarray]


class Busy(UserError):
    """More requests wait than the queue holds."""


class Batcher:
    """Answers requests by batches, in a thread of its own.

    Args:
        most: rows of a batch.
        wait: seconds that the first request waits for others.
        waiting: requests that may wait; one more is refused.
    """

    def __init__(self, batch: VoiceBatch, most: int = 8, wait: float = 0.02, waiting: int = 32):
        self._batch, self._most, self._wait = batch, most, wait
        self._queue: queue.Queue[Optional[Request]] = queue.Queue(waiting)
        self.sizes: List[int] = []
        """How many requests each of the last hundred batches had."""
        self._thread = threading.Thread(target=self._work, name="rvc-lora-batches", daemon=True)
        self._thread.start()

    def ask(self, sound: np.ndarray, voice: Adapters, transpose: float = 0.0) -> Future[np.ndarray]:
        """Ask for a conversion; returns at once. The answer is (samples,) float32 at the base's rate, or the error.

        Raises:
            Busy: too many wait already.
        """
        request = Request(sound, voice, transpose, Future())
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            raise Busy("too many requests are waiting: try again in a moment") from None
        return request.answer

    def close(self) -> None:
        """Answer what is waiting, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            together, end = [first], time.monotonic() + self._wait
            while len(together) < self._most:
                try:
                    more = self._queue.get(timeout=max(end - time.monotonic(), 0))
                except queue.Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                together.append(more)
            self.sizes = [*self.sizes[-99:], len(together)]
            self._answer([request for request in together if request.answer.set_running_or_notify_cancel()])

    def _answer(self, requests: List[Request]) -> None:
        """Together; where that fails, each alone, so that one user's mistake is nobody else's."""
        if not requests:
            return
        try:
            made = self._batch.convert([one.sound for one in requests], [one.voice for one in requests],
                                       [one.transpose for one in requests])
        except BaseException as error:
            if len(requests) == 1:
                requests[0].answer.set_exception(error)
                return
            for request in requests:
                self._answer([request])
            return
        for request, sound in zip(requests, made):
            request.answer.set_result(sound)
