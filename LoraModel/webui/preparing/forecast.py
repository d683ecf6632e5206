"""What a run will be, before its first step: parameters, size of the file, steps and time. Nothing is written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import soundfile
import torch
from torch import nn

from ...files import system_name
from ...host import Host
from ...host import experiment as layout
from ...inference.audio import LONGEST, RATES
from ...lora import LoRAConfig
from ...lora.adapter_file import adapter_contents
from ...lora.lora_layer import LoRALayer, layer_class
from ...lora.targets import form_of
from ...messages import UserError
from ...models.catalog import Stamp, stamp_of
from ...models.model_utils import network_of_shapes
from ...models.prior_noise import with_target
from ...training.config import TrainConfig
from ...training.schedule import most_steps
from ..folders import Folders
from ..runs.run_settings import RunSettings
from .paces import USUAL, Paces

SLICE_SECONDS = 3.0
"""About what a slice is long, of RVC's slicing as of ours."""
LOOK_AGAIN = 30.0
"""Seconds after which the length of a folder of recordings is found out anew."""
AGAIN = 5.0
"""Seconds after which a forecast is worked out anew: the slices of the experiment may be others by then."""
MOST_FILES = 5000
START_SECONDS = 10.0
"""Of a run before its first step: base and data are read, and the base alone is evaluated on the held-out clips."""
CPU_SECONDS, GPU_SECONDS = 0.022, 0.002
"""Of a training step for a million parameters of the base and a clip, where no run has measured it."""


class Size(NamedTuple):
    """Of an adapter. parameters: trained ones. size: of its file, in bytes. base: parameters of its base, of which
    those of the layers that keep a smaller rank than was asked for are `clamped` layers."""

    parameters: int
    size: int
    base: int
    clamped: int


class Forecast(NamedTuple):
    """size: None where the base cannot be read. steps: 0 where there are no recordings yet. seconds: of the training
    alone, None where it is not known. preparing: seconds of the steps before it, 0 where they are done."""

    size: Optional[Size]
    steps: int
    seconds: Optional[float]
    preparing: float


