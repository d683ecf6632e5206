"""Open a model's file of any of three forms without reading its tensors: PyTorch's zip, its old form, safetensors.

Sizes are looked at before anything is read: of the zip's list of files, of the description, of all tensors together.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Tuple, Union

import torch
from torch import Tensor

from ..messages import Text
from .pickle_file import MAX_PICKLE_BYTES, read_pickle
from .tensor_refs import Malformed, StorageRef, TensorRef, bad, item_size

MAX_TENSOR_BYTES = 4 * 2**30
"""Of all tensors that are read from one file, and of what they share in it as often as it is shared. A training
checkpoint of RVC's with its optimizer has 0.9 GB."""
_MAX_DIRECTORY_BYTES = 8 * 2**20
_MAX_HEADER_BYTES = 16 * 2**20
_MAGIC = 0x1950A86A20F9469CFC6C
_SAFETENSORS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
                "I64": torch.int64, "I32": torch.int32,
                "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}


class TensorFile:
    """An open model file. Use it in a `with` block.

    Attributes:
        form: "zip", "legacy" or "safetensors".
        contents: what the file holds, with a `TensorRef` in the place of each tensor. Of a safetensors file: "model"
            (the tensors by name) beside its metadata.
    """

    def __init__(self, form: str, stream: BinaryIO, contents: Any, read: Callable[[StorageRef], bytes]):
        self.form, self.contents = form, contents
        self._stream, self._read = stream, read
        self._storages: Dict[str, Tensor] = {}
        self._bytes = self._shared = 0

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stream.close()

    def tensor(self, ref: TensorRef) -> Tensor:
        """Read a tensor, on the CPU. Tensors that share their storage in the file share it here.

        Raises:
            Malformed: the file is cut short or damaged.
        """
        storage = self._storages.get(ref.storage.key)
        self._bytes += 0 if storage is not None else ref.storage.nbytes
        self._shared += ref.numel() * item_size(ref.dtype)
        if max(self._bytes, self._shared) > MAX_TENSOR_BYTES:
            raise Malformed(Text("its tensors have more than {max_tensor_bytes} GB",
                                 max_tensor_bytes=MAX_TENSOR_BYTES >> 30))
        if storage is None:
            data = self._read(ref.storage)
            if len(data) < ref.storage.nbytes:
                raise Malformed(Text("it is cut short"))
            storage = (torch.frombuffer(bytearray(data), dtype=torch.uint8) if data
                       else torch.empty(0, dtype=torch.uint8))
            self._storages[ref.storage.key] = storage
        size = item_size(ref.dtype)
        flat = storage[: len(storage) // size * size].view(ref.dtype)
        try:
            return torch.as_strided(flat, tuple(ref.shape), ref.stride, ref.offset)
        except (RuntimeError, OverflowError, TypeError) as error:  # strides or a storage that no tensor can have
            raise bad() from error

    def plain(self, value: Any) -> Any:
        """`value`, a part of `contents`, with all its tensors read."""
        if isinstance(value, TensorRef):
            return self.tensor(value)
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.plain(item) for item in value)
        return value


def open_tensor_file(path: Union[str, Path]) -> TensorFile:
    """Open a model's file and read its description.

    Raises:
        Malformed: no file of one of these forms, or damaged. UnsafeName: it holds more than tensors and plain values.
        OSError: it cannot be read.
    """
    stream = open(str(path), "rb")
    try:
        start = stream.read(9)
        if start.startswith(b"PK\x03\x04"):
            return _open_zip(stream)
        if start[8:] == b"{":
            return _open_safetensors(stream)
        return _open_legacy(stream)
    except (zipfile.BadZipFile, struct.error, EOFError) as error:
        stream.close()
        raise Malformed(Text("it is cut short or damaged")) from error
    except BaseException:
        stream.close()
        raise


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, io.SEEK_END)


# PyTorch's zip


