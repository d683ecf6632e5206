"""A page to listen to full voices and their adapters, side by side."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import List

from ..evaluation import page
from ..messages import Text
from .folder import Outcome
from .voice import Converted

SECONDS = 6
"""Of each sound that is in the page."""


def write_report(path: Path, outcomes: List[Outcome]) -> Path:
    """Write the page, whole or not at all."""
    title = page.two("Full voices and their adapters")
    lead = page.two("Both speak held-out content, from the same noise. No recording of the speakers was used.")
    body = [page.header(title, lead, []), _table(outcomes)]
    for outcome in outcomes:
        if outcome.converted is not None and outcome.converted.judgement is not None:
            body.append(_sounds(outcome.converted))
    return page.write_page(path, "RVC-LoRA", body, 3, 1)


def _table(outcomes: List[Outcome]) -> str:
    heads = "".join(
        f"<th>{page.plain(head)}</th>"
        for head in (
            Text("voice"),
            Text("base (distance)"),
            Text("before"),
            Text("after"),
            Text("kept"),
            "enc_p / flow / dec",
            Text("log-mel L1: base, adapter"),
            Text("similarity"),
            Text("time"),
        )
    )
    rows = ""
    for outcome in outcomes:
        made, cells = outcome.converted, ["–"] * 8
        if made is not None:
            cells[:3] = [
                f"{escape(made.match.path.name)} ({made.match.distance:.3f})",
                page.size(made.before),
                page.size(made.after),
            ]
            judged = made.judgement
            if judged is not None:
                cells[3:7] = [
                    f"{judged.kept:.1%}",
                    " / ".join(f"{share:.0%}" for share in judged.parts.values()),
                    f"{judged.base_distance:.3f}, {judged.distance:.3f}",
                    page.number(judged.similarity),
                ]
            cells[7] = page.duration(made.seconds)
        elif outcome.error is not None:
            cells[0] = page.plain(outcome.error)
        shown = "".join(f"<td>{cell}</td>" for cell in cells)
        rows += f"<tr><th scope='row'>{escape(outcome.voice.name)}</th>{shown}</tr>"
    return (f'<div class="card wide evened"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _sounds(made: Converted) -> str:
    judged = made.judgement
    parts = [page.heading(made.voice.stem)]
    for number, renditions in enumerate(judged.sounds if judged is not None else []):
        players = "".join(
            page.player(audio[: SECONDS * judged.rate], judged.rate, f"{made.voice.stem}/{number}/{key}", name)  # type: ignore[union-attr]
            for audio, key, name in (
                (renditions.base, "base", Text("base alone")),
                (renditions.full, "full", Text("full voice")),
                (renditions.adapter, "adapter", Text("adapter")),
            )
        )
        parts.append(f'<section class="clips">{players}</section>')
    return "".join(parts)
