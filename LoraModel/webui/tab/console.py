"""What a command says, in a page's words: no progress bars of a terminal, no keys and options that a page has not."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence

from ...messages import Text
from ..text import Tr, fields_for_options

_BAR = re.compile(r"\[\d+:\d\d(:\d\d)?[,<]")
"""A bar of tqdm, with a total or without: "[00:01<00:02, 5.1it/s]"."""
WORDS: Dict[str, Text] = {
    "stopped and saved: continue with --resume":
        Text("stopped and saved: press Resume to continue"),
    "\nstopping after this step; Ctrl-C again stops at once without saving\n":
        Text("stopping after this step, and saving"),
    "stopped by Ctrl-C; no file was left half written":
        Text("stopped; no file was left half written"),
    "no RVC checkout: content features come from the demo's stand-in, not from HuBERT; only the demo's own base was "
    "trained on them (name a checkout with --rvc_root)":
        Text("no RVC checkout: content features come from the demo's stand-in, not from HuBERT"),
}
"""What the commands say of keys and options -> the same for a page."""


def page_lines(lines: Sequence[str], tr: Tr) -> List[str]:
    """The lines of a command's output as a page shows them."""
    translations = {said.strip(): tr(words) for english, words in WORDS.items()
                    for said in (english, tr(english))}  # a run may have been started in another language
    return [fields_for_options(translations.get(line.strip(), line), tr) for line in lines if not _BAR.search(line)]


def page_text(text: str, tr: Tr, most: int = 8) -> str:
    """The last lines of a text as a page shows them."""
    return "\n".join(page_lines(text.strip().splitlines(), tr)[-most:])
