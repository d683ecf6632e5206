"""Whether features and pitch are those of the slices that are there.

RVC's extractors skip every file that exists. A feature or pitch file that belongs to no slice, is older than its slice, of another
length or not readable is moved out of their way here, so that they make it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional

import numpy as np
import soundfile

from ..host import FEATURE_SIZES
from ..host import experiment as layout
from .fingerprint import move_aside

PITCH_HOP, FEATURE_HOP = 160, 320  # samples at 16 kHz of a frame
SPARE_FRAMES = 3
"""RVC's methods differ by so many frames at a slice's ends."""


class Unfit(NamedTuple):
    """Files that don't belong to the slices, as they were before they were moved."""

    pitch: List[Path]
    features: List[Path]
    moved: Optional[Path]


def drop_unfit(experiment: Path, version: str) -> Unfit:
    """Move every pitch file, and every feature file of `version`, that is not of its slice into the folder `set_aside`.

    Returns:
        What was moved, and where to (None where nothing was).

    Raises:
        OSError: as the file system gives it.
    """
    slices = experiment / layout.WAVS_16K
    frames = {name: _samples(slices / f"{name}.wav") for name in layout.stems(slices, ".wav")}

    def unfit(folder: str, ending: str, hop: int, size: int) -> List[Path]:
        found = []
        for name in sorted(layout.stems(experiment / folder, ending)):
            path = experiment / folder / f"{name}{ending}"
            samples = frames.get(name)
            if samples is None or not _has_length(path, samples // hop, size) or _older(path, slices / f"{name}.wav"):
                found.append(path)
        return found

    pitch = unfit(layout.COARSE_PITCH, ".wav.npy", PITCH_HOP, 0) + unfit(layout.PITCH, ".wav.npy", PITCH_HOP, 0)
    features = unfit(layout.FEATURES[version], ".npy", FEATURE_HOP, FEATURE_SIZES[version])
    return Unfit(pitch, features, move_aside(experiment, pitch + features))


def index_is_old(experiment: Path, version: str) -> bool:
    """Whether the newest index is older than a feature file that should be in it."""
    indexes, features = layout.indexes(experiment), layout.feature_folder(experiment, version)
    names = layout.stems(features, ".npy")
    return bool(indexes) and any(_older(indexes[-1], features / f"{name}.npy") for name in names)


def has_voice(experiment: Path) -> bool:
    """Whether any slice has a voiced frame; True where there is no pitch to look at."""
    names = layout.stems(experiment / layout.PITCH, ".wav.npy")
    return not names or any(np.load(str(experiment / layout.PITCH / f"{name}.wav.npy"), allow_pickle=False).any() for name in names)


def _samples(wav: Path) -> Optional[int]:
    try:
        return soundfile.info(str(wav)).frames
    except (RuntimeError, OSError):
        return None


def _older(path: Path, than: Path) -> bool:
    return path.stat().st_mtime_ns < than.stat().st_mtime_ns


def _has_length(path: Path, frames: int, size: int) -> bool:
    """Whether `path` is a readable array of about `frames` frames: (frames,), or (frames, size) where `size` is not 0."""
    try:
        array = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    shape = getattr(array, "shape", ())  # an archive of arrays has none
    return len(shape) == (2 if size else 1) and shape[1:] == ((size,) if size else ()) and abs(shape[0] - frames) <= SPARE_FRAMES
