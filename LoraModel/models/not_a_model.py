"""What a file that is no model is, in the user's words: a web page saved as `.pth`, half a download, a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO, Optional

from ..first_bytes import Finding, printable_start, what_starts_so
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
    if not size:
        return Finding("it is empty", "文件为空", "download it again", "请重新下载")
    return what_starts_so(start)


def _zip(stream: BinaryIO, size: int) -> Optional[Finding]:
    try:
        names = [name for name in open_directory(stream).namelist() if not name.endswith("/")]
    except zipfile.BadZipFile:
        return Finding(f"it is cut short after {size:,} bytes, such as half a download",
                       f"文件在 {size:,} 字节处中断，可能只下载了一半", "download it again", "请重新下载")
    if any(name.endswith("constants.pkl") for name in names) and any("/code/" in name for name in names):
        return Finding("it is a TorchScript program", "这是 TorchScript 程序", "choose the .pth that it was made from",
                       "请选择导出它所用的 .pth")
    if any(name.endswith("data.pkl") for name in names):
        return None
    inside = next((name for name in names if name.lower().endswith((".pth", ".pt", ".safetensors"))), None)
    if inside is not None:
        shown = printable_start(inside.encode("utf-8", "replace"))
        return Finding(f"it is a zip archive that holds {shown}", f"这是包含 {shown} 的 zip 压缩包",
                       "unpack it and choose that file", "请解压后选择该文件")
    return Finding("it is a zip archive without a model", "这是不含模型的 zip 压缩包")
