"""An experiment folder, `logs/NAME`, as RVC lays it out: the one place that spells the names inside it.

| name | holds |
|---|---|
| `0_gt_wavs/N.wav` | the slices at the base's sample rate |
| `1_16k_wavs/N.wav` | the same at 16 kHz, for pitch and features |
| `2a_f0/N.wav.npy` | coarse pitch, 1 to 255: (frames,), 100 frames a second |
| `2b-f0nsf/N.wav.npy` | pitch in Hz, 0 where unvoiced: (frames,) |
| `3_feature256/N.npy` (v1), `3_feature768/N.npy` (v2) | HuBERT features: (frames, 256 or 768), 50 frames a second |
| `filelist.txt` | a line a clip: wav, features, coarse pitch, pitch, speaker, joined by a bar; without pitch three |
| `config.json` | the network's configuration |
| `added_….index`, `trained_….index`, `total_fea.npy` | the faiss index, and what it was made of |

N is RECORDING_PART, two numbers.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import List, Optional, Sequence, Set, Tuple

from ..files import atomic_write
from ..messages import UserError

WAVS, WAVS_16K = "0_gt_wavs", "1_16k_wavs"
COARSE_PITCH, PITCH = "2a_f0", "2b-f0nsf"
FEATURES = {"v1": "3_feature256", "v2": "3_feature768"}
"""The folder of features, by RVC version."""
FILELIST, CONFIG = "filelist.txt", "config.json"
INDEX, ALL_FEATURES = "added_*.index", "total_fea.npy"
INDEX_FILES = (INDEX, "trained_*.index", ALL_FEATURES)
"""Patterns of everything that building an index leaves in the folder."""


def stems(folder: Path, ending: str) -> Set[str]:
    """Names of the files of a folder, without `ending`; hidden files are left out."""
    if not folder.is_dir():
        return set()
    return {file.name[: -len(ending)] for file in folder.iterdir() if file.name.endswith(ending)
            and not file.name.startswith(".")}


def feature_folder(experiment: Path, version: str) -> Path:
    return experiment / FEATURES[version]


def clip_files(root: Path, name: str, version: str, f0: bool, wav: Optional[str] = None) -> List[Path]:
    """The files of the clip `name` in the order of a filelist: 2, or with f0 4 of them.

    Args:
        wav: the stem of the audio, where it is another one (`mute40k` beside `mute`).
    """
    files = [root / WAVS / f"{name if wav is None else wav}.wav", root / FEATURES[version] / f"{name}.npy"]
    return files + ([root / COARSE_PITCH / f"{name}.wav.npy", root / PITCH / f"{name}.wav.npy"] if f0 else [])


def complete_clips(experiment: Path, version: str, f0: bool) -> Set[str]:
    """The clips that have audio and features, and with f0 pitch."""
    names = stems(experiment / WAVS, ".wav") & stems(feature_folder(experiment, version), ".npy")
    if f0:
        names &= stems(experiment / COARSE_PITCH, ".wav.npy") & stems(experiment / PITCH, ".wav.npy")
    return names


def write_clips(path: Path, clips: Sequence[Tuple[Sequence[Path], int]]) -> None:
    """Write a filelist: one line for each (files, speaker).

    Paths are written with forward slashes, which Python opens on Windows too: with backslashes, the clips of silence
    of RVC's logs/mute would not be found when the experiment is carried to another system.
    """
    lines = ["|".join([*(file.as_posix() for file in files), str(speaker)]) for files, speaker in clips]
    atomic_write(path, "\n".join(lines).encode("utf-8", "surrogateescape"))


def read_lines(path: Path, errors: str = "strict") -> List[str]:
    """The lines of a filelist that are not blank.

    A line ends at a line feed alone: U+2028 and its like may be part of a file's name.

    Args:
        errors: what becomes of bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        OSError: as the file system gives it. UnicodeDecodeError: it is no UTF-8 text.
    """
    text = path.read_bytes().decode("utf-8-sig", errors)
    return [line.strip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def write_filelist(experiment: Path, version: str, f0: bool, speaker: int, mute: Optional[Path], rate_name: str) -> int:
    """Write filelist.txt as RVC's WebUI does, and return how many slices it names.

    Args:
        speaker: the row of the speaker table that the lines name.
        mute: RVC's logs/mute, of which two entries are added where it has all of them; None for none.
        rate_name: such as "40k", which the name of the clip of silence holds.

    Raises:
        UserError: no clip has all it needs.
    """
    names = complete_clips(experiment, version, f0)
    if not names:
        raise UserError("nothing in {experiment} can be trained on: no slice has all it needs", experiment=experiment)
    entries = [clip_files(experiment, name, version, f0) for name in sorted(names)]
    if mute is not None:
        silence = clip_files(mute, "mute", version, f0, wav=f"mute{rate_name}")
        entries += [silence] * 2 if all(file.is_file() for file in silence) else []
    random.Random(0).shuffle(entries)
    write_clips(experiment / FILELIST, [(files, speaker) for files in entries])
    return len(names)


def indexes(experiment: Path) -> List[Path]:
    """The `added_….index` files of an experiment folder, the newest last."""
    return sorted(experiment.glob(INDEX), key=lambda file: file.stat().st_mtime)


def find_index(experiment: Path) -> Path:
    """The newest `added_….index` of an experiment folder.

    Raises:
        UserError: there is none.
    """
    found = indexes(experiment)
    if not found:
        raise UserError("{experiment} holds no added_….index: run prepare_data.py on it", experiment=experiment)
    return found[-1]
