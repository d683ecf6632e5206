"""The experiments and adapters of a folder: listed, renamed, and put into the trash folder logs/.rvc-lora/trash, from
which they can be taken back by hand."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

from ... import entries
from ...host import index_names
from ...messages import Text, UserError
from ...names import plain_name, shown
from ...preparation.checks import only_preparation
from ...training.publishing import may_replace
from ...training.run_lock import check_free
from ..preparing.preparation import Preparer
from ..runs import processes
from ..runs.queue_runs import Queue
from ..runs.runs import Runs

LOGS, ENDING = "logs/", ".safetensors"
_WHAT = Text("the entry")


class Item(NamedTuple):
    """label: logs/NAME of an experiment, lora/NAME.safetensors or weights/NAME.safetensors of an adapter. size: bytes.
    changed: seconds of the clock."""

    label: str
    size: int
    changed: float


class Shelf:
    """Args:
        runs, preparer: what is under way stays where it is.
    """

    def __init__(self, runs: Runs, preparer: Preparer):
        self.runs, self.preparer, self.folders = runs, preparer, runs.folders

    @property
    def trash(self) -> Path:
        return self.folders.own / "trash"

    def labels(self) -> List[str]:
        """The experiments that were prepared or trained here, then the adapters."""
        found = []
        if self.folders.logs.is_dir():
            for place in sorted(self.folders.logs.iterdir(), key=lambda path: path.name.lower()):
                if any((place / name).is_file() for name in ("prepared.json", "lora/job.json", "lora/run.json")):
                    with contextlib.suppress(UserError):
                        if self.folders.experiment(place.name) == place and not place.is_symlink():
                            found.append(LOGS + place.name)
        return [*found, *self.folders.catalog.adapters()]

    def items(self) -> List[Item]:
        """All of `labels` with their sizes."""
        return [Item(label, *_size(self.path(label))) for label in self.labels()]

    def path(self, label: Any) -> Path:
        """Where an entry lies.

        Raises:
            UserError: it is none of `labels`.
        """
        label = entries.text(label, _WHAT)
        if label not in self.labels():
            raise UserError("there is no experiment or adapter {label}: refresh the list and choose one",
                            label=shown(label))
        return self.folders.logs / label[len(LOGS):] if label.startswith(LOGS) else (
            self.folders.catalog.adapter_path(label))

    def rename(self, label: Any, name: Any) -> str:
        """Give an entry another name; an experiment's adapter in the list goes along -> its new label.

        Raises:
            UserError: no such entry, a name that cannot be or is taken, or the experiment is under way.
        """
        with processes.locked(self.runs.lock):
            path = self.path(label)
            name = entries.text(name, Text("the new name"))
            if not str(label).startswith(LOGS):
                name = plain_name(name[:-len(ENDING)] if name.lower().endswith(ENDING) else name)
                _move(path, path.with_name(name + ENDING))
                return str(label).rpartition("/")[0] + f"/{name}{ENDING}"
            new = self.folders.experiment(name)
            self._check_free(path)
            adapter, record = self.folders.adapter(path.name), self.folders.published(path.name)
            ours = adapter.is_file() and may_replace(adapter, record)
            target = self.folders.adapter(new.name)
            if ours and os.path.lexists(str(target)):
                raise _taken(target)
            seconds = index_names.second_names(path)
            _move(path, new)
            index_names.rename_indexes(new, path.name, seconds)
            if ours:
                adapter.rename(target)
            if record.is_file():
                record.replace(self.folders.published(new.name))
            return LOGS + new.name

    def delete(self, label: Any) -> Path:
        """Put an entry into the trash folder -> where it lies now. An experiment's adapter stays in the list; its
        indexes get `.old` at the end of their names, so that RVC does not find them there.

        Raises:
            UserError: no such entry, or the experiment is under way.
        """
        with processes.locked(self.runs.lock):
            path = self.path(label)
            if str(label).startswith(LOGS):
                self._check_free(path)
            place = self.trash / time.strftime("%Y-%m-%d_%H-%M-%S")
            number = 1
            while os.path.lexists(str(place / path.name)):
                number += 1
                place = place.with_name(f"{place.name.partition('.')[0]}.{number}")
            place.mkdir(parents=True, exist_ok=True)
            seconds = index_names.second_names(path) if str(label).startswith(LOGS) else []
            _move(path, place / path.name)
            index_names.remove(seconds)
            index_names.put_away_all(place / path.name)
            return place / path.name

    def _check_free(self, experiment: Path) -> None:
        """Raises:
            UserError: it is being prepared or trained, here, by the queue or by a command.
        """
        name, job = experiment.name, self.preparer.current
        if name in self.runs.going_on() or job is not None and job.active and job.name == name:
            raise UserError("{name} is under way: stop it first", name=name)
        check_free(self.folders.run(name))
        Queue(self.folders).check_free(experiment)
        with only_preparation(experiment):
            pass


def _taken(path: Path) -> UserError:
    return UserError("{path} is there already: choose another name", path=path)


def _move(path: Path, target: Path) -> None:
    """Raises:
        UserError: the target is there, or the system refuses.
    """
    same = target.exists() and path.exists() and target.samefile(path)  # another case on Windows and macOS
    if os.path.lexists(str(target)) and not same:
        raise _taken(target)
    try:
        path.rename(target)
    except OSError as error:
        raise UserError("{path} cannot be moved ({strerror}): close what uses it, and try again", path=path,
                        strerror=error.strerror) from None


def _size(path: Path) -> Tuple[int, float]:
    """(bytes of a file, or of all files below a folder; when it was changed)."""
    total = 0
    try:
        changed = path.stat().st_mtime
        if path.is_file():
            return path.stat().st_size, changed
        for at, _folders, names in os.walk(str(path)):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(at, name)).st_size
    except OSError:
        return total, 0.0
    return total, changed
