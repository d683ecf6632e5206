"""What a page or a script sends to an event, checked: types and limits, in one place. Whatever is wrong is answered in
words.

Gradio hands on what came in the request as it is: a list where a name is meant, None, a number that no slider can
give. Each function here takes such a value and gives the one that was meant, of its type.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

from .messages import Text, UserError, listing
from .names import shown
from .paths import clean_path

What = Text
"""What a value is of, as a message begins with it."""
MOST_CHARACTERS = 4096
"""Of a text: as long as the longest path."""


def text(value: Any, what: What, most: int = MOST_CHARACTERS) -> str:
    """A text of one line without blanks around it; "" for None.

    Raises:
        UserError: no text, too long, or it holds control characters or halves of characters.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError("{what} must be text, and {value} was given", what=what, value=shown(value))
    found = value.strip()
    if len(found) > most:
        raise UserError("{what} {found} is longer than {most} characters: give a shorter one",
                        what=what, found=shown(found), most=most)
    if any(ord(character) < 32 or ord(character) == 127 or "\ud800" <= character <= "\udfff" for character in found):
        raise UserError("{what} {found} holds characters that are no text: type it in by hand",
                        what=what, found=shown(found))
    return found


def path(value: Any, what: What) -> str:
    """A path as it was typed or pasted, without the quotes and invisible marks around it, `~` put in full; "" for None.

    Raises:
        UserError: no text, or no system could take it as a path.
    """
    if value is None or isinstance(value, str) and not value.strip():
        return ""
    if not isinstance(value, str):
        raise UserError("{what} must be text, and {value} was given", what=what, value=shown(value))
    found = clean_path(value)
    return text(found, what)


def number(value: Any, what: What, low: float, high: float) -> float:
    """A number from `low` to `high`.

    Raises:
        UserError: no number (true and false are none), not finite, or outside.
    """
    # The size first: a whole number of thousands of digits has no float.
    good = isinstance(value, (int, float)) and not isinstance(value,
                                                              bool) and low <= value <= high and math.isfinite(value)
    if not good:
        raise UserError("{what} {value} is not between {low:g} and {high:g}: give such a number", what=what,
                        value=shown(value), low=low, high=high)
    return float(value)


def whole(value: Any, what: What, low: int, high: int) -> int:
    """A whole number from `low` to `high`; sliders give 3.0 for 3.

    Raises:
        UserError: as `number`, or it is not whole.
    """
    found = number(value, what, low, high)
    if not found.is_integer():
        raise UserError("{what} {value} is not a whole number: give one from {low} to {high}",
                        what=what, value=shown(value), low=low, high=high)
    return int(found)


def flag(value: Any, what: What) -> bool:
    """True or false; false for None.

    Raises:
        UserError: anything else.
    """
    if value is None:
        return False
    if not isinstance(value, bool):
        raise UserError("{what} must be true or false, and {value} was given", what=what,
                        value=shown(value))
    return value


def one_of(value: Any, what: What, choices: Sequence[str]) -> str:
    """One of `choices`.

    Raises:
        UserError: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise UserError("{what} {value} is not known: choose from {choices}", what=what,
                        value=shown(value), choices=listing(choices))
    return value
