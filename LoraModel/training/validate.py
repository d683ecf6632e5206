"""Checks of everything a run reads, before it writes anything: one clear error instead of a crash an hour later."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import List, Tuple

import numpy as np
import soundfile
from tqdm import tqdm

from ..arrays import read_array
from ..host import FEATURE_SIZES
from ..host.clips import WAV_FORMATS
from ..messages import UserError, tr
from ..models import BaseInfo
from .agreement import check_lengths, check_pitch, check_slices
from .data_loader import Clip, Experiment, shortest_clip

NEEDED_BYTES = 60 * 2**20
"""Free space a run asks for: what its folder may come to."""


def check_base(info: BaseInfo) -> None:
    """Training needs the posterior encoder, which RVC's small files drop."""
    if not info.has_posterior:
        raise UserError(
            f"{info.path} has no posterior encoder (enc_q), as all of RVC's small voice files: training needs a pretrained base "
            "such as assets/pretrained_v2/f0G40k.pth, or a G_….pth from logs/",
            f"{info.path} 没有后验编码器（enc_q），RVC 的小模型都不含它：训练需要预训练底模，"
            "如 assets/pretrained_v2/f0G40k.pth，或 logs/ 中的 G_….pth",
        )


def check_experiment(experiment: Experiment, info: BaseInfo, segment_frames: int) -> None:
    """Check sample rates, files, feature sizes, f0 and values of every clip, and that they belong together.

    Args:
        segment_frames: clips shorter than this are left out later, and are not compared with their features and pitch.

    Raises:
        UserError: names the first clip that cannot be used, and why.
    """
    if experiment.sample_rate != info.sample_rate:
        raise UserError(
            f"{experiment.folder} was prepared at {experiment.sample_rate} Hz, base {info.name} is of {info.sample_rate} Hz: choose a base of "
            f"{experiment.sample_rate} Hz, or prepare the recordings again at {info.sample_rate} Hz",
            f"{experiment.folder} 的采样率为 {experiment.sample_rate} Hz，而底模 {info.name} 为 {info.sample_rate} Hz："
            f"请选择 {experiment.sample_rate} Hz 的底模，或以 {info.sample_rate} Hz 重新处理录音",
        )
    if experiment.data["hop_length"] != info.hop_length:
        raise UserError(f"{experiment.folder} has {experiment.data['hop_length']} samples a frame, base {info.name} {info.hop_length}: prepare again",
                        f"{experiment.folder} 每帧 {experiment.data['hop_length']} 个采样点，而底模 {info.name} 为 {info.hop_length}：请重新处理")
    if experiment.data["filter_length"] // 2 + 1 != info.config[0]:
        raise UserError(
            f"{experiment.folder} has spectrograms of {experiment.data['filter_length'] // 2 + 1} bins, base {info.name} takes {info.config[0]}: "
            "prepare the recordings again for this base",
            f"{experiment.folder} 的频谱有 {experiment.data['filter_length'] // 2 + 1} 个频点，而底模 {info.name} 需要 {info.config[0]}："
            "请为该底模重新处理录音",
        )
    if experiment.sample_rate != 100 * experiment.data["hop_length"]:
        raise UserError(
            f"{experiment.folder}/config.json has {experiment.data['hop_length']} samples a frame at {experiment.sample_rate} Hz: RVC's features "
            f"and pitch are of 100 frames a second, so it must be {experiment.sample_rate // 100}",
            f"{experiment.folder}/config.json 在 {experiment.sample_rate} Hz 下每帧 {experiment.data['hop_length']} 个采样点：RVC 的特征与音高为"
            f"每秒 100 帧，应为 {experiment.sample_rate // 100}",
        )
    voiced, used, shortest = False, 0, shortest_clip(experiment.data, segment_frames)
    for clip in tqdm(experiment.clips, desc=tr("checking clips", "检查片段"), unit=tr("clip", "个"), file=sys.stderr, leave=False):
        frames, pitch = _check_clip(clip, experiment, info, shortest)
        voiced = voiced or any(values.any() for values in pitch[1:])
        used += frames >= shortest
    check_slices(experiment, info.version, info.f0)
    if info.f0 and used and not voiced:
        print(tr(f"warning: no frame of all the clips of {experiment.folder} is voiced: look at 2b-f0nsf, or use a base without f0",
                 f"警告：{experiment.folder} 的所有片段中没有任何有声帧：请检查 2b-f0nsf，或使用无 f0 的底模"), file=sys.stderr)


