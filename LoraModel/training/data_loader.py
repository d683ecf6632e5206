"""An RVC experiment folder as training and held-out batches, read with the host's own dataset and collate classes."""

from __future__ import annotations

import random
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import soundfile
import torch
from torch import Tensor

from ..files import atomic_write
from ..host import FEATURE_SIZES, Host
from ..messages import UserError
from ..models import BaseInfo
from ..models.configuration import bounded_json, check_data


class Clip(NamedTuple):
    """One line of a filelist. pitch: coarse, 1..255; f0: Hz; both None where the base takes none."""

    wav: Path
    feature: Path
    pitch: Optional[Path]
    f0: Optional[Path]
    speaker: int
    mute: bool = False

    def paths(self) -> List[Path]:
        return [self.wav, self.feature] + ([self.pitch, self.f0] if self.pitch is not None else [])

    def line(self) -> str:
        """The line as RVC writes it."""
        return "|".join([str(path) for path in self.paths()] + [str(self.speaker)])


AnyBatch = TypeVar("AnyBatch", bound=Tuple[Any, ...])


class Batch(NamedTuple):
    """A collated batch. phone: (batch, frames, features), pitch and f0: (batch, frames) or None, spec: (batch, bins, frames),
    wave: (batch, 1, samples), lengths: (batch,) in frames."""

    phone: Tensor
    lengths: Tensor
    pitch: Optional[Tensor]
    f0: Optional[Tensor]
    spec: Tensor
    wave: Tensor
    speaker: Tensor

    def to(self: AnyBatch, device: torch.device) -> AnyBatch:
        return type(self)(*(value if value is None else value.to(device, non_blocking=True) for value in self))


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


