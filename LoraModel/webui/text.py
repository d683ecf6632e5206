"""Text in the language that RVC's own page is in."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ..messages import UserError, tr as system_tr

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
    """What to show of an error: a `UserError` in the page's language, anything else by its type."""
    if isinstance(error, UserError):
        return tr(error.en, error.zh)
    return f"{type(error).__name__}: {error}"