def open_directory(stream: BinaryIO) -> zipfile.ZipFile:
    """A zip's list of files, whose own size is looked at first.

    Raises:
        zipfile.BadZipFile: it has none, as half a download has not. Malformed: it is too long.
    """
    size = _size(stream)
    stream.seek(max(0, size - 66_000))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("no end record")
    length = struct.unpack("<I", tail[at + 12:at + 16])[0]
    long_at = tail.rfind(b"PK\x06\x06", 0, at)
    if length == 0xFFFFFFFF and 0 <= long_at <= len(tail) - 48:
        length = struct.unpack("<Q", tail[long_at + 40:long_at + 48])[0]
    if length > _MAX_DIRECTORY_BYTES:
        raise Malformed(Text("it is a zip of too many files"))
    try:
        return zipfile.ZipFile(stream)
    except (ValueError, NotImplementedError, UnicodeDecodeError, OSError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """An entry's bytes, checked by its checksum."""
    if entry.file_size > limit:
        raise Malformed(Text("its part {value} is too large", value=entry.filename.rpartition("/")[2][:40]))
    try:
        with archive.open(entry) as part:
            return part.read(limit + 1)
    except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, RuntimeError (encrypted), ...
        raise Malformed(Text("it is damaged: its checksum does not fit")) from error


def _open_zip(stream: BinaryIO) -> TensorFile:
    archive = open_directory(stream)
    entries = {entry.filename: entry for entry in archive.infolist()}
    names = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if not names:
        raise Malformed(Text("it is a zip that PyTorch did not write"))
    name = min(names, key=len)
    root = name[: -len("data.pkl")]
    if root + "byteorder" in entries and _read_entry(archive, entries[root + "byteorder"], 100).strip() == b"big":
        raise Malformed(Text("it was written on a big-endian machine"))
    contents = read_pickle(io.BytesIO(_read_entry(archive, entries[name], MAX_PICKLE_BYTES)))

    def read(storage: StorageRef) -> bytes:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.file_size < storage.nbytes:
            raise Malformed(Text("it is cut short"))
        return _read_entry(archive, entry, storage.nbytes + 64)

    for storage in _storages(contents):
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.file_size < storage.nbytes:
            raise Malformed(Text("it is cut short"))
    return TensorFile("zip", stream, contents, read)


def _storages(contents: Any) -> List[StorageRef]:
    """Every storage that `contents` names, once."""
    found: Dict[StorageRef, None] = {}
    waiting = [contents]
    while waiting:
        value = waiting.pop()
        if isinstance(value, TensorRef):
            found[value.storage] = None
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif type(value) in (list, tuple):
            waiting.extend(value)
    return list(found)


# PyTorch's form before 1.6: pickles one after another, then the values


def _open_legacy(stream: BinaryIO) -> TensorFile:
    size = _size(stream)
    stream.seek(0)
    head = io.BytesIO(stream.read(MAX_PICKLE_BYTES))
    if read_pickle(head) != _MAGIC:
        raise Malformed(Text("it is a pickle that PyTorch did not write"))
    read_pickle(head)  # the version
    system = read_pickle(head)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Malformed(Text("it was written on a big-endian machine"))
    contents, keys = read_pickle(head), read_pickle(head)
    known = {storage.key: storage for storage in _storages(contents)}
    places: Dict[str, Tuple[int, int]] = {}
    at = head.tell()
    for key in keys if isinstance(keys, list) else ():
        storage = known.get(str(key))
        if storage is None:  # of a tensor that the result does not hold: its length cannot be known
            break
        places[storage.key] = (at + 8, storage.nbytes)
        at += 8 + storage.nbytes
    if at > size or set(known) - set(places):
        raise Malformed(Text("it is cut short"))

    def read(storage: StorageRef) -> bytes:
        start, length = places[storage.key]
        stream.seek(start)
        return stream.read(length)

    return TensorFile("legacy", stream, contents, read)


# safetensors


def _open_safetensors(stream: BinaryIO) -> TensorFile:
    size = _size(stream)
    stream.seek(0)
    length = struct.unpack("<Q", stream.read(8))[0]
    if length > min(size - 8, _MAX_HEADER_BYTES):
        raise Malformed(Text("it is cut short or damaged"))
    try:
        header = json.loads(stream.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Malformed(Text("its header is damaged")) from error
    tensors: Dict[str, TensorRef] = {}
    metadata = header.pop("__metadata__", {})
    for name, item in header.items():
        tensors[name] = _safetensors_ref(name, item, size - 8 - length)
    contents = {"model": tensors, "metadata": metadata if isinstance(metadata, dict) else {}}

    def read(storage: StorageRef) -> bytes:
        start = int(storage.key.partition(":")[0])
        stream.seek(8 + length + start)
        return stream.read(storage.nbytes)

    return TensorFile("safetensors", stream, contents, read)


def _safetensors_ref(name: str, item: Any, room: int) -> TensorRef:
    """A tensor of a safetensors header: {"dtype": "F16", "shape": [2, 3], "data_offsets": [start, end]}."""
    try:
        dtype, shape, (start, end) = _SAFETENSORS[item["dtype"]], item["shape"], item["data_offsets"]
        if not all(type(n) is int and 0 <= n < 2**48 for n in (*shape, start, end)) or len(shape) > 16:
            raise ValueError(name)
        count = 1
        for n in shape:
            count *= n
        if end > room:
            raise Malformed(Text("it is cut short"))
        if end - start != count * item_size(dtype):
            raise ValueError(name)
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(Text("its header is damaged")) from error
    stride, step = [], 1
    for n in reversed(shape):
        stride.append(step)
        step *= n
    return TensorRef(StorageRef(f"{start}:{end}", dtype, count), 0, torch.Size(shape), tuple(reversed(stride)), dtype)
