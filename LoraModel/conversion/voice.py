"""A full voice (55 MB) becomes an adapter on the base that it was fine-tuned from."""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import nn

from ..files import check_file_place
from ..host import Host
from ..host.networks import Mel
from ..inference.preview import Previewer
from ..lora import LoRAConfig, save_adapter
from ..lora.adapter_file import rounded
from ..lora.adapter_metadata import checked_field
from ..messages import UserError
from ..models import Base, BaseInfo, SynthesizerLoRA, load_base, load_base_beside_config
from ..models.configuration import MODEL_KEYS
from ..models.model_utils import NoConfiguration
from .budget import Size, config_for
from .content import Content, read_content
from .distill import Settings, Student, hear
from .judge import Judgement, judge
from .match import Bases, Match
from .start import Listener, set_start

STEPS = 450
"""Of distillation, where nothing else is asked for."""
LISTEN = (-9.0, -3.0, 3.0, 8.0)
"""Shifts of the pitch, in semitones, of what is listened to for the start."""


@dataclass(frozen=True)
class VoiceOptions:
    """How a full voice is converted.

    Attributes:
        size: of the adapter. steps: of distillation; 0 with `fast`. fast: the SVD of the weights alone, without
            content.
        force: take the nearest base that has the voice's shapes, however far. speaker: the row of the voice's
            speaker table.
        seed: of all that is drawn at random. name: of the adapter; "" for the file's. words: author, license, notes,
            tags, language, consent and its note, stored in it. preview: put a few seconds of the voice into the file.
    """

    size: Size = field(default_factory=Size)
    steps: int = STEPS
    fast: bool = False
    force: bool = False
    speaker: int = 0
    seed: int = 0
    name: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    preview: bool = False


class Converted(NamedTuple):
    """What became of a voice. before, after: bytes, without the preview's; preview: those of its sound.
    seconds: of all of it; of each step: `step_seconds`, 0 without steps."""

    path: Path
    voice: Path
    match: Match
    config: LoRAConfig
    before: int
    after: int
    seconds: float
    step_seconds: float
    steps: int
    judgement: Optional[Judgement]
    energy: Dict[str, float]
    preview: int = 0

    def figures(self) -> Dict[str, Any]:
        """All of it as plain values, for JSON."""
        found: Dict[str, Any] = {
            "voice": str(self.voice),
            "adapter": str(self.path),
            "base": str(self.match.path),
            "base_distance": round(self.match.distance, 4),
            "base_sure": self.match.sure,
            "bytes_before": self.before,
            "bytes_after": self.after,
            "bytes_preview": self.preview,
            "seconds": round(self.seconds, 1),
            "step_seconds": round(self.step_seconds, 3),
            "steps": self.steps,
            "ranks": {name: target.r for name, target in self.config.targets.items()},
            "weight_energy_kept": {name: round(value, 4) for name, value in self.energy.items()},
            "bases": [
                {"base": str(one.path), "distance": one.distance, "differs": getattr(one.why, "en", one.why)}
                for one in self.match.candidates
            ],
        }
        if self.judgement is not None:
            found.update(self.judgement.figures())
        return found


Progress = Callable[[str, float], None]
"""Called with the part of the work ("load", "listen", "start", "learn", "judge") and the share of it that is done."""


