"""How an adapter layer hangs on the layer that it adapts: by another forward on that one module, and nothing else.

Other tools do the same (hooks of accelerate's, quantisers, profilers). A forward of theirs that is there already is
called in the place of the base's own and stands there again afterwards. One that comes later calls ours, which lets
everything through once the branch is removed.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from torch import Tensor


class Hanging:
    """What hangs on `self.base`; the class beside it gives the low-rank term by `self(x)`."""

    base: Any
    _attached = False
    _buried = False
    """Whether another tool's forward was above ours when the branch was removed."""
    _below: Optional[Callable[..., Tensor]] = None
    """The forward that another tool had put on the base; None for that of its class."""

    def attach(self) -> None:
        """Hang the branch on the base layer. Attaching twice does nothing."""
        if self._attached:
            return
        self._attached = True
        now = self.base.__dict__.get("forward")
        if now == self._adapted or (self._buried and now is not None):
            return  # ours is still called
        self._buried = False
        object.__setattr__(self, "_below", now)  # past nn.Module, which would take a module for a part of this one
        # A method, not a lambda: a deep copy of the network then hangs on the copy's own branch.
        self.base.__dict__["forward"] = self._adapted

    def detach(self) -> None:
        """Take the branch off again."""
        if not self._attached:
            return
        self._attached = False
        now = self.base.__dict__.get("forward")
        self._buried = now is not None and now != self._adapted
        if self._buried:
            return
        self.base.__dict__.pop("forward", None)
        if self._below is not None:
            self.base.__dict__["forward"] = self._below
        object.__setattr__(self, "_below", None)

    def _base_forward(self, x: Tensor, *rest: Any) -> Tensor:
        """The layer's forward without the branch."""
        return type(self.base).forward(self.base, x, *rest) if self._below is None else self._below(x, *rest)

    def _adapted(self, x: Tensor, *rest: Any) -> Tensor:
        """The base's forward with the branch."""
        output = self._base_forward(x, *rest)
        return output + self(x).to(output.dtype) if self._attached else output  # type: ignore[operator]
