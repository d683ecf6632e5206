"""Names and paths as people type or paste them: what can be a file's name on every system, and what stands around a
pasted path."""

from __future__ import annotations

import numbers
import re
import reprlib
import unicodedata
from typing import Any

from .messages import Text, UserError

MOST_BYTES = 200
"""Of a name in UTF-8: file systems hold 255, and endings and temporary names are added to it."""

_FORBIDDEN = re.compile(
    "[<>:\"/\\\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What some system takes no file name with, line breaks, marks that turn the direction of the text around, and broken
text."""
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?$", re.IGNORECASE)
"""What Windows takes for devices, whatever the ending."""
_AROUND = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that are copied along with a path and cannot be seen: Windows' properties page puts U+202A in front, editors a
byte-order mark."""
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u300c": "\u300d", "\u201e": "\u201c",
           "\u00ab": "\u00bb"}

_NAME = Text("the name")


def plain_name(name: Any, what: Text = _NAME) -> str:
    """The name of a voice, an experiment or a file without its ending, as it can be written on every system.

    Args:
        what: what the name is of, for the message.

    Returns:
        the name, in Unicode's composed form and without blanks around it.

    Raises:
        UserError: no text, empty, a path, a hidden file, a name that Windows reserves, or more than `MOST_BYTES`.
    """
    if name is not None and not isinstance(name, str):
        raise UserError("{what} must be text, and {name} was given: write one, such as my_voice", what=what,
                        name=shown(name))
    text = unicodedata.normalize("NFC", name or "").strip()
    if not text:
        raise UserError("{what} is empty: write one, such as my_voice", what=what)
    bad = _FORBIDDEN.search(text) or text[0] in ".~" or text[-1] == "." or is_device(text)
    if bad or len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise UserError("{what} {text} cannot be a file name on every system: choose one without / \\ : * ? \" < > |, "
                        "a dot or ~ at its beginning, a dot at its end, or a name that Windows reserves (con, nul, "
                        "com1 …), at most {most_bytes} bytes long",
                        what=what, text=shown(text), most_bytes=MOST_BYTES)
    return text


def check_name(name: Any, what: Text = _NAME) -> None:
    """`plain_name` for a name that is used as it stands: blanks around it are refused, too.

    Raises:
        UserError: as `plain_name`.
    """
    if plain_name(name, what) != unicodedata.normalize("NFC", name):
        raise UserError("{what} {name} cannot be a file name on every system: take away the blanks around it",
                        what=what, name=shown(name))


def is_device(name: str) -> bool:
    """Whether a file's or folder's name, with or without an ending, is one that Windows takes for a device."""
    return bool(_RESERVED.match(name))


def unquoted(text: str) -> str:
    """A pasted path without what was pasted along with it: blanks, quotes of any kind, invisible marks."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip(_AROUND).strip()
        if len(text) >= 2 and text[0] in _QUOTES and text[-1] in _QUOTES.values():
            text = text[1:-1]
        elif text.count('"') == 1:  # half of a pair: no path on Windows holds one, and a shell leaves one behind
            text = text.strip('"')
    return text


def shown(value: Any, most: int = 80) -> str:
    """A value that somebody else gave, fit for a message: on one line, printable, in quotes and not long."""
    small = value is None or isinstance(value, (bool, float)) or isinstance(value, int) and abs(value) < 1 << 64
    text = value if isinstance(value, str) else repr(value) if small else type(value).__name__
    text = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return f"'{text[:most]}…'" if len(text) > most else f"'{text}'"


def bare(value: Any, most: int = 80) -> str:
    """As `shown`, the way it is written in JSON or Python: 4, 0.5, '4', ['ups']; of long ones the beginning."""
    if isinstance(value, str):
        return shown(value, most)
    try:
        text = _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = type(value).__name__
    return shown(text, most)[1:-1]


def check_number(name: str, value: Any, whole: bool = False) -> None:
    """Check that a program gave a number, which it may have read as text.

    Raises:
        UserError: it is none, or with `whole` no whole one.
    """
    if isinstance(value, str):
        raise UserError("{name}={value} is a text, give a number", name=name, value=bare(value))
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UserError("{name}={value} is no number ({kind}): give one", name=name, value=bare(value),
                        kind=type(value).__name__)
    if whole and not isinstance(value, numbers.Integral):
        raise UserError("{name}={value} is no whole number: give one", name=name, value=bare(value))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 40
