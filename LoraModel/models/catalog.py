"""Every model file that the page may name: bases, voices, discriminators and adapters, each recognised by what is in it
and not by its name.

| list | what is in it |
|---|---|
| `bases` | every generator that converts, so all that an adapter can lie on |
| `trainable` | those of them with the posterior encoder, which training needs: what can be trained can be loaded |
| `discriminators` | discriminators |
| `adapters` | adapters, and files that cannot be read, which say why when they are chosen |

The first three are looked for in assets/pretrained*, assets/weights and logs/NAME, adapters in assets/lora and
assets/weights.

A name from the page is looked for among the files of this moment. One that is not there is refused, so that no name
reaches a path outside the folders meant, on any system; a link that leads out of its folder is not listed. A file's
header is read once and kept by path, time and size.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import entries
from ..files import atomic_write
from ..lora.adapter_bytes import claims_to_be_adapter
from ..messages import Text, UserError, listing
from ..names import shown
from .model_kind import ADAPTER, BASE, DISCRIMINATOR, OTHER, ModelKind, model_kind

MODELS = (".pth", ".safetensors")
_NO_BASE = Text("no base")
Stamp = Tuple[int, int]

_kinds: Dict[str, Tuple[Stamp, ModelKind]] = {}
_hashes: Dict[str, Tuple[Stamp, str]] = {}
_lock = threading.Lock()


def stamp_of(path: Path) -> Stamp:
    """(time of change in nanoseconds, bytes).

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def kind_of(path: Path) -> ModelKind:
    """What a file is, from memory as long as it does not change."""
    try:
        stamp = stamp_of(path)
    except OSError:
        return model_kind(path)
    with _lock:
        known = _kinds.get(str(path))
    if known is not None and known[0] == stamp:
        return known[1]
    found = model_kind(path)
    with _lock:
        _kinds[str(path)] = (stamp, found)
    return found


def _inside(path: Path, folder: Path) -> bool:
    real, root = os.path.realpath(str(path)), os.path.realpath(str(folder))
    with contextlib.suppress(ValueError):  # another drive
        return os.path.commonpath([real, root]) == root
    return False


def _sayable(name: str) -> bool:
    """Whether a page can hold the name: bytes that are no UTF-8 cannot be sent."""
    with contextlib.suppress(UnicodeEncodeError):
        return bool(name.encode("utf-8"))
    return False


