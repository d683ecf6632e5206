"""What the Train tab has prepared, and of what: `prepared.json` of the experiment folder, as prepare_data.py keeps
it."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from ...commands import parse_rate
from ...preparation.checks import drop_unfit, index_is_old
from ...preparation.fingerprint import Record, Settings, describe_recordings, fingerprints, fingerprints_after
from ...preparation.recordings import Recordings, find_recordings
from ..runs.run_settings import RunSettings

PARTS = {"preprocess": ("slices",), "extract": ("f0", "features"), "index": ("index",)}
"""The tab's steps in the record's words."""


class Made:
    """The record of one experiment while a step of the tab is done.

    Args:
        f0_method: as the tab offers it. source: the folder of recordings, for the step "preprocess".

    Attributes:
        recordings: after `begin("preprocess")`: what was found in the folder; None else.
        sliced: after `begin("preprocess")`: whether the slices that are there are those of the same recordings and
            settings.
    """

    def __init__(self, experiment: Path, settings: RunSettings, f0_method: str, source: Optional[Path]):
        self.experiment, self.version, self.source = experiment, settings.version, source
        method = f0_method.replace("_gpu", "") if settings.f0 else None  # where it runs changes nothing that it finds
        self.settings = Settings(settings.version, parse_rate(settings.sample_rate) or 40000, method)
        self.record, self.sliced = Record(experiment), False
        self.recordings: Optional[Recordings] = None
        self._marks: Dict[str, str] = {}

    def begin(self, step: str) -> Optional[Path]:
        """Before a step: what was made of other recordings or settings, what is not of its slice, and an index that is
        not of all features, go out of the way.

        Returns:
            The folder into which something was moved, or None.

        Raises:
            UserError: there are no recordings. OSError: as the file system gives it.
        """
        if step == "preprocess" and self.source is not None:
            found = self.recordings = find_recordings(self.source, without=self.experiment)
            recordings = describe_recordings(found.files, found.folder)
            self._marks = fingerprints(recordings, self.settings)
            self.sliced = self.record.is_done("slices", self._marks)
            self.record.describe(recordings, self.settings, self.source)
        else:
            self._marks = fingerprints_after(self.record.mark("slices"), self.settings)
        parts = [part for part in PARTS[step] if part != "f0" or self.settings.f0_method is not None]
        moved = []
        if step == "index" and index_is_old(self.experiment, self.version):
            moved.append(self.record.set_aside("index"))
        if not self.sliced:
            moved += [self.record.begin(part, self._marks) for part in parts]
        if step == "extract":
            unfit = drop_unfit(self.experiment, self.version)
            moved.append(unfit.moved)
            if unfit.features:  # RVC's newest layout builds no index where there is one
                moved.append(self.record.set_aside("index"))
        return next((folder for folder in moved if folder is not None), None)

    def finish(self, step: str) -> None:
        """After a step that came to its end."""
        for part in PARTS[step]:
            if part != "f0" or self.settings.f0_method is not None:
                self.record.finish(part, self._marks)
