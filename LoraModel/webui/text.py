"""Text in the language that RVC's own page is in."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict

from ..faults import describe_fault
from ..messages import UserError, closest, tr_in, wanted_language
from ..messages import tr as system_tr
from ..paths import printable

Tr = Callable[..., str]
"""A text in the page's language; arguments as `messages.Text`."""


def _asked_of(namespace: Dict[str, Any]) -> str:
    """What RVC's script says of its language; "" where it says nothing."""
    asked = getattr(namespace.get("i18n"), "language", None)
    return asked if isinstance(asked, str) else ""


def page_language(namespace: Dict[str, Any]) -> str:
    """The page's language as two letters: "en", "zh", ..."""
    return closest(_asked_of(namespace) or wanted_language()).split("_")[0].lower()


def translator(namespace: Dict[str, Any]) -> Tr:
    """`tr` for the language of the page: `i18n.language` of RVC's script ("zh_CN", "en_US", ...), else the system's."""
    asked = _asked_of(namespace)
    if not asked:
        return system_tr
    return tr_in(closest(asked))


FIELDS = {
    "--base_model": ("“base model G”", "“底模 G”"), "--base_d": ("“base model D”", "“底模 D”"),
    "--sample_rate": ("“target sample rate”", "“目标采样率”"),
    "--version": ("“version”", "“版本”"), "--f0_method": ("“pitch extraction algorithm”", "“音高提取算法”"),
    "--no_f0": ("“pitch guidance” at false", "“音高指导”设为 false"),
    "--input_dir": ("“path of the training folder”", "“训练文件夹路径”"),
    "--data_dir": ("“experiment name”", "“实验名”"), "--output_dir": ("“experiment name”", "“实验名”"),
    "--name": ("“experiment name”", "“实验名”"),
    "--resume": ("“Resume”", "“继续训练”"), "--epochs": ("“total training epochs”", "“总训练轮数”"),
    "--batch_size": ("“batch size”", "“batch_size”"),
    "--save_every": ("“save frequency”", "“保存频率”"), "--preset": ("“preset”", "“预设”"),
    "--lora_rank": ("“LoRA rank”", "“LoRA 秩”"),
    "--device": ("“device”", "“训练设备”"), "--strength": ("“strength”", "“强度”"),
    "--index": ("“index”", "“特征检索库”"),
    "--index_rate": ("“share of the index”", "“检索特征占比”"), "--protect": ("“protect”", "“保护清辅音”"),
    "--transpose": ("“transpose”", "“变调”"),
    "--speaker": ("“speaker ID”", "“说话人id”"), "--lora_weights": ("“LoRA adapter”", "“LoRA 适配器”"),
    "--model": ("“voice”", "“音色”"),
}
"""The page's field for an option of a command, which messages advise."""
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]+")


def fields_for_options(text: str, tr: Tr) -> str:
    """A message of a command in the page's words: the field where it names an option; where the page has none, that is
    said."""
    def word(match: re.Match[str]) -> str:
        option = match.group()
        if option in FIELDS:
            return tr(*FIELDS[option])
        return tr("{option} (an option of the command line, not of this page)", option=option)

    return _OPTION.sub(word, text)


def told(error: Exception, tr: Tr) -> str:
    """What to show of an error, in the page's language: a `UserError` and the machine's own faults in words, anything
    else by its type."""
    found = error if isinstance(error, UserError) else describe_fault(error)
    if found is not None:
        return fields_for_options(tr("{words}", words=found), tr)
    return f"{type(error).__name__}: {printable(str(error))[:500]}"
