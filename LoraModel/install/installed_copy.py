"""The folder LoraModel/ inside an RVC checkout, as `install_into_rvc.py` finds and leaves it.

Standard library only (with LoraModel/messages.py and files.py, which are the same).
`installed.json` in the folder names every file that an installer put there with the SHA-256 of what it wrote. Whatever
is not named there, or has another checksum, is the user's: it is never overwritten and never deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Dict, List

from ..files import atomic_write
from ..messages import UserError

MANIFEST = "installed.json"
MANIFEST_LIMIT = 8 * 2**20
"""Bytes; a longer one was not written by an installer (100 files make 15,000)."""


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


DOCUMENTS = ("README.md", "CONTRIBUTING.md", "PROGRESS.md", "PROJECT_OUTLINE.md", "LICENSE")
"""Files beside the package that go along into its copy, and so does the folder docs/."""


def files_of(package: Path) -> Dict[str, Path]:
    """What an installation copies: path inside the copy (with slashes) -> file of `package`, or of the documents beside
    it."""
    found = _below(package)
    beside = package.parent
    if all((beside / name).is_file() for name in DOCUMENTS):  # in a checkout of RVC's another README lies there
        found.update({name: beside / name for name in DOCUMENTS})
        found.update({f"docs/{name}": path for name, path in _below(beside / "docs").items()})
    return found


def _below(package: Path) -> Dict[str, Path]:
    found = {}
    for folder, folders, files in os.walk(str(package)):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(files):
            if name != MANIFEST and not name.startswith(".") and not name.endswith((".pyc", ".pyo", ".tmp")):
                path = Path(folder) / name
                found[path.relative_to(package).as_posix()] = path
    return found


class Folder:
    """LoraModel/ in a checkout. Names are paths inside it, with slashes.

    Attributes:
        kind: "none"; "link"; "source" (the installer's own copy of RVC-LoRA lies right in the checkout); "copy".
        state: the manifest's: "whole", or "installing" / "uninstalling" where a run was cut off; "" without a manifest.
        version: the manifest's.
        known: name -> checksums of the contents that an installer may have put there.
        own: files of ours as they were put there. edited: those changed since, or made links. lacking: those that are
            gone.
        waste: what Python and cut-off runs leave behind. strange: everything else, the user's.
    """

    def __init__(self, path: Path, is_source: bool):
        self.path = path
        self.state, self.version = "", ""
        self.known: Dict[str, List[str]] = {}
        self.own: List[str] = []
        self.edited: List[str] = []
        self.waste: List[str] = []
        self.strange: List[str] = []
        if os.path.islink(str(path)):
            self.kind = "link"
        elif not path.exists():
            self.kind = "none"
        elif is_source:
            self.kind = "source"
        elif not path.is_dir():
            raise UserError("{path} is a file: move it away, then run this again", path=path)
        else:
            self.kind = "copy"
            self._read_manifest()
            self._read_files()
        self.lacking = sorted(set(self.known) - set(self.own) - set(self.edited))

    @property
    def bare(self) -> bool:
        """Whether nothing of ours is there."""
        return self.kind == "none" or (self.kind == "copy" and bool(self.strange) and not self.state and not self.waste)

    @property
    def cut_off(self) -> bool:
        """Whether an installation or a removal did not come to its end."""
        if self.kind != "copy":
            return False
        empty = not self.state and not self.strange
        return empty or self.state in ("installing",
                                       "uninstalling") or bool(self.lacking) or any(n.endswith(".tmp")
                                                                                    for n in self.waste)

    def _read_manifest(self) -> None:
        try:
            with open(str(self.path / MANIFEST), "rb") as file:
                text = file.read(MANIFEST_LIMIT + 1)
            if len(text) > MANIFEST_LIMIT:
                raise ValueError(f"over {MANIFEST_LIMIT} bytes")
            manifest = json.loads(text.decode("utf-8"))
            self.known = {str(name): [str(one) for one in sums] for name, sums in manifest["files"].items()
                          if not Path(name).is_absolute() and ".." not in Path(name).parts}
            self.state, self.version = str(manifest["state"]), str(manifest["version"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError("{path} is damaged: move what you want to keep out of {path_2}, delete that folder, then "
                            "run this again", path=self.path / MANIFEST, path_2=self.path) from error

    def _read_files(self) -> None:
        for folder, folders, files in os.walk(str(self.path)):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for file in sorted(files + links):
                path = Path(folder) / file
                name = path.relative_to(self.path).as_posix()
                if name == MANIFEST:
                    continue
                if name in self.known and path.is_file():
                    untouched = not path.is_symlink() and checksum(path) in self.known[name]
                    (self.own if untouched else self.edited).append(name)
                elif self._is_waste(name):
                    self.waste.append(name)
                else:
                    self.strange.append(name)

    def _is_waste(self, name: str) -> bool:
        """Compiled files beside ours, and what `atomic_write` leaves when it is killed: `.NAME.*.tmp` for a NAME of
        ours."""
        path = Path(name)
        if path.parent.name == "__pycache__":
            return bool(self.known) and ".pyc" in path.name
        if not (path.name.startswith(".") and path.suffix == ".tmp"):
            return False
        written = path.with_name(path.name[1:].rsplit(".", 2)[0]).as_posix()
        return written == MANIFEST or written in self.known

    def manifest(self, state: str, version: str, files: Dict[str, List[str]]) -> None:
        """Write `installed.json`, whole or not at all."""
        contents = {"version": version, "state": state, "files": files}
        atomic_write(self.path / MANIFEST, (json.dumps(contents, indent=1, sort_keys=True) + "\n").encode())

    def delete(self, names: List[str]) -> None:
        """Delete files by their names, and every folder inside that is empty then."""
        for name in names:
            # a temporary file may be gone: the next write of its name removes it, too
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()
        for folder, _, _ in os.walk(str(self.path), topdown=False):
            if Path(folder) != self.path and not os.listdir(folder):
                os.rmdir(folder)

    def delete_all(self) -> None:
        """Everything of ours, the manifest last. What the user put there or changed stays."""
        if self.known:
            self.manifest("uninstalling", self.version, self.known)
        self.delete(self.own + self.waste)
        if (self.path / MANIFEST).exists():
            (self.path / MANIFEST).unlink()
        if not os.listdir(str(self.path)):
            self.path.rmdir()
