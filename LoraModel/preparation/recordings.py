"""The recordings of a voice: found in a folder and the folders below it, with everything else named and left out."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..host import experiment as layout
from ..inference.adapter_choice import RUN_FILE
from ..inference.audio import NOT_AUDIO, problem_of
from ..messages import Text, UserError
from ..paths import plain_in_shell, printable
from ..places import near_words

NAMED = 5
"""So many names stand in a message; of the others only their number."""


class Recordings(NamedTuple):
    """What was found.

    Attributes:
        folder: the paths of `describe` start below it. files: the recordings, in the order of these paths.
        other: files that are no audio, such as notes.txt. broken: (file, why) of audio that cannot be read.
    """

    folder: Path
    files: List[Path]
    other: List[Path]
    broken: List[Tuple[Path, UserError]]

    def name(self, file: Path) -> str:
        """A file's path below the folder, for a message."""
        return printable(file.relative_to(self.folder).as_posix())


def find_recordings(place: Path, without: Optional[Path] = None) -> Recordings:
    """The recordings in `place`, a folder or a single file: those in its subfolders too.

    Hidden files and folders, experiment folders (RVC's own slices) and folders of runs (whose samples are converted
    audio) are passed over; links to folders are not followed.

    Args:
        without: a folder that is passed over: the experiment that is made of them.

    Raises:
        UserError: `place` is missing, or holds no recording that can be read.
    """
    if place.is_file():
        folder, files = place.parent, [place]
    elif place.is_dir():
        folder, files = place, _files_below(place, without)
    else:
        near = near_words(place)
        raise UserError("there is no folder {place}{near}: give the folder that holds the recordings of the voice",
                        place=place, near=near)
    files.sort(key=lambda file: file.relative_to(folder).as_posix())
    found: List[Path] = []
    other: List[Path] = []
    broken: List[Tuple[Path, UserError]] = []
    for file in files:
        if file.suffix.lower() in NOT_AUDIO:
            other.append(file)
            continue
        problem = problem_of(file)
        if problem is None:
            found.append(file)
        else:
            broken.append((file, problem))
    if not found:
        if place.is_file():
            problem = broken[0][1] if broken else UserError("it is no recording")
            raise UserError("{path} cannot be prepared: {problem}. Give a recording, or the folder that holds the "
                            "recordings", path=place, problem=problem)
        if broken:
            file, problem = broken[0]
            raise UserError("{place} holds no audio files that can be read ({problem}): put recordings (wav, flac, "
                            "mp3, …) there", place=place, problem=problem)
        raise UserError("{place} holds no audio files: put recordings (wav, flac, mp3, …) there", place=place)
    return Recordings(folder, found, other, broken)


def _files_below(place: Path, without: Optional[Path]) -> List[Path]:
    files: List[Path] = []
    for name, folders, names in os.walk(str(place)):
        here = Path(name)
        folders[:] = sorted(one for one in folders if not one.startswith(".")
                            and not _is_made(here / one, without))
        files += [here / one for one in names if not one.startswith(".") and (here / one).is_file()]
    return files


def _is_made(folder: Path, without: Optional[Path]) -> bool:
    """Whether preparation or a run has made the folder."""
    return (folder == without or (folder / layout.WAVS).is_dir() or (folder / layout.WAVS_16K).is_dir()
            or (folder / RUN_FILE).is_file())


def left_out(recordings: Recordings) -> List[Text]:
    """What to say of what was found beside the recordings, a line each."""
    lines = []
    if recordings.other:
        names = listed([recordings.name(file) for file in recordings.other])
        lines.append(Text("left out, since they are no audio: {names}", names=names))
    for file, problem in recordings.broken:
        name = recordings.name(file)
        lines.append(Text("left out: {name}: {problem}", name=name, problem=problem))
    return lines


def say_left_out(recordings: Recordings) -> None:
    """Name on standard error what was found beside the recordings."""
    for line in left_out(recordings):
        print(line, file=sys.stderr)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" … (+{more})" if more > 0 else "")


@contextlib.contextmanager
def flat_folder(recordings: Recordings) -> Iterator[Path]:
    """A folder that holds the recordings and nothing else, in their order by name: RVC's script fails on every other
    file, and on names that are no UTF-8, and its page hands a shell the folder's path. It is the folder itself where
    that is so already, else one of links, which is deleted at the end."""
    folder, files = recordings.folder, recordings.files
    plain = all(file.parent == folder and _is_text(file.name) for file in files)
    if plain and plain_in_shell(str(folder)) and {file.name for file in files} == set(os.listdir(str(folder))):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rvc-lora-") as name:
        for number, file in enumerate(files):
            target = Path(name) / (file.name if plain else f"{number:06d}{_plain_suffix(file)}")
            try:
                target.symlink_to(file.resolve())
            except OSError:  # Windows, where links need a privilege
                shutil.copyfile(str(file), str(target))
        yield Path(name)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain_suffix(file: Path) -> str:
    return file.suffix if file.suffix.isascii() else ""
