"""The files that the page may name: bases, voices and adapters below assets/.

Names come from the page as the lists here give them ("pretrained_v2/f0G40k.pth", "lora/voice.safetensors"). A name that is not
in the list of this moment is refused, so that no name reaches a path outside the folders meant, on any system; a link that
leads out of its folder is not listed.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

from ..messages import UserError
from ..names import shown

_DISCRIMINATOR = re.compile(r"^(f0)?D\d|[_-]?D$")


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


def _files(folder: Path, ending: str, deep: bool) -> List[str]:
    """Names below `folder`, with forward slashes; no hidden ones, and none that lead out of it."""
    found = []
    for at, folders, names in os.walk(str(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep else []
        for name in names:
            path = Path(at) / name
            if name.lower().endswith(ending) and not name.startswith(".") and _sayable(name) and path.is_file() and _inside(path, folder):
                found.append(path.relative_to(folder).as_posix())
    return sorted(found, key=str.lower)


class Shelf:
    """The folders below `root`/assets.

    Args:
        root: the folder that holds assets/.
        weights: RVC's folder of voices, where it is not assets/weights.
    """

    def __init__(self, root: Path, weights: Optional[Path] = None):
        self.root = Path(root)
        self.weights = self.root / (weights or "assets/weights")
        self.loras = self.root / "assets/lora"

    def bases(self) -> List[str]:
        """Pretrained generators, then full voices."""
        found = []
        for folder in sorted((self.root / "assets").glob("pretrained*")):
            if folder.is_dir() and not folder.name.startswith("."):
                names = _files(folder, ".pth", deep=False)
                found += [f"{folder.name}/{name}" for name in names if not _DISCRIMINATOR.search(name[:-4])]
        return found + [f"weights/{name}" for name in self.full_voices()]

    def full_voices(self) -> List[str]:
        """What RVC's own list shows."""
        return _files(self.weights, ".pth", deep=False)

    def adapters(self) -> List[str]:
        return [f"{label}/{name}" for label, folder in (("lora", self.loras), ("weights", self.weights))
                for name in _files(folder, ".safetensors", deep=True)]

    def base_path(self, name: str) -> Path:
        """Where a base of the list is.

        Raises:
            UserError: it is not in the list.
        """
        folder = self._folder(name, self.bases(), ("base", "底模"), f"assets/pretrained*/ {{}} {self.weights.name}/")
        return (self.weights if folder == "weights" else self.root / "assets" / folder) / name.partition("/")[2]

    def base_name(self, path: Path) -> str:
        """The name of a base in the list."""
        return f"{'weights' if path.parent == self.weights else path.parent.name}/{path.name}"

    def adapter_path(self, name: str) -> Path:
        """Where an adapter of the list is.

        Raises:
            UserError: it is not in the list.
        """
        folder = self._folder(name, self.adapters(), ("adapter", "适配器"), "assets/lora/ {} assets/weights/")
        return (self.weights if folder == "weights" else self.loras) / name.partition("/")[2]

    @staticmethod
    def _folder(name: str, names: List[str], what: Tuple[str, str], places: str) -> str:
        """What stands before the first slash of a name in the list `names`. places: where the list looks, "{}" for "or".

        Raises:
            UserError: it is not in the list.
        """
        if name not in names:
            raise UserError(f"there is no {what[0]} {shown(name)} in {places.format('or')}: refresh the list and choose one",
                            f"{places.format('或')} 中没有{what[1]} {shown(name)}：请刷新列表后重新选择")
        return name.partition("/")[0]
