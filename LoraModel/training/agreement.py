"""Whether features and pitch are those of their clip.

RVC's extractors skip every file that is there: after other recordings were sliced under the same name, or folders were
exchanged, a run would train the new sound on the old features and end well. Lengths, times and the two forms of pitch
tell.
"""

from __future__ import annotations

import bisect
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from ..files import bounded_json
from ..host import experiment as layout
from ..messages import Text, UserError, tr
from ..pitch_scale import F0_BINS, coarse_pitch
from ..preparation.fingerprint import MANIFEST, MOST_BYTES
from .data_loader import Clip, Experiment

SPARE_FRAMES = 4
"""RVC's methods differ by so many frames of 10 ms at a clip's ends."""
PAUSE = 2.0
"""Seconds. A tool that copies a folder without its times writes file after file; between two preparations there is a
pause."""
LOWEST, HIGHEST = 20.0, 4000.0
"""Hz. RVC looks for pitch between 50 and 1100 Hz; some of its methods go a little beyond."""
FEW = 0.1
"""Share of the slices that RVC may have left out by its own judgement."""


def check_lengths(clip: Clip, frames: int, feature: np.ndarray, pitch: Sequence[np.ndarray]) -> None:
    """frames: of the clip, 100 a second; feature: (frames at 50 a second, size); pitch: coarse and Hz, (frames,) each.

    Raises:
        UserError: one is longer or shorter than its clip by more than `SPARE_FRAMES`.
    """
    lengths = [(clip.feature, 2 * len(feature)),
               *((path, len(values)) for path, values in zip((clip.pitch, clip.f0), pitch) if path)]
    for path, length in lengths:
        if abs(length - frames) > SPARE_FRAMES:
            raise UserError("{path} is of {length} frames of 10 ms, its clip {wav_name} of {frames}: it belongs to "
                            "another recording. Delete {parent_name} and extract again",
                            path=path, length=length, wav_name=clip.wav.name, frames=frames,
                            parent_name=path.parent.name)


def _follows(steps: np.ndarray, hz: np.ndarray) -> bool:
    """Whether coarse pitch is that of `hz`: to one step, but for one frame in twenty."""
    length = min(len(steps), len(hz))
    off = np.abs(np.maximum(steps[:length], 1) - coarse_pitch(hz[:length])) > 1
    return float(off.mean()) <= 0.05 if length else True


def check_pitch(clip: Clip, steps: np.ndarray, hz: np.ndarray) -> None:
    """steps: coarse pitch; hz: the same in Hz, 0 where unvoiced; (frames,) each.

    Raises:
        UserError: the two are exchanged, not of the same sound, or no Hz.
    """
    if not _follows(steps, hz) and hz.min() >= 1 and hz.max() <= F0_BINS - 1 and _follows(hz, steps):
        raise UserError("{pitch} holds Hz and {f0} the coarse scale: the two folders are exchanged. Rename them, or "
                        "extract f0 again", pitch=clip.pitch, f0=clip.f0)
    if steps.min() < 0 or steps.max() > F0_BINS - 1:
        raise UserError("{pitch} has values outside 0 to 255: extract f0 again", pitch=clip.pitch)
    voiced = hz[hz != 0]
    if voiced.size and not LOWEST <= float(voiced.min()) <= float(voiced.max()) <= HIGHEST:
        raise UserError("{f0} has pitch of {min:.4g} to {max:.4g}, which is no voice in Hz: extract f0 again",
                        f0=clip.f0, min=float(voiced.min()), max=float(voiced.max()))
    if not _follows(steps, hz):
        raise UserError("{pitch} does not follow from {f0}: they are of different recordings. Delete both folders and "
                        "extract f0 again", pitch=clip.pitch, f0=clip.f0)


def check_times(clips: Sequence[Clip]) -> None:
    """Features and pitch are made after their clip.

    Raises:
        UserError: a file is older than its clip, and was not just copied before it.
    """
    clips = [clip for clip in clips if not clip.mute]
    written = {path: path.stat().st_mtime for clip in clips for path in clip.paths()}
    times = sorted(written.values())
    for clip in clips:
        for path in clip.paths()[1:]:
            if written[path] < written[clip.wav] and _pause(times, written[path], written[clip.wav]) > PAUSE:
                raise UserError("{path} is older than its clip {wav_name}: it was extracted from other recordings. "
                                "Delete {parent_name} and extract again",
                                path=path, wav_name=clip.wav.name, parent_name=path.parent.name)


def _pause(times: List[float], start: float, stop: float) -> float:
    """The longest time between `start` and `stop` in which nothing was written, seconds. times: sorted, of all
    files."""
    between = times[bisect.bisect_left(times, start):bisect.bisect_right(times, stop)]
    return max((later - earlier for earlier, later in zip(between, between[1:])), default=0.0)


def check_slices(experiment: Experiment, version: str, f0: bool) -> None:
    """Every slice of the folder is used, and every slice is of the recordings that were prepared last.

    Raises:
        UserError: slices without features or pitch, of which RVC leaves out a few by its own judgement; left-over
            slices.
    """
    folder = experiment.folder
    listed = {clip.wav.stem for clip in experiment.clips if not clip.mute and clip.wav.parent.parent == folder}
    every = layout.stems(folder / layout.WAVS, ".wav")
    lacking = sorted(every - layout.complete_clips(folder, version, f0) - listed)
    if lacking and listed:
        some = ", ".join(lacking[:3]) + (" …" if len(lacking) > 3 else "")
        if len(lacking) > FEW * len(every):
            raise UserError("{count} of {count_2} slices of {folder} ({some}) lack features or pitch: extract again, "
                            "or delete these slices", count=len(lacking), count_2=len(every), folder=folder, some=some)
        print(tr("note: {count} of {count_2} slices ({some}) lack features or pitch and are left out",
                 count=len(lacking), count_2=len(every), some=some), file=sys.stderr)
    noted = _noted_sizes(folder)
    for clip in experiment.clips:
        if noted and not clip.mute and clip.wav.parent == folder / layout.WAVS:
            size = noted.get(f"{layout.WAVS}/{clip.wav.name}")
            if size != clip.wav.stat().st_size:
                what = Text("was not made by the preparation that {manifest} tells of", manifest=MANIFEST)
                if size is not None:
                    what = Text("was changed after the preparation that {manifest} tells of", manifest=MANIFEST)
                raise UserError("{wav} {what}: prepare the recordings again, or delete {manifest} to train on the "
                                "folder as it is", wav=clip.wav, what=what, manifest=MANIFEST)


def _noted_sizes(folder: Path) -> Dict[str, Any]:
    """What prepared.json says of the slices it made: {"0_gt_wavs/0_0.wav": bytes}; {} where there is none."""
    try:
        sizes = bounded_json(folder / MANIFEST, MOST_BYTES)["steps"]["slices"]["sizes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return sizes if isinstance(sizes, dict) else {}