class Forecaster:
    """The forecasts of one folder; what they rest on is looked up once."""

    def __init__(self, folders: Folders, host: Host):
        self.folders, self.host = folders, host
        self.paces = Paces(folders.own / "paces.json")
        self._networks: Dict[str, Tuple[Stamp, nn.Module]] = {}
        self._sizes: Dict[Tuple[str, Stamp, str], Size] = {}
        self._lengths: Dict[str, Tuple[float, float]] = {}
        self._lock, self._turn, self._busy = threading.Lock(), threading.Lock(), False
        self._answer: Optional[Tuple[Tuple[RunSettings, str], float, Optional[Forecast]]] = None

    def ask(self, settings: RunSettings, recordings: Any) -> Optional[Forecast]:
        """The forecast as far as it is known: it is worked out beside the page, which asks again; None until then."""
        key = (settings, recordings if isinstance(recordings, str) else "")
        with self._turn:
            known = self._answer if self._answer is not None and self._answer[0] == key else None
            old = known is None or time.monotonic() - known[1] > AGAIN
            if old and not self._busy:
                self._busy = True
                threading.Thread(target=self._work, args=key, daemon=True).start()
            return known[2] if known is not None else None

    def _work(self, settings: RunSettings, recordings: str) -> None:
        found: Optional[Forecast] = None
        try:
            found = self.forecast(settings, recordings)
        finally:
            with self._turn:
                self._answer, self._busy = ((settings, recordings), time.monotonic(), found), False

    def forecast(self, settings: RunSettings, recordings: Any) -> Forecast:
        """What the run of a form will be. recordings: the folder, as it was typed."""
        try:
            size: Optional[Size] = self.size(settings)
        except (UserError, OSError, ValueError):
            size = None
        slices = self.slices(settings.name)
        preparing = 0.0 if slices else sum(self.preparing(settings, self.seconds_of(recordings)).values())
        if not slices:
            slices = round(self.seconds_of(recordings) / SLICE_SECONDS)
        each = math.ceil(slices * (1 - TrainConfig.valid_fraction) / settings.batch_size) if slices > 1 else 0
        steps = each * settings.epochs if settings.epochs else most_steps() if each else 0
        pace = self.seconds_step(settings, size)
        return Forecast(size, steps, None if pace is None or not steps else START_SECONDS + pace * steps, preparing)

    def size(self, settings: RunSettings) -> Size:
        """Parameters and file size of the adapter that the settings make.

        Raises:
            UserError: the base cannot be read. ValueError: the settings name no such layers.
        """
        path, config = self.folders.catalog.training_base(settings.base_g), settings.lora()
        key = (str(path), stamp_of(path), config.to_json())
        with self._lock:
            if key not in self._sizes:
                self._sizes[key] = self._count(path, config, settings.name)
            return self._sizes[key]

    def _count(self, path: Path, config: LoRAConfig, name: str) -> Size:
        network, parameters, clamped, values = self._shapes_of(path), 0, 0, 0
        stored = with_target(config)  # of most bases; a file without it is 3 KB smaller
        size = len(adapter_contents({}, stored, {
            "name": name, "base_hash": "0" * 64, "base_name": path.stem, "rvc_version": "v2", "sample_rate": 40000,
            "f0": 1, "speaker": 0, "steps": 1000, "epochs": 20, "data_seconds": 600.0, "created": "0" * 25,
            "heldout": "0" * 120, "pitch": "0" * 70}))
        for place, module in network.named_modules():
            target = stored.target_of(place)
            kind = layer_class(module, form_of(target)) if target is not None else None
            if target is None or kind is None:
                continue
            rank, learns = stored.targets[target].r, config.target_of(place) is not None
            clamped += learns and issubclass(kind, LoRALayer) and kind.fitting_rank(module, rank) < rank
            for key, shape in kind.file_shapes(module, rank).items():
                count = math.prod(shape)
                entry = {"dtype": "F16", "shape": shape, "data_offsets": [2 * values, 2 * (values + count)]}
                size += 2 * count + len(json.dumps({f"{place}.{key}": entry}, separators=(",", ":"))) - 1
                values += count
                parameters += count if learns else 0
        return Size(parameters, size, sum(parameter.numel() for parameter in network.parameters()), clamped)

    def _shapes_of(self, path: Path) -> nn.Module:
        stamp, known = stamp_of(path), self._networks.get(str(path))
        if known is None or known[0] != stamp:
            known = self._networks[str(path)] = (stamp, network_of_shapes(path, self.host))
        return known[1]

    # Steps and time

    def slices(self, name: str) -> int:
        """The slices that the experiment has."""
        return len(layout.stems(self.folders.experiment(name) / layout.WAVS_16K, ".wav"))

    def seconds_of(self, recordings: Any) -> float:
        """How long the recordings of a folder are together; 0 where there is no such folder."""
        try:
            folder = self.folders.recordings(recordings)
        except (UserError, OSError):
            return 0.0
        now, known = time.monotonic(), self._lengths.get(str(folder))
        if known is None or now - known[0] > LOOK_AGAIN:
            known = self._lengths[str(folder)] = (now, _length(folder))
        return known[1]

    def preparing(self, settings: RunSettings, seconds: float) -> Dict[str, float]:
        """Seconds that each step of the preparation will take for so many seconds of recordings."""
        return {step: (self.paces.of(step) or usual) * seconds for step, usual in USUAL.items()}

    def seconds_step(self, settings: RunSettings, size: Optional[Size]) -> Optional[float]:
        """Seconds of a training step: as the last run of these settings had it, else as the base's size lets one
        expect."""
        known = self.paces.of(settings.pace_key())
        if known is not None or size is None:
            return known
        device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        each = GPU_SECONDS if device.startswith("cuda") else CPU_SECONDS
        return each * size.base / 1e6 * settings.batch_size * (3 if settings.base_d else 1)


def _length(folder: Path) -> float:
    """Seconds of all that is audio below a folder; of a format that cannot be asked, by its size as an MP3."""
    seconds, count = 0.0, 0
    for at, folders, names in os.walk(str(folder)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            count += 1
            if count > MOST_FILES:
                return seconds
            path = os.path.join(at, name)
            try:
                found = soundfile.info(system_name(path))
                if not RATES[0] <= found.samplerate <= RATES[1]:
                    continue  # no sound can be so: the preparation leaves it out
                length = found.frames / max(1, found.samplerate)
                if length > LONGEST:  # a header that does not tell it, or invents it: by its size, a byte a sample
                    length = os.path.getsize(path) / max(1, found.samplerate * found.channels)
                seconds += length
            except (OSError, RuntimeError, ValueError):
                if name.lower().endswith((".m4a", ".aac", ".wma", ".opus", ".webm", ".mp4")):
                    with contextlib.suppress(OSError):
                        seconds += os.path.getsize(path) / 16000
    return seconds
