"""Whether what is said can still be understood: words by a speech recogniser, or else the distance of content features.

The recogniser is a faster-whisper model in a folder (`--asr DIR`; `pip install -r requirements-asr.txt`). Nothing is
downloaded. The reference is the text beside a recording (NAME.txt) where there is one, else what the recogniser hears
in the recording itself: then its own errors on real speech do not count against the voice.
"""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from ..judges import missing_package
from ..messages import Text, UserError
from .metrics import at_16k

MODEL_FILE = "model.bin"
MOST_TEXT = 100_000
"""Bytes of a NAME.txt: a recording has fewer words."""


SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
         "seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


NUMBERS = frozenset(map(str, range(1000)))


def spelled(number: int) -> List[str]:
    """A number below 1000 in English words, without "and"."""
    if number >= 100:
        return [SMALL[number // 100], "hundred", *(spelled(number % 100) if number % 100 else [])]
    if number < 20:
        return [SMALL[number]]
    return [TENS[number // 10 - 2], *([SMALL[number % 10]] if number % 10 else [])]


def words_of(text: str) -> List[str]:
    """The words of a text, without capitals and punctuation; a character of Chinese, Japanese or Korean is a word by
    itself, and a number below 1000 is spelled out, since a recogniser may write either 9 or nine."""
    parts: List[str] = []
    for character in unicodedata.normalize("NFKC", text).lower():
        kind = unicodedata.category(character)
        if unicodedata.east_asian_width(character) in "WF" and kind[0] == "L":
            parts.append(f" {character} ")
        elif kind[0] in "LNM":
            parts.append(character)
        elif character not in "'’":  # it's is one word
            parts.append(" ")
    found = "".join(parts).split()
    return [word for one in found for word in (spelled(int(one)) if one in NUMBERS else [one])]


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest insertions, deletions and substitutions that make `b` of `a` (Levenshtein, 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def word_error(recognised: str, meant: str) -> float:
    """Word error rate: edits over the words that were meant; above 1 where more is recognised than was spoken. NaN
    where nothing was meant."""
    wanted = words_of(meant)
    return edit_distance(words_of(recognised), wanted) / len(wanted) if wanted else math.nan


def word_edits(listener: Listener, clips: Sequence[np.ndarray], sr: int, texts: Sequence[str],
               language: str) -> Tuple[List[int], List[int]]:
    """For each recording, (samples,) at `sr` Hz: edits from its text to what is recognised, and words of its text."""
    wanted = [words_of(text) for text in texts[: len(clips)]]
    recognised = [words_of(listener.hear(clip, sr, language)[0]) for clip in clips]
    return [edit_distance(one, two) for one, two in zip(recognised, wanted)], [len(text) for text in wanted]


def content_distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 less the mean cosine of the content features of two recordings with the same timing: 0 for the same, 1 for
    unrelated ones.

    Args:
        a, b: (frames, size), 50 a second; the longer one is cut at its end.

    Returns:
        NaN where there is no frame.
    """
    frames = min(len(a), len(b))
    if frames == 0:
        return math.nan
    a, b = (np.asarray(each[:frames], dtype=np.float64) for each in (a, b))
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(1 - np.mean((a * b).sum(axis=1) / np.maximum(sizes, 1e-12)))


def text_beside(path: Path) -> Optional[str]:
    """The text of a recording, from NAME.txt beside NAME.wav; None where there is none."""
    beside = path.with_suffix(".txt")
    if not beside.is_file() or beside.stat().st_size > MOST_TEXT:
        return None
    text = beside.read_text(encoding="utf-8", errors="replace")
    return text if words_of(text) else None


class Listener:
    """A faster-whisper model on the CPU, that writes down what it hears.

    Args:
        folder: holds model.bin and what belongs to it.

    Raises:
        UserError: the folder holds no such model, or faster-whisper is not installed.
    """

    def __init__(self, folder: Union[str, Path]):
        path = Path(folder)
        if not (path / MODEL_FILE).is_file():
            raise UserError("{path} holds no {model_file}: give --asr the folder of a faster-whisper model", path=path,
                            model_file=MODEL_FILE)
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise missing_package(
                Text("counting words (--asr)"),
                "faster-whisper",
                error,
                ["pip install -r requirements-asr.txt"],
            ) from error
        try:
            self._model: Any = WhisperModel(str(path), device="cpu", compute_type="float32", local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError("{path} cannot be loaded as a faster-whisper model ({error}): choose another --asr folder",
                            path=path, error=error) from None

    def hear(self, audio: np.ndarray, sr: int, language: Optional[str] = None) -> Tuple[str, str]:
        """(text, language) of (samples,) at `sr` Hz. language: such as "en"; None lets the model find it."""
        sound = np.clip(at_16k(audio, sr), -1, 1)
        parts, about = self._model.transcribe(
            sound, language=language, beam_size=5, condition_on_previous_text=False, temperature=0.0
        )
        return " ".join(part.text.strip() for part in parts), str(about.language)
