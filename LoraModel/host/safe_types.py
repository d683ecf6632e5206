"""Let the host read files of RVC's own under torch >= 2.6, whose `torch.load` takes only tensors and plain types.

HuBERT's file (classic layout, fairseq) holds, beside tensors, fairseq's dictionary of labels and, in files that newer
fairseq wrote, its configuration as OmegaConf objects. Older voices may hold numbers of NumPy's where newer ones have
plain ones. Exactly these types are allowed, each only while its own kind of file is read; the check itself stays on,
so that a file with anything else in it is refused.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import threading
import typing
from typing import Any, Iterator, List

import numpy as np
import torch

_TYPES = (
    "fairseq.data.dictionary.Dictionary",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
)
# What OmegaConf's metadata names, as types or to rebuild plain containers: none of them runs anything that a file says.
_PLAIN: List[Any] = [typing.Any, collections.defaultdict, dict, list, int]
_NUMBERS = ("float16", "float32", "float64", "int32", "int64", "bool")

_one_at_a_time = threading.RLock()  # torch keeps one list for the process, and leaving puts the old one back


def hubert_types() -> List[Any]:
    """The types that HuBERT's file may hold; those whose package is missing are left out."""
    found = list(_PLAIN)
    for name in _TYPES:
        module, _, kind = name.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):
            found.append(getattr(importlib.import_module(module), kind))
    return found


def voice_types() -> List[Any]:
    """The types that an older voice may hold: NumPy's single numbers, under the names that NumPy 1 and 2 give their
    maker."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in _NUMBERS)]


@contextlib.contextmanager
def _allowed(types: List[Any]) -> Iterator[None]:
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:  # older PyTorch needs nothing
        yield
        return
    with _one_at_a_time, allow(types):
        yield


def hubert_allowed() -> contextlib.AbstractContextManager[None]:
    """While the block runs, `torch.load` with its safety check on takes `hubert_types()` too."""
    return _allowed(hubert_types())


def voice_allowed() -> contextlib.AbstractContextManager[None]:
    """While the block runs, `torch.load` with its safety check on takes `voice_types()` too."""
    return _allowed(voice_types())
