"""Whether features and pitch are those of the slices that are there.

RVC's extractors skip every file that exists. A feature or pitch file that belongs to no slice, is older than its
slice, of another length or not readable is moved out of their way here, so that they make it anew. And what else is
reported of a prepared folder.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

import soundfile

from .. import folder_lock
from ..arrays import array_shape, read_array
from ..files import system_name
from ..host import FEATURE_SIZES
from ..host import experiment as layout
from ..messages import Text, UserError
from .fingerprint import move_aside

PITCH_HOP, FEATURE_HOP = 160, 320  # samples at 16 kHz of a frame
LOCK_FILE = ".preparing"
LEAST_SLICES = 2
"""One to train on and one to keep out of training."""
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
    return not names or any(_is_voiced(experiment / layout.PITCH / f"{name}.wav.npy") for name in names)


def _is_voiced(pitch: Path) -> bool:
    try:
        return bool(read_array(pitch, 1).any())
    except UserError:  # training names it
        return True


def no_voice(experiment: Path) -> Optional[UserError]:
    """What to say where no slice has a voiced frame; None where one has, or where there is no pitch to look at."""
    if has_voice(experiment):
        return None
    return UserError("the pitch of {experiment} has no voiced frame at all: a base with pitch learns nothing from it; "
                     "look at the recordings, or try another --f0_method", experiment=experiment)


def too_few(experiment: Path, slices: int) -> Optional[UserError]:
    """What to say of a folder that training would refuse for having one slice alone; None for any other number."""
    if slices >= LEAST_SLICES:
        return None
    return UserError("{experiment} has {slices} slice, and training takes {least_slices} at least, since some are "
                     "kept out of it: add recordings (a few minutes are usual) and prepare again",
                     experiment=experiment, slices=slices, least_slices=LEAST_SLICES)


@contextlib.contextmanager
def only_preparation(experiment: Path) -> Iterator[None]:
    """Hold the folder against every other preparation of it, by command or page, in this process or another. It is
    made where it is missing, and taken away again where nothing has come into it.

    Raises:
        UserError: another one is running in it. OSError: as the file system gives it.
    """
    def taken(pid: int) -> UserError:
        who = Text(" (process {pid})", pid=pid) if pid else ""
        return UserError("{experiment} is being prepared already{who}: wait for the end of it, or choose another "
                         "--output_dir", experiment=experiment, who=who)

    new = not experiment.is_dir()
    experiment.mkdir(parents=True, exist_ok=True)
    try:
        with folder_lock.hold(experiment / LOCK_FILE, taken):
            yield
    finally:
        if new:
            with contextlib.suppress(OSError):
                experiment.rmdir()


def _samples(wav: Path) -> Optional[int]:
    try:
        return soundfile.info(system_name(wav)).frames
    except (RuntimeError, OSError):
        return None


def _older(path: Path, than: Path) -> bool:
    return path.stat().st_mtime_ns < than.stat().st_mtime_ns


def _has_length(path: Path, frames: int, size: int) -> bool:
    """Whether `path` is a readable array of about `frames` frames: (frames,), or (frames, size) where `size` is not
    0."""
    shape = array_shape(path)
    wanted = (size,) if size else ()
    return bool(shape) and shape[1:] == wanted and abs(shape[0] - frames) <= SPARE_FRAMES
