"""The evaluation's report: several models side by side, to look at and to listen to, in one HTML file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from . import page
from .compare import Listened
from .figures import FIGURES
from .pictures import interval_chart
from .results import Result, present

JUDGED_FROM = 5  # clips: the interval of fewer says nothing of a difference
WAYS = {"lower": ("lower is better", "越低越好"), "higher": ("higher is better", "越高越好")}
Names = List[Tuple[str, str]]


def _names(results: Sequence[Result], first: Tuple[str, str]) -> Names:
    return [first] + [(result.label, result.label) for result in results[1:]]


def _listen(heard: Sequence[Listened], names: Names, en: str, zh: str, seconds: int) -> str:
    """For each clip, the recording and every model's conversion of it, side by side."""
    parts = []
    for position, (clip, _, _) in enumerate(heard[0].sounds):
        players = ""
        for (name_en, name_zh), listened in zip(names, heard):
            _, audio, rate = listened.sounds[position]
            players += page.player(audio[: seconds * rate], rate, f"{clip}/{name_en}", name_en, name_zh)
        title = page.two(f"{escape(en)} {escape(clip)}", f"{escape(zh)} {escape(clip)}")
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
    heads = "".join(f"<th>{page.two(escape(en), escape(zh)) if en != zh else escape(en)}</th>" for en, zh in names)
    rows = ""
    for key in present([model[part]["means"] for model in models]):
        figure = FIGURES[key]
        found = [model[part]["means"][key]["mean"] for model in models[1:] if key in model[part]["means"]]
        best = min(found, key=figure.badness) if len(found) > 1 else float("nan")
        unit = f" [{figure.unit}]" if figure.unit else ""
        title = page.two(escape(figure.en) + unit, escape(figure.zh) + unit)
        cells = "".join(_cell(key, model, part, best) for model in models)
        rows += (
            f"<tr><th scope='row'>{title}<small>{page.two(escape(figure.means_en), escape(figure.means_zh))}</small></th>{cells}</tr>")  # noqa: E501
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
        way = page.two(*WAYS[figure.better]) if figure.better in WAYS else page.two("{aim:g} is best", aim=figure.aim)
        charts += page.chart(page.two(escape(figure.en) + unit, escape(figure.zh) + unit), way,
                             interval_chart(rows, figure.en))
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
    real, plain = ("real recording", "真实录音"), ("not converted", "未转换")
    own, other = _names(results, real), _names(results, plain)
    labels = ", ".join(escape(result.label) for result in results[1:])
    title = escape(" · ".join(result.label for result in results[1:])) if len(results) <= 4 else page.two(
        "{count} voices compared", count=len(results) - 1)
    lead = page.two(
        f"Measured on {count} recordings of the voice{f' and {others} of other speakers' if others else ''}: {labels}.",
        f"在该声音的 {count} 个录音{f'与其他说话人的 {others} 个录音' if others else ''}上测量：{labels}。")
    sounds = _listen([result.own for result in results], own, "Recording", "录音", seconds)
    sounds += _listen([result.other for result in results], other, "Converted from", "转换自", seconds)
    body = [page.header(title, lead, [])]
    body += [
        page.heading("The voice’s own recordings", "声音自己的录音",
                     "Kept out of training, converted by the voice itself and compared with the originals. Means, with "
                     "95% intervals by "
                     "bootstrap over recordings; in colour, the difference to the first model where its interval "
                     "leaves out 0 "
                     f"(from {JUDGED_FROM} recordings on).",
                     "未参与训练的录音，由该声音自身转换后与原录音比较。均值及按录音自助法得到的 95% 区间；"
                     f"彩色为与第一个模型的差值（仅当其区间不含 0，且至少有 {JUDGED_FROM} 个录音）。"),
        figures_table(models, own, "recordings"), _charts(models, own, "recordings"),
    ]
    if others:
        body += [
            page.heading("Other speakers, converted", "转换其他说话人",
                         "Transposed by the difference of the median pitches. What a real recording of the target "
                         "reaches stands in the table above.",
                         "按音高中位数之差变调。目标真实录音所能达到的数值见上表。"),
            figures_table(models, other, "sources"), _charts(models, other, "sources"),
        ]
    if sounds:
        body += [page.heading("Listen", "试听", f"Click a spectrogram to play from there. At most {seconds} seconds of "
                              f"each.", f"点击频谱图可从该处播放。每段最多 {seconds} 秒。"), sounds]
    body += [page.notes(contents["notes"]), _settings(contents)]
    return page.write_page(path, ", ".join(result.label for result in results[1:]), body, len(results), charts=3)
