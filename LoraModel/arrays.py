"""Arrays from files that may come from a stranger: numbers only, and no more of them than the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Optional, Tuple, Union

import numpy as np

from .messages import UserError
from .names import shown

MOST_BYTES = 2**30
"""Of one array: an hour of features is 550 MB."""
_MOST_HEADER = 10_000  # bytes; NumPy writes some hundred


def read_array(path: Union[str, Path], dimensions: int) -> np.ndarray:
    """Read a `.npy` of numbers. Its header is checked before anything of the size that it claims is taken.

    Raises:
        UserError: no array, of objects or texts, larger than it may be, of other dimensions, empty, or not finite.
        OSError: as the file system gives it.
    """
    path = Path(path)
    with open(str(path), "rb") as stream:
        try:
            _checked_shape(stream)
            stream.seek(0)
            values = np.lib.format.read_array(stream, allow_pickle=False)
        except OSError:
            raise
        # whatever a damaged header makes of NumPy's parser: TokenError, SyntaxError, KeyError, ...
        except Exception as error:
            reason = shown((str(error).splitlines() or [""])[0] or type(error).__name__, 120)[1:-1]
            raise UserError("{path} cannot be read as an array ({reason}): extract it again", path=path,
                            reason=reason) from None
    if values.ndim != dimensions or not values.shape[0]:
        raise UserError("{path} has shape {shape}: extract it again", path=path, shape=values.shape)
    if not np.isfinite(values).all():
        raise UserError("{path} holds NaN or infinite values: delete it and extract again", path=path)
    return values


def array_shape(path: Union[str, Path]) -> Optional[Tuple[int, ...]]:
    """The shape of a `.npy` of numbers that is whole, by its header and by how much the file holds; None for what
    is no such array.

    Raises:
        OSError: as the file system gives it.
    """
    with open(str(path), "rb") as stream:
        try:
            return _checked_shape(stream)
        except OSError:
            raise
        except Exception:  # whatever a damaged header makes of NumPy's parser
            return None


def _checked_shape(stream: BinaryIO) -> Tuple[int, ...]:
    """Raises: ValueError, or whatever else NumPy's parser makes of the header: no array of numbers, or not a whole
    one."""
    version = np.lib.format.read_magic(stream)
    length = 2 if version == (1, 0) else 4
    start = stream.tell()
    if version not in ((1, 0), (2, 0)) or int.from_bytes(stream.read(length), "little") > _MOST_HEADER:
        raise ValueError("its header is none that NumPy writes")
    stream.seek(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    start = stream.tell()
    held = stream.seek(0, 2) - start
    if dtype.kind not in "iuf" or dtype.hasobject:
        raise ValueError(f"it holds {dtype}, not numbers")
    count = 1
    for size in shape:
        count *= size
    if count * dtype.itemsize > MOST_BYTES:
        raise ValueError(f"it is of {count * dtype.itemsize:,} bytes")
    if count * dtype.itemsize > held:
        raise ValueError(f"it is cut short: {held:,} bytes of {count * dtype.itemsize:,}")
    return shape
