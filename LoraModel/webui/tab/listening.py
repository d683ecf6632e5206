"""The held-out clips of a run: as recorded, from the base alone, and as a save had the voice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ...host import experiment as layout
from ..folders import Folders
from ..runs.run_log import read_run, saves


class HeldOutClip(NamedTuple):
    """One held-out clip. Paths are "" where there is no such file.

    Attributes:
        original: the recording. base: from the base alone. voice: from the adapter of a save.
        number: of the save, from 1; count: of all saves that are kept; step: the save's.
        clips: how many held-out clips can be played.
    """

    original: str = ""
    base: str = ""
    voice: str = ""
    number: int = 0
    count: int = 0
    step: int = 0
    clips: int = 0


def held_out_clip(folders: Folders, name: str, clip: Any, number: Any) -> HeldOutClip:
    """The files to listen to.

    Args:
        clip: 1 or 2, as the page sends it; anything else is the first. number: of the save; what is none is the newest.

    Raises:
        UserError: `name` is no experiment name.
    """
    folder = folders.run(name)
    found = saves(folder)
    if not found:
        return HeldOutClip()
    base, kept = found[0] if found[0][0] == 0 else None, [save for save in found if save[0]]
    count, first = len(kept), (base or kept[0])[1]
    clips = 1 + _beside(first, 1).is_file()
    place = 1 if clip in (2, "2") and clips > 1 else 0
    chosen = int(number) if isinstance(number, (int, float)) and 1 <= number <= count else count
    step, voice = kept[chosen - 1] if kept else (0, None)
    previews = read_run(folder).previews
    original = folder.parent / layout.WAVS / previews[place] if place < len(previews) else None
    inside = original is not None and Path(previews[place]).name == previews[place]  # run.json may be a stranger's
    return HeldOutClip(_there(original) if inside else "", _there(_beside(base[1], place)) if base else "",
                 _there(_beside(voice, place)) if voice is not None else "", chosen, count, step, clips)


def _beside(first: Path, place: int) -> Path:
    return first.with_name(first.name.replace("_0.flac", f"_{place}.flac"))


def _there(path: Any) -> str:
    return str(path) if path is not None and path.is_file() and not path.is_symlink() else ""