def _files(folder: Path, endings: Sequence[str], deep: bool = False) -> List[str]:
    """Names below `folder`, with forward slashes; no hidden ones, and none that lead out of it."""
    found = []
    for at, folders, names in os.walk(str(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep else []
        for name in names:
            path = Path(at) / name
            if not name.lower().endswith(tuple(endings)) or name.startswith(".") or not _sayable(name):
                continue
            if path.is_file() and (not path.is_symlink() or _inside(path, folder)):  # os.walk follows no linked folder
                found.append(path.relative_to(folder).as_posix())
    return sorted(found, key=str.lower)


def _rate(kind: ModelKind) -> str:
    return f"{kind.sample_rate / 1000:g}k" if kind.sample_rate else "?"


class Catalog:
    """The model files of one folder.

    Two forms of a base's name are taken: "pretrained_v2/f0G40k.pth", "weights/lisa.pth", "logs/lisa/G_12.pth", as the
    inference panel lists them, and the path below the root, "assets/pretrained_v2/f0G40k.pth", as the Train tab and
    RVC's page do.

    Args:
        root: the folder that holds assets/ and logs/.
        weights: RVC's folder of voices, where it is not assets/weights.
    """

    def __init__(self, root: Path, weights: Optional[Path] = None):
        self.root = Path(root)
        self.weights = self.root / (weights or "assets/weights")
        self.loras, self.logs = self.root / "assets/lora", self.root / "logs"

    # Lists

    def bases(self) -> List[str]:
        """Pretrained generators, full voices, and generators of RVC's own training, by the panel's names."""
        return [name for name, path in self._models() if kind_of(path).is_generator and kind_of(path).problem is None]

    def trainable(self) -> List[str]:
        """Paths of the bases that training can start from."""
        return [self._long(name) for name, path in self._models() if kind_of(path).kind == BASE
                and kind_of(path).problem is None]

    def discriminators(self) -> List[str]:
        """Paths of the discriminators."""
        return [self._long(name) for name, path in self._models() if kind_of(path).kind == DISCRIMINATOR]

    def full_voices(self) -> List[str]:
        """What RVC's own list shows."""
        return _files(self.weights, (".pth",))

    def adapters(self) -> List[str]:
        found = []
        for label, folder in (("lora", self.loras), ("weights", self.weights)):
            for name in _files(folder, (".safetensors",), deep=True):
                path = folder / name
                kind = ADAPTER if claims_to_be_adapter(path) else kind_of(path).kind
                if kind == ADAPTER or kind == OTHER and label == "lora":
                    found.append(f"{label}/{name}")
        return found

    def indexes(self) -> List[str]:
        """Paths of the indices of features in the experiment folders."""
        folders = [folder for folder in sorted(self.logs.iterdir()) if folder.is_dir()
                   and _sayable(folder.name)] if self.logs.is_dir() else []
        return [str(folder / name) for folder in folders for name in _files(folder, (".index",))
                if name.startswith("added_")]

    def rates(self, version: Optional[str] = None) -> List[str]:
        """The sample rates of the trainable bases, of one version or of both, such as ["40k"]."""
        kinds = [kind_of(self.root / name) for name in self.trainable()]
        found = {kind.sample_rate for kind in kinds if kind.sample_rate and version in (None, kind.version)}
        return [f"{rate / 1000:g}k" for rate in sorted(found)]

    def pretrained(self, version: str, rate: str, f0: bool) -> Tuple[str, str]:
        """Paths of the G and the D for "v1" or "v2", "40k" …, with or without f0; "" where there is none. RVC's own go
        first."""
        fitting = [name for name in self.trainable() if self._fits(kind_of(self.root / name), version, rate, f0)]
        folder = "assets/pretrained" + ("" if version == "v1" else "_v2")
        names = [f"{folder}/{'f0' if f0 else ''}{kind}{rate}.pth" for kind in "GD"]
        fitting.sort(key=lambda name: (name != names[0], name.startswith("logs/")))
        partner = fitting[0].rpartition("/")[0] + "/" + fitting[0].rpartition("/")[2].replace("G",
                                                                                              "D") if fitting else ""
        there = [name for name in (names[1], partner) if name in self.discriminators()
                 and kind_of(self.root / name).version == version]
        return fitting[0] if fitting else "", there[0] if there else ""

    @staticmethod
    def _fits(kind: ModelKind, version: str, rate: str, f0: bool) -> bool:
        return kind.version == version and kind.f0 == f0 and _rate(kind) == rate

    # Names

    def base_path(self, name: str) -> Path:
        """Where a base that the panel names is.

        Raises:
            UserError: it is not there, or is no base that can be loaded.
        """
        path = dict(self._models()).get(name) if isinstance(name, str) else None
        if path is None:
            raise UserError("there is no base {name} in assets/pretrained*/, {weights_name}/ or logs/: refresh the "
                            "list and choose one", name=shown(name), weights_name=self.weights.name)
        return self._usable(path, Text("a base"), kind_of(path).is_generator)

    def base_name(self, path: Path) -> str:
        """The panel's name of a base."""
        if path.parent == self.weights:
            return f"weights/{path.name}"
        return path.relative_to(self.logs.parent if self.logs in path.parents else self.root / "assets").as_posix()

    def adapter_path(self, name: str) -> Path:
        """Where an adapter of the list is.

        Raises:
            UserError: it is not in the list.
        """
        label, _, rest = name.partition("/") if isinstance(name, str) else ("", "", "")
        folder = {"lora": self.loras, "weights": self.weights}.get(label)
        if folder is None or rest not in _files(folder, (".safetensors",), deep=True):
            raise UserError("there is no adapter {name} in assets/lora/ or assets/weights/: refresh the list and "
                            "choose one", name=shown(name))
        return folder / rest

    def training_base(self, text: Any) -> Path:
        """A base as the Train tab names it.

        Raises:
            UserError: it lies elsewhere, is not there, or cannot be trained on.
        """
        path = self._typed(text)
        self._usable(path, Text("a base"), kind_of(path).is_generator)
        if kind_of(path).kind != BASE:
            raise UserError("{path} is a voice without the posterior encoder (enc_q), and training needs it: choose a "
                            "pretrained base such as assets/pretrained_v2/f0G40k.pth, or a G_….pth from logs/",
                            path=self._said(path))
        return path

    def discriminator(self, text: Any) -> Path:
        """A discriminator as the Train tab names it.

        Raises:
            UserError: it lies elsewhere, is not there, or is no discriminator.
        """
        path = self._typed(text)
        return self._usable(path, Text("a discriminator (D)"), kind_of(path).kind == DISCRIMINATOR)

    def own_base(self, adapter: Mapping[str, str]) -> str:
        """The panel's name of the base that an adapter was trained on, found by its hash among all bases.

        adapter: its metadata.

        Raises:
            UserError: it is not there.
        """
        wanted, stem = adapter["base_hash"], adapter["base_name"]
        named: List[str] = []
        others: List[str] = []
        for name in self.bases():
            kind = kind_of(self._path(name))
            if kind.version == adapter["rvc_version"] and (kind.sample_rate is None
                                                           or str(kind.sample_rate) == adapter["sample_rate"]):
                (named if Path(name).stem == stem else others).append(name)
        for name in [*named, *others]:
            if self.hash_of(self._path(name)) == wanted:
                return name
        rate = f"{int(adapter['sample_rate']) / 1000:g}k"
        kinds = {name: kind_of(self._path(name)) for name in self.bases() if Path(name).stem == stem}
        alike = [f"{name} ({kind.version}, {_rate(kind)})" for name, kind in kinds.items()]
        other = Text(" ({alike} is another one of that name)", alike=listing(alike)) if alike else ""
        version = adapter["rvc_version"]
        raise UserError("adapter {name} needs the base {stem}, which is not below assets/ or logs/{other}: it is of "
                        "{version} at {rate}, with the hash {wanted}…; put it into assets/pretrained_v2/ (v1: "
                        "assets/pretrained/) and refresh the lists",
                        name=shown(adapter["name"]), stem=shown(stem), other=other, version=version,
                        rate=rate, wanted=wanted[:8])

    # Parts

    def _models(self) -> List[Tuple[str, Path]]:
        """(the panel's name, path) of every file that may be a base, a voice or a discriminator."""
        found: List[Tuple[str, Path]] = []
        for folder in sorted((self.root / "assets").glob("pretrained*")):
            if folder.is_dir() and not folder.name.startswith("."):
                found += [(f"{folder.name}/{name}", folder / name) for name in _files(folder, MODELS)]
        found += [(f"weights/{name}", self.weights / name) for name in _files(self.weights, MODELS)]
        for folder in sorted(self.logs.iterdir()) if self.logs.is_dir() else []:
            if folder.is_dir() and not folder.name.startswith(".") and _sayable(folder.name):
                found += [(f"logs/{folder.name}/{name}", folder / name) for name in _files(folder, MODELS)]
        return found

    def _path(self, name: str) -> Path:
        label, _, rest = name.partition("/")
        return (self.weights / rest if label == "weights" else self.logs / rest
                if label == "logs" else self.root / "assets" / name)

    def _long(self, name: str) -> str:
        """The path below the root for the panel's name; of RVC's folder of voices that lies elsewhere, the panel's
        name."""
        if name.startswith("logs/") or name.startswith("weights/") and self.weights != self.root / "assets/weights":
            return name
        return f"assets/{name}"

    def _typed(self, text: Any) -> Path:
        text = entries.path(text, Text("the base"))
        plain = os.path.normpath(text).replace("\\", "/") if text else ""
        root = os.path.normpath(str(self.root)).replace("\\", "/")
        if plain.startswith(root + "/"):
            plain = plain[len(root) + 1:]
        names = dict(self._models())
        path = names.get(plain) or names.get(plain[len("assets/"):] if plain.startswith("assets/") else "")
        if path is not None:
            return path
        parts = plain.split("/")
        places = parts[0] == "logs" and len(parts) == 3 or parts[0] == "assets" and (parts[1:2] == ["weights"]
                                                                                     or parts[1:2] and
                                                                                 parts[1].startswith("pretrained"))
        if places and ".." not in parts and plain.lower().endswith(MODELS):
            raise UserError("there is no {plain}: download it as RVC's README says, or choose another base",
                            plain=plain)
        raise UserError("{base} cannot be taken: choose a file of assets/pretrained, assets/pretrained_v2 or "
                        "assets/weights, or a G_….pth from logs/", base=shown(text) if text else _NO_BASE)

    def _usable(self, path: Path, wanted: Text, right: bool) -> Path:
        kind = kind_of(path)
        if kind.problem is not None:
            raise kind.problem
        if not right:
            words = {DISCRIMINATOR: Text("a discriminator (D)"), ADAPTER: Text("an adapter")}
            what = words.get(kind.kind, Text("a generator (G)"))
            raise UserError("{path} is {what}, and {reason} is wanted here: choose another file", path=self._said(path),
                            what=what, reason=wanted)
        return path

    def _said(self, path: Path) -> str:
        return self._long(self.base_name(path))

    def hash_of(self, path: Path) -> str:
        """The hash of a base's tensors, computed once for each state of the file; "" where it cannot be read."""
        record = self.logs / ".rvc-lora" / "bases.json"
        try:
            stamp = stamp_of(path)
            if not _hashes:
                _hashes.update(_read_hashes(record))
            known = _hashes.get(str(path))
            if known is None or known[0] != stamp:
                known = _hashes[str(path)] = (stamp, kind_of(path).tensors_hash())
                with contextlib.suppress(OSError):  # it is computed again next time
                    atomic_write(record,
                                 json.dumps({name: [*stamp, value] for name,
                                             (stamp, value) in _hashes.items()}).encode("ascii"))
            return known[1]
        except (UserError, OSError):
            return ""


def _read_hashes(record: Path) -> Dict[str, Tuple[Stamp, str]]:
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        return {str(path): ((int(time), int(size)), str(value)) for path, (time, size, value) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}



def check_choice(kind: ModelKind, name: str, version: str, rate: str, f0: bool) -> None:
    """Whether a base is of the version, sample rate and kind that the form says.

    Raises:
        UserError: it is another one; says what to choose.
    """
    if kind.version and kind.version != version:
        raise UserError("{name} is a base of {version}, and {version_2} is chosen: choose the version {version}, or "
                        "another base", name=name, version=kind.version, version_2=version)
    if kind.sample_rate and _rate(kind) != rate:
        raise UserError("{name} is a {kind} base, and the sample rate {rate} is chosen: choose the sample rate "
                        "{kind}, or another base", name=name, kind=_rate(kind), rate=rate)
    if kind.f0 is not None and kind.f0 != f0:
        takes = Text("takes pitch") if kind.f0 else Text("takes no pitch")
        raise UserError("{name} {reason}: set the pitch guidance to {f0}, or choose another base", name=name,
                        reason=takes, f0=str(kind.f0).lower())
