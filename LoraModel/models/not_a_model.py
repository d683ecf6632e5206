"""What a file that is no model is, in the user's words: a web page saved as `.pth`, half a download, a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO, Optional

from ..first_bytes import Finding, printable_start, what_starts_so
from ..messages import Text
from .tensor_file import open_directory
from .tensor_refs import Malformed


def what_it_is(path: Path) -> Optional[Finding]:
    """What `path`, which is no model, is; None where nothing is known."""
    try:
        size = path.stat().st_size
        with open(str(path), "rb") as stream:
            start = stream.read(4096)
            if start.startswith(b"PK\x03\x04"):
                return _zip(stream, size)
    except (OSError, Malformed):
        return None
    return what_starts_so(start)


def _zip(stream: BinaryIO, size: int) -> Optional[Finding]:
    try:
        names = [name for name in open_directory(stream).namelist() if not name.endswith("/")]
    except zipfile.BadZipFile:
        return Finding(Text("it is cut short after {size:,} bytes, such as half a download",
                            size=size), Text("download it again"))
    if any(name.endswith("constants.pkl") for name in names) and any("/code/" in name for name in names):
        return Finding(Text("it is a TorchScript program"), Text(
            "choose the .pth that it was made from"))
    if any(name.endswith("data.pkl") for name in names):
        return None
    inside = next((name for name in names if name.lower().endswith((".pth", ".pt", ".safetensors"))), None)
    if inside is not None:
        shown = printable_start(inside.encode("utf-8", "replace"))
        return Finding(Text("it is a zip archive that holds {shown}", shown=shown),
                       Text("unpack it and choose that file"))
    return Finding(Text("it is a zip archive without a model"))
