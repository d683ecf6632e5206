"""RVC's networks take adapters: `patch()` once in a process, before or after a network is made.

    from LoraModel.inference.patched import patch
    patch()                                               # in the checkout's folder; the WebUI's own script needs no
    line of one's own

    network.set_adapters([("voice.safetensors", 0.8)])    base + strength * delta, in place
    network.unload_adapters()                             the base again, bit for bit
    network.adapters()                                    [(adapter, strength), ...]

`network` is whatever RVC made of its four synthesizer classes: `vc.net_g` of the WebUI, `rvc.net_g` of the realtime
class and of the API scripts. `host.patch` says what else changes, which is nothing that can be heard.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, ContextManager, List, Optional, Tuple, Type

from torch import nn

from ..host import Host, find_host
from ..host.layout import SYNTHESIZERS
from ..host.patch import CONFIG, HASH, NAME, TOLD, in_use, patch_host
from ..lora import tensors_hash
from ..lora.voice_pitch import MODEL_KEY, pitch_told
from ..models import Base, BaseInfo
from ..models.model_utils import SAMPLE_RATES
from ..models.prior_noise import share_told
from .model_loader import Adapters, Applied, VoiceLoader

_SLOT = "_rvc_lora_slot"


def patch(vc: Optional[Type[Any]] = None, host: Optional[Host] = None) -> Host:
    """Let the host's networks take adapters; a second time changes nothing.

    Args:
        vc: the class `VC` of the WebUI, for conversions and changes of weights to wait for each other.
        host: the RVC installation; None finds it.

    Raises:
        UserError: there is no RVC, or its models module cannot be imported.
    """
    host = host or find_host()

    def set_adapters(self: nn.Module, adapters: Adapters, force: bool = False,
                     any_strength: bool = False, noise: Optional[float] = None) -> None:
        """Make the weights base + the sum of strength * delta, in place; conversions under way are waited for. The
        arguments are those of `VoiceLoader.set_adapters`.

        Raises:
            UserError: a missing or damaged file, another base, other shapes. What was applied stays applied.
        """
        with in_use.change():
            voice_of(self, host).set_adapters(adapters, force, any_strength, noise)

    def unload_adapters(self: nn.Module) -> None:
        """Give the base back, bit for bit."""
        with in_use.change():
            voice_of(self, host).unload()

    def adapters(self: nn.Module) -> List[Applied]:
        """What is applied now."""
        slot = self.__dict__.get(_SLOT)
        return slot.voice.applied if slot is not None and slot.voice is not None else []

    patch_host(host, vc, {method.__name__: method for method in (set_adapters, unload_adapters, adapters)}, _hash)
    return host


class _Slot:
    """Where a network keeps its voices. A copy of the network starts with none: the voices belong to the original's
    tensors."""

    def __init__(self) -> None:
        self.voice: Optional[VoiceLoader] = None

    def __reduce__(self) -> Tuple[Type[_Slot], Tuple[()]]:
        return _Slot, ()


def _hash(network: nn.Module) -> str:
    return tensors_hash((name, tensor) for name, tensor in network.state_dict().items()
                        if not name.startswith("enc_q."))


def voice_of(network: nn.Module, host: Host) -> VoiceLoader:
    """The voices on a network that RVC made, found out from the network itself at the first call; it must be plain
    then."""
    slot = network.__dict__.setdefault(_SLOT, _Slot())
    if slot.voice is None:
        config = list(network.__dict__[CONFIG])
        config[-1] = SAMPLE_RATES.get(config[-1], config[-1])
        config[-3] = network.emb_g.num_embeddings
        version, f0 = next(key for key, name in SYNTHESIZERS.items() if name == type(network).__name__)
        name = network.__dict__.get(NAME) or type(network).__name__
        told = network.__dict__.get(TOLD, {})
        info = BaseInfo(name, Path(name), config, version, f0, config[-1], hasattr(network, "enc_q"),
                        network.__dict__.get(HASH) or _hash(network), pitch_told(told, MODEL_KEY), share_told(told))
        slot.voice = VoiceLoader(Base(network, info), host, next(network.parameters()).device)
    return slot.voice


def give_voice(network: nn.Module, voice: VoiceLoader) -> None:
    """Let `network.set_adapters` use `voice`, which knows where its base came from."""
    network.__dict__.setdefault(_SLOT, _Slot()).voice = voice


def lock_of(network: nn.Module) -> ContextManager[Any]:
    """What is held while `network` converts, so that its weights are one blend's; nothing where no voice was ever on
    it."""
    slot = network.__dict__.get(_SLOT)
    return slot.voice.lock if slot is not None and slot.voice is not None else contextlib.nullcontext()
