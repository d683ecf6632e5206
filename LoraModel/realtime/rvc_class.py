"""RVC's own realtime class with our voices: an adapter where a `.pth` is given, and changes of voice between two
blocks.

    from LoraModel.realtime.rvc_class import patch_realtime_class, rvc_lora_voices
    patch_realtime_class()                                  # once, in the checkout's folder; the windows need no line
    of one's own rvc = rtrvc.RVC(0, 0, "anna.safetensors", "", 0, ...)   # as before; its base is found among the
    checkout's rvc_lora_voices(rvc).use({"anna.safetensors": 0.7, "bob.safetensors": 0.3})
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from torch import nn

from ..host import Host, find_host
from ..host.realtime import patch_realtime, realtime_module
from ..inference.model_loader import VoiceLoader
from ..inference.patched import give_voice, lock_of, patch, voice_of
from ..lora import load_adapter
from ..messages import UserError
from ..models import BaseInfo
from ..models.catalog import Catalog, kind_of
from ..models.model_kind import ADAPTER, BASE
from .changes import ChangingVoice, VoiceChanges
from .synthesis import light

_CHANGES, _WANTED = "_rvc_lora_changes", "_rvc_lora_wanted"
_hosts: List[Host] = []  # the one that was patched
_chosen: Dict[str, Path] = {}  # bases that were asked for, by hash
_given: Dict[str, VoiceLoader] = {}
"""Networks that are made already, by the path under which the class asks for them."""


class _Slot:
    """Where a network keeps its changes of voice; a copy of the network starts with none."""

    def __init__(self, changes: Optional[VoiceChanges] = None) -> None:
        self.changes = changes

    def __reduce__(self) -> Any:
        return _Slot, ()


class LiveVoices(ChangingVoice):
    """The voices of one object of RVC's realtime class.

    Attributes:
        base: the network's own voice: what is heard when no adapter is on it.
    """

    def __init__(self, changes: VoiceChanges):
        self._changes = changes

    @property
    def base(self) -> BaseInfo:
        return self._changes.voice.info


def patch_realtime_class(host: Optional[Host] = None) -> Host:
    """Let RVC's realtime class take adapters; a second time changes nothing.

    Raises:
        UserError: there is no checkout, or its realtime class cannot be imported.
    """
    host = patch(host=host or find_host())
    _hosts[:] = [host]
    patch_realtime(realtime_module(host), _network, _description, _made, _block)
    return host


def rvc_lora_voices(rvc: Any) -> LiveVoices:
    """The voices of `rvc`, an object of RVC's realtime class.

    Raises:
        UserError: it has no network, or `patch_realtime_class` was not called before it was made.
    """
    network = getattr(rvc, "net_g", None)
    if network is None or not hasattr(network, "set_adapters"):
        raise UserError("this realtime object has no network that takes adapters: call patch_realtime_class() before "
                        "it is made, and give it a voice that can be read")
    slot = network.__dict__.setdefault(_CHANGES, _Slot())
    if slot.changes is None:
        slot.changes = VoiceChanges(voice_of(network, _host()))
    return LiveVoices(slot.changes)


def base_for(host: Host, path: Union[str, Path]) -> Path:
    """The base that an adapter was trained on, found by its hash among the checkout's.

    Raises:
        UserError: it is not there, or the file is no adapter that can be read.
    """
    adapter = load_adapter(host.resolve(path))
    chosen = _chosen.get(adapter.metadata["base_hash"])
    if chosen is not None and chosen.is_file():
        return chosen
    catalog = Catalog(host.root or Path.cwd())
    return catalog.base_path(catalog.own_base(adapter.metadata))


def choose_base(host: Host, path: Union[str, Path], base: Union[str, Path]) -> None:
    """Say where the base of an adapter is, when it is not among the checkout's.

    Raises:
        UserError: it is another base, or no base.
    """
    adapter, file = load_adapter(host.resolve(path)), host.resolve(base)
    kind = kind_of(file)
    if kind.problem is not None:
        raise kind.problem
    found = kind.tensors_hash() if kind.is_generator else ""
    wanted = adapter.metadata["base_hash"]
    if found != wanted:
        name = adapter.metadata["base_name"]
        raise UserError("{file} is not the base of adapter {adapter_name!r}: that is {name} with the hash {wanted}…, "
                        "this has {found}…",
                        file=file, adapter_name=adapter.name, name=name, wanted=wanted[:8], found=found[:8] or "-")
    _chosen[wanted] = file


# ---------------------------------------------------------------- what the class is patched with

def _host() -> Host:
    return _hosts[0] if _hosts else find_host()


def give(path: str, voice: VoiceLoader) -> None:
    """Let the class take `voice`'s network when it is given `path`."""
    give_voice(voice.network, voice)
    _given[path] = voice


def _network(path: str, device: Any) -> Optional[nn.Module]:
    """The network for a file that RVC cannot read: an adapter on its base, or a base that is no small voice. None for
    the rest."""
    if path in _given:
        return _given.pop(path).network
    host = _host()
    file = host.resolve(path)
    if not file.is_file() or not path.lower().endswith((".pth", ".safetensors")):
        return None
    kind = kind_of(file)
    if kind.kind == ADAPTER:
        voice = light(VoiceLoader(base_for(host, file), host, device))
        voice.load(file)
        voice.network.__dict__[_WANTED] = file
    elif path.lower().endswith(".safetensors") and kind.problem is not None:
        raise kind.problem
    elif kind.kind == BASE or kind.is_generator and file.suffix.lower() == ".safetensors":
        voice = light(VoiceLoader(file, host, device))
    else:
        return None
    give_voice(voice.network, voice)
    return voice.network


def _description(network: nn.Module) -> Dict[str, Any]:
    info = voice_of(network, _host()).info
    return {"config": list(info.config), "weight": {"emb_g.weight": network.emb_g.weight}, "f0": int(info.f0),
            "version": info.version}


def _made(rvc: Any) -> None:
    """The adapter that was given as the voice is heard from the first block on. RVC may have made the network fp16
    since."""
    wanted = rvc.net_g.__dict__.pop(_WANTED, None)
    if wanted is not None:
        voice = voice_of(rvc.net_g, _host())
        voice.move(next(rvc.net_g.parameters()).device, bool(getattr(rvc, "is_half", False)))
        rvc_lora_voices(rvc).use({wanted: 1.0}).result()


@contextlib.contextmanager
def _block(rvc: Any) -> Iterator[None]:
    """A block: the change of voice that is ready comes before it, and no other until it is done."""
    slot = getattr(rvc.net_g, "__dict__", {}).get(_CHANGES)
    with lock_of(rvc.net_g):
        if slot is not None and slot.changes is not None:
            slot.changes.take()
        yield
