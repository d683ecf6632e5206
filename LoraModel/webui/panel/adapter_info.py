"""What an adapter's file says of itself, as lines for the page. The file may be a stranger's: nothing in it is more
than text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Tuple

from ...lora import LoRAConfig
from ...lora.adapter_file import read_metadata
from ...lora.adapter_metadata import losses
from ...lora.targets import has_rank
from ...models.prior_noise import told_targets
from ..text import Tr


def describe(path: Path, tr: Tr) -> str:
    """Lines "what: value" for the adapter in `path`.

    Raises:
        UserError: it is no adapter.
    """
    own = read_metadata(path)
    lines: List[Tuple[str, str]] = [
        (tr("Voice"), tr("{name} (speaker {speaker})", name=own["name"], speaker=own["speaker"])),
        (tr("Base"), f"{own['base_name']} ({own['base_hash'][:8]}…), {own['rvc_version']}, "
         f"{_rate(own['sample_rate'])}, "
         + (tr("with pitch") if own["f0"] == "1" else tr("without pitch"))),
        (tr("Rank"), _ranks(own, tr)),
        (tr("Trained"), _training(own, tr)),
        (tr("Held-out loss"), _heldout(own.get("heldout", ""), tr)),
        (tr("Date"), own.get("created", "").replace("T", " ")),
        (tr("Size"), f"{path.stat().st_size / 1000:,.0f} KB"),
        (tr("Language"), own.get("language", "")),
        (tr("Tags"), own.get("tags", "")),
        (tr("Consent"), tr(", ").join(filter(None, (own.get("consent", ""), own.get("consent_note", ""))))),
        (tr("Author"), own.get("author", "")),
        (tr("License"), own.get("license", "")),
        (tr("Notes"), own.get("notes", "")),
    ]
    colon = tr(": ")
    return "\n".join(f"{what}{colon}{_one_line(value)}" for what, value in lines if _one_line(value))


def _one_line(value: str) -> str:
    text = re.sub(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+", " ", value).strip()
    return text if len(text) <= 200 else text[:199] + "…"


def _rate(hertz: str) -> str:
    return f"{int(hertz) / 1000:g} kHz" if hertz.isascii() and hertz.isdigit() and len(hertz) < 7 else hertz


def _ranks(own: Dict[str, str], tr: Tr) -> str:
    try:
        config = LoRAConfig.from_json(own["lora_config"])
    except (ValueError, TypeError):
        return tr("cannot be read")
    parts = ", ".join(f"{name} {target.r}" for name, target in told_targets(config).items() if has_rank(name))
    return f"{own.get('preset') or config.preset}: {parts}"


def _training(own: Dict[str, str], tr: Tr) -> str:
    parts = []
    if own.get("epochs"):
        parts.append(tr("{epochs} epochs", epochs=own["epochs"]))
    if own.get("steps"):
        parts.append(tr("{steps} steps", steps=own["steps"]))
    if own.get("data_seconds"):
        parts.append(tr("{data_seconds} s of recordings", data_seconds=own["data_seconds"]))
    return tr(", ").join(parts)


def _heldout(text: str, tr: Tr) -> str:
    """The held-out losses as the file keeps them (JSON), in words; "" for what is nothing of the kind."""
    try:
        found = losses(text)
    except ValueError:
        return ""
    if "base" not in found:
        return ""
    if "adapter" not in found:
        return tr("never evaluated on held-out clips")
    base, adapter = found["base"], found["adapter"]
    worse = tr(": WORSE than the base alone") if adapter >= base else ""
    return tr("{adapter:.3f} (the base alone: {base:.3f})", adapter=adapter, base=base) + worse
