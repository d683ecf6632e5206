"""The evaluation's report: several models side by side, to look at and to listen to, in one HTML file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

from ..charts import interval_chart
from ..messages import Text
from . import page
from .compare import Listened
from .figures import FIGURES
from .results import Result, present

JUDGED_FROM = 5  # clips: the interval of fewer says nothing of a difference
WAYS = {"lower": Text("lower is better"), "higher": Text("higher is better")}
Names = List[Union[Text, str]]


def _names(results: Sequence[Result], first: Text) -> Names:
    return [first, *(result.label for result in results[1:])]


def _listen(renditions: Sequence[Listened], names: Names, what: Text, seconds: int) -> str:
    """For each clip, the recording and every model's conversion of it, side by side."""
    parts = []
    for position, (clip, _, _) in enumerate(renditions[0].sounds):
        players = ""
        for name, listened in zip(names, renditions):
            _, audio, rate = listened.sounds[position]
            key = name.english if isinstance(name, Text) else name
            players += page.player(audio[: seconds * rate], rate, f"{clip}/{key}", name)
        title = page.two("{what} {clip}", what=what, clip=escape(clip))
        parts.append(f'<h3 class="group">{title}</h3><section class="clips">{players}</section>')
    return "".join(parts)


def _cell(key: str, model: Dict[str, Any], part: str, best: float) -> str:
    mean = model[part]["means"].get(key)
    if mean is None:
        return "<td>–</td>"
    figure = FIGURES[key]

    def text(value: float) -> str:
        return page.number(value * figure.factor, figure.digits).replace("-", "−")

    small = f"{text(mean['low'])} – {text(mean['high'])}" if mean["clips"] > 1 else "&nbsp;"
    difference = model[part]["difference"].get(key)
    if difference is not None and difference["clips"] >= JUDGED_FROM and difference["low"] * difference["high"] > 0:
        better = figure.badness(mean["mean"]) < figure.badness(mean["mean"] - difference["mean"])
        change = text(difference["mean"])
        small += (f'<br><span '
                  f'class="{"better" if better else "worse"}">{"+" if difference["mean"] > 0 else ""}{change}</span>')
    style = ' class="best"' if text(mean["mean"]) == text(best) else ""  # equal as shown is equal
    return f"<td{style}>{text(mean['mean'])}<small>{small}</small></td>"


def figures_table(models: List[Dict[str, Any]], names: Names, part: str) -> str:
    """A row for each figure, a column for each model. models: as `results.as_json` gives them; part: "recordings" or
    "sources"."""
    heads = "".join(f"<th>{page.plain(name)}</th>" for name in names)
    rows = ""
    for key in present([model[part]["means"] for model in models]):
        figure = FIGURES[key]
        found = [model[part]["means"][key]["mean"] for model in models[1:] if key in model[part]["means"]]
        best = min(found, key=figure.badness) if len(found) > 1 else float("nan")
        unit = f" [{figure.unit}]" if figure.unit else ""
        title = page.plain(figure.name) + unit
        cells = "".join(_cell(key, model, part, best) for model in models)
        rows += (
            f"<tr><th scope='row'>{title}<small>{page.plain(figure.means)}</small></th>{cells}</tr>")
    return (f'<div class="card wide '
            f'evened"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>')


def _charts(models: List[Dict[str, Any]], names: Names, part: str) -> str:
    charts = ""
    for key in present([model[part]["means"] for model in models]):
        figure = FIGURES[key]
        rows = []
        for name, model in zip(names, models):
            mean = model[part]["means"].get(key)
            if mean is not None:
                rows.append((name, *(mean[which] * figure.factor for which in ("mean", "low", "high"))))
        unit = f" [{figure.unit}]" if figure.unit else ""
        way = page.plain(WAYS[figure.better]) if figure.better in WAYS else page.two("{aim:g} is best", aim=figure.aim)
        charts += page.chart(page.plain(figure.name) + unit, way,
                             interval_chart(rows, figure.name.english))
    title = page.two("The same as charts")
    return f'<details><summary class="card">{title}</summary><section class="charts more">{charts}</section></details>'


def _settings(contents: Dict[str, Any]) -> str:
    lines = []
    for model in contents["models"][1:]:
        lines += [(f"{model['label']}: {name}", value) for name, value in model["about"].items() if value is not None]
    lines += [(name, value) for name, value in contents["settings"].items() if name != "versions" and value is not None]
    lines += list(contents["settings"].get("versions", {}).items())
    rows = "".join(f"<tr><td><code>{escape(str(name))}</code></td><td>{escape(str(value))}</td></tr>" for name,
                   value in lines)
    title = page.two("Models, settings and versions")
    return f'<details class="card"><summary>{title}</summary><div class="wide"><table>{rows}</table></div></details>'


def write_report(path: Path, results: Sequence[Result], contents: Dict[str, Any], seconds: int) -> Path:
    """Write the page and return its path.

    Args:
        results: the real recordings, then the models, with the sounds to play.
        contents: what `results.as_json` made of them.
        seconds: how much of each recording is played.
    """
    models, count, others = contents["models"], len(contents["recordings"]), len(contents["sources"])
    real, plain = Text("real recording"), Text("not converted")
    own, other = _names(results, real), _names(results, plain)
    labels = ", ".join(escape(result.label) for result in results[1:])
    title = escape(" · ".join(result.label for result in results[1:])) if len(results) <= 4 else page.two(
        "{count} voices compared", count=len(results) - 1)
    lead = page.two(
        "Measured on {count} recordings of the voice{also}: {labels}.", count=count,
        also=Text(" and {others} of other speakers", others=others) if others else "", labels=labels)
    sounds = _listen([result.own for result in results], own, Text("Recording"), seconds)
    sounds += _listen([result.other for result in results], other, Text("Converted from"), seconds)
    body = [page.header(title, lead, [])]
    body += [
        page.heading(Text("The voice’s own recordings"),
                     Text("Kept out of training, converted by the voice itself and compared with the originals. "
                          "Means, with 95% intervals by bootstrap over recordings; in colour, the difference to the "
                          "first model where its interval leaves out 0 (from {judged_from} recordings on).",
                          judged_from=JUDGED_FROM)),
        figures_table(models, own, "recordings"), _charts(models, own, "recordings"),
    ]
    if others:
        body += [
            page.heading(Text("Other speakers, converted"),
                         Text("Transposed by the difference of the median pitches. What a real recording of the "
                              "target reaches stands in the table above.")),
            figures_table(models, other, "sources"), _charts(models, other, "sources"),
        ]
    if sounds:
        body += [page.heading(Text("Listen"), Text("Click a spectrogram to play from there. At most {seconds} "
                                                     "seconds of each.", seconds=seconds)), sounds]
    body += [page.notes(contents["notes"]), _settings(contents)]
    return page.write_page(path, ", ".join(result.label for result in results[1:]), body, len(results), charts=3)
