"""What users read: English or Simplified Chinese, and errors that say what to do next."""

from __future__ import annotations

import errno
import locale
import os
import unicodedata
from typing import Any, Callable, Optional, Sequence

_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def language() -> str:
    """Return "zh" or "en": `RVC_LORA_LANG` if it is set, else the system's locale."""
    chosen = os.environ.get("RVC_LORA_LANG")
    if not chosen:
        chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG")
    if not chosen:
        try:
            chosen = locale.getlocale()[0]
        except ValueError:
            chosen = None
    return "zh" if (chosen or "").lower().startswith(("zh", "chinese")) else "en"


def tr(en: str, zh: str) -> str:
    """Return `en` or `zh`, whichever the user reads."""
    return zh if language() == "zh" else en


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


def say(en: str, zh: str) -> None:
    """One line to the user, at once."""
    print(tr(en, zh), flush=True)


class UserError(ValueError):
    """Something the user can put right. The text says what, where and what to do next.

    Args:
        en, zh: the same message in English and in Simplified Chinese.

    Attributes:
        lines: whether the message is meant to have several lines; a command prints all others as one.
    """

    lines = False

    def __init__(self, en: str, zh: str):
        super().__init__(en, zh)
        self.en, self.zh = en, zh

    def __str__(self) -> str:
        return tr(self.en, self.zh)


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
