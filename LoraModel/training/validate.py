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
from ..files import system_name
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
        raise UserError("{path} has no posterior encoder (enc_q), as all of RVC's small voice files: training needs a "
                        "pretrained base such as assets/pretrained_v2/f0G40k.pth, or a G_….pth from logs/",
                        path=info.path)


def check_experiment(experiment: Experiment, info: BaseInfo, segment_frames: int) -> None:
    """Check sample rates, files, feature sizes, f0 and values of every clip, and that they belong together.

    Args:
        segment_frames: clips shorter than this are left out later, and are not compared with their features and pitch.

    Raises:
        UserError: names the first clip that cannot be used, and why.
    """
    if experiment.sample_rate != info.sample_rate:
        raise UserError("{folder} was prepared at {sample_rate} Hz, base {info_name} is of {sample_rate_2} Hz: choose "
                        "a base of {sample_rate} Hz, or prepare the recordings again at {sample_rate_2} Hz",
                        folder=experiment.folder, sample_rate=experiment.sample_rate, info_name=info.name,
                        sample_rate_2=info.sample_rate)
    if experiment.data["hop_length"] != info.hop_length:
        raise UserError("{folder} has {hop_length} samples a frame, base {info_name} {hop_length_2}: prepare again",
                        folder=experiment.folder, hop_length=experiment.data["hop_length"], info_name=info.name,
                        hop_length_2=info.hop_length)
    if experiment.data["filter_length"] // 2 + 1 != info.config[0]:
        raise UserError("{folder} has spectrograms of {filter_length} bins, base {info_name} takes {first}: prepare "
                        "the recordings again for this base",
                        folder=experiment.folder, filter_length=experiment.data["filter_length"] // 2 + 1,
                        info_name=info.name, first=info.config[0])
    if experiment.sample_rate != 100 * experiment.data["hop_length"]:
        raise UserError("{folder}/config.json has {hop_length} samples a frame at {sample_rate} Hz: RVC's features "
                        "and pitch are of 100 frames a second, so it must be {sample_rate_2}",
                        folder=experiment.folder, hop_length=experiment.data["hop_length"],
                        sample_rate=experiment.sample_rate, sample_rate_2=experiment.sample_rate // 100)
    voiced, used, shortest = False, 0, shortest_clip(experiment.data, segment_frames)
    for clip in tqdm(experiment.clips, desc=tr("checking clips"), unit=tr(
        "clip"), file=sys.stderr, leave=False):
        frames, pitch = _check_clip(clip, experiment, info, shortest)
        voiced = voiced or any(values.any() for values in pitch[1:])
        used += frames >= shortest
    check_slices(experiment, info.version, info.f0)
    if info.f0 and used and not voiced:
        print(tr("warning: no frame of all the clips of {folder} is voiced: look at 2b-f0nsf, or use a base without f0",
                 folder=experiment.folder), file=sys.stderr)


def _check_clip(clip: Clip, experiment: Experiment, info: BaseInfo, shortest: int) -> Tuple[int, List[np.ndarray]]:
    """-> (frames of the clip, its pitch: coarse and Hz, or nothing)."""
    _exists(clip.wav)
    try:
        audio = soundfile.info(system_name(clip.wav))
    except RuntimeError as error:
        raise UserError("{wav} cannot be read as a WAV file ({error}): prepare the recordings again", wav=clip.wav,
                        error=error) from None
    if audio.format not in WAV_FORMATS:
        raise UserError("RVC cannot read {wav} ({format} in a file called .wav): prepare again", wav=clip.wav,
                        format=audio.format)
    if audio.samplerate != experiment.sample_rate:
        raise UserError("{wav} is of {samplerate} Hz, the experiment of {sample_rate} Hz: prepare the recordings again",
                        wav=clip.wav, samplerate=audio.samplerate, sample_rate=experiment.sample_rate)
    if audio.channels != 1:
        raise UserError("{wav} has {channels} channels, RVC's clips have one: prepare the recordings again",
                        wav=clip.wav, channels=audio.channels)
    _exists(clip.feature)
    feature = read_array(clip.feature, 2)
    wanted = FEATURE_SIZES[info.version]
    if feature.shape[1] != wanted:
        raise UserError("{feature} has features of {shape}, base {info_name} is {version} and takes {wanted}: extract "
                        "features for {version}, or choose a base of the other version",
                        feature=clip.feature, shape=feature.shape[1], info_name=info.name, version=info.version,
                        wanted=wanted)
    pitch: List[np.ndarray] = []
    if info.f0:
        for path in (clip.pitch, clip.f0):
            if path is None or not path.is_file():
                raise UserError("{path} is missing but base {info_name} takes pitch: extract f0 for this experiment, "
                                "or choose a base without f0", path=path, info_name=info.name)
        pitch = [read_array(path, 1) for path in (clip.pitch, clip.f0) if path is not None]
    frames = audio.frames // experiment.data["hop_length"]
    if not clip.mute and frames >= shortest:
        check_lengths(clip, frames, feature, pitch)
        if pitch:
            check_pitch(clip, *pitch)
    return frames, pitch


def _exists(path: Path) -> None:
    if not path.is_file():
        raise UserError("{path} is listed but missing: prepare the recordings again, or delete filelist.txt to have "
                        "it made anew", path=path)


def check_disk(folder: Path) -> None:
    """Enough free space for the run's folder."""
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(str(existing)).free
    if free < NEEDED_BYTES:
        raise UserError("{existing} has {free:.0f} MB free, a run needs {needed_bytes} MB: free some space or choose "
                        "another --output_dir",
                        existing=existing, free=free / 2 ** 20, needed_bytes=NEEDED_BYTES // 2 ** 20)
