"""What the inference panel does, without any page: a base and an adapter in RVC's converter, and merged."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import threading
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from ... import entries
from ...conversion.blend import blend, table_of
from ...host import Host
from ...host.converter import Converter, Installed
from ...host.index import find_index
from ...host.patch import in_use
from ...host.safe_types import voice_allowed
from ...inference.model_loader import VoiceLoader
from ...inference.patched import give_voice
from ...inference.strength import MAX_STRENGTH, check_strength
from ...inference.transpose import Transposition, choose_transposition
from ...lora import Adapter, load_adapter, save_adapter
from ...lora.adapter_file import read_metadata
from ...lora.adapter_metadata import Part, read_parts
from ...messages import Text, UserError
from ...models import Base, load_base_beside_config
from ...models.catalog import Catalog, kind_of, stamp_of
from ...models.prior_noise import LEAST, MAX_NOISE
from ...models.voice_file import save_model
from ...names import plain_name

logger = logging.getLogger(__name__)


Extras = Tuple[Tuple[str, float], ...]
MOST_VOICES = 4
"""Of a blend on the page."""


class State(NamedTuple):
    """What `vc` converts with, as far as it is ours. Names as in the lists; adapter "" is the plain base."""

    base: str
    adapter: str
    strength: float
    speaker: int
    speakers: int
    f0: bool
    extras: Extras = ()
    """Further voices of a blend, with their strengths."""
    noise: float = 0.0
    """Share of RVC's own noise that was asked for; 0 for the voices' own."""
    heard: float = 1.0
    """Share of it that is heard."""


class Voices:
    """The panel's side of one converter.

    Args:
        vc: RVC's converter, or an object with its attributes (`host.converter`).
        host: the RVC installation.
        catalog: the files to choose from.
    """

    def __init__(self, vc: Any, host: Host, catalog: Catalog):
        self.vc, self.host, self.catalog = vc, host, catalog
        self._converter = Converter(vc)
        self._turn = threading.RLock()  # one change at a time; conversions are the concern of `in_use`
        self._kept: Callable[[], Optional[VoiceLoader]] = lambda: None
        self._base = self._adapter = ""
        self._strength = 1.0
        self._base_stamp: Tuple[int, int] = (0, 0)
        self._loaded: Optional[Adapter] = None  # which `_adapter` is, also at strength 0
        self._extras: Tuple[Tuple[str, float, Adapter], ...] = ()
        self._noise = 0.0

    @property
    def _voice(self) -> Optional[VoiceLoader]:
        """The base that is loaded. Its network holds it, and `vc` the network: when RVC loads a voice of its own list,
        both go."""
        return self._kept()

    @_voice.setter
    def _voice(self, voice: Optional[VoiceLoader]) -> None:
        self._kept = weakref.ref(voice) if voice is not None else lambda: None

    @property
    def noise(self) -> float:
        """Share of RVC's own noise that whatever is loaded here is heard with; 0 for the voices' own."""
        return self._noise

    @property
    def state(self) -> Optional[State]:
        """None where `vc` converts with a voice of RVC's own list, or with none."""
        voice = self._voice
        if voice is None or self._converter.ours is not voice.network:
            return None
        speaker = self._loaded.speaker if self._loaded is not None else 0
        return State(self._base, self._adapter, self._strength, speaker, voice.info.speakers, voice.info.f0,
                     tuple(extra[:2] for extra in self._extras), self._noise, voice.heard_noise)

    def load(self, base: str, adapter: str = "", strength: float = 1.0,
             extras: Optional[Sequence[Tuple[str, float]]] = None) -> Optional[State]:
        """Let `vc` convert with a base and an adapter on it; what is loaded already is not loaded again.

        Args:
            base: "" leaves the base that is loaded, or finds the adapter's own by its name.
            adapter: "" is the plain base.
            strength: 0 to 1.5.
            extras: further voices and their strengths, which blend with it; None leaves those that are loaded, as far
                as the base stays.

        A saved blend whose parts are all there is loaded as these parts.

        Raises:
            UserError: a name that is not in the lists, a damaged file, an adapter of another base. The voice before
                stays loaded.
        """
        base, adapter, strength = base or "", adapter or "", check_strength(strength)
        with self._turn:
            now = self.state
            if not base and not adapter:
                return now
            path = self.catalog.adapter_path(adapter) if adapter else None
            parts = self._parts_of(path, strength) if path is not None and not extras else []
            if parts:
                (adapter, strength), extras = parts[0], parts[1:]
                path = self.catalog.adapter_path(adapter)
            base_path = self.catalog.base_path(base or self._base_for(path, now))
            base = self.catalog.base_name(base_path)
            stamp = stamp_of(base_path)
            fresh = now is None or self._voice is None or now.base != base or self._base_stamp != stamp
            voice = self._read_base(base_path) if fresh or self._voice is None else self._voice
            loaded = _checked(voice, path) if path is not None else None
            if extras is None:
                more = () if fresh else self._extras
            else:
                more = tuple((name, check_strength(share), _checked(voice, self.catalog.adapter_path(name)))
                             for name, share in extras[:MOST_VOICES - 1])
            same = [(*extra[:2], id(extra[2])) for extra in more] == [(*extra[:2], id(extra[2]))
                                                                      for extra in self._extras]
            if not fresh and loaded is self._loaded and same and (loaded is None or strength == self._strength):
                return now
            with in_use.change():
                voice.set_adapters(_pairs(loaded, strength, more), noise=self._noise or None)
                if fresh:
                    self._install(voice)
                self._base, self._base_stamp, self._adapter, self._loaded, self._strength = (base, stamp, adapter,
                                                                                             loaded, strength)
                self._extras = more
            return self.state

    def set_noise(self, noise: Any) -> Optional[State]:
        """Hear what is loaded, and what will be, with another share of RVC's own noise.

        Args:
            noise: 0 for what each voice brings itself, else 0.05 to 1.5.

        Raises:
            UserError: it is no such number, or the base that is loaded does not allow it. The noise stays as it was.
        """
        wanted = entries.number(noise, Text("the noise"), 0, MAX_NOISE)
        if 0 < wanted < LEAST:
            raise UserError("the noise {noise:g} is too low: give 0 for the voice's own, or {least} to {most}",
                            noise=wanted, least=LEAST, most=MAX_NOISE)
        with self._turn:
            if wanted != self._noise and self.state is not None and self._voice is not None:
                with in_use.change():
                    self._voice.set_adapters(_pairs(self._loaded, self._strength, self._extras), noise=wanted or None)
            self._noise = wanted
            return self.state

    def unload(self) -> Optional[State]:
        """Remove the adapter: the base stays loaded, as it was."""
        with self._turn:
            if self.state is None or self._voice is None:
                return None
            with in_use.change():
                self._voice.set_adapters([], noise=self._noise or None)
                self._adapter, self._loaded, self._extras = "", None, ()
            return self.state

    def release(self) -> None:
        """Let the base go, and HuBERT with it, as RVC's own unloading does. Nothing happens to a voice of RVC's."""
        with self._turn:
            if self.state is None:
                return
            with in_use.change():
                self._converter.release()
                self._voice, self._base, self._adapter, self._loaded, self._extras = None, "", "", None, ()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def merge(self, name: str) -> Path:
        """Write what is loaded as NAME.pth, which RVC's own list shows: base plus adapter at its strength, with the
        noise that it is heard with; the base alone where a noise was asked for.

        It is computed in fp32 from the files; the loaded network is not touched.

        Raises:
            UserError: no adapter is loaded, a bad name, or one that is taken.
        """
        text = str(name or "").strip()
        text = plain_name(text[:-4] if text.lower().endswith(".pth") else text)
        with self._turn:
            now = self.state
            pairs = _pairs(self._loaded, self._strength, self._extras)
            if now is None or not pairs and not self._noise:
                raise UserError("no adapter is loaded, so there is nothing to merge: choose a base and an adapter "
                                "first")
            weights = self.catalog.weights
            taken = {file.lower() for file in os.listdir(str(weights))} if weights.is_dir() else set()
            if f"{text}.pth".lower() in taken:
                raise UserError("{text}.pth is in {weights_name}/ already: choose another name", text=text,
                                weights_name=weights.name)
            voice = VoiceLoader(self._load_base(self.catalog.base_path(now.base)), self.host)
            if self._voice is None or voice.info.base_hash != self._voice.info.base_hash:
                raise UserError("{base} has changed since it was loaded: choose the base and the adapter again",
                                base=now.base)
            voice.set_adapters(pairs, noise=self._noise or None)
            path = weights / f"{text}.pth"
            with _written(path):
                save_model(path, voice.as_model())
            return path

    def save_blend(self, name: str) -> Path:
        """Write the blend that is loaded as one adapter, exact, into the folder of the adapters. It says of which
        files it is made, so that loading it brings them back.

        Raises:
            UserError: fewer than two voices are loaded, a bad name, or one that is taken.
        """
        text = str(name or "").strip()
        text = plain_name(text[:-12] if text.lower().endswith(".safetensors") else text)
        with self._turn:
            now, pairs = self.state, _pairs(self._loaded, self._strength, self._extras)
            if now is None or len(pairs) < 2:
                raise UserError("a blend needs two voices or more: add one and choose its adapter")
            path = self.catalog.loras / f"{text}.safetensors"
            taken = {file.lower() for file in os.listdir(str(path.parent))} if path.parent.is_dir() else set()
            if path.name.lower() in taken:
                raise UserError("{text} is in {folder}/ already: choose another name", text=path.name,
                                folder=path.parent.name)
            files = [*([now.adapter] if now.adapter else []), *(extra for extra, _ in now.extras)]
            made = blend(pairs, text, table_of(self.catalog.base_path(now.base)), True, files)
            with _written(path):
                save_adapter(path, made.tensors, made.config, made.metadata)
            return path

    def _parts_of(self, path: Path, strength: float) -> List[Tuple[str, float]]:
        """The adapters that a saved blend is made of, by their names in the list, with their strengths; [] where the
        file is no blend, or one of them is not there as it was."""
        found: List[Tuple[str, float]] = []
        parts = read_parts(read_metadata(path).get("parts", ""))
        names = self.catalog.adapters() if parts else []
        for part in parts:
            near = [name for name in names if Path(name).name == Path(part.file).name]
            same = [name for name in near if self._is_part(name, part)]
            if not same or not 0 <= part.strength * strength <= MAX_STRENGTH:
                return []
            found.append((same[0], part.strength * strength))
        return found if len(found) <= MOST_VOICES else []

    def _is_part(self, name: str, part: Part) -> bool:
        try:
            return read_metadata(self.catalog.adapter_path(name))["checksum"] == part.checksum
        except UserError:
            return False

    def index_for(self, state: State) -> str:
        """The index that RVC itself would pick for a voice of that name, else the newest of its experiment; "" where
        there is none."""
        source = state.adapter or (state.base if state.base.startswith("weights/") else "")
        stem = Path(source).stem
        for name in filter(None, (stem, re.sub(r"_(last|e\d+(_s\d+)?)$", "", stem, flags=re.IGNORECASE))):
            path = ""
            try:
                path = self._converter.index_of(f"{name}.pth")
            except OSError as error:  # RVC's search stops at a link in assets/indices whose file is gone
                logger.warning("RVC-LoRA: %s", error)
            if not path:
                with contextlib.suppress(UserError):
                    path = str(find_index(self.catalog.root / "logs" / name))
            if path:
                return path
        return ""

    def transposition(self, audio: np.ndarray) -> Transposition:
        """How far to shift a recording so that it lies where the loaded voice lies. audio: (samples,) at 16 kHz."""
        with self._turn:
            voice = self._voice if self.state is not None else None
        return choose_transposition(voice, audio) if voice is not None else Transposition(0)

    def fits(self, adapter: str, base: str) -> bool:
        """Whether an adapter was trained on a base, both by their names in the lists.

        Raises:
            UserError: one is not in its list, or is no adapter.
        """
        own, path = read_metadata(self.catalog.adapter_path(adapter)), self.catalog.base_path(base)
        if (self.state is not None and self.state.base == base and self._voice is not None
            and self._base_stamp == stamp_of(path)):
            return self._is_of(own)
        kind = kind_of(path)
        return str(kind.sample_rate
                   or own["sample_rate"]) == own["sample_rate"] and self.catalog.hash_of(path) == own["base_hash"]

    def _is_of(self, own: Mapping[str, str]) -> bool:
        """Whether an adapter, by its metadata, was trained on the loaded base: of two rates, a base may have the same
        tensors."""
        info = self._voice.info if self._voice is not None else None
        return info is not None and info.base_hash == own["base_hash"] and str(info.sample_rate) == own["sample_rate"]

    # ------------------------------------------------------------ parts

    def _base_for(self, adapter: Optional[Path], now: Optional[State]) -> str:
        """The base that an adapter was trained on: the loaded one, else the one of its hash."""
        assert adapter is not None
        own = read_metadata(adapter)
        if now is not None and self._is_of(own):
            return now.base
        return self.catalog.own_base(own)

    def _load_base(self, path: Path) -> Base:
        with voice_allowed():
            return load_base_beside_config(path, self.host)

    def _read_base(self, path: Path) -> VoiceLoader:
        """A base ready to convert, as RVC's get_vc makes a voice: without enc_q, on its device, in fp16 where RVC runs
        so."""
        base = self._load_base(path)
        if hasattr(base.network, "enc_q"):
            del base.network.enc_q
        voice = VoiceLoader(base, self.host)
        device, half = self._converter.device
        if str(device) != "cpu" or half:
            voice.move(device, half)
        give_voice(voice.network, voice)
        return voice

    def _install(self, voice: VoiceLoader) -> None:
        """Put a base into `vc`, all that RVC's get_vc would set."""
        info = voice.info
        self._converter.install(voice.network, Installed(
            list(info.config), info.f0, info.version, info.sample_rate, info.speakers, info.name))
        self._voice = voice
        gc.collect()  # the base before: a network and its voices hold each other


