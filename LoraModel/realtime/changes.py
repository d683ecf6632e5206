"""Changes of voice under a stream: prepared by another thread, exchanged between two blocks.

The audio thread calls `take` before each block, and that is all it ever does about voices: where a blend is ready, its
weights change places with those in use (under a millisecond), else nothing happens. Reading files, checking them and
computing weights is done by a thread of this class, beside the network (`VoiceLoader.prepare`). Blends are kept while
there is room, so that one that is asked for again is there at once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..host import Host
from ..inference.adapter_choice import adapter_at, pairs_of
from ..inference.model_loader import Adapters, Applied, Blend, Source, VoiceLoader
from ..inference.strength import check_strength
from ..lora import Adapter
from ..messages import UserError
from ..models.prior_noise import asked_share

Wanted = Adapters
"""Adapters, or their files, with their strengths; empty for the plain base."""
ROOM = 512 * 10**6
"""Bytes that prepared blends may take: four at v2 40k, at about 105 MB each."""

IDLE = 10.0
"""Seconds without a request after which the thread ends: it would keep the network of a stream that nobody uses."""

_Key = Tuple[Any, ...]


class _Request:
    """A blend that was asked for and is not ready."""

    def __init__(self, key: _Key, chosen: List[Tuple[Source, float]], force: bool, any_strength: bool,
                 noise: Optional[float]):
        self.key, self.chosen, self.force, self.any_strength, self.noise = key, chosen, force, any_strength, noise
        self.answer: Future[bool] = Future()
        self.answer.set_running_or_notify_cancel()


class VoiceChanges:
    """Changes of voice on `voice` for one stream.

    Args:
        voice: the base in use. Nobody else should change its voice meanwhile; where one does, the next change here
            puts it right.
        in_place: keep every tensor of the network where it is and copy into it, as CUDA graphs need. None: on CUDA.
        room: bytes for prepared blends that are kept; the one in use and the one to come are kept whatever their size.
    """

    def __init__(self, voice: VoiceLoader, in_place: Optional[bool] = None, room: int = ROOM):
        self.voice = voice
        self._in_place = voice.device.type == "cuda" if in_place is None else in_place
        self._room = room
        self._turn = threading.Condition()  # held for moments only; never while `voice.lock` is waited for
        self._kept: OrderedDict[_Key, Blend] = OrderedDict()  # the one used longest ago first
        self._request: Optional[_Request] = None
        self._ready: Optional[Blend] = None
        self._shown: Optional[Blend] = None
        self._thread: Optional[threading.Thread] = None
        self._closed = False
        self.held = 0.0
        """Seconds that the last change of voice held the audio thread."""

    def use(self, adapters: Wanted, force: bool = False, any_strength: bool = False,
            noise: Optional[float] = None) -> Future[bool]:
        """Ask for a blend; returns at once, from any thread. Of several requests the last one counts.

        Args:
            adapters: {adapter or file: strength}, pairs of them, or adapters that are each at strength 1; empty for
                the plain base.
            force, any_strength, noise: as `VoiceLoader.set_adapters` takes them.

        Returns:
            What becomes of it. `result()` is True when the next block will be heard in this voice, False when a later
            request took its place; it raises UserError where a file is missing, damaged or of another base. The voice
            in use then stays.

        Raises:
            UserError: a strength or a noise that is no number or out of range.
        """
        chosen, noise = _checked(adapters, any_strength, noise)
        request = _Request(self._key(chosen, force, noise), chosen, force, any_strength, noise)
        with self._turn:
            if self._closed:
                raise RuntimeError("this stream is closed")
            waiting, self._request = self._request, None
            if waiting is not None:
                waiting.answer.set_result(False)
            known = self._kept.get(request.key)
            if known is not None:
                self._set_ready(request.key, known)
                request.answer.set_result(True)
                return request.answer
            self._request = request
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rvc-lora-voices", daemon=True)
                self._thread.start()
            self._turn.notify_all()
        return request.answer

    def prepare(self, adapters: Wanted, force: bool = False, any_strength: bool = False,
                noise: Optional[float] = None) -> None:
        """Prepare a blend now, in the calling thread, and keep it: a later `use` of it is there at once.

        Raises:
            UserError: as `use` and its answer.
        """
        chosen, noise = _checked(adapters, any_strength, noise)
        key = self._key(chosen, force, noise)
        with self._turn:
            if key in self._kept:
                return
        blend = self.voice.prepare(self._resolved(chosen), force, any_strength, noise)
        with self._turn:
            self._kept[key] = blend
            self._trim()

    def take(self) -> bool:
        """Between two blocks, by the audio thread: change to the blend that is ready, if one is. True where the voice
        changed."""
        if self._ready is None:
            return False
        started = time.perf_counter()
        with self.voice.lock, self._turn:
            ready, self._ready = self._ready, None
            if ready is None:
                return False
            self.voice.exchange(ready, self._in_place)
            self._shown = ready
        self.held = time.perf_counter() - started
        return True

    @property
    def applied(self) -> List[Applied]:
        """The voice of the last block."""
        return self.voice.applied

    def close(self) -> None:
        """End the thread; the voice in use stays."""
        with self._turn:
            self._closed = True
            request, self._request = self._request, None
            if request is not None:
                request.answer.set_result(False)
            self._turn.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    # Parts

    def _resolved(self, chosen: Sequence[Tuple[Source, float]]) -> List[Tuple[Source, float]]:
        return _resolved(self.voice.host, chosen)

    def _key(self, chosen: Sequence[Tuple[Source, float]], force: bool, noise: Optional[float]) -> _Key:
        return (force, noise, *key_of(self.voice.host, chosen))

    def _set_ready(self, key: _Key, blend: Blend) -> None:
        self._kept.move_to_end(key)
        there = blend is self._shown and (list(blend.applied), blend.noise) == (self.voice.applied, self.voice.noise)
        self._ready = None if there else blend

    def _work(self) -> None:
        while True:
            with self._turn:
                asked = self._turn.wait_for(lambda: self._request is not None or self._closed, IDLE)
                if self._closed or not asked:
                    self._thread = None  # the next request starts another
                    return
                request, self._request = self._request, None
                spare = self._trim(fresh=True)
            assert request is not None
            try:
                blend = self.voice.prepare(self._resolved(request.chosen), request.force, request.any_strength,
                                           request.noise, spare)
            except BaseException as error:  # reported to whoever asked; the thread goes on
                request.answer.set_exception(error)
                continue
            with self._turn:
                self._kept[request.key] = blend
                newest = self._request is None and not self._closed
                if newest:
                    self._set_ready(request.key, blend)
                self._trim()
            request.answer.set_result(newest)

    def _trim(self, fresh: bool = False) -> Optional[Blend]:
        """Let go of blends beyond the room, those used longest ago first; return one of them, for its memory.

        fresh: leave room for one more, as large as the largest.
        """
        sizes: Dict[_Key, int] = {key: blend.weights.bytes for key, blend in self._kept.items()}
        total = sum(sizes.values()) + (max(sizes.values(), default=0) if fresh else 0)
        spare = None
        for key in list(self._kept):
            if total <= self._room:
                break
            if self._kept[key] is not self._shown and self._kept[key] is not self._ready:
                spare = self._kept.pop(key)
                total -= sizes[key]
        return spare


class ChangingVoice:
    """What a stream and a realtime object offer of their changes of voice, held in `_changes`."""

    _changes: VoiceChanges

    @property
    def applied(self) -> List[Applied]:
        """What is heard, in a stream the voice of the last block: adapters and their strengths; empty for the plain
        base."""
        return self._changes.applied

    @property
    def held(self) -> float:
        """Seconds that the last change of voice held the audio thread."""
        return self._changes.held

    def use(self, adapters: Wanted, force: bool = False, any_strength: bool = False,
            noise: Optional[float] = None) -> Future[bool]:
        """Change the voice: at any time, from any thread; returns at once, and is heard from the next block on
        (`VoiceChanges.use`).

        Args:
            adapters: {file or adapter: strength}, such as {"anna.safetensors": 0.7, "bob.safetensors": 0.3}; {} for
                the plain base. noise: share of RVC's own noise, 0.05 to 4; None for the adapters' own.
        """
        return self._changes.use(adapters, force, any_strength, noise)

    def prepare(self, adapters: Wanted, force: bool = False, any_strength: bool = False,
                noise: Optional[float] = None) -> None:
        """Make a voice ready before it is asked for, so that a `use` of it is heard from the next block on."""
        self._changes.prepare(adapters, force, any_strength, noise)


def _checked(adapters: Wanted, any_strength: bool,
             noise: Optional[float]) -> Tuple[List[Tuple[Source, float]], Optional[float]]:
    """What is asked for, the adapters as pairs.

    Raises:
        UserError: a strength or a noise that cannot be.
    """
    chosen = [(source, check_strength(strength, any_strength)) for source, strength in pairs_of(adapters)]
    return chosen, asked_share(noise)


def _resolved(host: Host, chosen: Sequence[Tuple[Source, float]]) -> List[Tuple[Source, float]]:
    return [(source if isinstance(source, Adapter) else host.resolve(source), strength) for source, strength in chosen]


def key_of(host: Host, chosen: Sequence[Tuple[Source, float]]) -> _Key:
    """The same for the same voice: files by path, time and size, so that one that has changed is another voice."""
    return tuple((id(source) if isinstance(source, Adapter) else _stamp(Path(source)), strength)
                 for source, strength in _resolved(host, chosen) if strength)


def _stamp(path: Path) -> Tuple[str, int, int]:
    try:
        path = adapter_at(path)
        stat = path.stat()
    except (OSError, UserError):
        return str(path), 0, 0  # the thread that reads it says what is wrong
    return str(path), stat.st_mtime_ns, stat.st_size
