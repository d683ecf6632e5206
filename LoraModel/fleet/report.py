"""The report of a run of many voices: one HTML file with a table of all of them and players (`evaluation.page`)."""

from __future__ import annotations

import contextlib
from html import escape
from pathlib import Path
from typing import List, Sequence, Tuple

import soundfile

from ..charts import line_chart
from ..evaluation import page
from ..files import system_name
from ..messages import Text
from ..training.monitor import read_log
from .ledger import DONE, FAILED, Entry
from .progress import WORDS, in_short
from .work import Work

FILE = "report.html"
MOST_PLAYERS = 60
"""So many sounds stand in the page: each is of some hundred KB."""
COLUMNS = 4


def write_report(work: Work, entries: Sequence[Entry]) -> Path:
    """Write OUT/report.html and return its path."""
    done = [entry for entry in entries if entry.state == DONE]
    failed = [entry for entry in entries if entry.state == FAILED]
    tiles = [page.tile(str(len(done)), page.two("voices are done")),
             page.tile(str(len(failed)), page.two("have failed")),
             page.tile(page.size(sum(entry.figures.get("bytes", 0) for entry in done)), page.two("all their files"))]
    players, charts = _players(work, done), _charts(work, done)
    body = [
        page.header(page.two("{count} voices on one base", count=len(entries)),
                    page.two("Each is an adapter on {base}, trained by itself; the figures are of recordings that were "
                             "kept out of its training.", base=escape(Path(work.base_model).name)), tiles),
        page.heading(Text("All voices")),
        f'<div class="card wide"><table><thead><tr>{_head()}</tr></thead><tbody>{"".join(map(_row, entries))}</tbody>'
        "</table></div>",
        *([page.heading(Text("Listen"), Text("A clip that was kept out of training: the base alone, then the voice.")),
           f'<section class="clips">{"".join(players)}</section>'] if players else []),
        *([page.heading(Text("How they learnt"), Text("Held-out log-mel L1 over steps; dashed: the base alone.")),
           f'<section class="charts">{"".join(charts)}</section>'] if charts else []),
        page.notes(_notes(done, len(players))),
    ]
    return page.write_page(Path(work.output) / FILE, "RVC-LoRA", body, COLUMNS, len(charts))


def _head() -> str:
    names = (page.two("voice"), page.two("state"), page.two("base alone"), page.two("with the adapter"),
             page.two("change"), page.two("best step"), page.two("recordings"), page.two("time"))
    return "".join(f"<th>{name}</th>" for name in names)


def _row(entry: Entry) -> str:
    f = entry.figures
    base, ours = f.get("base_heldout"), f.get("heldout")
    change = "–"
    if base and ours is not None:
        style = "better" if ours <= base else "worse"
        change = f'<span class="{style}">{100 * (ours / base - 1):+.0f}%</span>'.replace("-", "−")
    state = page.two("{state}", state=WORDS[entry.state])
    if entry.state == FAILED:
        why = page.plain(entry.reason or "")
        state = f'<span class="worse">{state}</span><small>{why}</small>'
    cells = [state, page.number(base), page.number(ours), change, str(f.get("best_step", "–")),
             page.duration(f.get("data_seconds")), escape(in_short(entry.seconds))]
    return f'<tr><th scope="row">{escape(entry.name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _sounds(work: Work, entry: Entry) -> List[Tuple[str, Path]]:
    """("base" or "voice", file): the first clip of the base alone and of the best save."""
    folder = work.folder(entry.name) / "samples"
    names = [name for name in entry.figures.get("samples", []) if Path(name).name == name and name.endswith("_0.flac")]
    found = [("base" if name.startswith("step0000000_") else "voice", folder / name) for name in names]
    return [(kind, path) for kind, path in found if path.is_file()]


def _players(work: Work, done: Sequence[Entry]) -> List[str]:
    players: List[str] = []
    for entry in done:
        if len(players) + 2 > MOST_PLAYERS:
            break
        for kind, path in _sounds(work, entry):
            with contextlib.suppress(OSError, RuntimeError):
                audio, rate = soundfile.read(system_name(path), dtype="float32", always_2d=True)
                title = Text("{name}: the base alone", name=entry.name) if kind == "base" else entry.name
                players.append(page.player(audio.mean(axis=1), rate, f"{entry.name} {kind}", title))
    return players


def _charts(work: Work, done: Sequence[Entry]) -> List[str]:
    charts: List[str] = []
    for entry in done[:MOST_PLAYERS // 2]:
        points = [(line["step"], line["heldout_mel"]) for line in read_log(work.folder(entry.name))
                  if isinstance(line.get("heldout_mel"), float)]
        svg = line_chart(points, f"{entry.name}: held-out log-mel L1", dots=True,
                         level=entry.figures.get("base_heldout"))
        charts.append(page.chart(escape(entry.name), page.two("held-out log-mel L1"), svg))
    return [chart for chart in charts if chart]


def _notes(done: Sequence[Entry], players: int) -> List[Text]:
    notes: List[Text] = []
    worse = [entry.name for entry in done if not entry.figures.get("better", True)]
    if worse:
        notes.append(Text("Worse than the base alone, and not in the list: {names}.", names=", ".join(worse[:20])))
    if len(done) * 2 > MOST_PLAYERS:
        notes.append(Text("The first {first} voices have players; the sounds of the others lie in their folders "
                          "(samples).", first=players // 2))
    return notes
