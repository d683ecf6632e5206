"""Read the pickle inside a PyTorch file by this program's own hand: nothing that the file names is ever imported or called.

`torch.load(weights_only=True)` would do on the newest PyTorch alone: 1.13's refuses float16 and sets, none reads a number of
NumPy's, and none has a limit, so that a few bytes may ask for minutes and gigabytes. A pickle is a small program for a stack
machine. Here that machine knows the plain types and, of all functions, those of `_CALLS`, which are written in this file;
any other name in the pickle ends the reading. The result is the same on every version of PyTorch:

* plain values (numbers, text, bytes, lists, tuples, dictionaries, sets), NumPy's numbers and arrays as plain numbers and lists;
* a `TensorRef` for every tensor: where its values lie and its shape. None is read here.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

MAX_PICKLE_BYTES = 32 * 2**20
"""Of the description of a model without its tensors' values. A training checkpoint of RVC's has 0.3 MB."""
MAX_OPCODES = 300_000
MAX_DEPTH = 40
_MAX_INT_BYTES = 64
_MAX_LINE = 64 * 1024


class Malformed(Exception):
    """The file is damaged, or no file of PyTorch's. en, zh: why, as a part of a sentence."""

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.en, self.zh = en, zh


class UnsafeName(Exception):
    """The pickle asks for a type or a function that no model needs. kind: its name."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True)
class StorageRef:
    """The values of one or several tensors: `length` of `dtype` (None: bytes) under `key`."""

    key: str
    dtype: Optional[torch.dtype]
    length: int

    @property
    def nbytes(self) -> int:
        return self.length * (item_size(self.dtype) if self.dtype is not None else 1)


@dataclass(frozen=True)
class TensorRef:
    """A tensor whose values are not read yet. offset, stride: in elements."""

    storage: StorageRef
    offset: int
    shape: torch.Size
    stride: Tuple[int, ...]
    dtype: torch.dtype

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return self.shape.numel()


def item_size(dtype: torch.dtype) -> int:
    """Bytes of one value."""
    return torch.empty(0, dtype=dtype).element_size()


_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
    "ByteStorage": torch.uint8, "BoolStorage": torch.bool, "UntypedStorage": None,
}
_DTYPES = {
    name: getattr(torch, name) for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "uint16", "uint32", "uint64",
        "float8_e4m3fn", "float8_e5m2", "double", "float", "half", "long", "int", "short",
    ) if isinstance(getattr(torch, name, None), torch.dtype)
}
_NUMPY_KIND = re.compile(r"[<>=|]?(?:[iuf][1248]|b1|[US]\d{1,5})$|(?:float|u?int)\d{1,2}$|bool_?$")


def _bad(what: str = "its description breaks the rules of the format") -> Malformed:
    return Malformed(what, "文件内容不符合格式" if what.startswith("its description breaks") else what)


@dataclass(frozen=True)
class _Symbol:
    """A name that is known and whose meaning depends on where it stands."""

    name: str


class _NumpyType:
    def __init__(self, text: Any = "", *_rest: Any):
        if not isinstance(text, str) or not _NUMPY_KIND.match(text):
            raise UnsafeName("numpy.dtype")
        self.value = np.dtype(text)

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.value = self.value.newbyteorder(state[1])


class _NumpyArray:
    def __init__(self, *_given: Any):
        self.value: List[Any] = []

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _bad()
        _version, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C")


def _array(data: Any, kind: Any, shape: Any, order: Any = "C") -> List[Any]:
    """An array of NumPy's as plain lists of numbers."""
    if not isinstance(kind, _NumpyType) or not isinstance(data, (bytes, bytearray)) or not _is_shape(shape) or order not in ("C", "F"):
        raise UnsafeName("numpy.ndarray")
    return np.frombuffer(bytes(data), kind.value).reshape(shape, order=order).tolist()


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any = "C", *_rest: Any) -> "_NumpyArray":
    array = _NumpyArray()
    array.value = _array(data, kind, shape, order)
    return array


