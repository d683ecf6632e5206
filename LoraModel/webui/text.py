"""Text in the language that RVC's own page is in."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ..faults import describe_fault
from ..messages import UserError, tr as system_tr
from ..paths import printable

Tr = Callable[[str, str], str]
"""tr(en, zh) -> one of them."""


def translator(namespace: Dict[str, Any]) -> Tr:
    """tr(en, zh) by the language of the page: `i18n.language` of RVC's script ("zh_CN", "en_US", ...), else the system's."""
    language = getattr(namespace.get("i18n"), "language", None)
    if not isinstance(language, str) or not language:
        return system_tr
    chinese = language.lower().startswith("zh")
    return lambda en, zh: zh if chinese else en


def told(error: Exception, tr: Tr) -> str:
    """What to show of an error, in the page's language: a `UserError` and the machine's own faults in words, anything else by its type."""
    found = error if isinstance(error, UserError) else describe_fault(error)
    return tr(found.en, found.zh) if found is not None else f"{type(error).__name__}: {printable(str(error))[:500]}"
