"""Let the classic layout's fairseq read HuBERT under torch >= 2.6, whose `torch.load` takes only tensors and plain types.

HuBERT's file holds, beside tensors, fairseq's dictionary of labels and, in files that newer fairseq wrote, its configuration as
OmegaConf objects. Exactly these types are allowed, while HuBERT is read; the check itself stays on, so that a file with
anything else in it is refused.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import typing
from typing import Any, Iterator, List

import torch

_TYPES = (
    "fairseq.data.dictionary.Dictionary",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
)
# What OmegaConf's metadata names, as types or to rebuild plain containers: none of them runs anything that a file says.
_PLAIN: List[Any] = [typing.Any, collections.defaultdict, dict, list, int]


def hubert_types() -> List[Any]:
    """The types that HuBERT's file may hold; those whose package is missing are left out."""
    found = list(_PLAIN)
    for name in _TYPES:
        module, _, kind = name.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):
            found.append(getattr(importlib.import_module(module), kind))
    return found


@contextlib.contextmanager
def hubert_allowed() -> Iterator[None]:
    """While the block runs, `torch.load` with its safety check on takes `hubert_types()` too. Older PyTorch needs nothing."""
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        yield
        return
    with allow(hubert_types()):
        yield
