"""How strongly an adapter may be applied."""

from __future__ import annotations

from typing import Any

from ..messages import UserError
from ..names import check_number, shown

MAX_STRENGTH = 1.5
"""Beyond it a voice is no voice any more: at 30 the audio is a constant at full scale."""
FREE_STRENGTH = 100.0
"""What is allowed with `any_strength`."""


def check_strength(strength: Any, any_strength: bool = False) -> float:
    """A strength as a number: 0 to 1.5, or anything from -100 to 100 with `any_strength`.

    Raises:
        UserError: it is no finite number, or out of range.
    """
    check_number("strength", strength)
    lowest, highest = (-FREE_STRENGTH, FREE_STRENGTH) if any_strength else (0, MAX_STRENGTH)
    if not lowest <= strength <= highest:
        raise UserError("strength {strength} is not between {lowest} and {highest}: 0 is the plain base, 1 the voice "
                        "as trained", strength=shown(strength), lowest=lowest, highest=highest)
    return float(strength)
