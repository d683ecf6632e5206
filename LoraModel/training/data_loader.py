"""An RVC experiment folder as training and held-out batches, collated by the host's own class. Nothing is ever written
beside the clips."""

from __future__ import annotations

import random
import re
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
from ..models.configuration import check_data
from ..names import shown
from ..places import near_words
from .levels import Levels


class Clip(NamedTuple):
    """One line of a filelist. pitch: coarse, 1..255; f0: Hz; both None where the base takes none."""

    wav: Path
    feature: Path
    pitch: Optional[Path]
    f0: Optional[Path]
    speaker: int
    mute: bool = False

    def paths(self) -> List[Path]:
        return [path for path in (self.wav, self.feature, self.pitch, self.f0) if path is not None]

    def line(self) -> str:
        """The line as RVC writes it."""
        return "|".join([str(path) for path in self.paths()] + [str(self.speaker)])


AnyBatch = TypeVar("AnyBatch", bound=Tuple[Any, ...])


class Batch(NamedTuple):
    """A collated batch. phone: (batch, frames, features), pitch and f0: (batch, frames) or None, spec: (batch, bins,
    frames),
    wave: (batch, 1, samples), lengths: (batch,) in frames."""

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


MOST_FILELIST_BYTES = 64 * 2**20


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
        lines = _lines(filelist)
        parsed = (_parse(line, filelist, folder, host, info) for line in lines)
        # RVC adds clips of silence from its own logs/mute: where the experiment was moved without them, it does
        # without.
        clips = [clip for clip in parsed if not clip.mute or all(path.is_file() for path in clip.paths())]
        experiment.clips = _of_one_speaker(clips, filelist, speaker_id)
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
            check_data(config["data"], config["train"])
            return config
        except (ValueError, KeyError, TypeError) as error:
            raise UserError("{path} is damaged ({error}): delete it and prepare the recordings again", path=path,
                            error=str(error)[:200]) from None
    config = host.config_for(info.version, info.sample_rate)
    if config is None:
        raise UserError("{folder} has no config.json and RVC has none for {version} at {sample_rate} Hz: prepare the "
                        "data again", folder=folder, version=info.version, sample_rate=info.sample_rate)
    return config


def _lines(filelist: Path) -> List[str]:
    if filelist.stat().st_size > MOST_FILELIST_BYTES:
        raise UserError("{filelist} is of {st_size:,} bytes, which no filelist of RVC's is: delete it to have it made "
                        "anew", filelist=filelist, st_size=filelist.stat().st_size)
    try:
        return layout.read_lines(filelist)
    except UnicodeDecodeError as error:
        raise UserError("{filelist} is no UTF-8 text ({reason}): delete it to have it made anew", filelist=filelist,
                        reason=error.reason) from None


def _parse(line: str, filelist: Path, folder: Path, host: Host, info: BaseInfo) -> Clip:
    parts = line.split("|")
    if len(parts) not in (3, 5) or not re.fullmatch("[0-9]{1,9}",
                                                    parts[-1].strip()) or any("\0" in part for part in parts):
        raise UserError("{filelist}: {line} is no line of RVC's (3 or 5 parts, the last a speaker number)",
                        filelist=filelist, line=shown(line))
    if info.f0 and len(parts) == 3:
        raise UserError("{filelist} has no f0 but the base takes pitch: extract f0 for this experiment, or choose a "
                        "base without f0", filelist=filelist)
    speaker = int(parts[-1])
    if speaker >= info.speakers:
        raise UserError("{filelist}: {line} is of speaker {speaker}, the base has {speakers} (0 to {speakers_2}): "
                        "write one of these",
                        filelist=filelist, line=shown(line), speaker=speaker, speakers=info.speakers,
                        speakers_2=info.speakers - 1)
    mute = _is_mute(parts[0], folder)
    paths = [_of_mute(part, folder, host) if mute else _moved(part, folder) for part in parts[:-1]]
    pitch, nsf = (paths[2], paths[3]) if info.f0 else (None, None)
    return Clip(paths[0], paths[1], pitch, nsf, speaker, mute)


def _split(text: str) -> List[str]:
    """The parts of a path as RVC's filelist holds it: of Linux, or of Windows with backslashes that are doubled."""
    return [part for part in re.split(r"[\\/]+", text) if part]


def _is_mute(text: str, folder: Path) -> bool:
    """Whether a clip is one of RVC's own clips of silence, logs/mute/0_gt_wavs/mute40k.wav."""
    parts = _split(text)
    return len(parts) >= 3 and parts[-3] == "mute" and folder.name != "mute" and Path(text).parent.parent != folder


def _of_mute(text: str, folder: Path, host: Host) -> Path:
    """A file of RVC's logs/mute: where the line says, beside the experiment, or in the checkout."""
    parts = _split(text)
    logs = [folder.parent] + ([host.root / "logs"] if host.root is not None else [])
    places = [Path(text), Path(text.replace("\\", "/")), *(place / "mute" / parts[-2] / parts[-1] for place in logs)]
    return next((place for place in places if place.is_file()), places[1])


def _moved(text: str, folder: Path) -> Path:
    """RVC's filelist holds absolute paths, of Windows too: follow an experiment folder that was moved or copied.

    Files of the folder itself go before those of the same name elsewhere: a copy trains on its own clips.
    """
    parts = _split(text)
    if len(parts) < 2:
        return folder / text
    here = folder / parts[-2] / parts[-1]
    return here if here.exists() else Path(text)


def _of_one_speaker(clips: List[Clip], filelist: Path, wanted: Optional[int]) -> List[Clip]:
    """The clips of one speaker, and those of silence: an adapter is the voice of one person."""
    speakers = sorted({clip.speaker for clip in clips if not clip.mute})
    some = ", ".join(map(str, speakers[:8])) + (" …" if len(speakers) > 8 else "")
    if wanted is None and len(speakers) > 1:
        raise UserError("{filelist} has clips of {count} speakers ({some}), an adapter is the voice of one: choose "
                        "one with --speaker_id, such as --speaker_id {first}",
                        filelist=filelist, count=len(speakers), some=some, first=speakers[0])
    if wanted is not None and wanted not in speakers:
        raise UserError("{filelist} has no clip of speaker {wanted} (--speaker_id): it has {some}", filelist=filelist,
                        wanted=wanted, some=some)
    return [clip for clip in clips if clip.mute or wanted is None or clip.speaker == wanted]


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
