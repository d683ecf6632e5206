"""What users read: a catalogue of texts, and errors that say what to do next.

The English text is the key; `locale/NAME.json` (NAME as in `zh_CN`) holds its translation. Placeholders have names:

    raise UserError("{path} is no WAV file: choose another recording", path=path)

A further language is one more JSON file; English is shown where a text is missing. In RVC's WebUI the page's language
chooses, elsewhere the environment. Standard library alone.
"""

from __future__ import annotations

import errno
import json
import locale
import numbers
import os
import string
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
LOCALES = Path(__file__).resolve().parent / "locale"
ENGLISH = "en"


# ---------------------------------------------------------------- languages

def wanted_language() -> str:
    """What the environment asks for: `RVC_LORA_LANG` if it is set, else the system's locale; such as "zh_CN.UTF-8"."""
    chosen = os.environ.get("RVC_LORA_LANG")
    if not chosen:
        chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG")
    if not chosen:
        try:
            chosen = locale.getlocale()[0]
        except ValueError:
            chosen = None
    return chosen or ENGLISH


@lru_cache(maxsize=None)
def languages() -> Tuple[str, ...]:
    """The languages that there are: English, and one for each file of locale/."""
    return (ENGLISH, *sorted(file.stem for file in LOCALES.glob("*.json")))


