"""One bar over slicing, features, index and training: how far a preparation is, and how long it will still take."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional, Tuple

from ...host import experiment as layout
from ..folders import Folders
from ..preparing.forecast import SLICE_SECONDS
from ..preparing.preparation_job import Preparation
from ..runs.runs import Status

LEAST_SHARE, LEAST_SECONDS = 0.05, 3.0
"""Of a step, before its own pace says more than what was expected of it."""


class Stage(NamedTuple):
    """Where a preparation is.

    Attributes:
        step: of preparation_job.STEPS. number: which it is, from 1. count: of all. done, of: slices that are through,
        and of how many; 0 where they are not counted. share, seconds_left: of the whole work, the share from 0
        to 1.
    """

    step: str
    number: int
    count: int
    done: int
    of: int
    share: float
    seconds_left: float


def stage_of(job: Preparation, folders: Folders, status: Status) -> Optional[Stage]:
    """Where a preparation, or the run that it began, is; None where nothing of it goes on."""
    training = "train" in job.steps and job.run_started and job.run_started == status.started and status.active
    step = job.step if job.active else "train" if training else ""
    if not step or step not in job.steps:
        return None
    number, expected = job.steps.index(step), {one: job.expected.get(one, 1.0) for one in job.steps}
    done, of, share, left = 0, 0, 0.0, expected[step]
    if step == "train":
        share = status.step / status.total_steps if status.total_steps else 0.0
        left = status.seconds_left if status.seconds_left is not None else expected[step] * (1 - share)
    else:
        done, of = _made(job, folders, step)
        spent = time.monotonic() - job.begun.get(step, time.monotonic())
        share = min(done / of, 0.99) if of else min(spent / expected[step], 0.9)
        left = max(0.0, expected[step] - spent)
        if of and share > LEAST_SHARE and spent > LEAST_SECONDS:
            left = spent * (1 - share) / share
    whole = sum(expected.values())
    before, after = (sum(expected[one] for one in part) for part in (job.steps[:number], job.steps[number + 1:]))
    return Stage(step, number + 1, len(job.steps), done, of, (before + share * expected[step]) / whole, left + after)


def _made(job: Preparation, folders: Folders, step: str) -> Tuple[int, int]:
    """(slices that are through the step, slices in all), read off the experiment's folder."""
    experiment = folders.experiment(job.name)
    slices = len(layout.stems(experiment / layout.WAVS_16K, ".wav"))
    if step == "preprocess":
        return slices, round(job.seconds / SLICE_SECONDS)
    if step != "extract" or not slices:
        return 0, 0
    parts = [len(layout.stems(layout.feature_folder(experiment, job.settings.version), ".npy"))]
    if job.settings.f0:
        parts.append(len(layout.stems(experiment / layout.PITCH, ".wav.npy")))
    return min(slices, sum(parts) // len(parts)), slices

