"""What an evaluation found, as JSON and as a table for the terminal."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Dict, List, Sequence

from .. import __version__
from ..messages import table, tr
from .compare import Figures, Listened, differences, means
from .figures import FIGURES
from .recordings import Recording

FORMAT = "rvc-lora-quality"
FORMAT_VERSION = 1
_PACKAGES = {"torch": "torch", "numpy": "numpy", "librosa": "librosa", "parselmouth": "parselmouth",
             "onnxruntime": "onnxruntime", "faster_whisper": "faster_whisper"}


@dataclass
class Result:
    """A model's figures, or those of the real recordings.

    Attributes:
        kind: "real", "base", "adapter" or "model". about: file, base, base_hash, sample rate in Hz, strength, …; empty
            for "real".
        clips, sources: figures of every clip, as `compare.evaluate_clips` and `evaluate_sources` give them.
        own, other: what the report plays of each.
    """

    kind: str
    label: str
    about: Dict[str, Any]
    clips: List[Figures]
    sources: List[Figures]
    own: Listened = field(default_factory=Listened)
    other: Listened = field(default_factory=Listened)


def versions() -> Dict[str, Any]:
    """Versions of this project, Python and the packages that decide the figures; those that are not installed are left
    out."""
    found: Dict[str, Any] = {"rvc_lora": __version__, "python": platform.python_version()}
    for name, module in _PACKAGES.items():
        try:
            found[name] = str(getattr(import_module(module), "__version__", "?"))
        except ImportError:
            continue
    return {"versions": found}


def _json_figures(figures: Figures) -> Dict[str, Any]:
    """NaN, which JSON lacks, becomes null."""
    return {key: value if math.isfinite(value) else None for key, value in figures.items()}


def as_json(results: Sequence[Result], clips: Sequence[Recording], sources: Sequence[Recording],
            settings: Dict[str, Any], notes: List[Dict[str, str]]) -> Dict[str, Any]:
    """The content of report.json.

    `models`: the real recordings, then each model: `about`, `recordings` and `sources`, in which `clips` has every
    clip's figures, `means` their means and `difference` the paired difference to the first model, each with the 95%
    interval over clips.
    """
    first = results[1]

    def part(found: List[Figures], theirs: List[Figures], recordings: Sequence[Recording],
             is_model: bool) -> Dict[str, Any]:
        named = [{"clip": clip.name, **_json_figures(figures)} for clip, figures in zip(recordings, found)]
        return {"clips": named, "means": means(found), "difference": differences(found, theirs) if is_model
                and found is not theirs else {}}

    def places(recordings: Sequence[Recording]) -> List[Dict[str, Any]]:
        return [{"clip": clip.name, "path": str(clip.path), "seconds": round(clip.seconds, 3)} for clip in recordings]

    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": settings,
        "figures": {key: {"name": figure.name.english, "unit": figure.unit.replace("%", "share, 0 to 1"),
                          "better": figure.way, "means": figure.means.english}
                    for key, figure in FIGURES.items()},
        "recordings": places(clips), "sources": places(sources),
        "models": [{"label": result.label, "kind": result.kind, "about": result.about,
                    "recordings": part(result.clips, first.clips, clips, result.kind != "real"),
                    "sources": part(result.sources, first.sources, sources, result.kind != "real")}
                   for result in results],
        "notes": notes,
    }


def shown(key: str, mean: Dict[str, float]) -> str:
    """A mean with its interval for the terminal: `0.435 (0.410–0.462)`."""
    figure = FIGURES[key]
    value, low, high = (f"{mean[part] * figure.factor:.{figure.digits}f}" for part in ("mean", "low", "high"))
    return value if mean["clips"] < 2 else f"{value} ({low}–{high})"


def present(parts: Sequence[Dict[str, Dict[str, float]]]) -> List[str]:
    """Which figures any of the means have, in the order of FIGURES."""
    return [key for key in FIGURES if any(key in part for part in parts)]


def summary(results: Sequence[Result]) -> str:
    """The tables for the terminal: the speaker's own recordings, and the sources if there are any."""
    own = [means(result.clips) for result in results]
    other = [means(result.sources) for result in results]
    labels = [result.label for result in results]
    text = _table(tr("recordings"), labels, own)
    if any(result.sources for result in results):
        text += "\n\n" + _table(tr("sources"), [tr("not converted"), *labels[1:]], other)
    return text + "\n" + tr("(in brackets: 95% interval of the mean, bootstrap over clips)")


def _table(corner: str, labels: Sequence[str], parts: Sequence[Dict[str, Dict[str, float]]]) -> str:
    keys = present(parts)
    heads = [str(FIGURES[key].name) + (f" [{FIGURES[key].unit}]" if FIGURES[key].unit else "")
             for key in keys]
    # one line for each figure, one column for each model: the names of figures are long, models are few
    rows = [[head, *(shown(key, part[key]) if key in part else "–" for part in parts)] for key,
            head in zip(keys, heads)]
    return table([[corner, *labels], *rows])
