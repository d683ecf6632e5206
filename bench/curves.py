"""Held-out loss against training time, one picture for each voice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from bench.trainings import FULL, LORA

COLOURS = {LORA: "#f97316", FULL: "#2f7fd6"}


def draw(voices: Dict[str, Dict[str, Any]], path: Path) -> None:
    """Write a PNG. voices: name -> figures with `curves`, {training: [{"steps", "seconds", "errors"}, ...]}."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(voices), figsize=(5 * len(voices), 3.6), squeeze=False)
    for plot, (name, voice) in zip(axes[0], voices.items()):
        for training, points in voice["curves"].items():
            seconds = [point["seconds"] for point in points]
            plot.plot(seconds, [loss(point) for point in points], marker=".", color=COLOURS.get(training),
                      label=f"{training}, {points[-1]['steps']} steps")
        plot.axhline(loss(voice["curves"][FULL][-1]), color=COLOURS[FULL], linewidth=0.8, linestyle="--")
        plot.set_title(name)
        plot.set_xlabel("seconds of training")
        plot.set_ylabel("held-out log-mel L1")
        plot.legend(frameon=False)
        plot.grid(alpha=0.2)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(str(path), dpi=110)
    pyplot.close(figure)


def loss(point: Dict[str, Any]) -> float:
    """Mean over the held-out clips."""
    return sum(point["errors"]) / len(point["errors"])
