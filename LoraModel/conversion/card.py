"""A folder of adapters presented: a README.md as Hugging Face's hub reads it, and a page to search and listen.

Both say what the adapters say of themselves; both are made anew each time, whole or not at all.
"""

from __future__ import annotations

import base64
import json
import re
from html import escape
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from ..evaluation import page
from ..files import atomic_write
from ..lora.adapter_file import read_metadata, read_preview
from ..lora.adapter_metadata import PREVIEW_KINDS, losses, one_line
from ..messages import Text, UserError
from ..places import near_words

README, GALLERY = "README.md", "index.html"
MARK = "<!-- made by LoraModel.card -->"
"""Stands in what was made here: only such a file is overwritten without being asked."""
TAGS = ("rvc", "voice-conversion", "lora")
SEARCH = """<style>[hidden] { display: none !important; }</style>
<script>
const field = document.getElementById('search'), cards = [...document.querySelectorAll('[data-words]')];
field.addEventListener('input', () => {
  const words = field.value.toLowerCase().split(/\\s+/);
  for (const card of cards) card.hidden = !words.every(word => card.dataset.words.includes(word));
});
</script>"""


class Entry(NamedTuple):
    """An adapter of the folder. metadata: of its file. sound: its preview, b"" without one. size: bytes."""

    path: Path
    metadata: Dict[str, str]
    sound: bytes
    size: int


def read_folder(folder: Path) -> Tuple[List[Entry], List[Tuple[Path, UserError]]]:
    """The adapters of a folder by their names, and the .safetensors files that are none.

    Raises:
        UserError: there is no adapter.
    """
    if not folder.is_dir():
        raise UserError("there is no folder {folder}{near}: check the path", folder=folder, near=near_words(folder))
    entries, others = [], []
    for path in sorted(folder.glob("*.safetensors")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            entries.append(Entry(path, read_metadata(path), read_preview(path), path.stat().st_size))
        except UserError as error:
            others.append((path, error))
    if not entries:
        raise UserError("{folder} holds no adapters (.safetensors): give the folder that they lie in", folder=folder)
    return entries, others


def check_places(folder: Path, force: bool) -> None:
    """Check that nothing of the user's own is overwritten.

    Raises:
        UserError: README.md or index.html is there and was not made here.
    """
    for name in (README, GALLERY):
        path = folder / name
        if path.is_file() and not force and MARK not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError("{path} is there and was not made by this command: move it, or pass --force to overwrite "
                            "it", path=path)


def write_cards(folder: Path, title: str, force: bool = False) -> Tuple[List[Entry], List[Tuple[Path, UserError]]]:
    """Write README.md and index.html into a folder of adapters. -> what they show, and what could not be read.

    Raises:
        UserError: as `read_folder` and `check_places`. OSError: as the file system gives it.
    """
    entries, others = read_folder(folder)
    check_places(folder, force)
    atomic_write(folder / README, readme(entries, title).encode("utf-8", "replace"))
    lead = page.two("{count} voices, each an adapter on its base.", count=len(entries))
    search = page.every(Text("search"))
    field = (f'<p><input id="search" type="search" aria-label="{search}" placeholder="{search}" '
             'style="width: 100%; font: inherit; padding: 10px 14px"></p>')
    body = [MARK, page.header(escape(title), lead, []), field, '<section class="clips">', *map(_card, entries),
            "</section>", SEARCH]
    page.write_page(folder / GALLERY, title, body, 3, 1)
    return entries, others


def readme(entries: Sequence[Entry], title: str) -> str:
    """The model card: front matter (YAML, each value written as JSON, which is YAML too), then a table."""
    licenses = {entry.metadata.get("license", "") for entry in entries}
    only = next(iter(licenses)).lower() if len(licenses) == 1 else ""
    own = sorted({tag for entry in entries for tag in entry.metadata.get("tags", "").split(", ") if tag})
    front: Dict[str, Any] = {
        "license": only if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", only) else "other",
        "library_name": "rvc-lora", "pipeline_tag": "audio-to-audio",
        "tags": [*TAGS, *(tag for tag in own if tag not in TAGS)],
        "base_model": sorted({entry.metadata["base_name"] for entry in entries}),
        "language": sorted({entry.metadata["language"] for entry in entries if entry.metadata.get("language")}),
    }
    if front["license"] == "other" and any(licenses):
        front["license_name"] = ", ".join(sorted(filter(None, licenses)))
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value),
             "---", MARK, "", f"# {_cell(title)}", "",
             "Voices for RVC as LoRA adapters (RVC-LoRA): each changes a base, which it needs.", "",
             "| voice | base | size | held-out loss (base) | language | consent | license | notes |",
             "|---|---|---|---|---|---|---|---|"]
    for entry in entries:
        metadata = entry.metadata
        base = f"{metadata['base_name']} ({metadata['base_hash'][:8]})"
        cells = (metadata["name"], base, f"{entry.size / 1000:.0f} KB",
                 _loss(metadata), metadata.get("language", ""), _consent(metadata), metadata.get("license", ""),
                 one_line(metadata.get("notes", ""), 200))
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A stranger's text as plain words in Markdown: nothing in it is a link, a picture or a tag."""
    return re.sub(r"([\\`*_\[\]<>|#!~$&])", r"\\\1", one_line(text, 500))


def _loss(metadata: Dict[str, str]) -> str:
    try:
        found = losses(metadata.get("heldout", ""))
    except ValueError:
        return ""
    return f"{found['adapter']:.3f} ({found['base']:.3f})" if {"adapter", "base"} <= set(found) else ""


def _consent(metadata: Dict[str, str]) -> str:
    return ", ".join(filter(None, (metadata.get("consent", ""), metadata.get("consent_note", ""))))


def _card(entry: Entry) -> str:
    """A voice on the page."""
    metadata = entry.metadata
    two = page.two
    rate = f"{int(metadata['sample_rate']) / 1000:g} kHz"
    rows = ((two("Base"), f"{metadata['base_name']}, {metadata['rvc_version']}, {rate}"),
            (two("Size"), f"{entry.size / 1000:.0f} KB"), (two("Held-out loss"), _loss(metadata)),
            (two("Language"), metadata.get("language", "")), (two("Consent"), _consent(metadata)),
            (two("Tags"), metadata.get("tags", "")),
            (two("Author"), metadata.get("author", "")), (two("License"), metadata.get("license", "")),
            (two("Notes"), one_line(metadata.get("notes", ""), 300)))
    lines = "".join(f"<br>{what}: {escape(value)}" for what, value in rows if value)
    words = escape(" ".join([entry.path.name, metadata["name"], *(value for _, value in rows)]).lower())
    sound = ""
    if entry.sound:
        kind = PREVIEW_KINDS[entry.sound[:4]]
        sound = (f'<audio controls preload="none" style="display: block; width: 100%" '
                 f'src="data:{kind};base64,{base64.b64encode(entry.sound).decode()}"></audio>')
    link = f'<a href="{escape(_address(entry.path.name))}" download>{escape(entry.path.name)}</a>'
    return (f'<article class="card clip" data-words="{words}"><h3>{escape(metadata["name"])}</h3>{sound}'
            f'<small>{link}{lines}</small></article>')


def _address(name: str) -> str:
    from urllib.parse import quote

    return "./" + quote(name.encode("utf-8", "surrogateescape"))
