"""One base in memory, and voices that come and go on it in milliseconds.

The base is read once. An adapter is read and checked once, and kept as the small factors of its deltas; applying it
writes base + strength * delta into the live weights (`lora.LiveWeights`), in place. A switch that fails changes
nothing.
"""

from __future__ import annotations

import numbers
import threading
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..host import Host, find_host
from ..lora import Adapter, LiveWeights, Prepared, load_adapter
from ..lora.adapter_bytes import Stamp, stamp_of
from ..lora.voice_pitch import VoicePitch, pitch_of_blend
from ..messages import UserError
from ..models import Base, BaseInfo, load_base_beside_config
from ..models.prior_noise import LAYER, asked_share, brought, set_share
from ..models.voice_file import small_model
from ..names import shown
from ..recent import Recent
from .adapter_choice import adapter_at, pairs_of
from .strength import check_strength

Source = Union[str, Path, Adapter]
Adapters = Union[Source, Mapping[Source, float], Iterable[Any]]
"""An adapter, several, pairs of adapter and strength, or {adapter: strength} (`adapter_choice.pairs_of`)."""
SPEAKERS = "emb_g"
"""The path of the speaker table in every network of RVC's."""
KEPT_BYTES = 64 * 2**20
"""Of adapters that were read, and as much again of their factors: about 90 voices of the default preset, however many
are used."""

Products = Dict[str, Tuple[Tensor, Tensor]]


class _Read(NamedTuple):
    """An adapter's file that was read. stamp: of the file then. force: whether another base was allowed."""

    stamp: Optional[Stamp]
    force: bool
    adapter: Adapter


class _Checked(NamedTuple):
    """An adapter that fits the base, and the factors of its deltas."""

    adapter: Adapter
    products: Products


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Applied(NamedTuple):
    """An adapter that is applied, and its strength."""

    adapter: Adapter
    strength: float


class Blend(NamedTuple):
    """Adapters with their strengths, the share of RVC's noise that was asked for (None: the voices' own), and the
    weights that they make, prepared beside the network."""

    applied: Tuple[Applied, ...]
    weights: Prepared
    noise: Optional[float] = None


