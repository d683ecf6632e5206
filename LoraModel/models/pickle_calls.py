"""All that a model file's description may name, with what stands for it here: types of numbers, and a few functions.

Nothing of these names is imported or called: a pickle's `torch._utils._rebuild_tensor_v2` is `_tensor` of this file,
which checks the extent of the tensor and makes a `TensorRef`. A name that is not here ends the reading (`UnsafeName`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch

from ..messages import Text
from .tensor_refs import Malformed, StorageRef, TensorRef, UnsafeName, bad, item_size

__all__ = ["CALLS", "STORAGES", "NumpyArray", "NumpyType", "Symbol", "elements", "known_name", "plain_key"]

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
    "ByteStorage": torch.uint8, "BoolStorage": torch.bool, "UntypedStorage": None,
}
_DTYPES = {
    name: getattr(torch, name) for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
        "uint16", "uint32", "uint64",
        "float8_e4m3fn", "float8_e5m2", "double", "float", "half", "long", "int", "short",
    ) if isinstance(getattr(torch, name, None), torch.dtype)
}
_NUMPY_KIND = re.compile(r"[<>=|]?(?:[iuf][1248]|b1|[US]\d{1,5})$|(?:float|u?int)\d{1,2}$|bool_?$")


@dataclass(frozen=True)
class Symbol:
    """A name that is known and whose meaning depends on where it stands."""

    name: str


class NumpyType:
    def __init__(self, text: Any = "", *_rest: Any):
        if not isinstance(text, str) or not _NUMPY_KIND.match(text):
            raise UnsafeName("numpy.dtype")
        self.value = np.dtype(text)

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.value = self.value.newbyteorder(state[1])


class NumpyArray:
    def __init__(self, *_given: Any):
        self.value: List[Any] = []

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise bad()
        _version, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C")


def _array(data: Any, kind: Any, shape: Any, order: Any = "C") -> List[Any]:
    """An array of NumPy's as plain lists of numbers."""
    if not isinstance(kind, NumpyType) or not isinstance(data, (bytes, bytearray)):
        raise UnsafeName("numpy.ndarray")
    if not _is_shape(shape) or order not in ("C", "F"):
        raise UnsafeName("numpy.ndarray")
    return np.frombuffer(bytes(data), kind.value).reshape(shape, order=order).tolist()


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any = "C", *_rest: Any) -> NumpyArray:
    array = NumpyArray()
    array.value = _array(data, kind, shape, order)
    return array


def _number(kind: Any, data: Any) -> Any:
    if not isinstance(kind, NumpyType) or not isinstance(data, (bytes, bytearray)):
        raise UnsafeName("numpy.scalar")
    return np.frombuffer(bytes(data), kind.value, 1)[0].item()


def _encode(text: Any, coding: Any = "latin1") -> bytes:
    """How pickles of protocol 2 spell bytes."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise UnsafeName("_codecs.encode")
    return text.encode("latin-1")


def _is_shape(value: Any) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) > 16:
        return False
    return all(type(n) is int and 0 <= n < 2**48 for n in value)


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any, dtype: Optional[torch.dtype] = None
) -> TensorRef:
    """Check that a tensor lies within its storage and does not claim more values than are stored."""
    if not isinstance(storage, StorageRef) or type(offset) is not int or offset < 0:
        raise bad()
    dtype = dtype or storage.dtype
    if not _is_shape(shape) or not _is_shape(stride) or len(shape) != len(stride) or not isinstance(dtype, torch.dtype):
        raise bad()
    count, last = 1, 0
    for size, step in zip(shape, stride):
        count, last = count * size, last + (size - 1) * step
    stored = storage.nbytes // item_size(dtype)
    if count and (count > stored or offset + last >= stored):
        raise Malformed(Text("a tensor of shape {shape} claims more values than the file holds", shape=list(shape)))
    return TensorRef(storage, offset, torch.Size(shape), tuple(stride), dtype)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *rest: Any
) -> TensorRef:
    if not isinstance(dtype, torch.dtype):
        raise bad()
    return _tensor(storage, offset, shape, stride, dtype=dtype)


def _parameter(tensor: Any, *_rest: Any) -> TensorRef:
    if not isinstance(tensor, TensorRef):
        raise bad()
    return tensor


def _from_type(function: Any, kind: Any, given: Any, *_state: Any) -> TensorRef:
    """A tensor that carries attributes, which are left out."""
    if kind not in (Symbol("torch.Tensor"), Symbol("torch.nn.parameter.Parameter")) or not isinstance(function, Symbol):
        raise bad()
    if not function.name.startswith("torch._utils._rebuild_tensor") or not isinstance(given, tuple):
        raise UnsafeName(function.name)
    return CALLS[function.name](*given)


def _pairs(given: Any = ()) -> Dict[Any, Any]:
    """An OrderedDict, as a plain dictionary, which keeps the order as well."""
    result: Dict[Any, Any] = {}
    if isinstance(given, dict):
        return dict(given)
    for pair in given if isinstance(given, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise bad()
        result[plain_key(pair[0])] = pair[1]
    return result


def elements(given: Any = ()) -> set:
    if not isinstance(given, (list, tuple, set)):
        raise bad()
    return {plain_key(item) for item in given}


def _size(given: Any = ()) -> torch.Size:
    if not _is_shape(given):
        raise bad()
    return torch.Size(given)


def _text(*given: Any) -> str:
    """A torch.device, as its name."""
    return ":".join(str(part)[:40] for part in given)


CALLS: Dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda *given: {},
    "builtins.set": elements, "builtins.frozenset": elements,
    "builtins.bytearray": lambda *given: _encode(*given) if given else b"",
    "torch._utils._rebuild_tensor": _tensor, "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter, "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size, "torch.device": _text,
    "_codecs.encode": _encode,
    "numpy.dtype": NumpyType,
    "numpy.core.multiarray.scalar": _number, "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray._reconstruct": NumpyArray, "numpy._core.multiarray._reconstruct": NumpyArray,
    "numpy.core.numeric._frombuffer": _frombuffer, "numpy._core.numeric._frombuffer": _frombuffer,
}
_ONLY_NAMED = {
    "torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray",
    "builtins.dict", "builtins.list", "builtins.int", "builtins.float",
}


def known_name(module: Any, name: Any) -> Any:
    """What stands for `module.name` in the result, or None where it is unknown.

    Raises:
        UnsafeName: it is not on the list.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise bad()
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    full = f"{module}.{name}"
    if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
        return Symbol("storage." + name)
    if module == "torch" and name in _DTYPES:
        return _DTYPES[name]
    if full in CALLS or full in _ONLY_NAMED:
        return Symbol(full)
    raise UnsafeName(re.sub(r"[^\w.]", "?", full)[:100])


def plain_key(value: Any) -> Any:
    """A key of a dictionary: plain, and not one of those made to collide."""
    if value is None or isinstance(value, (str, bytes, bool)) or (type(value) is int and abs(value) < 2**31):
        return value
    raise bad()
