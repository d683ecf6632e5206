"""RVC's filelist.txt: which files make a clip, also where the experiment folder was moved or copied after it was
written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..host import Host
from ..host import experiment as layout
from ..messages import UserError, tr
from ..models import BaseInfo
from ..names import shown
from ..paths import LONGEST_PATH


class Clip(NamedTuple):
    """One line of a filelist. pitch: coarse, 1..255; f0: Hz; both None where the base takes none."""

    wav: Path
    feature: Path
    pitch: Optional[Path]
    f0: Optional[Path]
    speaker: int
    mute: bool = False

    def paths(self) -> List[Path]:
        return [path for path in (self.wav, self.feature, self.pitch, self.f0) if path is not None]

    def line(self) -> str:
        """The line as RVC writes it."""
        return "|".join([str(path) for path in self.paths()] + [str(self.speaker)])


MOST_FILELIST_BYTES = 64 * 2**20


def read_clips(folder: Path, host: Host, info: BaseInfo, speaker_id: Optional[int] = None) -> List[Clip]:
    """The clips of `folder`/filelist.txt, without those of silence whose files are not there.

    Args:
        folder: the experiment folder, absolute.
        speaker_id: take the clips of this speaker; None where there is one alone.

    Raises:
        UserError: no filelist of RVC's, or clips of several speakers.
    """
    filelist = folder / layout.FILELIST
    lines = [_parts(line, filelist) for line in _lines(filelist)]
    source = _copied_from(lines, folder)
    parsed = [_clip(parts, filelist, source, host, info) for parts in lines]
    # RVC adds clips of silence from its own logs/mute: where the experiment was moved without them, it does without.
    clips = [clip for clip in parsed if not clip.mute or all(path.is_file() for path in clip.paths())]
    clips = _of_one_speaker(clips, filelist, speaker_id)
    away = [clip for clip in clips if not clip.mute and any(folder not in path.parents for path in clip.paths())]
    if away:
        print(tr("note: {count} of {total} clips that {filelist} names lie elsewhere, such as {path}", count=len(away),
                 total=len(clips), filelist=filelist,
                 path=next(path for path in away[0].paths() if folder not in path.parents)), file=sys.stderr)
    return clips


def _lines(filelist: Path) -> List[str]:
    if filelist.stat().st_size > MOST_FILELIST_BYTES:
        raise UserError("{filelist} is of {st_size:,} bytes, which no filelist of RVC's is: delete it to have it made "
                        "anew", filelist=filelist, st_size=filelist.stat().st_size)
    try:
        return layout.read_lines(filelist)
    except UnicodeDecodeError as error:
        raise UserError("{filelist} is no UTF-8 text ({reason}): delete it to have it made anew", filelist=filelist,
                        reason=error.reason) from None


def _parts(line: str, filelist: Path) -> List[str]:
    parts = line.split("|")
    impossible = any("\0" in part or len(part) > LONGEST_PATH for part in parts)
    if len(parts) not in (3, 5) or impossible or not re.fullmatch("[0-9]{1,9}", parts[-1].strip()):
        raise UserError("{filelist}: {line} is no line of RVC's (3 or 5 parts, the last a speaker number)",
                        filelist=filelist, line=shown(line))
    return parts


def _clip(parts: List[str], filelist: Path, source: List[str], host: Host, info: BaseInfo) -> Clip:
    """source: as `_copied_from`."""
    folder, line = filelist.parent, "|".join(parts)
    if info.f0 and len(parts) == 3:
        raise UserError("{filelist} has no f0 but the base takes pitch: extract f0 for this experiment, or choose a "
                        "base without f0", filelist=filelist)
    speaker = int(parts[-1])
    if speaker >= info.speakers:
        raise UserError("{filelist}: {line} is of speaker {speaker}, the base has {speakers} (0 to {speakers_2}): "
                        "write one of these",
                        filelist=filelist, line=shown(line), speaker=speaker, speakers=info.speakers,
                        speakers_2=info.speakers - 1)
    mute = _is_mute(parts[0], folder)
    paths = [_of_mute(part, folder, host) if mute else _of_clip(part, folder, source) for part in parts[:-1]]
    pitch, nsf = (paths[2], paths[3]) if info.f0 else (None, None)
    return Clip(paths[0], paths[1], pitch, nsf, speaker, mute)


def _split(text: str) -> List[str]:
    """The parts of a path as RVC's filelist holds it: of Linux, or of Windows with backslashes that are doubled."""
    return [part for part in re.split(r"[\\/]+", text) if part]


def _is_mute(text: str, folder: Path) -> bool:
    """Whether a clip is one of RVC's own clips of silence, logs/mute/0_gt_wavs/mute40k.wav."""
    parts = _split(text)
    return len(parts) >= 3 and parts[-3] == "mute" and folder.name != "mute" and Path(text).parent.parent != folder


def _of_mute(text: str, folder: Path, host: Host) -> Path:
    """A file of RVC's logs/mute: where the line says, beside the experiment, or in the checkout."""
    parts = _split(text)
    logs = [folder.parent] + ([host.root / "logs"] if host.root is not None else [])
    places = [Path(text), Path(text.replace("\\", "/")), *(place / "mute" / parts[-2] / parts[-1] for place in logs)]
    return next((place for place in places if place.is_file()), places[1])


def _copied_from(lines: List[List[str]], folder: Path) -> List[str]:
    """The folder that the filelist was written in, as parts of its path, where `folder` is that one moved or copied:
    the one of which most files are here. Empty where a line names `folder` itself."""
    here: Dict[Tuple[str, ...], int] = {}
    for text in (text for parts in lines for text in parts[:-1]):
        of = _split(text)
        if len(of) > 2 and not _is_mute(text, folder):
            if Path(text).parent.parent == folder:
                return []
            root = tuple(of[:-2])
            here[root] = here.get(root, 0) + (folder / of[-2] / of[-1]).exists()
    best = max(here, key=lambda root: here[root], default=())
    return list(best) if here.get(best) else []


def _of_clip(text: str, folder: Path, source: List[str]) -> Path:
    """RVC's filelist holds absolute paths, of Windows too: follow an experiment folder that was moved or copied.

    A copy trains on its own files alone: what it lacks is not taken from the folder that it was copied from.
    """
    parts = _split(text)
    if len(parts) < 2:
        return folder / text
    here = folder / parts[-2] / parts[-1]
    if parts[:-2] == source:
        return here
    written = Path(text)
    return here if here.exists() and not written.exists() else written


def _of_one_speaker(clips: List[Clip], filelist: Path, wanted: Optional[int]) -> List[Clip]:
    """The clips of one speaker, and those of silence: an adapter is the voice of one person."""
    speakers = sorted({clip.speaker for clip in clips if not clip.mute})
    some = ", ".join(map(str, speakers[:8])) + (" …" if len(speakers) > 8 else "")
    if wanted is None and len(speakers) > 1:
        raise UserError("{filelist} has clips of {count} speakers ({some}), an adapter is the voice of one: choose "
                        "one with --speaker_id, such as --speaker_id {first}",
                        filelist=filelist, count=len(speakers), some=some, first=speakers[0])
    if wanted is not None and wanted not in speakers:
        raise UserError("{filelist} has no clip of speaker {wanted} (--speaker_id): it has {some}", filelist=filelist,
                        wanted=wanted, some=some)
    return [clip for clip in clips if clip.mute or wanted is None or clip.speaker == wanted]
