"""What an experiment folder was prepared of, step by step, so that nothing of other recordings or settings is ever
taken for it.

RVC's own scripts skip every file that is there, whatever it was made of. So each step notes in `prepared.json`, beside
what it makes, a fingerprint of everything that it depends on: of the recordings (names, sizes, hashes) and of the
settings. A step whose fingerprint has changed has its results, and those of the steps after it, moved into
`set_aside/TIME/` of the same folder, where the user finds them again, and is done anew. Around a step, whoever does it:

    marks = fingerprints(describe_recordings(files, folder), settings)
    record = Record(experiment)
    moved = record.begin("slices", marks)       # None, or the folder into which the old results were moved
    ...                                         # make the slices
    record.finish("slices", marks)

Where later steps are done without the recordings at hand, `fingerprints_after(record.mark("slices"), settings)` gives
theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..files import atomic_write, bounded_json
from ..host import experiment as layout
from ..host import index_names

MANIFEST, SET_ASIDE = "prepared.json", "set_aside"
MOST_BYTES = 64 * 2**20
"""Of the record of a preparation: a line for each of a hundred thousand slices."""
MOST_PATH = 4096
FORMAT = 2
STEPS = ("slices", "f0", "features", "index")
"""In the order in which they follow from each other."""
PRODUCTS = {
    "slices": (layout.WAVS, layout.WAVS_16K),
    "f0": (layout.COARSE_PITCH, layout.PITCH),
    "features": tuple(layout.FEATURES.values()),
    "index": layout.INDEX_FILES,
}
"""What each step makes: names or patterns inside the experiment folder."""
FOLLOWING = {"slices": STEPS, "f0": ("f0",), "features": ("features", "index"), "index": ("index",)}
"""Each step with those that follow from it."""
CLOSING = (layout.FILELIST,)
"""What follows from all the steps."""


@dataclass(frozen=True)
class Settings:
    """What the results depend on beside the recordings.

    Attributes:
        version: of RVC, "v1" or "v2". sample_rate: of the base, in Hz. f0_method: such as "rmvpe"; None where the base
            takes no pitch.
        features: what finds the features: "HuBERT", or "stand-in" where there is no RVC checkout.
    """

    version: str
    sample_rate: int
    f0_method: Optional[str] = None
    features: str = "HuBERT"


def describe_recordings(files: Sequence[Path], folder: Path) -> List[List[Any]]:
    """What identifies recordings: [[path below `folder` with forward slashes, bytes, SHA-256], …], in the order of the
    paths.

    Raises:
        OSError: one cannot be read.
    """
    described = []
    for file in files:
        digest, size = hashlib.sha256(), 0
        with open(str(file), "rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                digest.update(piece)
                size += len(piece)
        described.append([file.relative_to(folder).as_posix(), size, digest.hexdigest()])
    return sorted(described)


def fingerprints(recordings: Sequence[Sequence[Any]], settings: Settings) -> Dict[str, str]:
    """Step -> a fingerprint of all that its results follow from. `recordings`: as `describe_recordings` gives them."""
    return fingerprints_after(_digest("slices", [list(one) for one in recordings], settings.sample_rate,
                                      settings.features == "HuBERT"), settings)


def fingerprints_after(slices: str, settings: Settings) -> Dict[str, str]:
    """The same, from the fingerprint of the slices ("" where nobody noted what they were made of)."""
    features = _digest("features", slices, settings.features, settings.version)
    return {"slices": slices, "f0": _digest("f0", slices, settings.f0_method), "features": features,
            "index": _digest("index", features)}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class Record:
    """`prepared.json` of an experiment folder: which steps were begun and done, with which fingerprint.

    A file that is missing, damaged or of an earlier version counts as an empty record.

    Attributes:
        known: whether there is a record at all; False for a folder that RVC's own page or the user made.
    """

    def __init__(self, experiment: Path):
        self.experiment = experiment
        self._steps: Dict[str, Dict[str, Any]] = {}
        self._described: Dict[str, Any] = {}
        self.known = False
        try:
            contents = bounded_json(experiment / MANIFEST, MOST_BYTES)
        except (OSError, ValueError):
            return
        # Format 1 (the key "done") compared recordings by their times alone: the folder is ours, what is in it is made
        # anew.
        self.known = isinstance(contents, dict) and ("done" in contents or contents.get("format") == FORMAT)
        if not self.known or contents.get("format") != FORMAT or not isinstance(contents.get("steps"), dict):
            return
        self._steps = {step: entry for step, entry in contents["steps"].items() if step in STEPS and _sound(entry)}
        self._described = {key: contents[key] for key in ("recordings", "settings", "folder") if key in contents}

    def mark(self, step: str) -> str:
        """The fingerprint with which the step was begun last; "" where none was noted."""
        return self._steps.get(step, {}).get("mark", "")

    def is_done(self, step: str, marks: Dict[str, str]) -> bool:
        """Whether the step came to its end with this fingerprint, and its slices are still those that it made."""
        entry = self._steps.get(step, {})
        if not entry.get("done") or entry.get("mark") != marks[step]:
            return False
        return step != "slices" or self._slices_are_ours()

    def begin(self, step: str, marks: Dict[str, str]) -> Optional[Path]:
        """Call before a step. What the folder holds of this step and the steps after it is kept where it follows from
        the same recordings and settings (the step continues where it was interrupted), else it is set aside.

        Results of which nothing was noted are set aside with the step "slices". In the later steps they are kept:
        RVC's own page made them of the slices that are there, and `checks.drop_unfit` finds those that don't fit.

        Returns:
            The folder into which something was moved, or None.

        Raises:
            OSError: as the file system gives it.
        """
        moved = None
        entry = self._steps.get(step)
        unlike = entry is not None and entry["mark"] != marks[step]
        if unlike or step == "slices" and (entry is None or entry["done"] and not self._slices_are_ours()):
            moved = self.set_aside(step)
        if self._steps.get(step) != {"mark": marks[step], "done": False}:
            self._steps[step] = {"mark": marks[step], "done": False}
            self._write()
        return moved

    def set_aside(self, step: str) -> Optional[Path]:
        """Move what the folder holds of this step and of the steps after it out of the way, and note that they are not
        done.

        Returns:
            The folder into which something was moved, or None.
        """
        after = FOLLOWING[step]
        moved = set_aside(self.experiment, after)
        if [name for name in after if self._steps.pop(name, None) is not None]:
            self._write()
        return moved

    def finish(self, step: str, marks: Dict[str, str]) -> None:
        """Call when a step came to its end."""
        entry: Dict[str, Any] = {"mark": marks[step], "done": True}
        if step == "slices":
            entry["sizes"] = slice_sizes(self.experiment)
        self._steps[step] = entry
        self.known = True
        self._write()

    def undo(self, step: str) -> None:
        """Note that a step must run again over what it has made: some of its results are gone."""
        if self._steps.get(step, {}).get("done"):
            self._steps[step]["done"] = False
            self._write()

    def describe(self, recordings: Sequence[Sequence[Any]], settings: Settings, source: Optional[Path] = None) -> None:
        """Keep for the reader's eyes what the fingerprints are of. source: the folder of the recordings, or the one
        recording."""
        self._described = {"recordings": [list(one) for one in recordings], "settings": asdict(settings)}
        if source is not None:
            self._described["folder"] = str(source.absolute())

    @property
    def source(self) -> str:
        """Where the recordings lay that `describe` was told of; "" where nothing is known."""
        found = self._described.get("folder")
        return found if isinstance(found, str) and len(found) <= MOST_PATH else ""

    def changed(self, recordings: Sequence[Sequence[Any]], settings: Settings) -> List[str]:
        """The names of what differs from what `describe` kept, such as ["recordings", "sample_rate"]; [] where nothing
        is known."""
        if not self._described:
            return []
        old = self._described.get("settings")
        old = old if isinstance(old, dict) else {}
        new = asdict(settings)
        different = [key for key in new if old.get(key) != new[key]]
        return (["recordings"] if self._described.get("recordings") != [list(one) for one in recordings]
                else []) + different

    def _slices_are_ours(self) -> bool:
        """Whether each slice that is there is one that the step made, and there is one at all: slices that the user
        took out stay out."""
        noted = self._steps["slices"].get("sizes")
        found = slice_sizes(self.experiment)
        return isinstance(noted, dict) and bool(found) and all(noted.get(name) == size for name, size in found.items())

    def _write(self) -> None:
        self.experiment.mkdir(parents=True, exist_ok=True)
        # ASCII: names of recordings that are no UTF-8 are held as surrogates, which only escapes can write.
        text = json.dumps({"format": FORMAT, **self._described, "steps": self._steps}, indent=1)
        atomic_write(self.experiment / MANIFEST, text.encode("ascii"))


def _sound(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("mark"), str) and isinstance(entry.get("done"), bool)


def slice_sizes(experiment: Path) -> Dict[str, int]:
    """Name of each slice, with its folder -> bytes."""
    found = {}
    for folder in PRODUCTS["slices"]:
        for name in sorted(layout.stems(experiment / folder, ".wav")):
            found[f"{folder}/{name}.wav"] = (experiment / folder / f"{name}.wav").stat().st_size
    return found


def set_aside(experiment: Path, steps: Sequence[str]) -> Optional[Path]:
    """Move what the steps have made, and the filelist, into `set_aside/TIME/` of the experiment folder.

    A rename for each name: if it is interrupted, what is left is moved by the next call, into a folder of its own.

    Returns:
        That folder, or None where there was nothing to move.

    Raises:
        OSError: as the file system gives it.
    """
    patterns = [pattern for step in steps for pattern in PRODUCTS[step]]
    found = [path for pattern in [*patterns, *CLOSING] for path in sorted(experiment.glob(pattern)) if not _empty(path)]
    return move_aside(experiment, found)


def move_aside(experiment: Path, paths: Sequence[Path]) -> Optional[Path]:
    """Move some files or folders of the experiment folder into `set_aside/TIME/`, under the names they have in it. An
    index gets `.old` at the end of its name, so that RVC does not find it there, and its second names go.

    Returns:
        That folder, or None where `paths` is empty.
    """
    if not paths:
        return None
    stamp, number = time.strftime("%Y-%m-%d_%H-%M-%S"), 1
    target = experiment / SET_ASIDE / stamp
    while target.exists():
        number += 1
        target = experiment / SET_ASIDE / f"{stamp}_{number}"
    target.mkdir(parents=True)
    indexes = [path for path in paths if index_names.is_index(path.name)]
    index_names.remove(index_names.second_names(experiment, indexes) if indexes else [])
    for path in paths:
        place = index_names.put_away(target / path.relative_to(experiment))
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(str(path), str(place))
    return target


def _empty(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None
