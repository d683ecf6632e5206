"""What the HTML reports are made of: one file in both languages that holds its sounds and pictures and needs nothing
else.

English and Simplified Chinese both stand in the page; a button switches, and the reader's language shows first.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np

from ..charts import STYLE
from ..files import atomic_write
from ..messages import ENGLISH, Text, UserError, codes, language, of_language, own_name, short_name
from .pictures import data_uri, flac, spectrogram_png

_TEMPLATE = Path(__file__).with_name("page_template.html")


def style() -> str:
    """The style sheet of every page, with that of the charts; of each text the language shown alone is seen."""
    shown = "".join(f'html[data-shown="{short_name(name)}"] [lang]:not([lang="{code}"]) {{ display: none; }}\n'
                    for code, name in codes())
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8") + STYLE + shown


Words = Union[Text, UserError, Mapping[str, str], str]
"""A text, one that a file holds as {"en": ..., "zh": ...}, or a name that is the same in all languages."""


def two(english: str, /, **values: Any) -> str:
    """A text as HTML, in every language; the style sheet shows one. Arguments as `messages.Text`, HTML already."""
    text = Text(english, **values)
    return "".join(f'<span lang="{code}">{text.in_language(name)}</span>' for code, name in codes())


def plain(text: Words) -> str:
    """Plain text as HTML, in every language."""
    if isinstance(text, str):
        return escape(text)
    return "".join(f'<span lang="{code}">{escape(_in(text, name))}</span>' for code, name in codes())


def _in(text: Words, name: str) -> str:
    if isinstance(text, Mapping):
        return of_language(text, name)
    return text if isinstance(text, str) else text.in_language(name)


def every(text: Text) -> str:
    """A text in every language, for an attribute, HTML."""
    return escape(", ".join(dict.fromkeys(text.in_language(name) for _, name in codes())))


def _label(text: Text, title: Words) -> str:
    """What a screen reader says: the text in every language, the title in English."""
    return f"{every(text)}: {escape(_in(title, ENGLISH))}"


def next_language() -> str:
    """The button's text: while one language is shown, the name of the next."""
    names = [own_name(name) for _, name in codes()]
    return "".join(f'<span lang="{code}">{names[(at + 1) % len(names)]}</span>' for at, (code, _) in enumerate(codes()))


def size(count: Optional[float]) -> str:
    """Bytes for people: decimal KB and MB."""
    if count is None:
        return "–"
    return f"{count / 1e6:.1f} MB" if count >= 999500 else f"{count / 1e3:.0f} KB"


def number(value: Any, digits: int = 3) -> str:
    """A figure of `digits` decimals; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def duration(seconds: Optional[float]) -> str:
    """Seconds as HTML in both languages."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return two("{seconds:.0f} s", seconds=seconds)
    minutes, rest = divmod(int(round(seconds)), 60)
    return two("{minutes} min {rest:02d} s", minutes=minutes, rest=rest)


def tile(value: str, text: str) -> str:
    """One large figure and what it is, HTML both."""
    return f'<div class="card tile"><b>{value}</b><small>{text}</small></div>'


def header(title: str, lead: str, tiles: Sequence[str]) -> str:
    """The page's head, with the button that switches languages. title, lead, tiles: HTML."""
    shown = f'\n<section class="tiles">{"".join(tiles)}</section>' if tiles else ""
    return f"""<header>
<div>
<p class="name">RVC-LoRA</p>
<h1>{title}</h1>
<p class="lead">{lead}</p>
</div>
<button class="language" type="button">{next_language()}</button>
</header>{shown}"""


def heading(title: Words, about: Optional[Words] = None) -> str:
    """A section's heading and the text under it; plain text."""
    under = f'<p class="about">{plain(about)}</p>' if about is not None else ""
    return f"<h2>{plain(title)}</h2>{under}"


def player(audio: np.ndarray, rate: int, key: str, title: Words) -> str:
    """A sound with its spectrogram and a button that plays it, both inside the page.

    Args:
        audio: (samples,) at `rate` Hz.
        key: for scripts and tests.
        title: plain text.
    """
    picture = data_uri("image/png", spectrogram_png(audio, rate))
    return f"""<article class="card clip" data-key="{escape(key)}">
<h3>{plain(title)}</h3>
<div class="spectrogram"><img alt="{_label(Text("spectrogram"), title)}" src="{picture}"><i></i></div>
<audio controls preload="metadata" src="{data_uri("audio/flac", flac(audio, rate))}"></audio>
<div class="player"><button type="button" aria-label="{_label(Text("play or pause"), title)}">
<svg class="play" viewBox="0 0 16 16"><path d="M4 2v12l10-6z"/></svg>
<svg class="pause" viewBox="0 0 16 16"><path d="M3 2h3.5v12H3zM9.5 2H13v12H9.5z"/></svg>
</button><small>{len(audio) / rate:.1f} s · {rate / 1000:g} kHz</small></div>
</article>"""


def chart(caption: str, under: str, svg: str) -> str:
    """A chart with its caption, HTML; nothing for an empty one."""
    return f'<figure class="card"><figcaption>{caption}<small>{under}</small></figcaption>{svg}</figure>' if svg else ""


def notes(items: Sequence[Words]) -> str:
    """A list of remarks; plain text. Nothing where there are none."""
    if not items:
        return ""
    lines = "".join(f"<li>{plain(note)}</li>" for note in items)
    return f'<h2 class="alone">{two("Notes")}</h2><ul class="notes">{lines}</ul>'


def chart_columns(charts: int) -> int:
    """How many charts stand side by side, so that no row is left nearly empty."""
    return 2 if charts in (2, 4) else min(max(charts, 1), 3)


def write_page(path: Path, title: str, body: Sequence[str], columns: int, charts: int) -> Path:
    """Write a report, whole or not at all, and return its path.

    Args:
        title: plain text. body: the sections, HTML.
        columns: players side by side, at most 5. charts: how many charts a section has.
    """
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        shown=language(), title=escape(title), chart_columns=chart_columns(charts), columns=max(1, min(columns, 5)),
        body="\n".join(body), style=style(), codes=json.dumps([[short_name(name), code] for code, name in codes()])
    )
    atomic_write(path, page.encode("utf-8", "backslashreplace"))
    return path
