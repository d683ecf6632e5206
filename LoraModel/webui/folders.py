"""Where the page's folders lie: experiments and recordings. `models.catalog` knows the model files."""

from __future__ import annotations

import filecmp
import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .. import entries
from ..files import atomic_file
from ..messages import Text, UserError
from ..models.catalog import Catalog
from ..names import plain_name, shown


def root_of(namespace: Dict[str, Any]) -> Path:
    """The folder of the WebUI script: RVC runs in it."""
    named = namespace.get("rvc_lora_root")
    return Path(named) if named else Path(os.path.abspath(namespace.get("now_dir") or os.getcwd()))


@dataclass(frozen=True)
class Folders:
    """The folder that holds `logs/` and `assets/`: an RVC checkout, or a folder of the same shape.

    Attributes:
        is_checkout: whether it is RVC's own.
    """

    root: Path
    is_checkout: bool = True

    @functools.cached_property
    def catalog(self) -> Catalog:
        """The model files below the root."""
        weights = os.environ.get("weight_root")
        return Catalog(self.root, Path(weights) if weights else None)

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def own(self) -> Path:
        """What is kept about the experiments, out of the way of RVC's steps."""
        return self.logs / ".rvc-lora"

    def experiment(self, name: Any) -> Path:
        """logs/NAME.

        Raises:
            UserError: `name` is no plain file name, on this or another system.
        """
        name = plain_name(name, Text("the experiment name"))
        if name.lower() == "mute":
            raise UserError("the experiment name {name!r} is RVC's own: choose another", name=name)
        return self.logs / name

    def run(self, name: str) -> Path:
        """The folder of the experiment's run."""
        return self.experiment(name) / "lora"

    def adapter(self, name: str) -> Path:
        """Where the list of adapters looks for this experiment's."""
        return self.root / "assets" / "lora" / f"{self.experiment(name).name}.safetensors"

    def published(self, name: str) -> Path:
        return self.own / f"{self.experiment(name).name}.published.json"

    def recordings(self, text: Any) -> Path:
        """The folder of recordings: any folder of this machine.

        Raises:
            UserError: it is not there, or it is a file.
        """
        text = entries.path(text, Text("the path of the training folder"))
        path = self.root / text if text else None
        if path is not None and path.is_file():
            raise UserError("{path} is a file, and the folder that holds the recordings of the voice is wanted: give "
                            "{parent}, if all recordings in it are of this voice, or put this one into a folder of "
                            "its own", path=path, parent=path.parent)
        if path is None or not path.is_dir():
            raise UserError("there is no folder {text}: give the path of the folder that holds the recordings of the "
                            "voice", text=shown(text))
        return path

    def take_in(self, files: Any, name: Any) -> Tuple[Path, int]:
        """Keep recordings that a page was given for an experiment, beside those that it was given before.

        Args:
            files: as Gradio hands them on: each with `name`, its path, and `orig_name`; None for none.

        Returns:
            the folder that holds them, and how many came.

        Raises:
            UserError: a name that cannot be. OSError: as the file system gives it.
        """
        folder, count = self.own / "recordings" / self.experiment(name).name, 0
        for file in files if isinstance(files, list) else [files] if files else []:
            path = Path(str(getattr(file, "name", "")))
            own = plain_name(Path(str(getattr(file, "orig_name", None) or path.name)).name, Text("the file name"))
            folder.mkdir(parents=True, exist_ok=True)
            with open(str(path), "rb") as stream, atomic_file(_free(folder / own, path)) as copy:
                shutil.copyfileobj(stream, copy)
            count += 1
        return folder, count

    def names(self) -> List[str]:
        """The experiments that have a run, the newest first."""
        runs = list(self.logs.glob("*/lora/job.json")) if self.logs.is_dir() else []
        return [path.parent.parent.name for path in sorted(runs, key=_changed, reverse=True)]


def _free(target: Path, source: Path) -> Path:
    """`target`, or the next name that is free where another recording has it."""
    place, number = target, 1
    while place.exists() and not filecmp.cmp(str(place), str(source), shallow=False):
        number += 1
        place = target.with_name(f"{target.stem} {number}{target.suffix}")
    return place


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

