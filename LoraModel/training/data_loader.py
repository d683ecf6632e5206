"""An RVC experiment folder as training and held-out batches, read with the host's own dataset and collate classes."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..host import FEATURE_SIZES, Host
from ..messages import UserError
from ..models import BaseInfo


class Clip(NamedTuple):
    """One line of a filelist. pitch: coarse, 1..255; f0: Hz; both None where the base takes none."""

    wav: Path
    feature: Path
    pitch: Optional[Path]
    f0: Optional[Path]
    speaker: int
    mute: bool = False

    def line(self) -> str:
        """The line as RVC writes it."""
        paths = [self.wav, self.feature] + ([self.pitch, self.f0] if self.pitch is not None else [])
        return "|".join([str(path) for path in paths] + [str(self.speaker)])


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

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(value if value is None else value.to(device, non_blocking=True) for value in self))


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
    experiment = Experiment(folder, config["data"], config["train"]["segment_size"] // config["data"]["hop_length"])
    filelist = folder / "filelist.txt"
    if filelist.is_file():
        lines = [line for line in filelist.read_text(encoding="utf-8").splitlines() if line.strip()]
        experiment.clips = [_parse(line, filelist, folder, info.f0) for line in lines]
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
            config = json.loads(path.read_text(encoding="utf-8"))
            config["data"]["sampling_rate"], config["data"]["hop_length"], config["train"]["segment_size"]
            return config
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error!r}): delete it and prepare the recordings again",
                            f"{path} 已损坏（{error!r}）：请删除后重新处理录音") from None
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
    paths = [_moved(Path(part), folder) for part in parts[:-1]]
    mute = folder.resolve() not in paths[0].resolve().parents
    pitch, nsf = (paths[2], paths[3]) if f0 else (None, None)
    return Clip(paths[0], paths[1], pitch, nsf, int(parts[-1]), mute)


def _moved(path: Path, folder: Path) -> Path:
    """RVC's filelist holds absolute paths: follow an experiment folder that was moved or copied."""
    here = folder / path.parent.name / path.name
    return here if not path.exists() and here.exists() else path


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
        if len(held) < wanted and len(held) + len(group) < len(own):
            held += group
    chosen = set(held)
    return [clip for clip in clips if clip not in chosen], held


class ClipSet:
    """Clips in memory, read once through RVC's own dataset.

    Args:
        filelist: where this set's filelist is written, in RVC's format.
        segment_frames: clips shorter than this are left out (RVC's own sampler drops them too) and counted in `dropped`.
    """

    def __init__(self, clips: Sequence[Clip], filelist: Path, host: Host, data: Dict[str, Any], f0: bool, segment_frames: int = 0):
        filelist.parent.mkdir(parents=True, exist_ok=True)
        filelist.write_text("\n".join(clip.line() for clip in clips), encoding="utf-8")
        self._dataset = host.dataset(filelist, data, f0)
        self._collate, self._f0 = host.collate(f0), f0
        self._items: List[Any] = []
        self.clips: List[Clip] = []
        self.dropped = 0
        for index, clip in enumerate(clips):
            item = self._dataset[index]
            if item[0].shape[1] < segment_frames:
                self.dropped += 1
                continue
            self._items.append(item)
            self.clips.append(clip)
        hop = data["hop_length"]
        self.seconds = sum(item[0].shape[1] for item, clip in zip(self._items, self.clips) if not clip.mute) * hop / data["sampling_rate"]

    def __len__(self) -> int:
        return len(self._items)

    def frames(self, index: int) -> int:
        return self._items[index][0].shape[1]

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
        """The batches of an epoch, as indices: shuffled, with clips of like length together. Depends on nothing but its arguments."""
        generator = torch.Generator().manual_seed(seed * 100003 + epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        batches: List[List[int]] = []
        pool = batch_size * 8
        for start in range(0, len(order), pool):
            chunk = sorted(order[start:start + pool], key=self.frames)
            batches += [chunk[i:i + batch_size] for i in range(0, len(chunk), batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def steps_per_epoch(self, batch_size: int) -> int:
        pool, rest = divmod(len(self), batch_size * 8)
        return pool * 8 + -(-rest // batch_size)

    def one_by_one(self, most: int) -> Iterator[Batch]:
        """The first `most` clips, one a batch."""
        return (self.batch([index]) for index in range(min(most, len(self))))
