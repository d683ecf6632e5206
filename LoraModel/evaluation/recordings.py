"""The recordings that voices are judged by: found, read and checked before anything is converted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import numpy as np

from ..host.experiment import read_lines
from ..inference.audio import audio_files, read_audio
from ..inference.stand_in import SAMPLE_RATE
from ..judges import SpeakerEncoder
from ..messages import UserError
from ..paths import printable
from .metrics import pitch_of

SHORTEST = 0.5  # seconds: less says nothing of pitch or speaker
SILENT = 1e-3  # full scale 1: a recording whose loudest sample is below has no voice in it


@dataclass
class Recording:
    """One recording, read.

    Attributes:
        name: how it is called in tables, printable. path: its file.
        audio: (samples,) at 16 kHz, full scale 1.
        embedding: (256,) of its speaker; None where similarity is not asked for.
        text: the words spoken in it, language: of these words; both only once words have been counted.
    """

    name: str
    path: Path
    audio: np.ndarray
    embedding: Optional[np.ndarray] = None
    text: str = ""
    language: Optional[str] = None
    _f0: Optional[np.ndarray] = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE

    @property
    def voiced(self) -> np.ndarray:
        """f0 of its voiced frames in Hz, found when first asked for: (frames,)."""
        if self._f0 is None:
            f0 = pitch_of(self.audio, SAMPLE_RATE)
            self._f0 = f0[f0 > 0]
        return self._f0

    def at(self, rate: int) -> np.ndarray:
        """(samples,) at `rate` Hz, from the file."""
        return self.audio if rate == SAMPLE_RATE else read_audio(self.path, rate)


def find(places: Sequence[Path]) -> List[Path]:
    """The files that `places` stand for, each once: a folder's audio files, a single file, or the clips of an RVC
    filelist (.txt).

    Raises:
        UserError: a place does not exist, or holds no recording.
    """
    found: List[Path] = []
    for place in places:
        if place.is_dir():
            found += audio_files(place)
        elif place.suffix.lower() == ".txt":
            found += _listed(place)
        else:
            found.append(place)
    missing = next((path for path in found if not path.is_file()), None)
    if missing is not None:
        raise UserError("there is no recording {missing}: check the path", missing=missing)
    return list(dict.fromkeys(path.absolute() for path in found))


def _listed(filelist: Path) -> List[Path]:
    """The audio files of an RVC filelist: one clip a line, its file before the first "|"."""
    try:
        lines = read_lines(filelist, "surrogateescape")
    except OSError as error:
        raise UserError("{filelist} cannot be read ({error}): give a folder, recordings, or a run's "
                        "filelists/heldout.txt", filelist=filelist, error=error) from None
    paths = [Path(line.split("|")[0].strip()) for line in lines]
    if not paths:
        raise UserError("{filelist} lists no recording: give a folder, recordings, or a run's filelists/heldout.txt",
                        filelist=filelist)
    return [path if path.is_absolute() else filelist.parent / path for path in paths]


def names_of(paths: Sequence[Path]) -> List[str]:
    """File names as they can be shown, with the folder's before them where two are equal."""
    names = [path.name for path in paths]
    return [printable(f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name) for path in paths]


def read(paths: Sequence[Path], encoder: Optional[SpeakerEncoder] = None,
         done: Callable[[], object] = lambda: None) -> List[Recording]:
    """Read and check recordings of any rate.

    Args:
        encoder: what embeds their speakers; None leaves that out.
        done: called after each.

    Raises:
        UserError: a recording is damaged, shorter than half a second, silent, or has no speech that the encoder finds.
    """
    found = []
    for path, name in zip(paths, names_of(paths)):
        recording = Recording(name, path, read_audio(path, SAMPLE_RATE))
        if recording.seconds < SHORTEST:
            raise UserError("{path} lasts {seconds:.2f} s: recordings must last at least {shortest} s, take it out or "
                            "give a longer one", path=path, seconds=recording.seconds, shortest=SHORTEST)
        if np.abs(recording.audio).max() < SILENT:
            raise UserError("{path} is silent: take it out or record it anew", path=path)
        if encoder is not None:
            try:
                recording.embedding = encoder.embedding(recording.audio, SAMPLE_RATE)
            except UserError as error:
                raise UserError("{name}: {words}", name=path, words=error) from None
        found.append(recording)
        done()
    return found
