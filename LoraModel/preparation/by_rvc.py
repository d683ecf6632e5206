"""The steps by RVC's own scripts (`host.preprocess`)."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from ..host import Host, preprocess
from ..host import experiment as layout
from ..host.index import build_index
from ..messages import tr
from .fingerprint import Settings
from .recordings import Recordings, flat_folder

Progress = Callable[[int], None]


class RVCSteps:
    """What `steps.prepare` calls, in a checkout.

    Args:
        workers: processes.
    """

    features = "HuBERT"

    def __init__(self, host: Host, experiment: Path, settings: Settings, workers: int):
        self.host, self.experiment, self.settings, self.workers = host, experiment, settings, workers

    def title(self, step: str) -> str:
        method = self.settings.f0_method
        return {"slices": tr("slicing"), "f0": tr("pitch ({method})", method=method),
                "features": tr("features (HuBERT)"), "index": tr("index")}[step]

    def slices(self, recordings: Recordings, progress: Progress) -> None:
        names = [recordings.name(file) for file in recordings.files]
        with flat_folder(recordings) as folder:
            preprocess.slice_recordings(self.host, folder, self.experiment, self.settings.sample_rate, self.workers,
                                        progress, names)

    def f0(self, progress: Progress) -> None:
        preprocess.extract_f0(self.host, self.experiment, str(self.settings.f0_method), self.workers, progress)

    def find_features(self, progress: Progress) -> None:
        preprocess.extract_features(self.host, self.experiment, self.settings.version, progress)

    def index(self, progress: Progress) -> None:
        if not preprocess.build_host_index(self.host, self.experiment,
                                           self.settings.version) or not layout.indexes(self.experiment):
            build_index(self.experiment, self.settings.version)
        progress(1)