def _check_clip(clip: Clip, experiment: Experiment, info: BaseInfo, shortest: int) -> Tuple[int, List[np.ndarray]]:
    """-> (frames of the clip, its pitch: coarse and Hz, or nothing)."""
    _exists(clip.wav)
    try:
        audio = soundfile.info(str(clip.wav))
    except RuntimeError as error:
        raise UserError(f"{clip.wav} is no readable WAV ({error}): prepare the recordings again",
                        f"{clip.wav} 不是可读的 WAV（{error}）：请重新处理录音") from None
    if audio.format not in WAV_FORMATS:
        raise UserError(f"RVC cannot read {clip.wav} ({audio.format} in a file called .wav): prepare again",
                        f"RVC 无法读取 {clip.wav}（名为 .wav，实为 {audio.format}）：请重新处理录音")
    if audio.samplerate != experiment.sample_rate:
        raise UserError(
            f"{clip.wav} is of {audio.samplerate} Hz, the experiment of {experiment.sample_rate} Hz: prepare the recordings again",
            f"{clip.wav} 为 {audio.samplerate} Hz，而实验为 {experiment.sample_rate} Hz：请重新处理录音",
        )
    if audio.channels != 1:
        raise UserError(f"{clip.wav} has {audio.channels} channels, RVC's clips have one: prepare the recordings again",
                        f"{clip.wav} 有 {audio.channels} 个声道，RVC 的片段应为单声道：请重新处理录音")
    _exists(clip.feature)
    feature = read_array(clip.feature, 2)
    wanted = FEATURE_SIZES[info.version]
    if feature.shape[1] != wanted:
        raise UserError(
            f"{clip.feature} has features of {feature.shape[1]}, base {info.name} is {info.version} and takes {wanted}: extract features for "
            f"{info.version}, or choose a base of the other version",
            f"{clip.feature} 的特征维度为 {feature.shape[1]}，而底模 {info.name} 是 {info.version}，需要 {wanted}："
            f"请为 {info.version} 提取特征，或选择另一版本的底模",
        )
    pitch: List[np.ndarray] = []
    if info.f0:
        for path in (clip.pitch, clip.f0):
            if path is None or not path.is_file():
                raise UserError(f"{path} is missing but base {info.name} takes pitch: extract f0 for this experiment, or choose a base without f0",
                                f"缺少 {path}，而底模 {info.name} 需要音高：请为该实验提取 f0，或选择无 f0 的底模")
        pitch = [read_array(path, 1) for path in (clip.pitch, clip.f0) if path is not None]
    frames = audio.frames // experiment.data["hop_length"]
    if not clip.mute and frames >= shortest:
        check_lengths(clip, frames, feature, pitch)
        if pitch:
            check_pitch(clip, *pitch)
    return frames, pitch


def _exists(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} is listed but missing: prepare the recordings again, or delete filelist.txt to have it made anew",
                        f"文件列表中的 {path} 不存在：请重新处理录音，或删除 filelist.txt 以便重新生成")


def check_disk(folder: Path) -> None:
    """Enough free space for the run's folder."""
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(str(existing)).free
    if free < NEEDED_BYTES:
        raise UserError(
            f"{existing} has {free / 2**20:.0f} MB free, a run needs {NEEDED_BYTES // 2**20} MB: free some space or choose another --output_dir",
            f"{existing} 仅剩 {free / 2**20:.0f} MB，训练需要 {NEEDED_BYTES // 2**20} MB：请清理空间或更换 --output_dir",
        )