def _pairs(loaded: Optional[Adapter], strength: float,
           extras: Sequence[Tuple[str, float, Adapter]]) -> List[Tuple[Adapter, float]]:
    """What is applied: each adapter with its strength."""
    return [*([(loaded, strength)] if loaded is not None else []), *((adapter, share) for _, share, adapter in extras)]


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    """Say where a file cannot be written, in words that fit a page."""
    try:
        yield
    except OSError as error:
        raise UserError("{path} could not be written ({strerror}): free some space or check the folder's "
                        "permissions", path=path, strerror=error.strerror) from None


def _checked(voice: VoiceLoader, path: Path) -> Adapter:
    """The adapter, checked against the base.

    Raises:
        UserError: as `VoiceLoader.load`, in words that fit a page, where there is no --force.
    """
    own, info = read_metadata(path), voice.info
    if own["base_hash"] == info.base_hash:
        return voice.load(path)
    adapter = load_adapter(path)
    voice.check(adapter)  # another sample rate or shape says more than another hash
    mine = f"{own['rvc_version']}, {int(own['sample_rate']) / 1000:g}k, {own['base_hash'][:8]}…"
    chosen = f"{info.version}, {info.sample_rate / 1000:g}k, {info.base_hash[:8]}…"
    raise UserError("adapter {adapter_name!r} was trained on the base {base_name} ({mine}); the chosen base is "
                    "{info_name} ({chosen}): choose the adapter's own base",
                    adapter_name=adapter.name, base_name=own["base_name"], mine=mine, info_name=info.name,
                    chosen=chosen)
