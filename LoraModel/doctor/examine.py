"""All recordings of a folder, looked at one after the other and together. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..messages import Text, UserError, tr
from ..preparation.recordings import Recordings, find_recordings
from .finding import KINDS, NOTE, WARNING, Finding, Picture, spectrogram_of
from .level import level_findings
from .recording import read_recording
from .spectrum import spectrum_findings
from .surroundings import surroundings_findings
from .together import Speakers, duplicate_findings, length_findings, print_of

USUAL_RATE = 40000
"""Hz, of RVC's usual bases."""


@dataclass
class Report:
    """What was found.

    Attributes:
        place: what was looked at. recordings: how many. seconds, spoken_seconds: in all.
        findings: in the order of `finding.KINDS`, the graver first. not_looked_at: what could not be looked for, and
            why.
    """

    place: Path
    recordings: int
    seconds: float
    spoken_seconds: float
    findings: List[Finding] = field(default_factory=list)
    not_looked_at: List[Text] = field(default_factory=list)

    @property
    def warnings(self) -> int:
        return sum(finding.grave == WARNING for finding in self.findings)

    def heading(self) -> Text:
        """All in one sentence."""
        return Text("recordings: {recordings}; minutes: {minutes:.1f}, of which speech: {spoken:.1f}; what will harm "
                    "the voice: {warnings}; what to know of: {notes}", recordings=self.recordings,
                    minutes=self.seconds / 60, spoken=self.spoken_seconds / 60, warnings=self.warnings,
                    notes=len(self.findings) - self.warnings)

    def lines(self) -> List[str]:
        """What a console shows."""
        lines = [str(self.heading())]
        lines += [finding.line() for finding in self.findings]
        return lines + [tr("not looked at: {what}", what=what) for what in self.not_looked_at]

    def to_json(self) -> Dict[str, Any]:
        return {"place": str(self.place), "recordings": self.recordings, "seconds": round(self.seconds, 1),
                "spoken_seconds": round(self.spoken_seconds, 1), "warnings": self.warnings,
                "findings": [finding.to_json() for finding in self.findings],
                "not_looked_at": [str(what) for what in self.not_looked_at]}


def examine(place: Path, wanted_rate: int = USUAL_RATE, without: Optional[Path] = None,
            progress: Optional[Callable[[int, int], None]] = None) -> Report:
    """Look at the recordings in a folder, or at one recording.

    Args:
        wanted_rate: sample rate of the base, Hz. without: a folder that is passed over, as in `find_recordings`.
        progress: called with the recordings done and in all.

    Raises:
        UserError: there is no recording that can be read.
    """
    recordings = find_recordings(place, without)
    findings = _unreadable(recordings)
    speakers, not_looked_at = _speakers(len(recordings.files))
    prints, spoken, seconds = [], [], 0.0
    for number, file in enumerate(recordings.files):
        if progress is not None:
            progress(number, len(recordings.files))
        name = recordings.name(file)
        try:
            r = read_recording(file, name)
        except UserError as error:
            findings.append(_broken(name, error))
            continue
        seconds += r.seconds
        spoken.append(r.spoken_seconds)
        here = list(level_findings(r))
        findings += here
        if any(finding.kind == "silent" for finding in here):
            continue
        findings += [*spectrum_findings(r, wanted_rate), *surroundings_findings(r)]
        prints.append(print_of(r))
        if speakers is not None:
            speakers.add(r)
    files = {recordings.name(file): file for file in recordings.files}
    findings += duplicate_findings(prints, lambda name: _loudest(files[name], name))
    findings += speakers.findings() if speakers is not None else ()
    findings += length_findings(spoken)
    order = list(KINDS)
    findings.sort(key=lambda one: (one.grave == NOTE, order.index(one.kind)))
    if progress is not None:
        progress(len(recordings.files), len(recordings.files))
    return Report(place, len(recordings.files), seconds, float(sum(spoken)), findings, not_looked_at)


def _loudest(file: Path, name: str) -> Optional[Picture]:
    """A picture of most speech of a recording, which is read again for it: of all together there is no room."""
    try:
        r = read_recording(file, name)
    except UserError:
        return None
    return spectrogram_of(r.loudest(6.0), r.rate)


def _speakers(recordings: int) -> Tuple[Optional[Speakers], List[Text]]:
    try:
        return Speakers(recordings), []
    except UserError as error:
        return None, [Text("whether a second speaker is among the recordings ({why})", why=error)]


def _unreadable(recordings: Recordings) -> List[Finding]:
    return [_broken(recordings.name(file), problem) for file, problem in recordings.broken]


def _broken(name: str, problem: UserError) -> Finding:
    return Finding("unreadable", name, Text("It cannot be read and is left out: {problem}.", problem=problem),
                   Text("Write it anew as WAV or FLAC, or take it out of the folder."), WARNING, {})
