"""What converted audio says of itself: that voice conversion made it, and whose voice it is.

The words stand in the container's own comment field: WAV's INFO list and the comments of FLAC and Ogg, as libsndfile
writes them, and a comment of ID3v2.3 (id3.org, "ID3 tag version 2.3.0", 4.11) before an MP3. The sound is not touched.
"""

from __future__ import annotations

import os
import struct

from ..paths import printable

SETTING = "RVC_LORA_MARK"
"""The environment variable that switches it off: 0, off, no or false."""
LONGEST_NAME = 200
_OFF = ("0", "off", "no", "false")


def wanted() -> bool:
    """Whether the user's setting lets converted audio be marked."""
    return os.environ.get(SETTING, "").strip().lower() not in _OFF


def mark_of(voice: str, wished: bool = True) -> str:
    """The statement for audio of a voice; "" where none is wished.

    Args:
        voice: its name, a stranger's. wished: what the command says; the setting is asked as well.
    """
    if not (wished and wanted()):
        return ""
    name = printable(voice).strip()[:LONGEST_NAME]
    return "AI-generated audio: made by voice conversion (RVC-LoRA)" + (f", voice: {name}" if name else "")


def id3(comment: str) -> bytes:
    """An ID3v2.3 tag that holds one comment, in UTF-16: what stands before an MP3's first frame."""
    text = b"\x01eng" + "\0".encode("utf-16") + comment.encode("utf-16")
    frame = b"COMM" + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))  # seven bits in each byte
    return b"ID3\x03\x00\x00" + size + frame
