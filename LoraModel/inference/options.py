"""The options that commands share which convert, and which put adapters on a base."""

from __future__ import annotations

import argparse
from typing import Any

from .. import commands
from ..lora.adapter_metadata import CONSENT, checked_field
from ..messages import tr
from ..models import prior_noise
from .adapter_choice import weight_of
from .strength import FREE_STRENGTH


def add_conversion_options(p: argparse.ArgumentParser) -> None:
    """The options of every command that converts: how, with which RVC, on which device."""
    p.add_argument("--index_rate", type=commands.number(0, 1), default=0.75, help=tr(
        "share of the features that come from --index: 0 (none) to 1 (all)"))
    p.add_argument("--f0_method", help=tr("how pitch is found: pm, rmvpe, and what else this RVC offers (default: "
                                          "rmvpe if its model is there, else pm)"))
    p.add_argument("--protect", type=commands.number(0, 0.5), default=0.33, help=tr(
        "how much of voiceless consonants and breath is taken from the target: 0 to 0.5 (0.5 protects nothing)"))
    p.add_argument("--rms_mix_rate", type=commands.number(0, 1), help=tr(
        "loudness: 0 follows the source's, 1 the network's (default: 0.25, as on RVC's page)"))
    p.add_argument("--seed", type=commands.seed, default=0, help=tr("seed of all random numbers: the same seed gives "
                                                                    "the same audio again"))
    add_device_options(p)


WORDS = ("author", "license", "notes", "tags", "language", "consent", "consent_note")
"""Fields of an adapter's file that a user may fill in."""


def add_word_options(p: argparse.ArgumentParser, default: Any = "") -> None:
    """The options of every command that makes an adapter: what its file says of itself."""
    for key in ("author", "license", "notes"):
        p.add_argument(f"--{key}", default=default, help=tr("a text that the adapter file carries (default: none)"))
    p.add_argument("--tags", default=default, help=tr("words to find the voice by, with commas between them (default: "
                                                      "none)"))
    p.add_argument("--language", default=default, type=commands.option(lambda text: checked_field("language", text)),
                   help=tr("what the voice speaks: a code such as en or zh-CN (default: not stated)"))
    p.add_argument("--consent", default=default, choices=CONSENT, help=tr(
        "whether the speaker agreed to this voice (default: not stated)"))
    p.add_argument("--consent_note", default=default, help=tr("how, or where that is written (default: none)"))


def add_preview_option(p: argparse.ArgumentParser) -> None:
    """The option of every command that lets an adapter speak at the end."""
    p.add_argument("--no_preview", action="store_true", help=tr(
        "do not put a few seconds of the voice into the adapter's file (about 30 KB)"))


def add_mark_option(p: argparse.ArgumentParser) -> None:
    """The option of every command that writes converted audio."""
    p.add_argument("--no_mark", action="store_true", help=tr(
        "do not write into the file's comment field that voice conversion made it (RVC_LORA_MARK=0 does so always)"))


def add_device_options(p: argparse.ArgumentParser) -> None:
    """With which RVC, on which device, and on which base."""
    commands.add_rvc_root(p)
    p.add_argument("--device", type=commands.device,
                   help=tr("the device to compute on: auto, cpu, cuda, cuda:1, mps, xpu … "
                           "(default: the GPU where there is one)"))
    commands.add_base_form(p)
    p.add_argument("--force", action="store_true", help=tr("accept an adapter of another base"))


def add_adapter_options(p: argparse.ArgumentParser) -> None:
    """The options of every command that puts adapters on a base: which, and how strongly."""
    p.add_argument("--lora_weights", action="extend", nargs="+", type=commands.option(weight_of), default=[],
                   metavar="ADAPTER[:STRENGTH]", help=tr("adapters (.safetensors), or the folders of their training "
                                                         "runs, each with its strength behind a colon if it is not 1; "
                                                         "several are blended: A.safetensors:0.7 B.safetensors:0.3 "
                                                         "(default: none)"))
    p.add_argument("--strength", action="extend", nargs="+", type=commands.number(-FREE_STRENGTH, FREE_STRENGTH),
                   default=[], help=tr("strength of each adapter, in their order, in place of the colons: 0 (the "
                                       "base) to 1.5; give one for each (default: 1)"))
    commands.add_any_strength(p)
    add_noise_option(p)


def add_noise_option(p: argparse.ArgumentParser, action: Any = "store") -> None:
    """The option of every command that converts with a voice or writes one as it is heard."""
    p.add_argument("--noise", action=action, type=commands.number(prior_noise.LEAST, prior_noise.MOST), help=tr(
        "share of RVC's random noise that the voice is heard with, 0.05 to 4: less is clearer and calmer, 1 is RVC's "
        "own (default: what the adapters were trained with, usually 0.45; RVC's own without an adapter)"))