def _number(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _NumpyType) or not isinstance(data, (bytes, bytearray)):
        raise UnsafeName("numpy.scalar")
    return np.frombuffer(bytes(data), kind.value, 1)[0].item()


def _encode(text: Any, coding: Any = "latin1") -> bytes:
    """How pickles of protocol 2 spell bytes."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise UnsafeName("_codecs.encode")
    return text.encode("latin-1")


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) <= 16 and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any, dtype: Optional[torch.dtype] = None) -> TensorRef:
    """Check that a tensor lies within its storage and does not claim more values than are stored."""
    if not isinstance(storage, StorageRef) or type(offset) is not int or offset < 0:
        raise _bad()
    dtype = dtype or storage.dtype
    if not _is_shape(shape) or not _is_shape(stride) or len(shape) != len(stride) or not isinstance(dtype, torch.dtype):
        raise _bad()
    count, last = 1, 0
    for size, step in zip(shape, stride):
        count, last = count * size, last + (size - 1) * step
    stored = storage.nbytes // item_size(dtype)
    if count and (count > stored or offset + last >= stored):
        raise Malformed(f"a tensor of shape {list(shape)} claims more values than the file holds",
                        f"形状为 {list(shape)} 的张量声称的数值多于文件中实际保存的数值")
    return TensorRef(storage, offset, torch.Size(shape), tuple(stride), dtype)


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *rest: Any) -> TensorRef:
    if not isinstance(dtype, torch.dtype):
        raise _bad()
    return _tensor(storage, offset, shape, stride, dtype=dtype)


def _parameter(tensor: Any, *_rest: Any) -> TensorRef:
    if not isinstance(tensor, TensorRef):
        raise _bad()
    return tensor


def _from_type(function: Any, kind: Any, given: Any, *_state: Any) -> TensorRef:
    """A tensor that carries attributes, which are left out."""
    if kind not in (_Symbol("torch.Tensor"), _Symbol("torch.nn.parameter.Parameter")) or not isinstance(function, _Symbol):
        raise _bad()
    if not function.name.startswith("torch._utils._rebuild_tensor") or not isinstance(given, tuple):
        raise UnsafeName(function.name)
    return _CALLS[function.name](*given)


def _pairs(given: Any = ()) -> Dict[Any, Any]:
    """An OrderedDict, as a plain dictionary, which keeps the order as well."""
    result: Dict[Any, Any] = {}
    if isinstance(given, dict):
        return dict(given)
    for pair in given if isinstance(given, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _bad()
        result[_key(pair[0])] = pair[1]
    return result


def _elements(given: Any = ()) -> set:
    if not isinstance(given, (list, tuple, set)):
        raise _bad()
    return {_key(item) for item in given}


def _size(given: Any = ()) -> torch.Size:
    if not _is_shape(given):
        raise _bad()
    return torch.Size(given)


def _text(*given: Any) -> str:
    """A torch.device, as its name."""
    return ":".join(str(part)[:40] for part in given)


_CALLS: Dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda *given: {},
    "builtins.set": _elements, "builtins.frozenset": _elements,
    "builtins.bytearray": lambda *given: _encode(*given) if given else b"",
    "torch._utils._rebuild_tensor": _tensor, "torch._utils._rebuild_tensor_v2": _tensor, "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter, "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size, "torch.device": _text,
    "_codecs.encode": _encode,
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _number, "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray._reconstruct": _NumpyArray, "numpy._core.multiarray._reconstruct": _NumpyArray,
    "numpy.core.numeric._frombuffer": _frombuffer, "numpy._core.numeric._frombuffer": _frombuffer,
}
_ONLY_NAMED = {"torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray", "builtins.dict", "builtins.list", "builtins.int", "builtins.float"}


def _symbol(module: Any, name: Any) -> Any:
    """What stands for `module.name` in the result, or None where it is unknown.

    Raises:
        UnsafeName: it is not on the list.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise _bad()
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    full = f"{module}.{name}"
    if module in ("torch", "torch.storage", "torch.cuda") and name in _STORAGES:
        return _Symbol("storage." + name)
    if module == "torch" and name in _DTYPES:
        return _DTYPES[name]
    if full in _CALLS or full in _ONLY_NAMED:
        return _Symbol(full)
    raise UnsafeName(re.sub(r"[^\w.]", "?", full)[:100])


