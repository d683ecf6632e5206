"""Which voices are to be trained: a folder with a folder for each, or a manifest (CSV, JSON, TOML, YAML), a voice a
row."""

from __future__ import annotations

import csv
import io
import json
import os
import typing
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..first_bytes import what_starts_so
from ..inference.audio import NOT_AUDIO
from ..messages import UserError
from ..names import plain_name, shown
from ..paths import clean_path
from ..places import near_words
from ..training.config import TrainConfig
from ..training.in_programs import is_experiment
from ..training.settings_file import own_names, read_config_file, unknown_key

MOST_BYTES, MOST_VOICES = 2**26, 100_000
TABLES = (".csv", ".tsv", ".txt")
OWN = ("name", "recordings")
"""Columns of a manifest beside TrainConfig's settings."""
FIXED = ("data_dir", "output_dir")
"""Settings that the manifest says in other words, or that are the whole run's."""
ALIASES = {"data_dir": "recordings", "voice": "name", "speaker_name": "name"}


@dataclass(frozen=True)
class Voice:
    """One voice to be trained.

    Attributes:
        recordings: its folder of recordings, its one recording, or its experiment folder; absolute.
        settings: of `TrainConfig`, where they differ from the whole run's.
        experiment: whether `recordings` is an experiment folder.
    """

    name: str
    recordings: str
    settings: Dict[str, Any] = field(default_factory=dict)
    experiment: bool = False


class Refused(NamedTuple):
    """A voice that cannot be trained as it is given, and why."""

    name: str
    problem: UserError


Found = Tuple[List[Voice], List[Refused]]


def read_voices(place: Path) -> Found:
    """The voices of a folder or a manifest, and those that cannot be trained as they are given.

    Raises:
        UserError: `place` is missing, is no manifest, has an unknown column, or names no voice.
    """
    if place.is_dir():
        rows = _of_folder(place)
        base = place
    elif place.is_file():
        rows, base = _of_file(place), place.parent
    else:
        near = near_words(place)
        raise UserError("there is no {place}{near}: give a folder with a folder of recordings for each voice, or a "
                        "manifest (.csv, .json)", place=place, near=near)
    if not rows:
        raise UserError("{place} names no voice: give a folder with a folder of recordings for each voice, or a "
                        "manifest with a row for each", place=place)
    if len(rows) > MOST_VOICES:
        raise UserError("{place} names more than {most:,} voices: divide it", place=place, most=MOST_VOICES)
    voices: List[Voice] = []
    refused: List[Refused] = []
    for number, row in enumerate(rows, 1):
        try:
            voices.append(_voice(row, base))
        except UserError as problem:
            refused.append(Refused(_called(row, number), problem))
    return _without_twins(voices, refused)


def check_settings(values: Dict[str, Any]) -> Dict[str, Any]:
    """Settings of TrainConfig by their names, with aliases under their own names.

    Raises:
        UserError: an unknown one, one that is the whole run's, or a value that cannot be.
    """
    values = own_names(values)
    known = [name for name in TrainConfig.__dataclass_fields__ if name not in FIXED]
    for key in values:
        if key not in known:
            raise unknown_key(key, [*known, *OWN])
    TrainConfig.from_dict(values)
    return values


def check_recordings(voice: Voice) -> None:
    """
    Raises:
        UserError: the folder is gone, or holds no file that could be a recording.
    """
    folder = Path(voice.recordings)
    if not folder.exists():
        near = near_words(folder)
        raise UserError("there is no folder {place}{near}: give the folder that holds the recordings of the voice",
                        place=folder, near=near)
    if not voice.experiment and not _has_recordings(folder):
        raise UserError("{place} holds no audio files: put recordings (wav, flac, mp3, …) there", place=folder)


