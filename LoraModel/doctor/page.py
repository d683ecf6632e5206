"""The doctor's findings as one HTML page in every language, a picture a finding."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Callable, List, Optional

from .. import charts
from ..evaluation import page
from ..evaluation.pictures import data_uri, palette_png
from ..messages import Text, listing
from .examine import Report
from .finding import KINDS, WARNING, Curve, Finding, Picture, Spectrogram

MOST_PICTURES = 200
"""In one page: more make it too large to open."""


def picture_html(picture: Optional[Picture], name: str, say: Callable[[Text], str] = page.plain) -> str:
    """An SVG curve or a spectrogram; "" where there is nothing to be seen. say: a text as HTML."""
    if isinstance(picture, Curve):
        svg = charts.chart([charts.Curve(picture.points, smooth=False)], name, picture.level)
        return page.chart(say(picture.upward), say(picture.across), svg)
    if isinstance(picture, Spectrogram):
        source = data_uri("image/png", palette_png(picture.indices))
        return f'<div class="spectrogram"><img alt="{escape(name)}" src="{source}"></div>'
    return ""


def finding_html(finding: Finding, shown: bool = True) -> str:
    """One finding as a card: plain words, the file, its picture where it is `shown`."""
    grave = page.plain(Text("will harm the voice") if finding.grave == WARNING else Text("good to know"))
    file = f"<p><code>{escape(finding.file)}</code></p>" if finding.file else ""
    style = "worse" if finding.grave == WARNING else "better"
    return (f'<article class="card clip finding" data-kind="{finding.kind}"><h3>{page.plain(KINDS[finding.kind])} '
            f'<small class="{style}">{grave}</small></h3>{file}<p>{page.plain(finding.what)} '
            f"{page.plain(finding.todo)}</p>"
            f'{picture_html(finding.picture if shown else None, finding.kind + " " + finding.file)}</article>')


def write_report(path: Path, report: Report) -> Path:
    """Write the page, whole or not at all, and return its path."""
    title = Text("What is wrong with these recordings")
    body: List[str] = [page.header(page.plain(title), page.plain(report.heading()), [])]
    cards = [finding_html(finding, number < MOST_PICTURES) for number, finding in enumerate(report.findings)]
    if cards:
        body.append(f'<section class="clips">{"".join(cards)}</section>')
    else:
        body.append(page.heading(Text("Nothing was found: they are fit to train on.")))
    body.append(page.notes([Text("Looked for: {kinds}.", kinds=listing(KINDS.values())),
                            *(Text("not looked at: {what}", what=what) for what in report.not_looked_at)]))
    return page.write_page(path, str(title), body, 2, charts=1)
