"""What a command says, in a page's words: no progress bars of a terminal, no keys and options that a page has not."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Tuple

from .text import Tr, fields_for_options

_BAR = re.compile(r"\[\d+:\d\d(:\d\d)?[,<]")
"""A bar of tqdm, with a total or without: "[00:01<00:02, 5.1it/s]"."""
WORDS: Dict[str, Tuple[str, str]] = {
    "stopped and saved: go on with --resume":
        ("stopped and saved: Resume goes on", "已停止并保存：按“继续训练”即可继续"),
    "\nstopping after this step; Ctrl-C again breaks off without saving\n":
        ("stopping after this step, and saving", "将在本步结束并保存后停止"),
    "stopped by Ctrl-C; no file was left half written":
        ("stopped; no file was left half written", "已停止；没有留下写了一半的文件"),
}
"""What the commands say of keys and options -> the same for a page, in English and Chinese."""


def page_lines(lines: Sequence[str], tr: Tr) -> List[str]:
    """The lines of a command's output as a page shows them."""
    said = {tr(english).strip(): tr(*words) for english, words in WORDS.items()}
    return [fields_for_options(said.get(line.strip(), line), tr) for line in lines if not _BAR.search(line)]


def page_text(text: str, tr: Tr, most: int = 8) -> str:
    """The last lines of a text as a page shows them."""
    return "\n".join(page_lines(text.strip().splitlines(), tr)[-most:])
