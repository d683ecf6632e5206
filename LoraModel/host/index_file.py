"""A faiss index file, checked byte by byte before faiss sees it: faiss trusts what it reads and may end the process.

Only the kinds that RVC makes are taken (IVF with flat vectors, and flat vectors alone), and the one of
`compact_index` (IVF with values of 8 bits), all by distance (L2), with their vectors numbered from 0. RVC's Pipeline
reads the file by its path itself, so what it cannot use is refused here.

The layout is that of faiss `impl/index_write.cpp`: header (d, ntotal, two spare numbers, trained, metric), for IVF the
number of cells and of those that are searched, the index of the cells' centres, a table of places, and the cells with
codes and numbers.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, Optional, Tuple, Union

import numpy as np

from ..first_bytes import what_starts_so
from ..messages import Text, UserError

__all__ = ["SMALL", "check_file", "dimensions_of"]

_FLAT = (b"IxF2", b"IxFl", b"IxFI")
SMALL = b"IwSq"
_IDS = (b"IxMp", b"IxM2")
_ADVICE = UserError("make it anew by prepare_data.py, or choose the voice's added_….index")
_checked: OrderedDict[Tuple[str, int, int], Tuple[int, int]] = OrderedDict()
"""Files that were found good: path, time and size of the file -> vectors, values in each."""


class _Bad(Exception):
    """What is wrong: a Text."""


def _contradiction() -> _Bad:
    return _Bad(Text("it is damaged: its numbers contradict each other"))


class _Reader:
    """Numbers from a file that never reads more than the file holds."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.left = stream, os.fstat(stream.fileno()).st_size

    def bytes(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise _Bad(Text("it is damaged or cut short"))
        data = self.stream.read(count)
        self.left -= count
        if len(data) != count:
            raise _Bad(Text("it is damaged or cut short"))
        return data

    def number(self, size: int = 8) -> int:
        return int.from_bytes(self.bytes(size), "little", signed=True)

    def array(self, count: int, kind: str) -> np.ndarray:
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)


def check_file(path: Union[str, Path], size: Optional[int] = None) -> Path:
    """Check that `path` is a whole faiss index that RVC can search, by distance, of vectors of `size` values (None:
    any).

    Raises:
        UserError: it is missing, damaged, empty, of another kind or of another feature size.
        OSError: as the file system gives it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("there is no index {path}: check the path, or leave --index out", path=path)
    stat = path.stat()
    key = (str(path.absolute()), stat.st_mtime_ns, stat.st_size)
    if key not in _checked:
        with open(str(path), "rb") as stream:
            try:
                _checked[key] = _check(_Reader(stream))
            except _Bad as error:
                raise UserError("{path} is no faiss index that can be used ({reason}): {advice}", path=path,
                                reason=error.args[0], advice=_ADVICE) from None
        while len(_checked) > 50:
            _checked.popitem(last=False)
    count, dimensions = _checked[key]
    if size not in (None, dimensions):
        raise UserError("index {path} holds {count} vectors of {dimensions} values, the base needs {size}: choose the "
                        "voice's own added_….index", path=path, count=count, dimensions=dimensions, size=size)
    return path


def dimensions_of(path: Union[str, Path]) -> int:
    """How many values a vector of the index has.

    Raises:
        UserError: as `check_file`.
    """
    path = check_file(path)
    with open(str(path), "rb") as stream:
        return int.from_bytes(stream.read(8)[4:], "little")


def _check(reader: _Reader) -> Tuple[int, int]:
    """(vectors, values in each)."""
    kind = reader.bytes(4)
    if kind in _IDS:
        raise _Bad(Text("it gives its vectors ids of its own, which RVC cannot use"))
    if kind not in (b"IwFl", SMALL, *_FLAT):
        if kind[:2] in (b"Ix", b"Iw", b"IH", b"IB", b"Iv"):
            raise _Bad(Text("its kind {value!r} is not one that RVC makes", value=kind.decode("latin-1")))
        found = what_starts_so(kind + reader.bytes(min(4092, reader.left)))
        raise _Bad(found.words() if found is not None else Text("its first bytes are another format's"))
    dimensions, total = _header(reader)
    if not total:
        raise _Bad(Text("it holds no vectors: of RVC's two index files this is the trained_ one, the added_ one is "
                        "meant"))
    if kind in _FLAT:
        _flat(reader, dimensions, total)
    else:
        _cells(reader, dimensions, total, kind == SMALL)
    if reader.left:
        raise _Bad(Text("bytes follow after its end"))
    return total, dimensions


def _header(reader: _Reader) -> Tuple[int, int]:
    dimensions, total = reader.number(4), reader.number()
    reader.bytes(16)
    trained, metric = reader.number(1), reader.number(4)
    if not 0 < dimensions <= 65536 or not 0 <= total <= 2**31 or trained not in (0, 1):
        raise _Bad(Text("it is damaged: its header makes no sense"))
    if metric == 0:
        raise _Bad(Text("it compares by inner product, where RVC weights by distance"))
    if metric != 1:
        raise _Bad(Text("it compares by metric {metric}, where RVC weights by distance", metric=metric))
    if not trained:
        raise _Bad(Text("it is not trained"))
    return dimensions, total


def _flat(reader: _Reader, dimensions: int, total: int) -> None:
    values = reader.number()
    if values != dimensions * total:
        raise _contradiction()
    _finite(reader, values)


def _finite(reader: _Reader, values: int) -> None:
    for start in range(0, values, 1 << 22):
        if not np.isfinite(reader.array(min(1 << 22, values - start), "<f4")).all():
            raise _Bad(Text("it is damaged: it holds values that are not numbers"))


def _eight_bits(reader: _Reader, dimensions: int) -> None:
    """faiss's scalar quantizer, of 8 bits a value over a range of its own for each: QT_8bit is 0."""
    kind, _, _ = reader.number(4), reader.number(4), reader.bytes(4)
    of, size, count = reader.number(), reader.number(), reader.number()
    if (kind, of, size, count) != (0, dimensions, dimensions, 2 * dimensions):
        raise _Bad(Text("its values are stored in a form that is not supported"))
    _finite(reader, count)
    if reader.number() != dimensions or reader.number(1) not in (0, 1):
        raise _contradiction()


