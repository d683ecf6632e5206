"""The bytes of an adapter file: read whole, with a bound, before anything is made of them.

A safetensors file is 8 bytes of length, a JSON header of that length, then the tensors. It is read into memory once: a
file that is overwritten or cut short while its adapter is in use changes nothing and crashes nothing, as it would if
it were mapped. Header and sizes are looked at before memory is asked for: a file of a few kilobytes can claim
gigabytes, and a sparse one can have them.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, NamedTuple, Optional, Tuple

import safetensors
import safetensors.torch
from torch import Tensor

from ..messages import Text
from .adapter_metadata import damaged, one_line
from .foreign_file import what_it_is, what_tensors_are

MAX_FILE = 128 * 2**20
"""Bytes of an adapter. The largest preset takes 1 MB; rank 64 on every layer of RVC's largest network takes 20."""
MAX_HEADER = 2 * 2**20
"""Bytes of its header. 300 tensors take 40 KB."""
MAX_TENSORS = 10_000
_DTYPES = ("F16", "BF16", "F32", "F64", "I8")
"""Types that an adapter's tensors may have; I8 only with a scale."""

Stamp = Tuple[int, ...]


class Header(NamedTuple):
    """What stands before the tensors.

    Attributes:
        metadata: as it stands in the file, unchecked.
        size: bytes up to the first tensor. total: bytes of the whole file.
    """

    metadata: Dict[str, str]
    size: int
    total: int


def stamp_of(path: Path) -> Optional[Stamp]:
    """What changes when a file is written or replaced; None where there is no file."""
    try:
        found = os.stat(str(path))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


_CLAIM = re.compile(rb'"format"\s*:\s*"rvc-lora"')


def claims_to_be_adapter(path: Path) -> bool:
    """Whether the header of a file holds the name of the format: enough for a list of a thousand files, of which the
    one that is chosen is read and checked whole."""
    try:
        with open(str(path), "rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            return 2 <= length <= MAX_HEADER and _CLAIM.search(stream.read(length)) is not None
    except OSError:
        return False


def read_header(path: Path, stream: BinaryIO) -> Header:
    """Read and check the header, without the tensors.

    Raises:
        UserError: no safetensors file, or one that no adapter can be; the message says what it is instead, where that
            is known.
    """
    total = os.fstat(stream.fileno()).st_size
    start = stream.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= total - 8 or stream.read(1) != b"{":
        stream.seek(0)
        raise damaged(path, what_it_is(stream.read(4096)) or Text("it is no safetensors file, or half of one"))
    if length > MAX_HEADER:
        raise damaged(path, Text("its header has {length} bytes, an adapter's at most {max_header}", length=length,
                                 max_header=MAX_HEADER))
    try:
        entries = json.loads((b"{" + stream.read(length - 1)).decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise damaged(path, Text("its header is not JSON")) from None
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, Text("its metadata is not text"))
    foreign = what_tensors_are(entries, metadata)
    if foreign is not None:
        raise damaged(path, foreign)
    _check_entries(path, entries, total - 8 - length)
    if total > MAX_FILE:
        raise damaged(path, Text("it has {total} bytes, an adapter at most {max_file}", total=total, max_file=MAX_FILE))
    return Header(metadata, 8 + length, total)


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _check_entries(path: Path, entries: Dict[str, Any], room: int) -> None:
    """Names, types and places of the tensors; safetensors itself checks that the places do not overlap."""
    if len(entries) > MAX_TENSORS:
        raise damaged(path, Text("it has {count} tensors, an adapter at most {max_tensors}", count=len(entries),
                                 max_tensors=MAX_TENSORS))
    end = 0
    for name, entry in entries.items():
        shown = one_line(name)
        if len(name) > 200 or shown != name:
            raise damaged(path, Text("a tensor has the name {shown!r}", shown=shown))
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise damaged(path, Text("the header entry of tensor {name} is invalid", name=name))
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _whole_numbers(shape, 8) or not _whole_numbers(offsets, 2) or len(offsets) != 2:
            raise damaged(path, Text("the header entry of tensor {name} is invalid", name=name))
        if entry["dtype"] not in _DTYPES:
            kind = one_line(entry["dtype"], 20)
            raise damaged(path, Text("tensor {name} is not finite numbers of 16 to 64 bits but {kind}", name=name,
                                     kind=kind))
        end = max(end, offsets[1])
    if end != room:
        raise damaged(path, Text("its tensors take {end} bytes, {room} are there: it is cut short or longer than it "
                                 "says", end=end, room=room))


def _whole_numbers(values: Any, most: int) -> bool:
    return isinstance(values, list) and len(values) <= most and all(type(value) is int and 0 <= value < 2**40
                                                                    for value in values)


def read_tensors(path: Path, stream: BinaryIO, header: Header) -> Dict[str, Tensor]:
    """All tensors, of their stored types, in memory of their own; in the order of their names, as safetensors gives
    them in another one in each process.

    Raises:
        UserError: the file does not hold what its header says.
    """
    stream.seek(0)
    data = stream.read(header.total + 1)
    if len(data) != header.total:
        raise damaged(path, Text("it changed while it was read"))
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise damaged(path, one_line(error)) from None
