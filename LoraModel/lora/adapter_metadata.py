"""The metadata of an adapter file, checked: every field typed, bounded and printable.

This is the one place that reads it, because an adapter may be a stranger's. A field that the program works with (which
base, which rate, which speaker) must be what it should be, or the file is refused. A field that only describes is left
out where it is nonsense, and cut where it is too long. Characters that move a terminal's cursor, begin a second line
or turn text round become blanks.
"""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Union

from ..messages import Text, UserError, listing
from .voice_pitch import read_pitch

FORMAT, FORMAT_VERSION = "rvc-lora", "1"
REQUIRED = ("name", "base_hash", "base_name", "rvc_version", "sample_rate", "f0", "lora_config", "speaker")
FIELDS = REQUIRED + (
    "preset", "steps", "epochs", "data_seconds", "heldout", "pitch", "created", "author", "license", "notes",
    "tags", "language", "consent", "consent_note", "preview", "parts",
)
"""Metadata beside `format`, `format_version` and `checksum`; those of REQUIRED must be there, the rest may be left
out."""
MAX_CONFIG = 20_000
"""Characters of `lora_config`: ten targets with rank and alpha take less than 1,000."""

CONSENT = ("yes", "no", "own voice", "synthetic")
"""What `consent` can say of the speaker: agreed, did not, is the one who made the adapter, is nobody."""
MOST_TAGS, LONGEST_TAG = 20, 40
MOST_PARTS = 16
"""Adapters that a blend says it is made of."""
MAX_PREVIEW = 40_000
"""Bytes of the sound in `preview`."""
PREVIEW_KINDS = {b"OggS": "audio/ogg", b"fLaC": "audio/flac"}
"""How the sound in `preview` may begin (Ogg, with Opus or Vorbis in it; FLAC), and what a page calls it."""

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+")


def one_line(value: Any, limit: int = 200) -> str:
    """`value` on one line of at most `limit` characters, fit for a message, a terminal and a page."""
    text = _UNPRINTABLE.sub(" ", str(value)[: 2 * limit]).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def damaged(path: Path, why: Union[Text, UserError, str]) -> UserError:
    """What to say of a file that is no adapter. why: a str where another library says it, in English alone."""
    shown = one_line(path, 4000)
    return UserError("{shown} is not a usable RVC-LoRA adapter ({why}): choose another file or make it again",
                     shown=shown, why=why)


class _Wrong(ValueError):
    """A value that is not one of its field; takes: what the field takes."""

    def __init__(self, takes: Text):
        super().__init__(takes.english)
        self.takes = takes


def _text(limit: int) -> Callable[[str], str]:
    return lambda value: one_line(value, limit)


def _whole(low: int, high: int) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch("-?[0-9]{1,15}", value) or not low <= int(value) <= high:
            raise _Wrong(Text("a whole number from {low} to {high}", low=low, high=high))
        return value

    return read


def _number(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,20})?", value):
        raise _Wrong(Text("a number of at least 0"))
    return value


def _matching(pattern: str, takes: Text) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise _Wrong(takes)
        return value

    return read


def _config(value: str) -> str:
    if len(value) > MAX_CONFIG:
        raise _Wrong(Text("JSON of at most {max_config} characters", max_config=MAX_CONFIG))
    return value  # `LoRAConfig.from_json` checks what it says


def losses(value: str) -> Dict[str, float]:
    """The numbers of the field `heldout`, such as {"base": 0.861, "adapter": 0.524}; {} where it has none.

    Raises:
        ValueError: it is no JSON object of finite numbers, texts and nulls.
    """
    wrong = _Wrong(Text("a JSON object of losses"))
    if len(value) > 2000:
        raise wrong
    try:
        read = json.loads(value or "{}")
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(read, dict) or not all(item is None or type(item) in (int, float, str) for item in read.values()):
        raise wrong
    found = {key: item for key, item in read.items() if type(item) in (int, float)}
    if not all(abs(item) < 1e9 for item in found.values()) or not all(math.isfinite(item) for item in found.values()):
        raise wrong
    return {one_line(key, 40): float(item) for key, item in found.items()}


def _heldout(value: str) -> str:
    losses(value)
    return one_line(value, 2000)


def _pitch(value: str) -> str:
    try:
        pitch = read_pitch(value)
    except ValueError:
        raise _Wrong(Text("a voice's pitch in Hz")) from None
    return "" if pitch is None else pitch.to_text()


def _tags(value: str) -> str:
    found = [one_line(tag, LONGEST_TAG) for tag in value[: 4 * MOST_TAGS * LONGEST_TAG].split(",")]
    return ", ".join(list(dict.fromkeys(tag for tag in found if tag))[:MOST_TAGS])


class Part(NamedTuple):
    """An adapter that a blend was made of. file: its name among the others; checksum: of the file."""

    file: str
    checksum: str
    strength: float


