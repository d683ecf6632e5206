"""What one run of the installer would do to a checkout, and doing it. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Dict, List, NamedTuple, Optional

from .. import __version__
from ..files import atomic_write
from ..messages import UserError
from . import installed_copy, webui_script
from .checkout import PACKAGE, Checkout
from .installed_copy import Folder, checksum


def in_the_way(folder: Folder, names: List[str]) -> List[str]:
    """What lies in `folder` where one of the files `names`, or a folder for it, is to be, and is the user's: a file, a
    link (to a file or a folder: nothing is ever written through it), a folder under the name of a file."""
    strange = set(folder.strange)
    found = {name for name in names if name in strange or os.path.isdir(str(folder.path / name))}
    for name in names:
        found |= {parent for parent in (above.as_posix() for above in PurePosixPath(name).parents) if parent in strange}
    return sorted(found)


class ScriptChange(NamedTuple):
    """A script of RVC's before and after, and what a killed run left beside it."""

    script: Path
    before: bytes
    after: bytes
    litter: List[Path]


class Plan:
    """What one run would do; computing it changes nothing, and refuses (UserError) what cannot be done whole."""

    def __init__(self, checkout: Checkout, source: Path, install: bool, link: bool):
        self.package = source / PACKAGE  # what is copied, or linked to
        self.checkout, self.install, self.link = checkout, install, link
        self.script, self.folder = checkout.script, Folder(checkout.folder, checkout.is_source(source))
        self.skipped: List[UserError] = []
        self.scripts = [change for change in map(self._change, checkout.scripts) if change is not None]
        self.write: Dict[str, Path] = {}
        self.sums: Dict[str, str] = {}
        self.set_aside: List[str] = []
        self.drop: List[str] = []
        if link and self.folder.kind == "source":
            raise UserError("RVC-LoRA already lies in {checkout_root} itself: there is nothing to link",
                            checkout_root=checkout.root)
        if link and self.folder.kind == "copy" and self.folder.strange + self.folder.edited:
            raise self._refuse_for(self.folder.strange + self.folder.edited)
        if self.folder.kind == "link" and checkout.folder.exists() and not (checkout.folder / "install"
                                                                            / "webui_script.py").is_file():
            raise UserError("{folder} is a link to something that is not RVC-LoRA: move it away, then run this again",
                            folder=checkout.folder)
        if self.copying:
            self._compare()
        self._check_rights()

    def _change(self, script: Path) -> Optional[ScriptChange]:
        """What becomes of a script. The realtime window's is left alone where it has no place for our lines: RVC's page
        does not need it."""
        before = script.read_bytes()
        litter = webui_script.litter_of(script)
        if not self.install:
            return ScriptChange(script, before, webui_script.without_lines(before, script.name), litter)
        try:
            return ScriptChange(script, before, webui_script.with_lines(before, script.name), litter)
        except UserError as error:
            if script == self.script:
                raise
            self.skipped.append(error)
            return None

    @property
    def changed(self) -> List[ScriptChange]:
        """The scripts that would not be as they are."""
        return [change for change in self.scripts if change.before != change.after]

    @property
    def litter(self) -> List[Path]:
        return [path for change in self.scripts for path in change.litter]

    @property
    def copying(self) -> bool:
        return self.install and not self.link and self.folder.kind != "source"

    @property
    def folder_changes(self) -> bool:
        if self.folder.kind == "source":
            return False
        if not self.install:
            return not self.folder.bare
        if self.link:
            return self.folder.kind != "link" or Path(os.path.realpath(str(self.folder.path))) != self.package
        return bool(self.folder.kind != "copy" or self.write or self.drop or self.folder.state != "whole")

    @property
    def nothing_to_do(self) -> bool:
        return not self.changed and not self.folder_changes and not self.litter

    def _refuse_for(self, names: List[str]) -> UserError:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        return UserError("{path} holds files that this installer did not put there ({shown}): move them away, then "
                         "run this again", path=self.folder.path, shown=shown)

    def _compare(self) -> None:
        folder = self.folder
        ours = installed_copy.files_of(self.package)
        self.sums = {name: checksum(path) for name, path in ours.items()}
        there = {name: checksum(folder.path / name) for name in [*folder.own, *folder.edited, *folder.strange]
                 # a link is the user's, whatever it leads to
                 if name in ours and not os.path.islink(str(folder.path / name))}
        self.write = {name: path for name, path in ours.items() if there.get(name) != self.sums[name]}
        foreign = in_the_way(folder, list(self.write))
        if foreign:
            raise self._refuse_for(foreign)
        self.set_aside = [name for name in folder.edited if name in self.write]
        self.drop = [name for name in folder.own if name not in ours]

    def _check_rights(self) -> None:
        """Refuse before the first byte is written what would fail in the middle: a script or a folder that is
        read-only."""
        changed = [change.script for change in self.changed]
        places = changed + ([self.checkout.root] if changed or self.folder_changes else [])
        if self.folder_changes and self.folder.kind == "copy":
            names = [*self.write, *self.set_aside, *self.drop] if self.copying else [*self.folder.own,
                                                                                     *self.folder.waste]
            folders = {self.folder.path} | {(self.folder.path / name).parent for name in names}
            places += sorted(path for path in folders if path.is_dir())
        for path in places:
            if not path.stat().st_mode & 0o222 or not os.access(str(path), os.W_OK):
                raise UserError("{path} is read-only: allow writing to it, then run this again; nothing was changed",
                                path=path)

    # -- doing it

    def run(self) -> None:
        """Install: the folder first, then the lines. Uninstall: the lines first. RVC works at every moment between."""
        if self.install:
            self._folder_in()
            self._script()
            if self.copying:
                self.folder.manifest("whole", __version__, {name: [one] for name, one in self.sums.items()})
        else:
            self._script()
            if self.folder.kind == "link":
                self.folder.path.unlink()
            elif self.folder.kind == "copy":
                self.folder.delete_all()

    def _script(self) -> None:
        for change in self.changed:
            atomic_write(change.script, change.after)
        for path in self.litter:
            path.unlink()

    def _folder_in(self) -> None:
        folder = self.folder
        if not self.folder_changes:
            return
        if folder.kind == "link":
            folder.path.unlink()
        if self.link:
            if folder.kind == "copy":
                folder.delete_all()
            try:
                os.symlink(str(self.package), str(folder.path), target_is_directory=True)
            except (OSError, NotImplementedError) as error:
                raise UserError("no link could be made ({error}): on Windows turn Developer Mode on, or install "
                                "without --link", error=error) from None
            return
        folder.path.mkdir(exist_ok=True)
        known = {name: sorted({*folder.known.get(name, []), *([self.sums[name]] if name in self.sums else [])})
                 for name in {*folder.known, *self.sums}}
        folder.manifest("installing", __version__, known)
        for name in self.set_aside:
            os.replace(str(folder.path / name), str(self.aside(name)))
        for name, source in self.write.items():
            atomic_write(folder.path / name, source.read_bytes())
        folder.delete(self.drop + [name for name in folder.waste if name.endswith(".tmp")])

    def aside(self, name: str) -> Path:
        """Where a file of ours that the user has changed is kept when a new version takes its place."""
        count = 1
        while (self.folder.path / f"{name}.yours{count}").exists():
            count += 1
        return self.folder.path / f"{name}.yours{count}"