def _cells(reader: _Reader, dimensions: int, total: int, small: bool = False) -> None:
    """small: whether its values have 8 bits."""
    cells, searched = reader.number(), reader.number()
    if not 0 < cells <= 2**24 or searched < 0:
        raise _contradiction()
    if reader.bytes(4) not in _FLAT:
        raise _Bad(Text("its centres are of a kind that RVC does not make"))
    of, centres = _header(reader)
    if (of, centres) != (dimensions, cells):
        raise _contradiction()
    _flat(reader, dimensions, cells)
    if reader.number(1) != 0 or reader.number() != 0:
        raise _Bad(Text("it has a table of places, which RVC does not make"))
    if small:
        _eight_bits(reader, dimensions)
    if reader.bytes(4) != b"ilar":
        raise _Bad(Text("its cells lie elsewhere or are missing"))
    if (reader.number(), reader.number()) != (cells, dimensions if small else 4 * dimensions):
        raise _contradiction()
    _numbers(reader, cells, _sizes(reader, cells), dimensions, total, small)


def _sizes(reader: _Reader, cells: int) -> np.ndarray:
    """How many vectors each cell holds: (cells,)."""
    form, count = reader.bytes(4), reader.number()
    sizes = np.zeros(cells, np.int64)
    if form == b"full" and count == cells:
        sizes[:] = reader.array(count, "<i8")
    elif form == b"sprs" and 0 <= count <= 2 * cells and count % 2 == 0:
        pairs = reader.array(count, "<i8").reshape(-1, 2)
        if ((pairs[:, 0] < 0) | (pairs[:, 0] >= cells)).any():
            raise _contradiction()
        sizes[pairs[:, 0]] = pairs[:, 1]
    else:
        raise _contradiction()
    return sizes


def _numbers(reader: _Reader, cells: int, sizes: np.ndarray, dimensions: int, total: int,
             small: bool) -> None:
    """Read the cells: each vector's values, and its number, which must be one of 0 to total - 1 and nobody else's."""
    if (sizes < 0).any() or (sizes > total).any() or int(sizes.sum()) != total:
        raise _Bad(Text("it holds another number of vectors than it says, as after removing some"))
    seen = np.zeros(total, bool)
    for count in sizes[sizes > 0].tolist():
        if small:
            reader.bytes(count * dimensions)
        else:
            _finite(reader, count * dimensions)
        numbers = reader.array(count, "<i8")
        if ((numbers < 0) | (numbers >= total)).any():
            raise _Bad(Text("it gives its vectors ids of its own, which RVC cannot use"))
        seen[numbers] = True
    if not seen.all():
        raise _Bad(Text("two of its vectors have the same id"))