class VoiceLoader:
    """A base and the adapters applied to it.

    Use it from one thread or many: `lock` is held while weights change; hold it as well while converting, so that a
    switch waits for the conversion under way (`inference.convert` and `host.pipeline` do). Reading files and preparing
    a blend (`prepare`) wait for no conversion, and no conversion for them.

    Args:
        base: a base's file, or one that is loaded already.
        host: the RVC installation; None finds it.
        device: where the network lives.
        sample_rate, config_json: as `load_base` takes them. A config.json beside the base's file is found by itself.
    """

    def __init__(
        self,
        base: Union[str, Path, Base],
        host: Optional[Host] = None,
        device: Union[str, torch.device] = "cpu",
        sample_rate: Union[int, str, None] = None,
        config_json: Union[str, Path, None] = None,
    ):
        self.host = host or find_host()
        if not isinstance(base, Base):
            base = load_base_beside_config(base, self.host, sample_rate, config_json)
        self.base = base
        self.device = torch.device(device)
        self.network: nn.Module = base.network.to(self.device)
        self.lock = threading.RLock()
        self._preparing = threading.RLock()  # taken after `lock` or without it; who holds it never waits for `lock`
        self._live = LiveWeights(self.network, keep=True)
        self._applied: List[Applied] = []
        self._noise: Optional[float] = None
        # A file is read again when it has changed, an adapter checked once. What was used longest ago is let go.
        self._files: Recent[_Read] = Recent(KEPT_BYTES, lambda read: _size(read.adapter.tensors.values()))
        self._products: Recent[_Checked] = Recent(
            KEPT_BYTES, lambda one: sum(_size(pair) for pair in one.products.values())
            + _size(one.adapter.tensors.values()))

    @property
    def info(self) -> BaseInfo:
        return self.base.info

    @property
    def applied(self) -> List[Applied]:
        """What is applied now; empty for the plain base."""
        return list(self._applied)

    @property
    def speaker(self) -> int:
        """The row of the speaker table that the applied voice was trained on; 0 for the plain base."""
        return self._applied[0].adapter.speaker if self._applied else 0

    @property
    def pitch(self) -> Optional[VoicePitch]:
        """How high the voice that is applied speaks, as its adapters tell (a blend lies between), or as a merged
        voice's file tells; None where one of them does not."""
        if not self._applied:
            return self.info.pitch
        return pitch_of_blend([(adapter.metadata, strength) for adapter, strength in self._applied])

    @property
    def noise(self) -> Optional[float]:
        """The share of RVC's own noise that was asked for; None where the voices' own is heard."""
        return self._noise

    @property
    def plain(self) -> bool:
        """Whether the network is the base as its file has it."""
        return not self._applied and self._noise is None

    @property
    def heard_noise(self) -> float:
        """The share of RVC's own noise that is heard: what was asked for, else what the base's file and the adapters
        bring; 1 is RVC's."""
        if self._noise is not None:
            return self._noise
        with self._preparing:
            parts = [(strength, self._factors(adapter).get(LAYER)) for adapter, strength in self._applied]
        return self.info.noise * brought(parts, self.network)

    @property
    def title(self) -> str:
        """What the voice is called: its adapters' names and strengths, the base's where none is applied, and the noise
        that was asked for."""
        names = " + ".join(one.name if strength == 1 else f"{strength:g} x {one.name}"
                           for one, strength in self._applied) or self.info.name
        return names if self._noise is None else f"{names}, noise {self._noise:g}"

    def as_model(self, name: str = "") -> Dict[str, Any]:
        """The voice that is applied as RVC's small model, for `models.voice_file.save_model`.

        Args:
            name: what the model says of itself; "" for the adapters' names and strengths.
        """
        with self.lock:
            names = name or ("" if self.plain else self.title)
            changed = sorted({*(path for adapter, _ in self._applied for path in adapter.layers()),
                              *([LAYER] if self._noise is not None else [])})
            return small_model(self.network, self.info, f"{names} (RVC-LoRA, base {self.info.name})".strip(), changed,
                               self.pitch, self.heard_noise)

    def move(self, device: Union[str, torch.device], half: bool = False) -> None:
        """Take the network to another device, and to fp16, as RVC runs it on most GPUs. Only with no adapter
        applied."""
        with self.lock, self._preparing:
            if not self.plain:
                raise ValueError("move the network before an adapter or a noise is applied")
            self.device = torch.device(device)
            self.network.to(self.device)
            self.network.to(torch.float16 if half else torch.float32)
            self._products.clear()
            self._live = LiveWeights(self.network, keep=True)

    def load(self, path: Union[str, Path], force: bool = False) -> Adapter:
        """Read an adapter's file and check it against the base; a file that has not changed is not read again.

        Args:
            path: the file, or the folder of a training run.
            force: take an adapter that was trained on another base of the same shapes.

        Raises:
            UserError: missing or damaged file, another base (both are named), another sample rate, other shapes.
        """
        path = adapter_at(Path(path).absolute())
        with self._preparing:
            stamp, known = stamp_of(path), self._files.get(path)
            if known is not None and (known.stamp, known.force) == (stamp, force):
                return known.adapter
            adapter = load_adapter(path, self.info.base_hash, self.info.name, force)
            self._live.prepare(self._factors(adapter))
            if known is not None:
                self._products.drop(id(known.adapter))
            self._files.put(path, _Read(stamp, force, adapter))
            return adapter

    def check(self, adapter: Adapter) -> None:
        """Check that `adapter` fits the base.

        Raises:
            UserError: another sample rate, a speaker that the base has not, or a key or shape that does not fit.
        """
        rate = int(adapter.metadata.get("sample_rate", self.info.sample_rate))
        if rate != self.info.sample_rate:
            raise UserError("adapter {adapter_name!r} is for {rate} Hz, the base {info_name} gives {sample_rate} Hz: "
                            "choose a base of {rate} Hz",
                            adapter_name=adapter.name, rate=rate, info_name=self.info.name,
                            sample_rate=self.info.sample_rate)
        adapter.check(self.network)
        if not 0 <= adapter.speaker < self.info.speakers:
            raise UserError("adapter {adapter_name!r} is of speaker {speaker}, the base {info_name} has {speakers}: "
                            "it is of another base",
                            adapter_name=adapter.name, speaker=adapter.speaker, info_name=self.info.name,
                            speakers=self.info.speakers)

    def set_adapters(self, adapters: Adapters, force: bool = False,
                     any_strength: bool = False, noise: Optional[float] = None) -> None:
        """Make the network base + the sum of strength * delta, in place. Several adapters blend; strength 0 is none at
        all. Row 0 of the speaker table, which RVC converts with, is the voice's, and so is the row that it was trained
        on.

        Args:
            adapters: {file or adapter: strength}, pairs of them, or adapters that are each at strength 1.
            force: as `load` takes it.
            any_strength: take strengths beyond 0 to 1.5, from -100 to 100.
            noise: share of RVC's own noise that the voice, or the base alone, is heard with, 0.05 to 4; None for what
                the adapters bring themselves (`models.prior_noise`).

        Raises:
            UserError: as `load`; a strength or a noise that is no number or out of range; a base whose noise cannot be
                set. The voice that was applied before stays applied.
        """
        with self.lock, self._preparing:
            chosen = self._choose(adapters, force, any_strength)
            noise = asked_share(noise)
            try:
                self._live.write_products(self._sum(chosen, noise))
            except BaseException:
                if not self._live.touched:  # the voice before could not be written again either
                    self._applied, self._noise = [], None
                raise
            self._applied, self._noise = chosen, noise

    def morph(self, start: Adapters, end: Adapters, t: float,
              force: bool = False, any_strength: bool = False, noise: Optional[float] = None) -> None:
        """Make the network the blend that lies at `t` between two: every strength on the straight line from the one to
        the other, 0 where a blend has no such adapter.

        Args:
            start, end: as `set_adapters` takes adapters. t: 0 is `start`, 1 is `end`.
            force, any_strength, noise: as `set_adapters` takes them.

        Raises:
            UserError: as `set_adapters`; `t` is no number from 0 to 1.
        """
        if not isinstance(t, numbers.Real) or isinstance(t, bool) or not 0 <= t <= 1:
            raise UserError("t={t} is not between 0 and 1: 0 is the first blend, 1 the second", t=shown(t))
        mixed: Dict[Any, Tuple[Source, float]] = {}
        for blend, share in ((start, 1.0 - float(t)), (end, float(t))):
            for source, strength in pairs_of(blend):
                key = id(source) if isinstance(source, Adapter) else Path(source).absolute()
                before = mixed.get(key, (source, 0.0))[1]
                mixed[key] = (source, before + share * check_strength(strength, any_strength))
        self.set_adapters(list(mixed.values()), force, any_strength, noise)

    def prepare(self, adapters: Adapters, force: bool = False, any_strength: bool = False,
                noise: Optional[float] = None, spare: Optional[Blend] = None) -> Blend:
        """A blend's weights beside the network, for `exchange`: made while conversions go on, by another thread.

        Args:
            adapters, force, any_strength, noise: as `set_adapters` takes them.
            spare: a blend that is not in use and never will be again, whose memory is taken.

        Raises:
            UserError: as `set_adapters`.
        """
        with self._preparing:
            chosen = self._choose(adapters, force, any_strength)
            noise = asked_share(noise)
            weights = self._live.make(self._sum(chosen, noise), spare.weights if spare is not None else None)
            return Blend(tuple(chosen), weights, noise)

    def factors(self, adapters: Adapters, force: bool = False) -> Products:
        """The products of a blend, for `lora.rows.rows_adapted`: low-rank factors by module path, nothing applied.

        Raises:
            UserError: as `set_adapters`.
        """
        with self._preparing:
            return self._sum(self._choose(adapters, force, False), None)

    def exchange(self, blend: Blend, in_place: bool = False) -> None:
        """Make a prepared blend what conversions hear: pointers change hands, which takes less than a millisecond.

        Args:
            in_place: copy into the network's own tensors instead, which CUDA graphs need.
        """
        with self.lock:
            self._live.exchange(blend.weights, in_place)
            self._applied, self._noise = list(blend.applied), blend.noise

    def unload(self) -> None:
        """Give the base back, bit for bit."""
        with self.lock, self._preparing:
            self._live.restore()
            self._applied, self._noise = [], None

    def _choose(self, adapters: Adapters, force: bool, any_strength: bool) -> List[Applied]:
        chosen = []
        for source, strength in pairs_of(adapters):
            strength = check_strength(strength, any_strength)
            adapter = source if isinstance(source, Adapter) else self.load(source, force)
            self._factors(adapter)
            if strength:
                chosen.append(Applied(adapter, strength))
        return chosen

    def _factors(self, adapter: Adapter) -> Products:
        """The adapter's factors, checked and made once. The adapter is kept beside them, so that its id stays its own.

        Raises:
            UserError: it does not fit the base.
        """
        known = self._products.get(id(adapter))
        if known is None:
            self.check(adapter)
            known = self._products.put(id(adapter), _Checked(adapter, adapter.products(self.network)))
        return known.products

    def _sum(self, chosen: Sequence[Applied], noise: Optional[float]) -> Products:
        """The products of the blend: factors side by side, of rank r1 + r2 + …, with the strength in the left one; and
        what sets its noise."""
        parts: Dict[str, List[Tuple[Tensor, Tensor]]] = {}
        for adapter, strength in chosen:
            for path, (left, right) in self._factors(adapter).items():
                if path != SPEAKERS:
                    parts.setdefault(path, []).append((left * strength, right))
        products = {
            path: some[0] if len(some) == 1 else (torch.cat([left for left, _ in some], 1),
                                                  torch.cat([right for _, right in some], 0))
            for path, some in parts.items()
        }
        if chosen:
            products[SPEAKERS] = self._rows(chosen)
        return products if noise is None else set_share(products, self.network, noise, self.info.noise)

    def _rows(self, chosen: Sequence[Applied]) -> Tuple[Tensor, Tensor]:
        """What makes row 0 of the speaker table, and each row that one of the voices was trained on, the blend's own
        row.

        RVC converts with row 0. The blend's row is that row of the base, plus for each voice its strength times what
        its own row in the base, with its delta, differs from it. In float64, so that one voice at strength 1 on its
        row is its delta exactly.

        Returns:
            (left, right) of shapes (table's rows, k) and (k, size of a row), fp32, for the k rows that change.
        """
        self._live.prepare([SPEAKERS])
        table = self._live.pristine_weight(SPEAKERS).double()
        deltas = torch.zeros_like(table[0])
        moved = torch.zeros_like(table[0])
        for adapter, strength in chosen:
            row = adapter.speaker
            moved += strength * (table[row] - table[0])
            factors = self._factors(adapter).get(SPEAKERS)
            if factors is not None:
                deltas += strength * (factors[0][row].double() @ factors[1].double())
        rows = sorted({0, *(adapter.speaker for adapter, _ in chosen)})
        right = torch.stack([deltas + (moved + (table[0] - table[row])) for row in rows])
        left = torch.zeros(len(table), len(rows), dtype=torch.float32, device=table.device)
        left[rows, range(len(rows))] = 1
        return left, right.float()