def read_parts(value: str) -> List[Part]:
    """The field `parts`, JSON: [["a.safetensors", "…", 0.7], …]; [] where it is "".

    Raises:
        ValueError: it is something else.
    """
    wrong = _Wrong(Text("a JSON list of a blend's parts"))
    if len(value) > 20_000:
        raise wrong
    try:
        read = json.loads(value or "[]")
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(read, list) or len(read) > MOST_PARTS:
        raise wrong
    found = []
    for part in read:
        if not isinstance(part, list) or [type(item) for item in part] not in ([str, str, float], [str, str, int]):
            raise wrong
        if not re.fullmatch("[0-9a-f]{64}", part[1]) or not abs(part[2]) <= 100 or len(part[0]) > 500:
            raise wrong
        found.append(Part(one_line(part[0], 500), part[1], float(part[2])))
    return found


def parts_text(parts: Sequence[Part]) -> str:
    """The field `parts` for these."""
    return json.dumps([list(part) for part in parts], ensure_ascii=False)


def _parts(value: str) -> str:
    return parts_text(read_parts(value)) if value else ""


def _preview(value: str) -> str:
    preview_sound(value)
    return value


def preview_sound(value: str) -> bytes:
    """The sound in the field `preview`: a whole Ogg or FLAC file; b"" where there is none.

    Raises:
        ValueError: it is no base64, too long, or begins as another kind of file.
    """
    wrong = _Wrong(Text("an Ogg or FLAC file of at most {max_preview} bytes in base64", max_preview=MAX_PREVIEW))
    if len(value) > 4 * (MAX_PREVIEW // 3 + 1):
        raise wrong
    try:
        sound = base64.b64decode(value, validate=True)
    except ValueError:
        raise wrong from None
    if sound and (len(sound) > MAX_PREVIEW or sound[:4] not in PREVIEW_KINDS):
        raise wrong
    return sound


_SHA256 = _matching("[0-9a-f]{64}", Text("a SHA-256, 64 digits"))
_READERS: Dict[str, Callable[[str], str]] = {
    "format": _text(40), "format_version": _text(40), "checksum": _SHA256,
    "name": _text(200), "base_hash": _SHA256, "base_name": _text(200),
    "rvc_version": _matching("v[12]", Text("v1 or v2")),
    "sample_rate": _whole(1, 1_000_000), "f0": _matching("[01]", Text("0 or 1")), "lora_config": _config,
    "speaker": _whole(-1_000_000, 1_000_000),  # whether the base has that row, `Adapter.check` says
    "preset": _text(200), "steps": _whole(0, 10**12), "epochs": _number, "data_seconds": _number, "heldout": _heldout,
    "pitch": _pitch,
    "created": _text(100), "author": _text(1000), "license": _text(1000), "notes": _text(10_000),
    "tags": _tags, "consent_note": _text(1000), "preview": _preview, "parts": _parts,
    "language": _matching("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}", Text("a language's code such as en or zh-CN")),
    "consent": _matching("|".join(CONSENT), Text("one of {consent}", consent=listing(CONSENT))),
}


def check_metadata(path: Path, raw: Mapping[str, str]) -> Dict[str, str]:
    """The metadata of the adapter file `path`, checked field by field; unknown fields are left out.

    Raises:
        UserError: it is no adapter's, one of a newer format, or a field that the program works with is not what it
            should be.
    """
    if raw.get("format") != FORMAT:
        raise damaged(path, Text("its format is {named!r}", named=one_line(raw["format"], 40)) if "format" in raw
                      else Text("its format is not named"))
    if raw.get("format_version") != FORMAT_VERSION:
        shown, version = one_line(path, 4000), one_line(raw.get("format_version", ""), 40)
        raise UserError("{shown} has format version {version!r}, this program reads {format_version!r}: update "
                        "RVC-LoRA", shown=shown, version=version, format_version=FORMAT_VERSION)
    fields = {}
    for key, read in _READERS.items():
        needed = key in REQUIRED or key == "checksum"
        if needed and key not in raw:
            raise damaged(path, Text("metadata lacks {key}", key=key))
        if key not in raw:
            continue
        try:
            fields[key] = read(raw[key])
        except _Wrong as wrong:
            if needed:
                value = one_line(raw[key], 40)
                raise damaged(path, Text("its {key} is {value!r}: not {wrong}", key=key, value=value,
                                         wrong=wrong.takes)) from None
    return fields


def checked_field(key: str, value: str) -> str:
    """A value that a user gives for a field that only describes, as a file holds it.

    Raises:
        UserError: the field cannot hold it; the message says what it takes.
    """
    try:
        return _READERS[key](value) if value else ""
    except _Wrong as wrong:
        raise UserError("{key}={value!r} must be {wanted}", key=key, value=one_line(value, 80),
                        wanted=wrong.takes) from None
