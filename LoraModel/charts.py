"""Charts as SVG elements: lines over steps, and figures with their intervals.

Standard library only, and no script: a report holds them, and the WebUI's page shows them while a run goes on.
`STYLE` is their style sheet, for every page that shows one; it takes the page's colours where it names any.
"""

from __future__ import annotations

import math
from html import escape
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from .messages import Text, codes, columns_of

Points = Sequence[Tuple[float, float]]
"""(step or seconds, value) pairs in rising order."""

SMOOTHED_FROM = 30  # points: a longer curve is drawn pale, with its running mean over it
MOST_POINTS = 400  # of a curve: more cannot be distinguished
MOST_DOTS = 60  # of a curve: with more points only the last is marked

STYLE = """
svg.chart { width: 100%; height: auto; display: block; overflow: visible }
svg.chart .grid { stroke: var(--line, currentColor); stroke-opacity: var(--line-opacity, .14) }
svg.chart text { fill: var(--soft, currentColor); font-size: 11.5px; font-family: inherit }
svg.chart text { font-variant-numeric: tabular-nums }
svg.chart text.row { fill: var(--ink, currentColor); font-size: 12.5px }
svg.chart polyline { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round }
svg.chart .curve, svg.chart .dot, svg.chart .whisker { stroke: var(--accent, #2f7fd6); stroke-width: 2.5 }
svg.chart .second { stroke: #f97316 }
svg.chart polyline.raw { stroke-width: 1; stroke-opacity: .3 }
svg.chart .dot { fill: var(--card, #fff) }
svg.chart .lowest { fill: none; stroke-width: 2 }
svg.chart .whisker { stroke-linecap: round }
svg.chart .level { stroke: var(--soft, currentColor); stroke-width: 1.5; stroke-dasharray: 5 5 }
"""


class Curve(NamedTuple):
    """One line of a chart."""

    points: Points
    """Those with a value that is not finite are left out."""
    colour: str = "curve"
    """A class of `STYLE`: "curve", or "curve second"."""
    dots: bool = False
    """Mark each point."""
    smooth: bool = True
    """Draw the running mean over a curve of many points."""
    lowest: bool = False
    """Put a ring around the lowest point."""


def line_chart(points: Points, label: str, dots: bool = False, level: Optional[float] = None) -> str:
    """One curve as an SVG element; "" where there is no point. See `chart`."""
    return chart([Curve(points, dots=dots)], label, level)


def chart(curves: Sequence[Curve], label: str, level: Optional[float] = None, width: int = 400,
          height: int = 186) -> str:
    """Curves over a common axis, which begins at 0, as an SVG element; "" where there is no point.

    Args:
        label: what a screen reader says.
        level: a value to draw as a dashed line across.
        width, height: of the picture, in its own units; a letter is 11.5 high.
    """
    drawn = [curve._replace(points=_points(curve)) for curve in curves]
    points = [point for curve in drawn for point in curve.points]
    if not points:
        return ""
    values = [value for _, value in points] + ([] if level is None else [level])
    ticks = round_ticks(min(values), max(values))
    first = min(0.0, min(at for at, _ in points))
    last = max(max(at for at, _ in points), first + 1)
    left, top, right, bottom = 46, 10, width - 12, height - 26

    def x(at: float) -> float:
        return left + (at - first) / (last - first) * (right - left)

    def y(value: float) -> float:
        return top + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (bottom - top)

    def line(name: str, line_points: Points) -> str:
        joined = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line_points)
        return f'<polyline class="{name}" points="{joined}"/>'

    def across(name: str, value: float) -> str:
        return f'<line class="{name}" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'

    parts = [_open(width, height, label)]
    for tick in ticks:
        parts.append(across("grid", tick) + _text(left - 8, y(tick) + 4, "end", f"{tick:.4g}"))
    for tick in round_ticks(first, last):
        if first <= tick <= last:
            parts.append(_text(x(tick), bottom + 20, "middle", f"{tick:.6g}"))
    if level is not None:
        parts.append(across("level", level))
    for curve in drawn:
        count = len(curve.points)
        if curve.smooth and count >= SMOOTHED_FROM:
            parts += [line(f"{curve.colour} raw", curve.points), line(curve.colour, _running_mean(curve.points))]
        elif count > 1:
            parts.append(line(curve.colour, curve.points))
        if curve.dots or count == 1:
            marked = curve.points if count <= MOST_DOTS else curve.points[-1:]
            parts += [_dot(x(at), y(value), f"{curve.colour} dot", 4) for at, value in marked]
        if curve.lowest and count:
            at, value = min(curve.points, key=lambda point: point[1])
            parts.append(_dot(x(at), y(value), f"{curve.colour} dot lowest", 7))
    return "".join(parts) + "</svg>"


def interval_chart(rows: Sequence[Tuple[Union[Text, str], float, float, float]], label: str) -> str:
    """Figures with their intervals, one below the other, as an SVG element; "" where there is none.

    Args:
        rows: (name, value, low, high); those with a value that is not finite are left out.
        label: what a screen reader says.
    """
    kept = [row for row in rows if all(math.isfinite(number) for number in row[1:])]
    if not kept:
        return ""
    left, top, width, step = 132, 8, 252, 26
    ticks = round_ticks(min(row[2] for row in kept), max(row[3] for row in kept), 4)
    bottom = top + step * len(kept)
    parts = [_open(400, bottom + 26, label)]

    def x(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * width

    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x(tick), bottom + 20, "middle", f"{tick:.4g}"))
    for position, (name, value, low, high) in enumerate(kept):
        y = top + step * (position + 0.5)
        parts += [_text(left - 12, y + 4, "end", escape(_fitted(words, 18)), f' class="row"{which}')
                  for which, words in _names(name)]
        parts.append(f'<line class="whisker" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_dot(x(value), y, "dot", 4))
    return "".join(parts) + "</svg>"


def round_ticks(low: float, high: float, count: int = 5) -> List[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` of them, at least two."""
    span = high - low or abs(high) or 1.0
    rough = span / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [step * n for n in range(first, last + 1)]


def _open(width: int, height: int, label: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _text(x: float, y: float, anchor: str, text: str, attributes: str = "") -> str:
    return f'<text{attributes} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _dot(x: float, y: float, name: str, radius: int) -> str:
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _points(curve: Curve) -> Points:
    """What is drawn of a curve: a smooth one is thinned."""
    finite = [(float(at), float(value)) for at, value in curve.points if math.isfinite(at) and math.isfinite(value)]
    return _thin(finite) if curve.smooth else finite


def _thin(points: Points) -> Points:
    """At most MOST_POINTS of the points, the last among them; each the mean of its neighbours."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start:start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _running_mean(points: Points) -> Points:
    """Each value's mean with its neighbours, about a fifteenth of the curve together; fewer at the ends."""
    width = max(2, len(points) // 30)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    smoothed = []
    for index, (at, _) in enumerate(points):
        low, high = max(0, index - width), min(len(points), index + width + 1)
        smoothed.append((at, (sums[high] - sums[low]) / (high - low)))
    return smoothed


def _names(name: Union[Text, str]) -> List[Tuple[str, str]]:
    """(attribute `lang`, words) in each language; one without it for a name that is the same in all."""
    if isinstance(name, str):
        return [("", name)]
    return [(f' lang="{code}"', name.in_language(language)) for code, language in codes()]


def _fitted(text: str, width: int) -> str:
    """`text` cut to `width` columns, of which a Chinese character takes two."""
    columns = 0
    for position, character in enumerate(text):
        columns += columns_of(character)
        if columns > width:
            return text[: max(position - 1, 0)] + "…"
    return text
