"""A listening test as one page: which of two voices is nearer to the real recording?

Each trial plays a recording X and two voices' conversions, A and B, whose sides and order are shuffled; the same
loudness for all three, since the louder one wins otherwise. X is the very recording where its own speaker is
converted, and a recording of the target where someone else is. The page holds its sounds, asks no server, and keeps
the answers in itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html import escape
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..files import atomic_write
from ..messages import Text, codes, language, short_name
from .binomial import Z
from .page import next_language, plain
from .page import style as page_style
from .pictures import data_uri, flac

FILE = "abx.html"
FORMAT = "rvc-lora-abx"
MOST_CLIPS = 12
"""Recordings, and as many sources, that a page asks about."""
MOST_SECONDS = 12
LOUDNESS = 0.08
"""Root mean square that every sound is brought to, full scale 1; less where its peak would not fit."""

_HERE = Path(__file__)
_TEMPLATE, _SCRIPT = _HERE.with_name("abx_template.html"), _HERE.with_name("abx.js")
Sound = Tuple[np.ndarray, int]
"""(samples,) and its rate in Hz."""


class Trial(NamedTuple):
    """One question. clip: what it is about. x, a, b: keys of its sounds. voice_a, voice_b: labels of the models."""

    clip: str
    x: str
    a: str
    b: str
    voice_a: str
    voice_b: str


class Question(NamedTuple):
    """What trials are made of: a recording X, and every voice's conversion by its label."""

    clip: str
    real: Sound
    voices: Dict[str, Sound]


def even(audio: np.ndarray, rate: int) -> np.ndarray:
    """At most twelve seconds of (samples,) at `rate` Hz, brought to the loudness that all sounds of a page have."""
    audio = np.asarray(audio[: MOST_SECONDS * rate], dtype=np.float64)
    level = float(np.sqrt(np.mean(audio**2))) if audio.size else 0.0
    if level == 0:
        return audio
    return audio * min(LOUDNESS / level, 0.99 / float(np.abs(audio).max()))


def make_trials(questions: Sequence[Question], seed: int = 0) -> Tuple[List[Trial], Dict[str, Sound]]:
    """A trial for each question and each pair of voices, in shuffled order, each voice as often A as B as far as that
    goes.

    Returns:
        The trials, and the sounds by the keys that they name: the keys tell nothing of the voice.

    Raises:
        ValueError: a question has fewer than two voices.
    """
    rng = np.random.default_rng(seed)
    trials: List[Trial] = []
    sounds: Dict[str, Sound] = {}
    sides: Dict[Tuple[str, str], int] = {}

    def key(sound: Sound) -> str:
        name = (
            f"s{hashlib.sha256(np.ascontiguousarray(sound[0]).tobytes() + str(len(sounds)).encode()).hexdigest()[:12]}"
        )
        sounds[name] = sound
        return name

    for question in questions:
        if len(question.voices) < 2:
            raise ValueError(f"a listening test needs two voices; {question.clip} has {len(question.voices)}")
        x = key(question.real)
        keys = {label: key(sound) for label, sound in question.voices.items()}
        for pair in combinations(question.voices, 2):
            swap = (sides.setdefault(pair, int(rng.integers(2))) % 2) == 1
            sides[pair] += 1
            a, b = pair[::-1] if swap else pair
            trials.append(Trial(question.clip, x, keys[a], keys[b], a, b))
    order = rng.permutation(len(trials))
    shuffled = [trials[place] for place in order]
    return shuffled, {name: sounds[name] for name in sorted(sounds)}


def _inside_script(value: Any) -> str:
    """JSON that may stand in a <script>: no tag, comment or line separator of it is one to the browser."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _verdicts() -> List[Dict[str, str]]:
    """What the page says of a pair of voices, in each language; the script puts a voice's name for {voice}."""
    nearer = Text("“{voice}” is nearer: the interval leaves out one half.", voice="{voice}")
    neither = Text("No difference that these answers could tell from chance.")
    return [{"code": code, "shown": short_name(name), "nearer": nearer.in_language(name),
             "neither": neither.in_language(name)} for code, name in codes()]


def write_abx(folder: Path, questions: Sequence[Question], seed: int = 0) -> Path:
    """Write DIR/abx.html, whole or not at all, and return its path.

    Args:
        questions: with at least two voices each. seed: of the shuffling.
    """
    trials, sounds = make_trials(questions, seed)
    contents = {
        "format": FORMAT,
        "format_version": 1,
        "seed": seed,
        "z": Z,
        "trials": [trial._asdict() for trial in trials],
    }
    mark = hashlib.sha256(
        json.dumps([contents, sorted(sounds)], sort_keys=True).encode("utf-8", "backslashreplace")
    ).hexdigest()[:16]
    script = _SCRIPT.read_text(encoding="utf-8")
    tags = "".join(
        f'<audio id="{escape(name)}" preload="auto" '
        f'src="{data_uri("audio/flac", flac(even(*sound), sound[1]))}"></audio>\n'
        for name, sound in sounds.items()
    )
    template = re.sub(r"\{\{(.*?)\}\}", lambda text: plain(Text(text.group(1))), _TEMPLATE.read_text(encoding="utf-8"))
    page = Template(template).substitute(
        shown=language(),
        next_language=next_language(),
        style=page_style(),
        script=script,
        sounds=tags,
        contents=_inside_script({**contents, "id": mark, "languages": _verdicts()}),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    path = folder / FILE
    atomic_write(path, page.encode("utf-8", "backslashreplace"))
    return path
