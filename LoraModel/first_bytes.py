"""What a file is, told by its first bytes: for files given as a model or an adapter that are neither.

Standard library alone; nothing of the file is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple

_MAGICS: Tuple[Tuple[bytes, str, str], ...] = (
    (b"Rar!", "a RAR archive", "RAR 压缩包"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z 压缩包"),
    (b"\x1f\x8b", "a gzip archive", "gzip 压缩包"),
    (b"\x89PNG", "a picture", "图片"), (b"\xff\xd8\xff", "a picture", "图片"), (b"RIFF", "a recording", "录音"),
    (b"fLaC", "a recording", "录音"),
    (b"ID3", "a recording", "录音"), (b"OggS", "a recording", "录音"), (b"%PDF", "a PDF document", "PDF 文档"),
    (b"MZ", "a program", "程序"),
    (b"\x7fELF", "a program", "程序"), (b"GGUF", "a GGUF model of another program", "其他程序的 GGUF 模型"),
    (b"\x89HDF", "an HDF5 file of another program", "其他程序的 HDF5 文件"),
    (b"IxF", "a faiss index (it goes to --index)", "faiss 索引（应通过 --index 使用）"),
    (b"IxM", "a faiss index (it goes to --index)", "faiss 索引（应通过 --index 使用）"),
    (b"IwF", "a faiss index (it goes to --index)", "faiss 索引（应通过 --index 使用）"),
    (b"\x93NUMPY", "an array of NumPy's", "NumPy 数组"),
)


@dataclass(frozen=True)
class Finding:
    """en, zh: what a file is, as a part of a sentence. advice: what to do; "" where only another file can be chosen."""

    en: str
    zh: str
    advice_en: str = ""
    advice_zh: str = ""


def what_starts_so(start: bytes) -> Optional[Finding]:
    """What a file is whose first bytes (4,096 are enough) are `start`; None where they say nothing.

    Zip archives and pickles are not told here: whoever reads such files knows more of them.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(!doctype|html|head|body|\?xml|!--)", text[:16].lower()):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", start, re.IGNORECASE)
        shown = printable_start(title.group(1)) if title else ""
        return Finding(f"it is a web page{f', {shown!r},' if shown else ''} saved under this name",
                       f"这是以该名称保存的网页{f'“{shown}”' if shown else ''}",
                       "open the link in a browser, go on to the file itself and download it again",
                       "请用浏览器打开链接，找到文件本身后重新下载")
    if text.startswith(b"version https://git-lfs"):
        return Finding("it is a pointer of Git LFS, the file itself was not downloaded",
                       "这是 Git LFS 指针，文件本身并未下载",
                       "run `git lfs pull` in its folder, or download it again from the web page",
                       "请在其目录运行 `git lfs pull`，或从网页重新下载")
    for magic, en, zh in _MAGICS:
        if start.startswith(magic):
            if "archive" in en:
                return Finding(f"it is {en}", f"这是{zh}", "unpack it and choose the file inside",
                               "请解压后选择其中的文件")
            return Finding(f"it is {en}", f"这是{zh}")
    if _is_onnx(start):
        return Finding("it is an ONNX model, which can be neither trained nor changed",
                       "这是 ONNX 模型，无法训练或修改",
                       "choose the .pth that it was made from",
                       "请选择导出它所用的 .pth")
    if text[:1] in (b"{", b"["):
        return Finding("it is a text file, JSON", "这是 JSON 文本文件")
    if not start.strip(b"\0"):
        return Finding("it begins with zeros, its download was broken off", "文件开头全为零，下载曾中断")
    return None


def _is_onnx(start: bytes) -> bool:
    """ONNX is a protobuf: the version of the format first, then who wrote it."""
    return len(start) > 8 and start[0] == 8 and start[1] < 32 and (start[2] == 0x12 or b"onnx" in start[:200]) and (
        b"pytorch" in start[:60] or b"onnx" in start[:200])


def printable_start(data: bytes) -> str:
    """At most 80 characters of a text in a file, fit for a message."""
    text = data.decode("utf-8", "replace")
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()[:80]
