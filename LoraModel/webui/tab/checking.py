"""Step 2's look at the recordings: what `doctor` finds, in words and with its pictures, on the page itself."""

from __future__ import annotations

import threading
from html import escape
from pathlib import Path
from typing import Tuple

from ...commands import parse_rate
from ...doctor import Report, examine
from ...doctor.page import MOST_PICTURES, picture_html
from ...messages import Text, UserError
from ..text import Tr

STYLE = """<style>
.lora-check { max-width: 640px; margin: 4px 0 8px; font-size: 14px } .lora-check summary { cursor: pointer }
.lora-check figure { margin: 4px 0 } .lora-check figcaption { font-size: 12px }
.lora-check figcaption small { margin-left: 1em; opacity: .7 }
.lora-check .spectrogram img { width: 100%; height: 120px }
</style>"""
_one = threading.Lock()


def look(folder: Path, rate: str, tr: Tr) -> Tuple[str, str]:
    """(what to tell, HTML of the findings with their pictures) of the recordings in a folder; nothing is changed.

    rate: of the base, as the form has it.

    Raises:
        UserError: there is nothing to look at, or somebody is looking already.
    """
    if not _one.acquire(blocking=False):
        raise UserError("recordings are being looked at already: wait for the end of it")
    try:
        report = examine(folder, parse_rate(rate) or 40000)
    finally:
        _one.release()
    lines = [tr(report.heading())]
    if not report.findings:
        lines.append(tr("Nothing was found: they are fit to train on."))
    lines += [tr("not looked at: {what}", what=what) for what in report.not_looked_at]
    return "\n".join(lines), findings_html(report, tr)


def findings_html(report: Report, tr: Tr) -> str:
    """Each finding in a sentence or two, its picture unfolded on demand."""
    def say(text: Text) -> str:
        return escape(tr(text))

    parts = []
    for number, finding in enumerate(report.findings):
        file = f"<code>{escape(finding.file)}</code>: " if finding.file else ""
        mark = "⚠ " if finding.grave == "warning" else ""
        picture = picture_html(finding.picture if number < MOST_PICTURES else None, finding.kind, say)
        parts.append(f"<details><summary>{mark}{file}{say(finding.what)} {say(finding.todo)}</summary>"
                     f"{picture}</details>")
    return f'{STYLE}<div class="lora-check">{"".join(parts)}</div>' if parts else ""