def _key(value: Any) -> Any:
    """A key of a dictionary: plain, and not one of those made to collide."""
    if value is None or isinstance(value, (str, bytes, bool)) or (type(value) is int and abs(value) < 2**31):
        return value
    raise _bad()


_MARK = object()


class _Machine:
    """The stack machine. Each method `op_NAME` is an opcode of `pickletools`."""

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.memo: Dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _bad()
        return self.stack.pop()

    def pop_mark(self) -> List[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1:]
                del self.stack[at:]
                return items
        raise _bad()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _bad()
        return self.stack[-1]

    def step(self, name: str, value: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self.stack.append(value)
        else:
            method = getattr(self, "op_" + name, None)
            if method is None:  # PERSID, EXT1, NEWOBJ, OBJ, ...: PyTorch writes none of them for tensors and plain values
                raise _bad()
            method(value)

    def op_PROTO(self, value: Any) -> None:
        if value > 5:
            raise _bad()

    def op_FRAME(self, value: Any) -> None:
        pass

    def op_MARK(self, _: Any) -> None:
        self.stack.append(_MARK)

    def op_POP(self, _: Any) -> None:
        if not self.stack:
            raise _bad()
        self.stack.pop()

    def op_POP_MARK(self, _: Any) -> None:
        self.pop_mark()

    def op_DUP(self, _: Any) -> None:
        self.stack.append(self.stack[-1] if self.stack and self.stack[-1] is not _MARK else self.pop())

    def op_EMPTY_LIST(self, _: Any) -> None:
        self.stack.append([])

    def op_EMPTY_DICT(self, _: Any) -> None:
        self.stack.append({})

    def op_EMPTY_SET(self, _: Any) -> None:
        self.stack.append(set())

    def op_EMPTY_TUPLE(self, _: Any) -> None:
        self.stack.append(())

    def op_LIST(self, _: Any) -> None:
        self.stack.append(self.pop_mark())

    def op_TUPLE(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def op_TUPLE1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def op_TUPLE2(self, _: Any) -> None:
        last = self.pop()
        self.stack.append((self.pop(), last))

    def op_TUPLE3(self, _: Any) -> None:
        last, middle = self.pop(), self.pop()
        self.stack.append((self.pop(), middle, last))

    def op_DICT(self, _: Any) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(items)

    def op_FROZENSET(self, _: Any) -> None:
        self.stack.append(_elements(self.pop_mark()))

    def op_APPEND(self, _: Any) -> None:
        item = self.pop()
        self.top(list).append(item)

    def op_APPENDS(self, _: Any) -> None:
        items = self.pop_mark()
        self.top(list).extend(items)

    def op_ADDITEMS(self, _: Any) -> None:
        items = self.pop_mark()
        self.top(set).update(_elements(items))

    def op_SETITEM(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def op_SETITEMS(self, _: Any) -> None:
        self._set(self.pop_mark())

    def _set(self, items: List[Any]) -> None:
        if len(items) % 2:
            raise _bad()
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2]):
            target[_key(key)] = value

    def op_BINPUT(self, value: int) -> None:
        if not self.stack:
            raise _bad()
        self.memo[value] = self.stack[-1]

    op_LONG_BINPUT = op_PUT = op_BINPUT

    def op_MEMOIZE(self, _: Any) -> None:
        self.op_BINPUT(len(self.memo))

    def op_BINGET(self, value: int) -> None:
        if value not in self.memo or self.memo[value] is _MARK:
            raise _bad()
        self.stack.append(self.memo[value])

    op_LONG_BINGET = op_GET = op_BINGET

    def op_GLOBAL(self, value: str) -> None:
        module, _, name = value.partition(" ")
        self.stack.append(_symbol(module, name))

    def op_STACK_GLOBAL(self, _: Any) -> None:
        name = self.pop()
        self.stack.append(_symbol(self.pop(), name))

    def op_INST(self, value: str) -> None:
        raise UnsafeName(re.sub(r"[^\w.]", "?", value.replace(" ", "."))[:100])

    def op_REDUCE(self, _: Any) -> None:
        given, function = self.pop(), self.pop()
        call = _CALLS.get(function.name) if isinstance(function, _Symbol) else None
        if call is None:
            raise UnsafeName(function.name if isinstance(function, _Symbol) else type(function).__name__)
        if not isinstance(given, tuple):
            raise _bad()
        self.stack.append(call(*given))

    def op_BUILD(self, _: Any) -> None:
        state = self.pop()
        if not self.stack:
            raise _bad()
        target = self.stack[-1]
        if isinstance(target, (_NumpyType, _NumpyArray)):
            target.build(state)
        elif type(target) is not dict:  # a state dict carries `_metadata`, which nothing here needs
            raise _bad()

    def op_BINPERSID(self, _: Any) -> None:
        """("storage", type, key, device, number of values): all that PyTorch keeps outside the pickle."""
        value = self.pop()
        if not isinstance(value, tuple) or len(value) < 5 or value[0] not in ("storage", b"storage") or any(x is not None for x in value[5:]):
            raise _bad()
        kind, key, length = value[1], value[2], value[4]
        if not isinstance(kind, _Symbol) or not kind.name.startswith("storage.") or type(length) is not int or not 0 <= length < 2**48:
            raise _bad()
        if not isinstance(key, (str, int)) or len(str(key)) > 100:
            raise _bad()
        self.stack.append(StorageRef(str(key), _STORAGES[kind.name[8:]], length))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LINES = {"INT": 1, "LONG": 1, "FLOAT": 1, "STRING": 1, "UNICODE": 1, "GET": 1, "PUT": 1, "PERSID": 1, "GLOBAL": 2, "INST": 2}
"""Opcodes whose argument is text, and of how many lines."""


def _argument(opcode: Any, stream: BinaryIO) -> Any:
    if opcode.arg is None:
        return None
    lines = _LINES.get(opcode.name)
    if lines:
        short = opcode.name in ("INT", "LONG", "FLOAT", "GET", "PUT")
        text = b"".join(stream.readline(200 if short else _MAX_LINE) for _ in range(lines))
        return opcode.arg.reader(io.BytesIO(text))
    if opcode.name == "LONG4":
        length = struct.unpack("<i", stream.read(4))[0]
        if not 0 <= length <= _MAX_INT_BYTES:
            raise _bad()
        return pickletools.decode_long(stream.read(length))
    return opcode.arg.reader(stream)


def read_pickle(stream: BinaryIO) -> Any:
    """Read one pickle from `stream`, which holds at most MAX_PICKLE_BYTES.

    Raises:
        Malformed: it is damaged, too large or nested too deep. UnsafeName: it names what is not on the list.
    """
    machine = _Machine()
    try:
        for _ in range(MAX_OPCODES):
            opcode = _OPCODES.get(stream.read(1))
            if opcode is None:
                raise _bad()
            if opcode.name == "STOP":
                return _Finish()(machine.pop())
            machine.step(opcode.name, _argument(opcode, stream))
    except (Malformed, UnsafeName):
        raise
    except Exception as error:  # whatever a damaged pickle makes of the readers: struct.error, ValueError, UnicodeDecodeError, ...
        raise _bad() from error
    raise Malformed("it describes more values than any model has", "其中描述的数值多于任何模型")


class _Finish:
    """Copy the result out, so that nothing is nested without end and nothing unfinished is left."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_OPCODES:
            raise Malformed("its description is nested too deep", "文件内容嵌套过深")
        if isinstance(value, dict):
            return {key: self(item, depth + 1) for key, item in value.items()}
        if type(value) is list:
            return [self(item, depth + 1) for item in value]
        if type(value) is tuple:
            return tuple(self(item, depth + 1) for item in value)
        if isinstance(value, _NumpyArray):
            return value.value
        if isinstance(value, (_Symbol, _NumpyType, StorageRef)) or value is _MARK:
            raise _bad()
        return value
