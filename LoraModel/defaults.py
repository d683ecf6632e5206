"""PyTorch's usual defaults, while networks are built and run.

Another plugin in the same process may have set another default type or device (`torch.set_default_dtype`,
`torch.set_default_device`). RVC's networks make tensors of the default type on the default device in the middle of a
forward; ours must come out the same whatever stands there.

And the same at every call: RVC has one function of its networks compiled by TorchScript, whose first calls run as it is
written and later ones in an optimised form. Its gradient is rounded differently there on every version of PyTorch, its
result before 2.1. Once the optimised form is there PyTorch takes it whatever it is told, so what a process had computed
before would change the last digits of a training. RVC's modules are therefore imported without compiling.
"""

from __future__ import annotations

import contextlib
import threading
from typing import ContextManager, Iterator

import torch

_ROUNDS_DIFFERENTLY = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 1)
_lock = threading.Lock()
_users = 0  # uses of `usual_defaults` that have not ended
_former = torch.float32  # the default type before the first of them


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """New tensors are fp32 and on the CPU, unless they name another type or device, and a function of TorchScript's
    gives the same at every call. What was set before is set again afterwards.

    The default type belongs to the process, the default device to the thread. Uses may overlap, in one thread or in
    several.
    """
    global _users, _former
    with _lock:
        if _users == 0:
            _former = torch.get_default_dtype()
        _users += 1
        if torch.get_default_dtype() is not torch.float32:
            torch.set_default_dtype(torch.float32)
    try:
        with _on_cpu(), _as_written():
            yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _former is not torch.float32:
                torch.set_default_dtype(_former)


def _as_written() -> ContextManager[object]:
    return torch.jit.optimized_execution(False) if _ROUNDS_DIFFERENTLY else contextlib.nullcontext()


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """While modules are imported, none of their functions is compiled by TorchScript."""
    compiles = bool(torch.jit._state._enabled)
    if compiles:
        torch.jit._state.disable()
    try:
        yield
    finally:
        if compiles:
            torch.jit._state.enable()


def shapes_alone() -> ContextManager[object]:
    """Tensors that are made within have a shape and no values; PyTorch before 2.0 makes whole ones."""
    return torch.device("meta") if hasattr(torch.device, "__enter__") else contextlib.nullcontext()  # type: ignore[return-value]


def _on_cpu() -> ContextManager[object]:
    """A device as a context (since PyTorch 2.0) costs time at each call of PyTorch's: only where another one is set."""
    if torch.empty(0).device.type == "cpu" or not hasattr(torch.device, "__enter__"):
        return contextlib.nullcontext()
    return torch.device("cpu")  # type: ignore[return-value]
