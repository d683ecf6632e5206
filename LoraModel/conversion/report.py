"""A page to listen to full voices and their adapters, side by side."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import List

from ..evaluation import page
from .folder import Outcome
from .voice import Converted

SECONDS = 6
"""Of each sound that is in the page."""


def write_report(path: Path, outcomes: List[Outcome]) -> Path:
    """Write the page, whole or not at all."""
    title = page.two("Full voices and their adapters")
    lead = page.two("Both say content that was kept apart, from the same noise. No recording of the speakers was used.")
    body = [page.header(title, lead, []), _table(outcomes)]
    for outcome in outcomes:
        if outcome.converted is not None and outcome.converted.judgement is not None:
            body.append(_sounds(outcome.converted))
    return page.write_page(path, "RVC-LoRA", body, 3, 1)


def _table(outcomes: List[Outcome]) -> str:
    heads = "".join(
        f"<th>{page.two(en, zh)}</th>"
        for en, zh in (
            ("voice", "声音"),
            ("base (distance)", "底模（距离）"),
            ("before", "原大小"),
            ("after", "现大小"),
            ("kept", "保留"),
            ("enc_p / flow / dec", "enc_p / flow / dec"),
            ("log-mel L1: base, adapter", "对数梅尔 L1：底模、适配器"),
            ("similarity", "相似度"),
            ("time", "用时"),
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
            cells[0] = page.two(escape(outcome.error.en), escape(outcome.error.zh))
        rows += (
            f"<tr><th scope='row'>{escape(outcome.voice.name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")  # noqa: E501
    return f'<div class="card wide evened"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'.replace(  # noqa: E501
        "<th></th>", "", 1
    )


def _sounds(made: Converted) -> str:
    judged = made.judgement
    parts = [page.heading(made.voice.stem, made.voice.stem)]
    for number, heard in enumerate(judged.sounds if judged is not None else []):
        players = "".join(
            page.player(audio[: SECONDS * judged.rate], judged.rate, f"{made.voice.stem}/{number}/{key}", en, zh)  # type: ignore[union-attr]
            for audio, key, en, zh in (
                (heard.base, "base", "base alone", "仅底模"),
                (heard.full, "full", "full voice", "完整声音"),
                (heard.adapter, "adapter", "adapter", "适配器"),
            )
        )
        parts.append(f'<section class="clips">{players}</section>')
    return "".join(parts)
