"""Where the page's files lie, and the checks of every name and path that comes from the page."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, List, Tuple

from ..messages import UserError
from ..names import plain_name, shown
from . import entries


@dataclass(frozen=True)
class Folders:
    """The folder that holds `logs/` and `assets/`: an RVC checkout, or a folder of the same shape.

    Attributes:
        is_checkout: whether it is RVC's own.
    """

    root: Path
    is_checkout: bool = True

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
        name = plain_name(name, ("the experiment name", "实验名"))
        if name.lower() == "mute":
            raise UserError(f"the experiment name {name!r} is RVC's own: choose another", f"实验名 {name!r} 为 RVC 保留：请更换")
        return self.logs / name

    def run(self, name: str) -> Path:
        """The folder of the experiment's run."""
        return self.experiment(name) / "lora"

    def adapter(self, name: str) -> Path:
        """Where the list of adapters looks for this experiment's."""
        return self.root / "assets" / "lora" / f"{self.experiment(name).name}.safetensors"

    def published(self, name: str) -> Path:
        return self.own / f"{self.experiment(name).name}.published.json"

    def base(self, text: Any) -> Path:
        """A pretrained file as the page names it.

        Raises:
            UserError: it lies elsewhere than in assets/pretrained*, assets/weights or as G_….pth or D_….pth in logs/NAME, or is missing.
        """
        text = entries.path(text, ("the base", "底模"))
        plain = os.path.normpath(text.replace("\\", "/")) if text and "\0" not in text else ""
        root = os.path.normpath(str(self.root))
        if os.path.isabs(plain):
            try:
                plain = os.path.relpath(plain, root)
            except ValueError:  # another drive
                plain = ".."
        parts = PurePosixPath(plain.replace("\\", "/")).parts
        allowed = (
            len(parts) >= 3 and parts[0] == "assets" and (parts[1] == "weights" or re.fullmatch(r"pretrained\w*", parts[1]))
            or len(parts) == 3 and parts[0] == "logs" and re.fullmatch(r"[GD]_\w+\.pth", parts[2])
        )
        if not allowed or ".." in parts or any(":" in part for part in parts) or not parts[-1].lower().endswith(".pth"):
            raise UserError(f"{text or 'no base'} cannot be taken: choose a .pth from assets/pretrained, assets/pretrained_v2 or assets/weights, "
                            "or a G_….pth from logs/",
                            f"无法使用 {text or '（未选择底模）'}：请选择 assets/pretrained、assets/pretrained_v2 或 assets/weights 中的 .pth，"
                            "或 logs/ 中的 G_….pth")
        path = self.root.joinpath(*parts)
        if not path.is_file():
            raise UserError(f"there is no {'/'.join(parts)}: download it as RVC's README says, or choose another base",
                            f"找不到 {'/'.join(parts)}：请按 RVC 的 README 下载，或选择其他底模")
        return path

    def recordings(self, text: Any) -> Path:
        """The folder of recordings: any folder of this machine.

        Raises:
            UserError: it is not there, or it is a file.
        """
        text = entries.path(text, ("the path of the training folder", "训练文件夹路径"))
        path = self.root / text if text else None
        if path is not None and path.is_file():
            raise UserError(f"{path} is a file, and the folder that holds the recordings of the voice is wanted: give {path.parent}, if all "
                            "recordings in it are of this voice, or put this one into a folder of its own",
                            f"{path} 是文件，而此处需要存放该声音录音的文件夹：若 {path.parent} 中的录音都属于该声音，请填写它，"
                            "否则请将此文件放入单独的文件夹")
        if path is None or not path.is_dir():
            raise UserError(f"there is no folder {shown(text)}: give the path of the folder that holds the recordings of the voice",
                            f"找不到文件夹 {shown(text)}：请填写存放该声音录音的文件夹路径")
        return path

    def pretrained(self, version: str, rate: str, f0: bool) -> Tuple[str, str]:
        """RVC's own G and D for "v1" or "v2", "40k" …, with or without f0; "" where a file is missing."""
        folder = "assets/pretrained" + ("" if version == "v1" else "_v2")
        names = [f"{folder}/{'f0' if f0 else ''}{kind}{rate}.pth" for kind in "GD"]
        generator, discriminator = (name if (self.root / name).is_file() else "" for name in names)
        return generator, discriminator

    def found(self, kind: str) -> List[str]:
        """All generators ("G") or discriminators ("D") that training may start from, as the page names them."""
        files = [*self.root.glob("assets/pretrained*/*.pth"), *self.root.glob(f"logs/*/{kind}_*.pth")]
        names = [file.relative_to(self.root).as_posix() for file in files]
        return sorted(name for name in names if re.search(rf"(?:^|/|f0|[_-]){kind}(?:[_\d-]|\.pth)", name.rpartition("/")[2]) or
                      (kind == "G" and not re.search(r"(?:f0)?D\d", name.rpartition("/")[2])))

    def rates(self) -> List[str]:
        """The sample rates of the bases that are there, such as ["40k"]."""
        found = {match.group(1) for name in self.found("G") for match in [re.search(r"(\d+k)\.pth$", name)] if match}
        return sorted(found, key=lambda rate: int(rate[:-1]))

    def names(self) -> List[str]:
        """The experiments that have a run, the newest first."""
        runs = [path for path in self.logs.glob("*/lora/job.json")] if self.logs.is_dir() else []
        return [path.parent.parent.name for path in sorted(runs, key=_changed, reverse=True)]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