def read_experiment(folder: Path, host: Host, info: BaseInfo) -> Experiment:
    """Read `logs/NAME`: config.json, and filelist.txt or, where RVC has not written one yet, the folders themselves.

    Raises:
        UserError: the folder or its parts are missing, or there is no clip.
    """
    if not folder.is_dir():
        raise UserError(f"there is no experiment folder {folder}: run scripts/prepare_data.py (or RVC's steps 1 and 2) first",
                        f"找不到实验文件夹 {folder}：请先运行 scripts/prepare_data.py（或 RVC 的第 1、2 步）")
    config = _config(folder, host, info)
    experiment = Experiment(folder.absolute(), config["data"], config["train"]["segment_size"] // config["data"]["hop_length"])
    folder = experiment.folder
    filelist = folder / "filelist.txt"
    if filelist.is_file():
        try:
            lines = [line.strip() for line in filelist.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(f"{filelist} is no UTF-8 text ({error.reason}): delete it to have it made anew",
                            f"{filelist} 不是 UTF-8 文本（{error.reason}）：请删除该文件以便重新生成") from None
        parsed = (_parse(line, filelist, folder, info.f0) for line in lines)
        # RVC adds clips of silence from its own logs/mute: where the experiment was moved without them, it does without.
        experiment.clips = [clip for clip in parsed if not clip.mute or all(path.is_file() for path in clip.paths())]
    else:
        experiment.clips = _scan(folder, info)
    if not any(not clip.mute for clip in experiment.clips):
        what = filelist if filelist.is_file() else folder
        raise UserError(f"{what} lists no clip: prepare the recordings again and look at their logs for failures",
                        f"{what} 中没有任何片段：请重新处理录音并检查日志")
    return experiment


def _config(folder: Path, host: Host, info: BaseInfo) -> Dict[str, Any]:
    path = folder / "config.json"
    if path.is_file():
        try:
            config = bounded_json(path)
            check_data(config["data"], config["train"])
            return config
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({str(error)[:200]}): delete it and prepare the recordings again",
                            f"{path} 已损坏（{str(error)[:200]}）：请删除后重新处理录音") from None
    config = host.config_for(info.version, info.sample_rate)
    if config is None:
        raise UserError(f"{folder} has no config.json and RVC has none for {info.version} at {info.sample_rate} Hz: prepare the data again",
                        f"{folder} 缺少 config.json，且 RVC 没有 {info.version} {info.sample_rate} Hz 的配置：请重新处理数据")
    return config


def _parse(line: str, filelist: Path, folder: Path, f0: bool) -> Clip:
    parts = line.split("|")
    if len(parts) not in (3, 5) or not parts[-1].strip().isdigit():
        raise UserError(f"{filelist}: {line!r} is no line of RVC's (3 or 5 parts, the last a speaker number)",
                        f"{filelist}：{line!r} 不是 RVC 的格式（应有 3 或 5 段，最后为说话人编号）")
    if f0 and len(parts) == 3:
        raise UserError(f"{filelist} has no f0 but the base takes pitch: extract f0 for this experiment, or choose a base without f0",
                        f"{filelist} 没有 f0，而底模需要音高：请为该实验提取 f0，或选择无 f0 的底模")
    paths = [_moved(part, folder) for part in parts[:-1]]
    mute = paths[0].parent.parent.name == "mute" and paths[0].parent.parent != folder
    pitch, nsf = (paths[2], paths[3]) if f0 else (None, None)
    return Clip(paths[0], paths[1], pitch, nsf, int(parts[-1]), mute)


def _moved(text: str, folder: Path) -> Path:
    """RVC's filelist holds absolute paths, of Windows too: follow an experiment folder that was moved or copied.

    Files of the folder itself go before those of the same name elsewhere: a copy trains on its own clips.
    """
    parts = [part for part in re.split(r"[\\/]+", text) if part]
    if len(parts) < 2:
        return folder / text
    own = parts[-3:-2] != ["mute"] or folder.name == "mute"
    here = folder / parts[-2] / parts[-1]
    return here if own and here.exists() else Path(text)


def _scan(folder: Path, info: BaseInfo) -> List[Clip]:
    features = folder / f"3_feature{FEATURE_SIZES[info.version]}"
    wavs = folder / "0_gt_wavs"
    for part in (wavs, features):
        if not part.is_dir():
            raise UserError(f"{folder} lacks {part.name}: run scripts/prepare_data.py (or RVC's steps 1 and 2) for {info.version} first",
                            f"{folder} 缺少 {part.name}：请先为 {info.version} 运行 scripts/prepare_data.py（或 RVC 的第 1、2 步）")
    clips = []
    for wav in sorted(wavs.glob("*.wav")):
        feature = features / f"{wav.stem}.npy"
        pitch = folder / "2a_f0" / f"{wav.name}.npy" if info.f0 else None
        f0 = folder / "2b-f0nsf" / f"{wav.name}.npy" if info.f0 else None
        if feature.is_file():
            clips.append(Clip(wav, feature, pitch, f0, 0))
    return clips


def split(clips: Sequence[Clip], fraction: float, seed: int) -> Tuple[List[Clip], List[Clip]]:
    """Training and held-out clips: whole recordings where there are enough, since neighbouring slices overlap.

    RVC names slices RECORDING_SLICE.wav. The choice depends on names and seed alone. Clips of silence are never held out.

    Raises:
        UserError: fewer than two clips of the voice.
    """
    own = sorted((clip for clip in clips if not clip.mute), key=lambda clip: clip.wav.name)
    if len(own) < 2:
        raise UserError("one clip is not enough, some must be kept out of training: add recordings (a few minutes are usual)",
                        "只有一个片段，无法留出验证集：请增加录音（通常需要几分钟）")
    wanted = min(max(1, round(fraction * len(own))), len(own) - 1)
    recordings: Dict[str, List[Clip]] = defaultdict(list)
    for clip in own:
        recordings[clip.wav.stem.rpartition("_")[0] or clip.wav.stem].append(clip)
    groups = list(recordings.values()) if len(recordings) >= 5 else [[clip] for clip in own]
    random.Random(seed).shuffle(groups)
    held: List[Clip] = []
    for group in groups:
        if len(held) < wanted and len(held) + len(group) <= max(1, round(1.5 * wanted)):
            held += group
    if not held:  # every recording has more slices than may be kept out: neighbouring ones of the longest, which overlap least
        longest = max(groups, key=len)
        start = random.Random(seed).randrange(len(longest) - wanted + 1)
        held = longest[start:start + wanted]
    chosen = set(held)
    return [clip for clip in clips if clip not in chosen], held


class ClipSet:
    """Clips in memory, read once through RVC's own dataset. Nothing is written.

    Args:
        segment_frames: clips shorter than this are left out (RVC's own sampler drops them too) and counted in `dropped`.

    Raises:
        UserError: a clip that RVC's dataset cannot read, or that is not finite.
    """

    def __init__(self, clips: Sequence[Clip], host: Host, data: Dict[str, Any], f0: bool, segment_frames: int = 0):
        with tempfile.TemporaryDirectory() as folder:
            filelist = Path(folder) / "filelist.txt"  # RVC's datasets want one
            filelist.write_text("\n".join(clip.line() for clip in clips), encoding="utf-8")
            dataset = host.dataset(filelist, data, f0)
        self._collate, self._f0 = host.collate(f0), f0
        self._items: List[Any] = []
        self.clips: List[Clip] = []
        self.dropped = 0
        shortest = max(segment_frames, data["filter_length"] // data["hop_length"])  # a spectrogram reflects half a window
        for index, clip in enumerate(clips):
            if _frames(clip.wav, data["hop_length"]) < shortest:
                self.dropped += 1
                continue
            item = _item(dataset, index, clip)
            if item[0].shape[1] < segment_frames:
                self.dropped += 1
                continue
            self._items.append(item)
            self.clips.append(clip)
        hop = data["hop_length"]
        self._frames = [item[0].shape[1] for item in self._items]
        self.seconds = sum(frames for frames, clip in zip(self._frames, self.clips) if not clip.mute) * hop / data["sampling_rate"]

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
        return epoch_batches(self._frames, batch_size, seed, epoch)

    def steps_per_epoch(self, batch_size: int) -> int:
        return len(self.epoch(batch_size, 0, 0))

    def one_by_one(self, most: int) -> Iterator[Batch]:
        """The first `most` clips, one a batch."""
        return (self.batch([index]) for index in range(min(most, len(self))))


def epoch_batches(frames: Sequence[int], batch_size: int, seed: int, epoch: int) -> List[List[int]]:
    """The batches of an epoch, as indices of clips: shuffled, with clips of like length together. Depends on nothing but its arguments.

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


def _frames(wav: Path, hop: int) -> int:
    return soundfile.info(str(wav)).frames // hop


def _item(dataset: Any, index: int, clip: Clip) -> Tuple[Tensor, ...]:
    """One item of RVC's dataset, checked.

    RVC's dataset keeps each clip's spectrogram beside it and never looks whether the clip is still the same one: a
    spectrogram older than its clip is from recordings that were prepared before, and goes.
    """
    cache = Path(str(clip.wav).replace(".wav", ".spec.pt"))
    try:
        if cache.is_file() and cache.stat().st_mtime < clip.wav.stat().st_mtime:
            cache.unlink()
        item = dataset[index]
    except (ValueError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"RVC cannot read {clip.wav} ({str(error).splitlines()[0] if str(error) else type(error).__name__}): prepare again",
                        f"RVC 无法读取 {clip.wav}（{str(error).splitlines()[0] if str(error) else type(error).__name__}）：请重新处理录音") from None
    if not bool(torch.isfinite(item[1]).all()) or not bool(torch.isfinite(item[0]).all()):
        raise UserError(f"{clip.wav} holds NaN or infinite samples: prepare the recordings again",
                        f"{clip.wav} 含有 NaN 或无穷采样值：请重新处理录音")
    return item
