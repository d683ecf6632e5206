"""Pictures and sound for the report, as data that an HTML page can hold: PNG and FLAC, and data URIs of them
(charts: LoraModel/charts.py).

Nothing beyond numpy and soundfile: a spectrogram is an 8-bit PNG with a palette, which zlib alone can write
(PNG specification, section 5: signature, then chunks of length, name, data, CRC-32).
"""

from __future__ import annotations

import base64
import io
import math
import struct
import zlib

import numpy as np
import soundfile

from .metrics import log_mel

PICTURE_BANDS = 128  # mel bands, one pixel row each
QUIET, LOUD = math.log(2e-3), math.log(3.0)  # log-mel values at the two ends of the colour scale

# Dark blue through violet and coral to pale yellow, rising in lightness.
_ANCHORS = np.array(
    [[10, 12, 30], [38, 26, 88], [96, 34, 128], [164, 48, 126], [222, 80, 104], [248, 140, 92], [253, 200, 128],
     [255, 250, 210]]
)
_PALETTE = np.stack(
    [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_ANCHORS)), channel) for channel in _ANCHORS.T], axis=1
).astype(np.uint8)  # (256, 3)


def data_uri(mime: str, content: bytes) -> str:
    """`content` as a data URI that a `src` attribute takes."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def palette_png(indices: np.ndarray) -> bytes:
    """PNG file of (height, width) uint8 indices into the colour scale."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = indices.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with its filter's number: 0, none
    rows[:, 1:] = indices
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", _PALETTE.tobytes())
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def spectrogram_indices(audio: np.ndarray, sr: int) -> np.ndarray:
    """Log-mel spectrogram of (samples,) at `sr` Hz as (128, frames) uint8 indices into the colour scale: 100 columns a
    second, low pitch at the bottom."""
    mel = log_mel(audio, sr, PICTURE_BANDS)  # (128, frames)
    level = np.clip((mel - QUIET) / (LOUD - QUIET), 0, 1)
    return np.rint(level[::-1] * 255).astype(np.uint8)


def spectrogram_png(audio: np.ndarray, sr: int) -> bytes:
    """The same as PNG."""
    return palette_png(spectrogram_indices(audio, sr))


def flac(audio: np.ndarray, sr: int) -> bytes:
    """16-bit FLAC file of (samples,) at `sr` Hz, full scale 1; what lies beyond is clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1, 1), sr, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
