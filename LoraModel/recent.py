"""A cache with a limit: what was used longest ago goes out first. Standard library alone."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable, Generic, Hashable, Optional, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """What was used last, up to a limit. Not guarded against several threads: hold a lock around it.

    Args:
        limit: of the sum of what `weigh` says; the value that came last is kept even where it alone is over the limit.
        weigh: the weight of a value, such as its bytes; None counts each as 1.
    """

    def __init__(self, limit: int, weigh: Optional[Callable[[Value], int]] = None):
        self._limit, self._weigh = limit, weigh or _one
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Optional[Value]:
        """The value, which counts as used now; None where there is none."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Hashable, value: Value) -> Value:
        """Keep `value` in place of what was there, and let go of what is over the limit."""
        self.drop(key)
        self._values[key] = value
        self.weight += self._weigh(value)
        while self.weight > self._limit and len(self._values) > 1:
            self.weight -= self._weigh(self._values.popitem(last=False)[1])
        return value

    def drop(self, key: Hashable) -> None:
        """Let go of one, if it is there."""
        if key in self._values:
            self.weight -= self._weigh(self._values.pop(key))

    def clear(self) -> None:
        self._values.clear()
        self.weight = 0


def _one(_value: Any) -> int:
    return 1
