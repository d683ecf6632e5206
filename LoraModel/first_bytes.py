"""What a file is, by its first bytes: for files given as a model, an adapter, an index or a recording that are none.

Standard library alone; nothing of the file is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple

from .messages import Text

_MAGICS: Tuple[Tuple[bytes, Text], ...] = (
    (b"Rar!", Text("a RAR archive")), (b"7z\xbc\xaf\x27\x1c", Text("a 7z archive")),
    (b"\x1f\x8b", Text("a gzip archive")),
    (b"\x89PNG", Text("a picture")), (b"\xff\xd8\xff", Text("a picture")), (b"RIFF", Text("a recording")),
    (b"fLaC", Text("a recording")),
    (b"ID3", Text("a recording")), (b"OggS", Text("a recording")), (b"%PDF", Text("a PDF document")),
    (b"MZ", Text("a program")),
    (b"\x7fELF", Text("a program")), (b"GGUF", Text("a GGUF model of another program")),
    (b"\x89HDF", Text("an HDF5 file of another program")),
    (b"IxF", Text("a faiss index (it goes to --index)")),
    (b"IxM", Text("a faiss index (it goes to --index)")),
    (b"IwF", Text("a faiss index (it goes to --index)")),
    (b"\x93NUMPY", Text("an array of NumPy's")),
)


@dataclass(frozen=True)
class Finding:
    """What a file is, as a part of a sentence, and what to do; no advice where only another file can be chosen."""

    what: Text
    advice: Optional[Text] = None

    def words(self) -> Text:
        """Both in one."""
        return Text("{what}: {advice}", what=self.what, advice=self.advice) if self.advice else self.what


def what_starts_so(start: bytes) -> Optional[Finding]:
    """What a file is whose first bytes (4,096 are enough) are `start`; None where they say nothing.

    Zip archives and pickles are not recognised here: whoever reads such files knows more of them.
    """
    if not start:
        return Finding(Text("it is empty"), Text("download it again"))
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(!doctype|html|head|body|\?xml|!--)", text[:16].lower()):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", start, re.IGNORECASE)
        shown = printable_start(title.group(1)) if title else ""
        what = Text("it is a web page, {title!r}, saved under this name", title=shown) if shown else Text(
            "it is a web page saved under this name")
        return Finding(what, Text("open the link in a browser, go on to the file itself and download it again"))
    if text.startswith(b"version https://git-lfs"):
        return Finding(Text("it is a Git LFS pointer: the file itself was not downloaded"),
                       Text("run `git lfs pull` in its folder, or download it again from the web page"))
    for magic, kind in _MAGICS:
        if start.startswith(magic):
            archive = Text("unpack it and choose the file inside") if "archive" in kind.english else None
            return Finding(Text("it is {kind}", kind=kind), archive)
    if _is_onnx(start):
        return Finding(Text("it is an ONNX model, which can be neither trained nor changed"),
                       Text("choose the .pth that it was made from"))
    if text[:1] in (b"{", b"["):
        return Finding(Text("it is a text file, JSON"))
    if not start.strip(b"\0"):
        return Finding(Text("it begins with zeros: its download was interrupted"))
    return None


def _is_onnx(start: bytes) -> bool:
    """ONNX is a protobuf: the version of the format first, then who wrote it."""
    return len(start) > 8 and start[0] == 8 and start[1] < 32 and (start[2] == 0x12 or b"onnx" in start[:200]) and (
        b"pytorch" in start[:60] or b"onnx" in start[:200])


def printable_start(data: bytes) -> str:
    """At most 80 characters of a text in a file, fit for a message."""
    text = data.decode("utf-8", "replace")
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()[:80]
