"""What a save holds, declared once: for each entry how it is read from the run, and how it is set again."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Sequence

import torch
from torch import Tensor


class Saved(NamedTuple):
    """One entry of a save.

    Attributes:
        get: what is saved: tensors, texts, numbers, None, and dictionaries and lists of them.
        put: sets it again; raises ValueError or TypeError where the value cannot be one of this run's.
        needed: False where older saves lack it; `put` gets None then.
    """

    get: Callable[[], Any]
    put: Callable[[Any], Any]
    needed: bool = True


def number(owner: Any, name: str, *kinds: type) -> Saved:
    """An attribute that is a number, whole ones not below 0, of one of the types `kinds`."""

    def put(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds) or (isinstance(value, int) and value < 0):
            raise TypeError(name)
        setattr(owner, name, value)

    return Saved(lambda: getattr(owner, name), put)


def group(owner: Any, name: str, read_again: Callable[[Any], Any]) -> Saved:
    """An attribute that is a tuple, which older saves may lack. read_again: makes it of a list, or of None; raises
    TypeError or ValueError."""
    return Saved(lambda: list(getattr(owner, name)), lambda value: setattr(owner, name, read_again(value)),
                 needed=False)


def row(owner: Any, name: str, rows: int) -> Saved:
    """An attribute that is the number of a row, 0 to `rows` - 1."""

    def put(value: Any) -> None:
        if type(value) is not int or not 0 <= value < rows:
            raise ValueError(name)
        setattr(owner, name, value)

    return Saved(lambda: getattr(owner, name), put)


def tensors(targets: Callable[[], Sequence[Tensor]]) -> Saved:
    """Tensors that are written into, in place. targets: gives those of now."""

    def put(values: Sequence[Tensor]) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise ValueError("values that are not finite")
        copy_all(targets(), values)

    return Saved(lambda: [target.detach().cpu().clone() for target in targets()], put)


@torch.no_grad()
def copy_all(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write each value into its target. `copy_` alone would stretch a number over a whole tensor without a word.

    Raises:
        ValueError: another number of tensors, or another shape. Nothing is written then.
    """
    found, wanted = ([tuple(tensor.shape) for tensor in group] for group in (values, targets))
    if found != wanted:
        raise ValueError(f"tensors of shapes {found[:4]} …, wanted {wanted[:4]} …")
    for target, value in zip(targets, values):
        target.copy_(value)


def read(entries: Dict[str, Saved]) -> Dict[str, Any]:
    """What is saved."""
    return {name: entry.get() for name, entry in entries.items()}


def set_again(entries: Dict[str, Saved], state: Dict[str, Any]) -> None:
    """Set every entry from what `read` gave, in the order of the entries; raises where one is missing or damaged."""
    for name, entry in entries.items():
        entry.put(state[name] if entry.needed else state.get(name))


