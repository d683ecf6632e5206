"""From recordings to an experiment folder, step by step: what is done already is kept, what follows from something
else is made anew."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

from tqdm import tqdm

from ..files import atomic_write
from ..host import Host, preprocess
from ..host import experiment as layout
from ..messages import Text, UserError, listing, tr
from . import checks
from .by_rvc import RVCSteps
from .by_stand_in import StandInSteps
from .fingerprint import PRODUCTS, SET_ASIDE, Record, Settings, describe_recordings, fingerprints
from .recordings import Recordings, find_recordings, say_left_out

WORDS = {"recordings": Text("the recordings"), "version": Text("the version"), "sample_rate": Text("the sample rate"),
         "f0_method": Text("the pitch extraction algorithm"), "features": Text("where the features come from")}
"""What `Record.changed` names, for a reader."""


@dataclass(frozen=True)
class Plan:
    """What is to be prepared.

    Attributes:
        source: the folder of recordings, or one recording. experiment: the folder that is made.
        config: the contents of its config.json. speaker: the row of the speaker table that its filelist names.
        workers: processes of RVC's scripts.
    """

    source: Path
    experiment: Path
    settings: Settings
    config: Dict[str, Any]
    speaker: int = 0
    workers: int = 1


def prepare(host: Host, plan: Plan, until: Optional[str] = None) -> int:
    """Make the experiment folder, or what it lacks.

    Args:
        until: the last step to do, of `fingerprint.STEPS`; None for all, with config.json and filelist.txt.

    Returns:
        How many clips the filelist names; 0 where `until` ended before it.

    Raises:
        UserError: recordings, folder or RVC's scripts leave nothing to train on. OSError: as the file system gives it.
    """
    experiment = plan.experiment
    check_speaker(plan)
    check_folder(experiment)
    recordings = find_recordings(plan.source, without=experiment)
    say_left_out(recordings)
    described = describe_recordings(recordings.files, recordings.folder)
    with checks.only_preparation(experiment):
        return _prepare(host, plan, until, recordings, described)


def _prepare(host: Host, plan: Plan, until: Optional[str], recordings: Recordings, described: List[List[Any]]) -> int:
    experiment, settings = plan.experiment, plan.settings
    record, marks = Record(experiment), fingerprints(described, settings)
    different = record.changed(described, settings)
    record.describe(described, settings, plan.source)
    tools: Union[RVCSteps, StandInSteps]
    tools = RVCSteps(host, experiment, settings,
                     plan.workers) if host.is_checkout else StandInSteps(experiment, settings)
    steps = _Steps(record, marks, tools, different)
    steps.run("slices", len(recordings.files), lambda progress: tools.slices(recordings, progress))
    if until == "slices":
        return 0
    drop_unfit(record, settings)
    slices = len(layout.stems(experiment / layout.WAVS_16K, ".wav"))
    if settings.f0_method is not None:
        steps.run("f0", slices, tools.f0)
        silent = checks.no_voice(experiment)
        if silent is not None:
            print(tr("warning: {silent}", silent=silent), file=sys.stderr)
    if until == "f0":
        return 0
    steps.run("features", slices, tools.find_features)
    if until == "features":
        return 0
    if checks.index_is_old(experiment, settings.version):
        record.set_aside("index")
    steps.run("index", 1, tools.index)
    text = json.dumps(plan.config, ensure_ascii=False, indent=4, sort_keys=True) + "\n"
    atomic_write(experiment / layout.CONFIG, text.encode("utf-8"))
    mute = host.root / "logs" / "mute" if host.root is not None else None
    return layout.write_filelist(
        experiment, settings.version, settings.f0_method is not None, plan.speaker, mute,
        f"{settings.sample_rate // 1000}k")


def check_speaker(plan: Plan) -> None:
    """Raises:
        UserError: the network has no such row.
    """
    model = plan.config.get("model")
    rows = model.get("spk_embed_dim") if isinstance(model, dict) else None
    if isinstance(rows, int) and not 0 <= plan.speaker < rows:
        raise UserError("speaker {speaker} is not among the {rows} of this base: choose 0 to {rows_2}",
                        speaker=plan.speaker, rows=rows, rows_2=rows - 1)


def check_folder(experiment: Path) -> Record:
    """Look at the folder before the work begins; nothing is written. Returns the record of what it was prepared of.

    Raises:
        UserError: it is a file, holds something else, or cannot be written to.
    """
    existing = next(folder for folder in (experiment, *experiment.parents) if os.path.lexists(str(folder)))
    if not existing.is_dir():
        raise UserError("{existing} is a file: choose another --output_dir", existing=existing)
    record = Record(experiment)
    if existing == experiment and not record.known and any(not name.startswith(".")
                                                           for name in os.listdir(str(experiment))):
        raise UserError("{experiment} holds files that were not made by this command: train on it as it is, or choose "
                        "another --output_dir", experiment=experiment)
    made = [experiment / name for names in PRODUCTS.values() for name in (*names, SET_ASIDE)
            if (experiment / name).is_dir()]
    for folder in (existing, *made):
        try:
            with tempfile.TemporaryFile(dir=str(folder)):
                pass
        except OSError as error:
            raise UserError("{folder} cannot be written to ({strerror}): change its permissions, or choose another "
                            "--output_dir", folder=folder, strerror=error.strerror) from None
    return record


def drop_unfit(record: Record, settings: Settings) -> None:
    """Move pitch and features that are not those of the slices out of the way, and have what is missing made again."""
    experiment, slices = record.experiment, layout.stems(record.experiment / layout.WAVS_16K, ".wav")
    preprocess.remove_broken(experiment)
    unfit = checks.drop_unfit(experiment, settings.version)
    if unfit.moved is not None:
        count = len(unfit.pitch) + len(unfit.features)
        print(tr("{count} files of pitch and features do not belong to their slices (older, of another length, or of "
                 "slices that are gone): they were moved to {moved}", count=count, moved=unfit.moved), file=sys.stderr)
    if not slices <= layout.stems(experiment / layout.PITCH,
                                  ".wav.npy") & layout.stems(experiment / layout.COARSE_PITCH, ".wav.npy"):
        record.undo("f0")
    if not slices <= layout.stems(layout.feature_folder(experiment, settings.version), ".npy"):
        record.undo("features")
    if unfit.features:
        record.set_aside("index")


class _Steps:
    """Does the steps that are not done, each with a bar.

    Args:
        different: what has changed since the folder was prepared, for the message that says so.
    """

    def __init__(self, record: Record, marks: Dict[str, str], tools: Union[RVCSteps, StandInSteps], different: list):
        self.record, self.marks, self.tools, self.different = record, marks, tools, different

    def run(self, step: str, total: int, work: Callable[[Callable[[int], None]], None]) -> None:
        """Do a step unless it is done: `work(progress)`, with progress called with the number of results so far."""
        if self.record.is_done(step, self.marks):
            return
        moved = self.record.begin(step, self.marks)
        if moved is not None:
            self._say(moved)
        with _bar(self.tools.title(step), total) as progress:
            work(progress)
        self.record.finish(step, self.marks)

    def _say(self, moved: Path) -> None:
        what = Text(" ({different})", different=listing(WORDS[one] for one in self.different)) if self.different else ""
        print(tr("{experiment} was made of other recordings or settings{what}: what depends on them is made again, "
                 "the old files were moved to {moved}",
                 experiment=self.record.experiment, what=what, moved=moved), file=sys.stderr)


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(total=total, desc=title, file=sys.stderr) as bar:
        yield lambda count: bar.update(count - bar.n) and None
