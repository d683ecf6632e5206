"""An RVC experiment folder as training and held-out batches, collated by the host's own class. Nothing is ever written
beside the clips."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import soundfile
import torch
from torch import Tensor

from ..files import atomic_write, bounded_json, system_name
from ..host import Host
from ..host import experiment as layout
from ..host.clips import ClipReader
from ..messages import UserError
from ..models import BaseInfo
from ..models.configuration import checked_data
from ..places import near_words
from .filelist import Clip, read_clips
from .levels import Levels

AnyBatch = TypeVar("AnyBatch", bound=Tuple[Any, ...])


class Batch(NamedTuple):
    """A collated batch. phone: (batch, frames, features), pitch and f0: (batch, frames) or None, spec: (batch, bins,
    frames), wave: (batch, 1, samples), lengths: (batch,) in frames."""

    phone: Tensor
    lengths: Tensor
    pitch: Optional[Tensor]
    f0: Optional[Tensor]
    spec: Tensor
    wave: Tensor
    speaker: Tensor

    def to(self: AnyBatch, device: torch.device) -> AnyBatch:
        return type(self)(*(value if value is None else value.to(device, non_blocking=True) for value in self))  # type: ignore[arg-type]


@dataclass
class Experiment:
    """An experiment folder that has been read, not yet checked.

    Attributes:
        data: the "data" part of its config.json (sample rate in Hz, hop and window in samples, mel bands).
        segment_frames: frames of audio RVC trains its decoder on.
    """

    folder: Path
    data: Dict[str, Any]
    segment_frames: int
    clips: List[Clip] = field(default_factory=list)

    @property
    def sample_rate(self) -> int:
        return self.data["sampling_rate"]


def read_experiment(folder: Path, host: Host, info: BaseInfo, speaker_id: Optional[int] = None) -> Experiment:
    """Read `logs/NAME`: config.json, and filelist.txt or, where RVC has not written one yet, the folders themselves.

    Args:
        speaker_id: take the clips of this speaker of the filelist; None where there is one alone.

    Raises:
        UserError: the folder or its parts are missing, there is no clip, or there are clips of several speakers.
    """
    if not folder.is_dir():
        near = near_words(folder)
        raise UserError("there is no experiment folder {folder}{near}: run scripts/prepare_data.py (or RVC's steps 1 "
                        "and 2) first", folder=folder, near=near)
    config = _config(folder, host, info)
    experiment = Experiment(folder.absolute(), config["data"],
                            config["train"]["segment_size"] // config["data"]["hop_length"])
    folder = experiment.folder
    filelist = folder / layout.FILELIST
    if filelist.is_file():
        experiment.clips = read_clips(folder, host, info, speaker_id)
    else:
        experiment.clips = _scan(folder, info)
    if not any(not clip.mute for clip in experiment.clips):
        what = filelist if filelist.is_file() else folder
        raise UserError("{what} lists no clip: prepare the recordings again and look at their logs for failures",
                        what=what)
    return experiment


def _config(folder: Path, host: Host, info: BaseInfo) -> Dict[str, Any]:
    path = folder / "config.json"
    if path.is_file():
        try:
            config = bounded_json(path)
            for part in ("data", "train"):
                if not isinstance(config, dict) or not isinstance(config.get(part), dict):
                    raise ValueError(f"it lacks '{part}'")
            config["data"], config["train"] = checked_data(config["data"], config["train"])
            return config
        except (ValueError, KeyError, TypeError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError("{path} is damaged ({error}): delete it and prepare the recordings again", path=path,
                            error=why[:200]) from None
    config = host.config_for(info.version, info.sample_rate)
    if config is None:
        raise UserError("{folder} has no config.json and RVC has none for {version} at {sample_rate} Hz: prepare the "
                        "data again", folder=folder, version=info.version, sample_rate=info.sample_rate)
    return config


def _scan(folder: Path, info: BaseInfo) -> List[Clip]:
    for part in (folder / layout.WAVS, layout.feature_folder(folder, info.version)):
        if not part.is_dir():
            raise UserError("{folder} lacks {part_name}: run scripts/prepare_data.py (or RVC's steps 1 and 2) for "
                            "{version} first", folder=folder, part_name=part.name, version=info.version)
    clips = []
    for name in sorted(layout.stems(folder / layout.WAVS, ".wav")):
        wav, feature, *pitch = layout.clip_files(folder, name, info.version, info.f0)
        coarse, f0 = pitch or (None, None)
        clips.append(Clip(wav, feature, coarse, f0, 0))
    return clips


def recording_of(clip: Clip) -> str:
    """The recording that a clip is a slice of: RVC names slices RECORDING_SLICE.wav."""
    return clip.wav.stem.rpartition("_")[0] or clip.wav.stem


def split(clips: Sequence[Clip], fraction: float, seed: int) -> Tuple[List[Clip], List[Clip]]:
    """Training and held-out clips: whole recordings where there are enough, since neighbouring slices overlap.

    RVC names slices RECORDING_SLICE.wav. The choice depends on names and seed alone. Clips of silence are never held
    out.

    Raises:
        UserError: fewer than two clips of the voice.
    """
    own = sorted((clip for clip in clips if not clip.mute), key=lambda clip: clip.wav.name)
    if len(own) < 2:
        raise UserError("one clip is not enough, some must be kept out of training: add recordings (a few minutes are "
                        "usual)")
    wanted = min(max(1, round(fraction * len(own))), len(own) - 1)
    recordings: Dict[str, List[Clip]] = defaultdict(list)
    for clip in own:
        recordings[recording_of(clip)].append(clip)
    groups = list(recordings.values()) if len(recordings) >= 5 else [[clip] for clip in own]
    random.Random(seed).shuffle(groups)
    held: List[Clip] = []
    for group in groups:
        if len(held) < wanted and len(held) + len(group) <= max(1, round(1.5 * wanted)):
            held += group
    # every recording has more slices than may be kept out: neighbouring ones of the longest, which overlap least
    if not held:
        longest = max(groups, key=len)
        start = random.Random(seed).randrange(len(longest) - wanted + 1)
        held = longest[start:start + wanted]
    chosen = set(held)
    return [clip for clip in clips if clip not in chosen], held


class ClipSet:
    """Clips in memory, each read once. Nothing is written.

    Args:
        segment_frames: clips shorter than this are left out (RVC's own sampler drops them too) and counted in
            `dropped`.

    Attributes:
        levels: how loud the clips are. frames: of each clip. voiced: pitch of each in Hz, (voiced frames,), where the
            base takes pitch.

    Raises:
        UserError: a clip that cannot be read, or that is not finite.
    """

    def __init__(self, clips: Sequence[Clip], host: Host, data: Dict[str, Any], f0: bool, segment_frames: int = 0):
        reader = ClipReader(host, data, f0)
        self._collate, self._f0 = host.collate(f0), f0
        self._items: List[Any] = []
        self.clips: List[Clip] = []
        self.dropped = 0
        self.levels = Levels()
        self.voiced: List[Tensor] = []
        shortest = shortest_clip(data, segment_frames)
        for clip in clips:
            if _frames(clip.wav, data["hop_length"]) < shortest:
                self.dropped += 1
                continue
            item = _item(reader, clip)
            if item[0].shape[1] < segment_frames:
                self.dropped += 1
                continue
            if not clip.mute:
                self.levels.add(clip.wav.name, item[1])
                if f0:
                    self.voiced.append(item[4][item[4] > 0])
            self._items.append(item)
            self.clips.append(clip)
        hop = data["hop_length"]
        self.frames = [item[0].shape[1] for item in self._items]
        self.seconds = sum(frames for frames, clip in zip(self.frames, self.clips)
                           if not clip.mute) * hop / data["sampling_rate"]

    def write_filelist(self, path: Path) -> None:
        """Record which clips these are, in RVC's format."""
        atomic_write(path, "".join(clip.line() + "\n" for clip in self.clips).encode("utf-8", "surrogateescape"))

    def __len__(self) -> int:
        return len(self._items)

    def take(self, index: int) -> Batch:
        """One clip, which is let go of: it cannot be asked for again."""
        batch = self.batch([index])
        self._items[index] = None
        return batch

    def batch(self, indices: Sequence[int]) -> Batch:
        """Some clips, collated by RVC's own class, which sorts them by length."""
        values = self._collate([self._items[i] for i in indices])
        if self._f0:
            phone, lengths, pitch, f0, spec, _, wave, _, speaker = values
        else:
            phone, lengths, spec, _, wave, _, speaker = values
            pitch = f0 = None
        return Batch(phone, lengths, pitch, f0, spec, wave, speaker)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> List[List[int]]:
        """The batches of an epoch, as indices."""
        return epoch_batches(self.frames, batch_size, seed, epoch)

    def steps_per_epoch(self, batch_size: int) -> int:
        return len(self.epoch(batch_size, 0, 0))

    def one_by_one(self, most: int) -> Iterator[Batch]:
        """The first `most` clips, one a batch."""
        return (self.batch([index]) for index in range(min(most, len(self))))


def epoch_batches(frames: Sequence[int], batch_size: int, seed: int, epoch: int) -> List[List[int]]:
    """The batches of an epoch, as indices of clips: shuffled, with clips of like length together. Depends on nothing
    but its arguments.

    frames: of each clip.
    """
    generator = torch.Generator().manual_seed(seed * 100003 + epoch)
    order = torch.randperm(len(frames), generator=generator).tolist()
    batches: List[List[int]] = []
    pool = batch_size * 8
    for start in range(0, len(order), pool):
        chunk = sorted(order[start:start + pool], key=frames.__getitem__)
        batches += [chunk[i:i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def shortest_clip(data: Dict[str, Any], segment_frames: int) -> int:
    """Frames of the shortest clip that training takes: a spectrogram reflects half a window."""
    return max(segment_frames, data["filter_length"] // data["hop_length"])


def _frames(wav: Path, hop: int) -> int:
    return soundfile.info(system_name(wav)).frames // hop


def _item(reader: ClipReader, clip: Clip) -> Tuple[Tensor, ...]:
    """A clip as RVC's collate class takes it, checked."""
    try:
        item = reader.read(clip.paths(), clip.speaker)
    except UserError:
        raise
    except (ValueError, RuntimeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError("RVC cannot read {wav} ({reason}): prepare again", wav=clip.wav, reason=reason) from None
    if not bool(torch.isfinite(item[1]).all()) or not bool(torch.isfinite(item[0]).all()):
        raise UserError("{wav} holds NaN or infinite samples: prepare the recordings again", wav=clip.wav)
    return item
