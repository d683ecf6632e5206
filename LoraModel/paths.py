"""Paths as people type and paste them: cleaned, and refused in words where no system could take them."""

from __future__ import annotations

import os
import re

from LoraModel.messages import UserError
from LoraModel.names import shown, unquoted

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_SHELL = {True: re.compile('["%!\\r\\n]|\\\\$'), False: re.compile(r'[$`"\\\r\n]')}
"""What cmd (True) and sh (False) do not take as it stands between double quotes: cmd's `!` where delayed expansion is
on, and a `\\` at the end, which the program that is called reads as part of the quote."""
LONGEST_PATH, LONGEST_NAME = 4095, 255
"""Bytes that file systems take."""


def clean_path(text: str) -> str:
    """`text` without what pasting leaves around it (quotes, blanks, marks that cannot be seen), `~` put in full.

    A path that is there exactly as typed stays as it is.

    Raises:
        UserError: empty, too long, with characters that no path can have, or of a user who does not exist.
    """
    text = str(text)
    if "\0" in text:
        raise UserError("the path {text} has a NUL character in it: type it anew", text=shown(text))
    _check_characters(text)
    _check_length(text.strip())
    if not os.path.lexists(text):
        text = unquoted(text)
    if not text:
        raise UserError("the path is empty: give a file or a folder")
    return _at_home(text)


def _check_characters(text: str) -> None:
    """Bytes that are no UTF-8 come as U+DC80 to U+DCFF, which the system takes back; other halves of a pair are no
    path."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UserError("the path {text} has characters that this system's file names cannot have: check it, or "
                        "rename the file", text=shown(text)) from None


def _check_length(text: str) -> None:
    size = len(os.fsencode(text))
    names = re.split(r"[/\\]" if os.name == "nt" else "/", text)
    longest = max(len(name) if os.name == "nt" else len(os.fsencode(name)) for name in names)
    if size > LONGEST_PATH or longest > LONGEST_NAME + 4:  # quotes and marks around the last name are not counted here
        raise UserError("the path {text} is too long ({size} bytes): a name may have {longest_name} bytes, a path "
                        "{longest_path}",
                        text=shown(text), size=size, longest_name=LONGEST_NAME, longest_path=LONGEST_PATH)


def _at_home(text: str) -> str:
    if not text.startswith("~"):
        return text
    if os.path.lexists(text):
        return os.path.join(".", text)
    full = os.path.expanduser(text)
    if full == text:
        user = re.split(r"[/\\]", text)[0][1:]
        raise UserError("there is no user {user} (path {text}): write the path in full, with ./ in front if the name "
                        "begins with ~", user=shown(user), text=shown(text))
    return full


def plain_in_shell(text: str, windows: bool = os.name == "nt") -> bool:
    """Whether the system's shell takes a text between double quotes as it stands, and it is UTF-8: RVC's page calls
    its scripts with such lines, which read a name such as `a$(command)` as a command."""
    return not _UNPRINTABLE.search(text) and not _IN_SHELL[windows].search(text)


def printable(text: str) -> str:
    """`text` in one line: control characters, marks of direction and halves of surrogate pairs become escapes."""
    return _UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)
