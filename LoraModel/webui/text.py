"""Text in the language that RVC's own page is in."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict

from ..faults import describe_fault
from ..messages import Text, closest, short_name, tr_in, wanted_language
from ..messages import tr as system_tr
from ..paths import printable

Tr = Callable[..., str]
"""A text in the page's language; arguments as `messages.Text`."""


def _asked_of(namespace: Dict[str, Any]) -> str:
    """What RVC's script says of its language; "" where it says nothing."""
    asked = getattr(namespace.get("i18n"), "language", None)
    return asked if isinstance(asked, str) else ""


def page_language(namespace: Dict[str, Any]) -> str:
    """The short name of the page's language: "en", "zh", ..."""
    return short_name(closest(_asked_of(namespace) or wanted_language()))


def translator(namespace: Dict[str, Any]) -> Tr:
    """`tr` for the language of the page: `i18n.language` of RVC's script ("zh_CN", "en_US", ...), else the system's."""
    asked = _asked_of(namespace)
    if not asked:
        return system_tr
    return tr_in(closest(asked))


FIELDS = {
    "--base_model": Text("“base model G”"), "--base_d": Text("“base model D”"),
    "--sample_rate": Text("“target sample rate”"),
    "--version": Text("“version”"), "--f0_method": Text("“pitch extraction algorithm”"),
    "--no_f0": Text("“pitch guidance” at false"),
    "--input_dir": Text("“path of the training folder”"),
    "--data_dir": Text("“experiment name”"), "--output_dir": Text("“experiment name”"),
    "--name": Text("“experiment name”"),
    "--resume": Text("“Resume”"), "--epochs": Text("“total training epochs”"),
    "--batch_size": Text("“batch size”"),
    "--save_every": Text("“save frequency”"), "--preset": Text("“preset”"),
    "--lora_rank": Text("“LoRA rank”"),
    "--device": Text("“device”"), "--strength": Text("“strength”"),
    "--index": Text("“index”"),
    "--index_rate": Text("“share of the index”"), "--protect": Text("“protect”"),
    "--transpose": Text("“transpose”"),
    "--speaker": Text("“speaker ID”"), "--lora_weights": Text("“LoRA adapter”"),
    "--model": Text("“voice”"),
}
"""The page's field for an option of a command, which messages advise."""
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]+")


def fields_for_options(text: str, tr: Tr) -> str:
    """A message of a command in the page's words: the field where it names an option; where the page has none, the
    text says so."""
    def word(match: re.Match[str]) -> str:
        option = match.group()
        if option in FIELDS:
            return tr(FIELDS[option])
        return tr("{option} (an option of the command line, not of this page)", option=option)

    return _OPTION.sub(word, text)


def error_text(error: Exception, tr: Tr) -> str:
    """What to show of an error, in the page's language: a `UserError` and the machine's own faults in words, anything
    else by its type."""
    found = describe_fault(error)
    if found is not None:
        return fields_for_options(tr("{words}", words=found), tr)
    return f"{type(error).__name__}: {printable(str(error))[:500]}"