def _has_recordings(folder: Path) -> bool:
    if folder.is_file():
        return True
    for _, folders, names in os.walk(str(folder)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(not name.startswith(".") and Path(name).suffix.lower() not in NOT_AUDIO for name in names):
            return True
    return False


def _of_folder(place: Path) -> List[Dict[str, Any]]:
    inside = sorted(path for path in place.iterdir() if not path.name.startswith("."))
    folders = [path for path in inside if path.is_dir() and path.name != "mute"]
    if is_experiment(place):
        raise UserError("{place} is the experiment folder of one voice: give the folder above it, or use train_lora",
                        place=place)
    if not folders and inside:
        raise UserError("{place} holds files and no folders: make a folder in it for each voice, or use train_lora for "
                        "one voice", place=place)
    return [{"name": path.name, "recordings": str(path)} for path in folders]


def _of_file(place: Path) -> List[Dict[str, Any]]:
    if place.suffix.lower() in TABLES:
        return _of_table(place)
    with open(str(place), "rb") as stream:
        start = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    found = what_starts_so(start) if start[:1] not in (b"", b"{", b"[") else None
    if found is not None:
        raise UserError("{file} is no manifest ({reason}): give a folder with a folder of recordings for each voice, "
                        "or a manifest (.csv, .json)", file=place, reason=found.words())
    if place.stat().st_size > MOST_BYTES:
        raise UserError("{file} is larger than {most_bytes:,} bytes: divide it", file=place, most_bytes=MOST_BYTES)
    if place.suffix.lower() in (".toml", ".yaml", ".yml"):
        contents: Any = read_config_file(place)
    else:
        try:
            contents = json.loads(place.read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError("{file} is not {name}: {why}", file=place, name="JSON", why=why) from None
    if isinstance(contents, dict):
        contents = contents.get("voices", contents)
    if isinstance(contents, dict):
        contents = [{"name": name, **row} if isinstance(row, dict) else {"name": name, "recordings": row}
                    for name, row in contents.items()]
    if not isinstance(contents, list) or not all(isinstance(row, dict) for row in contents):
        raise UserError('{file} is no manifest: it must hold a list of voices, such as [{{"name": "anna", '
                        '"recordings": "recordings/anna"}}]', file=place)
    return contents


def _of_table(place: Path) -> List[Dict[str, Any]]:
    """A CSV file's rows: separated by commas, semicolons or tabs, whichever its first line has most of."""
    if place.stat().st_size > MOST_BYTES:
        raise UserError("{file} is larger than {most_bytes:,} bytes: divide it", file=place, most_bytes=MOST_BYTES)
    try:
        text = place.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("{file} is no UTF-8 text: save it as CSV UTF-8", file=place) from None
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        lines = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError("{file} is not {name}: {why}", file=place, name="CSV", why=str(error)[:300]) from None
    if not lines:
        return []
    header = [ALIASES.get(cell.strip(), cell.strip()) for cell in lines[0]]
    known = [*OWN, *(name for name in TrainConfig.__dataclass_fields__ if name not in FIXED)]
    own = list(own_names(dict.fromkeys(header)))  # a column that is there twice is refused below
    for name in own:
        if name not in known:
            raise UserError("{file}, its first line: {problem}", file=place, problem=unknown_key(name, known))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError("{file} has two columns {name}: leave one of them out", file=place, name=shown(twice[0]))
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        if len(cells) > len(header):
            raise UserError("{file}, row {number}: it has {cells} cells, the first line {columns}: put what holds a "
                            "comma into quotes", file=place, number=number, cells=len(cells), columns=len(header))
        filled = {name: cell.strip() for name, cell in zip(header, cells) if cell.strip()}
        rows.append({name: cell if name in OWN else of_cell(own_names({name: None}).popitem()[0], cell)
                     for name, cell in filled.items()})
    return rows


def of_cell(key: str, text: str) -> Any:
    """A cell of a table as a setting's value; what it cannot be, `TrainConfig` says."""
    kind = typing.get_type_hints(TrainConfig).get(key, str)
    if kind in (str, Optional[str]):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _voice(row: Dict[str, Any], base: Path) -> Voice:
    """A row as a voice.

    Raises:
        UserError: it cannot be trained as it is given.
    """
    values = {ALIASES.get(key, key): value for key, value in row.items()}
    recordings = values.pop("recordings", None)
    if not isinstance(recordings, str) or not recordings.strip() or "\0" in recordings:
        raise UserError("it has no recordings: name the folder of its recordings (column recordings)")
    folder = Path(clean_path(recordings))
    folder = folder if folder.is_absolute() else base / folder
    name = plain_name(values.pop("name", None) or folder.name)
    voice = Voice(name, os.path.abspath(str(folder)), check_settings(values), folder.is_dir() and is_experiment(folder))
    check_recordings(voice)
    return voice


def _called(row: Dict[str, Any], number: int) -> str:
    """What a refused row is called in the list."""
    name = row.get("name") or Path(str(row.get("recordings") or "")).name
    try:
        return plain_name(name)
    except UserError:
        return f"row {number}"


def _same(name: str) -> str:
    """What two names share that are one name on some file system."""
    return unicodedata.normalize("NFC", name).casefold()


def _without_twins(voices: List[Voice], refused: List[Refused]) -> Found:
    """Nobody can tell which of two voices of one name is meant: both are refused, and the others go on."""
    count: Dict[str, int] = {}
    for name in [*(voice.name for voice in voices), *(one.name for one in refused)]:
        count[_same(name)] = count.get(_same(name), 0) + 1
    by_name: Dict[str, Refused] = {}
    for one in refused:
        by_name.setdefault(_same(one.name), one)
    for voice in voices:
        if count[_same(voice.name)] > 1:
            problem = UserError("{count} voices have the name {name}: give each its own",
                                count=count[_same(voice.name)], name=shown(voice.name))
            by_name[_same(voice.name)] = Refused(voice.name, problem)
    return [voice for voice in voices if count[_same(voice.name)] == 1], list(by_name.values())

