"""Read the pickle inside a PyTorch file by this program's own hand: nothing that it names is ever imported or called.

`torch.load(weights_only=True)` would do on the newest PyTorch alone: 1.13's refuses float16 and sets, none reads a
number of NumPy's, and none has a limit, so that a few bytes may ask for minutes and gigabytes. A pickle is a small
program for a stack machine. Here that machine knows the plain types and, of all functions, those of `CALLS`
(`pickle_calls`); any other name in the pickle ends the reading. The result is the same on every version of PyTorch:

* plain values (numbers, text, bytes, lists, tuples, dictionaries, sets), and NumPy's numbers and arrays as plain ones;
* a `TensorRef` for every tensor: where its values lie and its shape. None is read here.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from typing import Any, BinaryIO, Dict, List

from ..messages import Text
from .pickle_calls import CALLS, STORAGES, NumpyArray, NumpyType, Symbol, elements, known_name, plain_key
from .tensor_refs import Malformed, StorageRef, UnsafeName, bad

MAX_PICKLE_BYTES = 32 * 2**20
"""Of the description of a model without its tensors' values. A training checkpoint of RVC's has 0.3 MB."""
MAX_OPCODES = 300_000
MAX_DEPTH = 40
_MAX_INT_BYTES = 64
_MAX_LINE = 64 * 1024

_MARK = object()


class _Machine:
    """The stack machine. Each method `op_NAME` is an opcode of `pickletools`."""

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.memo: Dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise bad()
        return self.stack.pop()

    def pop_mark(self) -> List[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1:]
                del self.stack[at:]
                return items
        raise bad()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise bad()
        return self.stack[-1]

    def step(self, name: str, value: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self.stack.append(value)
        else:
            method = getattr(self, "op_" + name, None)
            if method is None:  # PERSID, EXT1, NEWOBJ, ...: PyTorch writes none of them for tensors and plain values
                raise bad()
            method(value)

    def op_PROTO(self, value: Any) -> None:
        if value > 5:
            raise bad()

    def op_FRAME(self, value: Any) -> None:
        pass

    def op_MARK(self, _: Any) -> None:
        self.stack.append(_MARK)

    def op_POP(self, _: Any) -> None:
        if not self.stack:
            raise bad()
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
        self.stack.append(elements(self.pop_mark()))

    def op_APPEND(self, _: Any) -> None:
        item = self.pop()
        self.top(list).append(item)

    def op_APPENDS(self, _: Any) -> None:
        items = self.pop_mark()
        self.top(list).extend(items)

    def op_ADDITEMS(self, _: Any) -> None:
        items = self.pop_mark()
        self.top(set).update(elements(items))

    def op_SETITEM(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def op_SETITEMS(self, _: Any) -> None:
        self._set(self.pop_mark())

    def _set(self, items: List[Any]) -> None:
        if len(items) % 2:
            raise bad()
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2]):
            target[plain_key(key)] = value

    def op_BINPUT(self, value: int) -> None:
        if not self.stack:
            raise bad()
        self.memo[value] = self.stack[-1]

    op_LONG_BINPUT = op_PUT = op_BINPUT

    def op_MEMOIZE(self, _: Any) -> None:
        self.op_BINPUT(len(self.memo))

    def op_BINGET(self, value: int) -> None:
        if value not in self.memo or self.memo[value] is _MARK:
            raise bad()
        self.stack.append(self.memo[value])

    op_LONG_BINGET = op_GET = op_BINGET

    def op_GLOBAL(self, value: str) -> None:
        module, _, name = value.partition(" ")
        self.stack.append(known_name(module, name))

    def op_STACK_GLOBAL(self, _: Any) -> None:
        name = self.pop()
        self.stack.append(known_name(self.pop(), name))

    def op_INST(self, value: str) -> None:
        raise UnsafeName(re.sub(r"[^\w.]", "?", value.replace(" ", "."))[:100])

    def op_REDUCE(self, _: Any) -> None:
        given, function = self.pop(), self.pop()
        call = CALLS.get(function.name) if isinstance(function, Symbol) else None
        if call is None:
            raise UnsafeName(function.name if isinstance(function, Symbol) else type(function).__name__)
        if not isinstance(given, tuple):
            raise bad()
        self.stack.append(call(*given))

    def op_BUILD(self, _: Any) -> None:
        state = self.pop()
        if not self.stack:
            raise bad()
        target = self.stack[-1]
        if isinstance(target, (NumpyType, NumpyArray)):
            target.build(state)
        elif type(target) is not dict:  # a state dict carries `_metadata`, which nothing here needs
            raise bad()

    def op_BINPERSID(self, _: Any) -> None:
        """("storage", type, key, device, number of values): all that PyTorch keeps outside the pickle."""
        value = self.pop()
        if not isinstance(value, tuple) or len(value) < 5 or value[0] not in ("storage", b"storage"):
            raise bad()
        if any(x is not None for x in value[5:]):
            raise bad()
        kind, key, length = value[1], value[2], value[4]
        if not isinstance(kind, Symbol) or not kind.name.startswith("storage."):
            raise bad()
        if type(length) is not int or not 0 <= length < 2**48:
            raise bad()
        if not isinstance(key, (str, int)) or len(str(key)) > 100:
            raise bad()
        self.stack.append(StorageRef(str(key), STORAGES[kind.name[8:]], length))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LINES = {
    "INT": 1, "LONG": 1, "FLOAT": 1, "STRING": 1, "UNICODE": 1, "GET": 1, "PUT": 1, "PERSID": 1, "GLOBAL": 2, "INST": 2,
}
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
            raise bad()
        return int.from_bytes(stream.read(length), "little", signed=True)
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
                raise bad()
            if opcode.name == "STOP":
                return _Finish()(machine.pop())
            machine.step(opcode.name, _argument(opcode, stream))
    except (Malformed, UnsafeName):
        raise
    except Exception as error:  # what a damaged pickle makes of the readers: struct.error, ValueError, ...
        raise bad() from error
    raise Malformed(Text("it describes more values than any model has"))


class _Finish:
    """Copy the result out, so that nothing is nested without end and nothing unfinished is left."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_OPCODES:
            raise Malformed(Text("its description is nested too deep"))
        if isinstance(value, dict):
            return {key: self(item, depth + 1) for key, item in value.items()}
        if type(value) is list:
            return [self(item, depth + 1) for item in value]
        if type(value) is tuple:
            return tuple(self(item, depth + 1) for item in value)
        if isinstance(value, NumpyArray):
            return value.value
        if isinstance(value, (Symbol, NumpyType, StorageRef)) or value is _MARK:
            raise bad()
        return value
