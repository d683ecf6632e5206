"""Pictures and sound for the report, as text that an HTML page can hold: PNG and FLAC as data URIs, charts as SVG.

Nothing beyond numpy and soundfile: a spectrogram is an 8-bit PNG with a palette, which zlib alone can write
(PNG specification, section 5: signature, then chunks of length, name, data, CRC-32).
"""

from __future__ import annotations

import base64
import io
import math
import struct
import zlib
from html import escape
from typing import List, Optional, Sequence, Tuple

import numpy as np
import soundfile

from ..messages import columns_of
from .metrics import log_mel

PICTURE_BANDS = 128  # mel bands, one pixel row each
QUIET, LOUD = math.log(2e-3), math.log(3.0)  # log-mel values at the two ends of the colour scale
SMOOTHED_FROM = 30  # points: longer curves get a running mean drawn over them

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


def spectrogram_png(audio: np.ndarray, sr: int) -> bytes:
    """Log-mel spectrogram of (samples,) at `sr` Hz as PNG: 100 columns a second, low pitch at the bottom."""
    mel = log_mel(audio, sr, PICTURE_BANDS)  # (128, frames)
    level = np.clip((mel - QUIET) / (LOUD - QUIET), 0, 1)
    return palette_png(np.rint(level[::-1] * 255).astype(np.uint8))


def flac(audio: np.ndarray, sr: int) -> bytes:
    """16-bit FLAC file of (samples,) at `sr` Hz, full scale 1; what lies beyond is clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1, 1), sr, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _ticks(low: float, high: float, count: int = 5) -> List[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` of them."""
    span = high - low or abs(high) or 1.0
    rough = span / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [step * n for n in range(first, last + 1)]


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over `width` neighbours, fewer at the ends: (n,) -> (n,)."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def line_chart(points: Sequence[Tuple[float, float]], label: str, dots: bool = False,
               level: Optional[float] = None) -> str:
    """A curve over training steps as an SVG element; colours come from the page's style sheet.

    Args:
        points: (step, value) pairs; those with a value that is not finite are left out.
        label: what a screen reader says.
        dots: mark each point.
        level: a value to draw as a dashed line across.
    """
    kept = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not kept:
        return ""
    x, y = np.array(kept).T
    left, top, width, height = 44, 10, 344, 150
    y_all = y if level is None else np.append(y, level)
    y_ticks = _ticks(float(y_all.min()), float(y_all.max()))
    x_low, x_high = float(x.min()), float(max(x.max(), x.min() + 1))
    x_ticks = [tick for tick in _ticks(x_low, x_high) if x_low <= tick <= x_high]

    def place(xs: np.ndarray, ys: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        return (
            left + (np.asarray(xs) - x_low) / (x_high - x_low) * width,
            top + (y_ticks[-1] - np.asarray(ys)) / (y_ticks[-1] - y_ticks[0]) * height,
        )

    def path(ys: np.ndarray, style: str) -> str:
        joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(*place(x, ys)))
        return f'<polyline class="{style}" points="{joined}"/>'

    parts = [f'<svg viewBox="0 0 400 186" role="img" aria-label="{escape(label)}">']
    for tick in y_ticks:
        py = float(place(x_low, tick)[1])
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{py + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in x_ticks:
        px = float(place(tick, 0)[0])
        parts.append(f'<text class="tick" x="{px:.1f}" y="{top + height + 20}" text-anchor="middle">{tick:.6g}</text>')
    if level is not None:
        py = float(place(x_low, level)[1])
        parts.append(f'<line class="level" x1="{left}" x2="{left + width}" y1="{py:.1f}" y2="{py:.1f}"/>')
    if len(x) >= SMOOTHED_FROM:
        parts += [path(y, "raw"), path(_running_mean(y, max(5, len(x) // 15)), "curve")]
    elif len(x) > 1:
        parts.append(path(y, "curve"))
    if dots or len(x) == 1:
        parts += [f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="4"/>' for px, py in zip(*place(x, y))]
    return "".join(parts) + "</svg>"


def _fitted(text: str, width: int) -> str:
    """`text` cut to `width` columns, of which a Chinese character takes two."""
    columns = 0
    for position, character in enumerate(text):
        columns += columns_of(character)
        if columns > width:
            return text[: max(position - 1, 0)] + "…"
    return text


def interval_chart(rows: Sequence[Tuple[Tuple[str, str], float, float, float]], label: str) -> str:
    """Figures with their intervals, one below the other, as an SVG element; colours come from the page's style sheet.

    Args:
        rows: ((name in English, in Chinese), value, low, high); those with a value that is not finite are left out.
        label: what a screen reader says.
    """
    kept = [row for row in rows if all(math.isfinite(number) for number in row[1:])]
    if not kept:
        return ""
    left, top, width, step = 132, 8, 252, 26
    ticks = _ticks(min(row[2] for row in kept), max(row[3] for row in kept), 4)
    bottom = top + step * len(kept)
    parts = [f'<svg viewBox="0 0 400 {bottom + 26}" role="img" aria-label="{escape(label)}">']

    def place(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * width

    for tick in ticks:
        parts.append(f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{place(tick):.1f}" y="{bottom + 20}" '
                     f'text-anchor="middle">{tick:.4g}</text>')
    for position, ((en, zh), value, low, high) in enumerate(kept):
        y = top + step * (position + 0.5)
        names = [("", en)] if en == zh else [(' lang="en"', en), (' lang="zh-CN"', zh)]
        parts += [f'<text class="row" x="{left - 12}" y="{y + 4:.1f}" '
                  f'text-anchor="end"{which}>{escape(_fitted(name, 18))}</text>'
                  for which, name in names]
        parts.append(f'<line class="whisker" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot" cx="{place(value):.1f}" cy="{y:.1f}" r="4"/>')
    return "".join(parts) + "</svg>"