@lru_cache(maxsize=None)
def catalogue(name: str) -> Mapping[str, str]:
    """English text -> its translation. Empty for English, and where the file is missing or damaged."""
    try:
        texts = json.loads((LOCALES / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return texts if isinstance(texts, dict) else {}


def codes() -> List[Tuple[str, str]]:
    """(code as HTML writes it, name) of each language: ("en", "en"), ("zh-CN", "zh_CN")."""
    return [(name.replace("_", "-"), name) for name in languages()]


def own_name(name: str) -> str:
    """What a language calls itself: the translation of "English" in its catalogue, else the name of its file."""
    called = Text("English").in_language(name)
    return name if called == "English" and name != ENGLISH else called


def closest(wanted: str) -> str:
    """The language of `languages()` that is closest to a name such as "zh_TW.UTF-8", "zh" or "Chinese
    (Simplified)_China"."""
    code = wanted.split(".")[0].replace("-", "_").lower()
    code = "zh_cn" if code.startswith("chinese") else code
    there = {name.lower(): name for name in languages()}
    if code in there:
        return there[code]
    return next((name for name in languages() if name.split("_")[0].lower() == code.split("_")[0]), ENGLISH)


def short_name(name: str) -> str:
    """A language's first letters, "en" or "zh"; its whole name, "zh_TW", where an earlier one begins with the same."""
    letters = name.split("_")[0]
    return letters if next(one for one in languages() if one.split("_")[0] == letters) == name else name


def language() -> str:
    """The short name of the user's language: "en", "zh", ..."""
    return short_name(closest(wanted_language()))


# ---------------------------------------------------------------- texts

class Listing(List[Any]):
    """Values that a text lists: joined as the language does."""

    def in_language(self, name: str) -> str:
        return str(Text(", ").in_language(name)).join(_shown(value, name) for value in self)

    def __str__(self) -> str:
        return self.in_language(closest(wanted_language()))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class Text:
    """A text that can be shown in each language.

    Args:
        english: the text, with placeholders such as {path}; a brace itself is doubled. It is the catalogue's key.
            Or a `Text`, which is shown as it is.
        values: what the placeholders stand for; a `Text`, a `UserError` or a `Listing` among them is shown in the same
            language.
    """

    def __init__(self, english: Union[str, Text], /, **values: Any):
        self.english: str = english.english if isinstance(english, Text) else english
        self.values: Mapping[str, Any] = {**english.values, **values} if isinstance(english, Text) else values

    def in_language(self, name: str) -> str:
        """The text in a language of `languages()`; English where it has no translation."""
        text = catalogue(name).get(self.english, self.english)
        try:
            return string.Formatter().vformat(text, (),
                                              {key: _Shown(value, name) for key, value in self.values.items()})
        except (LookupError, ValueError):  # a text that was written without the catalogue in mind
            return text

    def __str__(self) -> str:
        return self.in_language(closest(wanted_language()))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> Tuple[Any, ...]:
        return _text_again, (self.english, {key: value if isinstance(value, numbers.Number)
                                            or hasattr(value, "in_language") else str(value)
                                            for key, value in self.values.items()})


def _text_again(english: str, values: Mapping[str, Any]) -> Text:
    """A text that came from another process."""
    return Text(english, **values)


class _Shown:
    """A value of a text, which a translation may show in its own language."""

    def __init__(self, value: Any, language: str):
        self._value, self._language = value, language

    def __format__(self, spec: str) -> str:
        if hasattr(self._value, "in_language"):
            return format(self._value.in_language(self._language), spec)
        return format(self._value, spec)

    def __str__(self) -> str:
        return _shown(self._value, self._language)

    def __repr__(self) -> str:
        return repr(self._value)


def _shown(value: Any, language: str) -> str:
    return value.in_language(language) if hasattr(value, "in_language") else str(value)


class StoredText(Text):
    """A text out of a file of ours: shown by the catalogue as long as its English is in one, else as it was written.

    Args:
        contents: what `stored` gave, or {"en": ..., "zh": ...}; whatever else stands in it is passed over.
    """

    def __init__(self, contents: Any):
        own = contents if isinstance(contents, dict) else {}
        values = own.get("values")
        super().__init__(str(own.get("text", "")), **{str(key): _value_again(value) for key, value in
                                                      (values if isinstance(values, dict) else {}).items()})
        self._written = {ENGLISH: "", **{key: value for key, value in own.items() if isinstance(value, str)}}

    def in_language(self, name: str) -> str:
        known = any(self.english in catalogue(one) for one in languages())  # nothing else is taken for a template
        return super().in_language(name) if known else of_language(self._written, name)

    def __reduce__(self) -> Tuple[Any, ...]:
        return StoredText, ({**stored(self), **self._written},)


def stored(text: Any) -> Dict[str, Any]:
    """A `Text` or `UserError` for a JSON file, from which `StoredText` makes it again in every language."""
    text = getattr(text, "text", text)
    return {"text": text.english, "values": {key: _stored_value(value) for key, value in text.values.items()},
            ENGLISH: text.in_language(ENGLISH)}


def _stored_value(value: Any) -> Any:
    if isinstance(value, Listing):
        return [_stored_value(one) for one in value]
    if hasattr(value, "in_language"):
        return stored(value)
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return str(value)


def _value_again(value: Any) -> Any:
    if isinstance(value, list):
        return Listing(_value_again(one) for one in value)
    return StoredText(value) if isinstance(value, dict) else value


def tr(english: Union[str, Text], /, **values: Any) -> str:
    """The text in the user's language. Arguments as `Text`."""
    return str(Text(english, **values))


def tr_in(name: str) -> Callable[..., str]:
    """`tr` for a language of `languages()` instead of the user's."""

    def translate(english: Union[str, Text], /, **values: Any) -> str:
        return Text(english, **values).in_language(name)

    return translate


def in_every_language(text: Any) -> Mapping[str, str]:
    """A `Text` for a file: {"en": ..., "zh": ...}, by the short names of the languages."""
    return {short_name(name): text.in_language(name) for name in languages()}


def of_language(texts: Mapping[str, str], name: str) -> str:
    """The text of a file (`in_every_language`) in a language; English where the file has none in it."""
    return texts.get(short_name(name), texts.get(name.split("_")[0], texts[ENGLISH]))


def listing(values: Iterable[Any]) -> Listing:
    """Values as a text lists them: "a, b" in English, with the language's own comma elsewhere."""
    return Listing(values)


def columns_of(text: str) -> int:
    """The columns that `text` takes on a terminal: two for each Chinese character."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as columns of text, the first row a heading; numbers with three decimals."""
    texts = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(columns_of(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = ["  ".join(cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths)).rstrip()
             for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def say(english: Union[str, Text], /, **values: Any) -> None:
    """One line to the user, at once. Arguments as `Text`."""
    print(tr(english, **values), flush=True)


class UserError(ValueError):
    """Something the user can put right. The text says what, where and what to do next.

    Args:
        english, values: as `Text`.

    Attributes:
        lines: whether the message is meant to have several lines; a command prints all others as one.
        text: the message in every language.
    """

    lines = False

    def __init__(self, english: Union[str, Text], /, **values: Any):
        self.text = Text(english, **values)
        super().__init__(self.text.english)

    @property
    def en(self) -> str:
        """The message in English."""
        return self.text.in_language(ENGLISH)

    @property
    def zh(self) -> str:
        """The message in Simplified Chinese."""
        return self.text.in_language("zh_CN")

    def in_language(self, name: str) -> str:
        """The message in a language of `languages()`."""
        return self.text.in_language(name)

    def __str__(self) -> str:
        return str(self.text)

    def __reduce__(self) -> Tuple[Any, ...]:
        return _error_again, (type(self), self.text), {key: value for key, value in self.__dict__.items()
                                                       if key != "text"}


def _error_again(kind: Any, text: Text) -> UserError:
    """A UserError that came from another process."""
    error: UserError = kind.__new__(kind, text.english)
    UserError.__init__(error, text.english, **text.values)
    return error


_FULL_WORDS = ("PytorchStreamWriter failed writing file", ". unexpected pos ", " requested and ",
               "No space left on device")
"""How PyTorch (of a .pth), NumPy (of a .npy: "4096 requested and 0 written") and libsndfile say that a disk is full."""


def disk_full(error: BaseException) -> bool:
    """Whether `error` says that the disk, the quota or the file size limit is reached, in the system's words or in a
    library's."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    return isinstance(error, (OSError, RuntimeError)) and any(words in str(error) for words in _FULL_WORDS)


def cli(main: Callable[[Optional[list]], Optional[int]], argv: Optional[list] = None,
        stopped: Optional[UserError] = None) -> int:
    """Run a command line's `main`, as `commands.run` does."""
    from LoraModel.commands import run

    return run(main, argv, stopped)
