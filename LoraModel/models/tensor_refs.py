"""What reading a model file's description gives: where each tensor's values lie, and what may be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from ..messages import Text


class Malformed(Exception):
    """The file is damaged, or no file of PyTorch's. why: a part of a sentence."""

    def __init__(self, why: Text):
        super().__init__(why.english)
        self.why = why


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


def bad() -> Malformed:
    return Malformed(Text("its description breaks the rules of the format"))