class Converter:
    """Converts full voices; content and bases are read once for all of them.

    Args:
        bases: a base, or a folder of bases. content: as `content.read_content` takes it.
    """

    def __init__(self, host: Host, bases: Path, content: Optional[str] = None, device: str = "cpu"):
        self.host, self.bases, self.device = host, Bases(bases), torch.device(device)
        self._content_place, self._previewer = content, Previewer(host, device)
        self._contents: Dict[Tuple[str, bool], Content] = {}

    def content_for(self, info: BaseInfo) -> Content:
        """Speech with the features that the network takes."""
        key = (info.version, info.f0)
        if key not in self._contents:
            self._contents[key] = read_content(self._content_place, self.host, info)
        return self._contents[key]

    def convert(
        self,
        voice: Path,
        output: Path,
        options: VoiceOptions,
        progress: Optional[Progress] = None,
        similarity: Optional[Callable[[Any, Any, int], Optional[float]]] = None,
    ) -> Converted:
        """Make the adapter of a full voice and write it, whole or not at all.

        Args:
            similarity: of two voices' sounds, (samples,) each and Hz; None measures none.

        Raises:
            UserError: the voice cannot be read or is none, it is of none of the bases, or nothing can be written at
                `output`.
        """
        with torch.random.fork_rng(devices=[]):  # building networks draws random numbers, too
            return self._convert(voice, output, options, progress, similarity)

    def _convert(
        self, voice: Path, output: Path, options: VoiceOptions, progress: Optional[Progress], similarity: Any
    ) -> Converted:
        started, tell = time.perf_counter(), progress or (lambda part, share: None)
        check_file_place(output)
        tell("load", 0.0)
        match = self.bases.match(voice, options.force)
        teacher = load_base_beside_config(voice, self.host)
        base = self._base(match.path, teacher.info)
        info = teacher.info
        check_pair(base.info, info, options.speaker)
        metadata = self._metadata(voice, teacher.info, base.info, options)
        config = config_for(base.network, options.size, {**metadata, "heldout": " " * 160})
        model = SynthesizerLoRA(base, config).to(self.device)
        model.network.eval()
        voice_network = teacher.network.to(self.device)
        tell("load", 1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            result = self._make(model, voice_network, teacher.info, options, tell, similarity)
        judgement, energy, step_seconds, steps = result
        if judgement is not None:
            metadata["heldout"] = json.dumps(
                {
                    "base": round(judgement.base_distance, 4),
                    "adapter": round(judgement.distance, 4),
                    "metric": "log-mel L1 to the full voice",
                }
            )
        tensors = {name: tensor.detach().cpu() for name, tensor in model.injection.tensors().items()}
        save_adapter(output, tensors, config, {**metadata, "steps": steps}, options.size.bits)
        after = output.stat().st_size
        seconds = time.perf_counter() - started
        del model, voice_network, teacher, base  # the preview reads the base anew
        preview = self._preview(output, match.path, info, options)
        return Converted(
            output,
            voice,
            match,
            config,
            voice.stat().st_size,
            after,
            seconds,
            step_seconds,
            steps,
            judgement,
            energy,
            preview,
        )

    def _preview(self, output: Path, base: Path, info: BaseInfo, options: VoiceOptions) -> int:
        if not options.preview:
            return 0
        return self._previewer.try_to_add(output, base, lambda: self._base(base, info))

    def _make(
        self,
        model: SynthesizerLoRA,
        teacher: nn.Module,
        info: BaseInfo,
        options: VoiceOptions,
        tell: Progress,
        similarity: Any,
    ) -> Tuple[Optional[Judgement], Dict[str, float], float, int]:
        if options.fast:
            tell("start", 0.0)
            energy = set_start(model.injection, teacher, options.speaker)
            self._round(model, options.size.bits)
            return None, parts_of(energy), 0.0, 0
        learn, held = self.content_for(info).apart()
        g = teacher.emb_g.weight[options.speaker][None, :, None]
        paths = [name for name, layer in model.injection.items() if not layer.FORM]
        random = torch.Generator().manual_seed(options.seed)
        with Listener(teacher, paths) as listener:
            for number, shift in enumerate(LISTEN):
                tell("listen", number / len(LISTEN))
                hear(teacher, to(learn.draw(2, 160, shift, random), self.device), g)
        tell("start", 0.0)
        energy = set_start(model.injection, teacher, options.speaker, listener)
        del listener
        mel = Mel(self.host, mel_data(info))
        student = Student(
            model, teacher, options.speaker, mel, learn, Settings(steps=options.steps, seed=options.seed), self.device
        )
        began = time.perf_counter()
        for step in range(options.steps):
            tell("learn", step / options.steps)
            student.step()
        seconds = (time.perf_counter() - began) / max(options.steps, 1)
        del student
        self._round(model, options.size.bits)
        tell("judge", 0.0)
        judgement = judge(
            model, teacher, g, held, mel, info.sample_rate, similarity, lambda share: tell("judge", share)
        )
        return judgement, parts_of(energy), seconds, options.steps

    @torch.no_grad()
    def _round(self, model: SynthesizerLoRA, bits: int) -> None:
        """Let the model be what a reader of the file will get."""
        tensors = model.injection.tensors()
        try:
            values = rounded(tensors, bits)
        except ValueError:
            raise UserError("the conversion diverged (values that are not finite): try another --seed, or "
                            "--fast") from None
        for name, tensor in tensors.items():
            tensor.copy_(values[name])

    def _base(self, path: Path, voice: BaseInfo) -> Base:
        """The base; where it has no configuration of its own and RVC has none for it, the voice's serves."""
        try:
            return load_base_beside_config(path, self.host, voice.sample_rate)
        except NoConfiguration:
            with tempfile.TemporaryDirectory(prefix="rvc-lora-") as folder:
                file = Path(folder) / "config.json"
                file.write_text(json.dumps(config_json(voice)), encoding="utf-8")
                return load_base(path, self.host, voice.sample_rate, file)

    def _metadata(self, voice: Path, voice_info: BaseInfo, base: BaseInfo, options: VoiceOptions) -> Dict[str, Any]:
        how = "SVD" if options.fast else f"SVD and {options.steps} steps of distillation"
        return {
            "name": options.name or voice.stem,
            "base_hash": base.base_hash,
            "base_name": base.name,
            "rvc_version": base.version,
            "sample_rate": base.sample_rate,
            "f0": int(base.f0),
            "speaker": 0,
            "steps": options.steps,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "pitch": "" if voice_info.pitch is None else voice_info.pitch.to_text(),
            **{key: checked_field(key, value) for key, value in options.words.items() if value},
            "notes": options.words.get("notes") or f"made from the full voice {voice.name} by {how}",
        }


def to(piece: Any, device: torch.device) -> Any:
    """A tuple of tensors on `device`."""
    return type(piece)(*(value if value is None else value.to(device) for value in piece))


def check_pair(base: BaseInfo, voice: BaseInfo, speaker: int) -> None:
    """Check that a voice can be an adapter on a base.

    Raises:
        UserError: another sample rate, version or use of pitch, or a speaker that the voice lacks.
    """
    mine = f"{voice.version}, {voice.sample_rate} Hz, " + ("with pitch" if voice.f0 else "without pitch")
    theirs = f"{base.version}, {base.sample_rate} Hz, " + ("with pitch" if base.f0 else "without pitch")
    if (base.version, base.sample_rate, base.f0) != (voice.version, voice.sample_rate, voice.f0):
        raise UserError("the voice {voice_name} is {mine}, the base {base_name} is {theirs}: give the base that it "
                        "was trained from", voice_name=voice.name, mine=mine, base_name=base.name, theirs=theirs)
    if not 0 <= speaker < voice.speakers:
        raise UserError("speaker {speaker} is not among the {speakers} of {voice_name}: choose 0 to {speakers_2}",
                        speaker=speaker, speakers=voice.speakers, voice_name=voice.name, speakers_2=voice.speakers - 1)


def parts_of(kept: Dict[str, float]) -> Dict[str, float]:
    """The mean share that is kept, for each part of the network: enc_p, flow, dec."""
    parts: Dict[str, List[float]] = {}
    for path, value in kept.items():
        if path != "emb_g":
            parts.setdefault(path.partition(".")[0], []).append(value)
    return {name: sum(values) / len(values) for name, values in parts.items()}


def mel_data(info: BaseInfo) -> Dict[str, Any]:
    """What the log-mel that is compared is made by, in the shape of a config.json's "data"."""
    window = 2 * (info.config[0] - 1)
    return {
        "filter_length": window,
        "hop_length": info.hop_length,
        "win_length": window,
        "n_mel_channels": 80 if window <= 1024 else 128,
        "sampling_rate": info.sample_rate,
        "mel_fmin": 0.0,
        "mel_fmax": None,
        "max_wav_value": 32768.0,
    }


def config_json(info: BaseInfo) -> Dict[str, Any]:
    """A network's 18 values in the shape of a config.json."""
    values = info.config
    hop = math.prod(values[12])
    return {
        "train": {"segment_size": values[1] * hop},
        "data": mel_data(info),
        "model": dict(zip(MODEL_KEYS, values[2:17])),
    }
