"""RVC's classes, made to take adapters: `patch()` once in a process, before or after a converter is made.

The four synthesizer classes get three methods and lose nothing. Their `forward` and `infer` are not touched, so that a
network with no adapter on it gives what RVC gives, bit for bit:

    network.set_adapters([("voice.safetensors", 0.8)])    base + strength * delta, in place
    network.unload_adapters()                             the base again, bit for bit
    network.adapters()                                    [(adapter, strength), ...]

`VC`, the realtime class and the API scripts all make their networks of these classes: `vc.net_g`, `rvc.net_g`. A script of
one's own asks for it with two lines, in the checkout's folder:

    from LoraModel.host.patch import patch
    patch()

Around `VC`: a change of weights waits for the conversions under way, and they for it (`in_use`); a base that was put into
`vc` by our panel stays when the page's own, emptied voice list says so (see `get_vc` below). Files that torch >= 2.6 refuses
are let through type by type, while they are read (`safe_types`).
"""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Sequence, Tuple, Type

from torch import nn

from .layout import SYNTHESIZERS, Host, find_host
from .safe_types import hubert_allowed, voice_allowed

if TYPE_CHECKING:
    from ..inference.model_loader import Applied, Source, VoiceLoader

_PATCHED = "_rvc_lora_patched"
_SLOT, _CONFIG, _HASH, _NAME = "_rvc_lora_slot", "_rvc_lora_config", "_rvc_lora_hash", "_rvc_lora_name"
BASE = "rvc_lora_base"
"""The attribute of a `VC` that holds the network which our panel put into it."""
_UPDATE = {"__type__": "update"}


class Use:
    """Conversions use the weights side by side; a change of weights has them alone, and goes before conversions that come later."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._using = self._waiting = 0
        self._changing: Optional[int] = None  # the thread that changes

    @contextmanager
    def conversion(self) -> Iterator[None]:
        with self._turn:
            self._turn.wait_for(lambda: self._changing is None and not self._waiting)
            self._using += 1
        try:
            yield
        finally:
            with self._turn:
                self._using -= 1
                self._turn.notify_all()

    @contextmanager
    def change(self) -> Iterator[None]:
        """May be entered again by the thread that holds it."""
        if self._changing == threading.get_ident():
            yield
            return
        with self._turn:
            self._waiting += 1
            try:
                self._turn.wait_for(lambda: self._changing is None and not self._using)
                self._changing = threading.get_ident()
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._turn:
                self._changing = None
                self._turn.notify_all()


in_use = Use()
"""One for the process: it has one page and, as a rule, one converter."""


def patch(vc: Optional[Type[Any]] = None, host: Optional[Host] = None) -> Host:
    """Patch the host's classes; a second time changes nothing.

    Args:
        vc: the class `VC` of the WebUI; None patches the networks alone.
        host: the RVC installation; None finds it.

    Raises:
        UserError: there is no RVC, or its models module cannot be imported.
    """
    host = host or find_host()
    models = host.module("models")
    for name in SYNTHESIZERS.values():
        cls = getattr(models, name)
        if _PATCHED not in vars(cls):
            _patch_network(cls, host)
    if vc is not None and _PATCHED not in vars(vc):
        _patch_vc(vc)
    if host.name == "classic":
        _patch_fairseq()
    return host


# ---------------------------------------------------------------- networks

class _Slot:
    """Where a network keeps its voices. A copy of the network starts with none: the voices belong to the original's tensors."""

    def __init__(self) -> None:
        self.voice: Optional["VoiceLoader"] = None

    def __reduce__(self) -> Tuple[Type["_Slot"], Tuple[()]]:
        return _Slot, ()


def _patch_network(cls: Type[nn.Module], host: Host) -> None:
    init, remove_weight_norm = cls.__init__, cls.remove_weight_norm
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        given = list(signature.bind(self, *args, **kwargs).arguments.items())[1:]
        self.__dict__[_CONFIG] = [value for name, value in given if name != "kwargs"]

    @functools.wraps(remove_weight_norm)
    def remove(self: nn.Module) -> None:
        if _HASH not in self.__dict__:
            self.__dict__[_HASH] = _hash(self)  # afterwards the tensors are other ones
        remove_weight_norm(self)

    def set_adapters(self: nn.Module, adapters: Sequence[Tuple["Source", float]], force: bool = False) -> None:
        """Make the weights base + the sum of strength * delta, in place; conversions under way are waited for.

        Raises:
            UserError: a missing or damaged file, another base, other shapes. What was applied stays applied.
        """
        with in_use.change():
            voice_of(self, host).set_adapters(adapters, force)

    def unload_adapters(self: nn.Module) -> None:
        """Give the base back, bit for bit."""
        with in_use.change():
            voice_of(self, host).unload()

    def adapters(self: nn.Module) -> List["Applied"]:
        """What is applied now."""
        slot = self.__dict__.get(_SLOT)
        return slot.voice.applied if slot is not None and slot.voice is not None else []

    cls.__init__, cls.remove_weight_norm = __init__, remove
    for method in (set_adapters, unload_adapters, adapters):
        setattr(cls, method.__name__, method)
    setattr(cls, _PATCHED, True)


def _hash(network: nn.Module) -> str:
    from ..lora import tensors_hash

    return tensors_hash((name, tensor) for name, tensor in network.state_dict().items() if not name.startswith("enc_q."))


def voice_of(network: nn.Module, host: Host) -> "VoiceLoader":
    """The voices on a network that RVC made, found out from the network itself at the first call; it must be plain then."""
    # This module is below those that it asks here; they are asked only when an adapter comes.
    from ..inference.model_loader import VoiceLoader
    from ..models.model_utils import SAMPLE_RATES, Base, BaseInfo

    slot = network.__dict__.setdefault(_SLOT, _Slot())
    if slot.voice is None:
        config = list(network.__dict__[_CONFIG])
        config[-1] = SAMPLE_RATES.get(config[-1], config[-1])
        config[-3] = network.emb_g.num_embeddings
        version = next(version for (version, f0), name in SYNTHESIZERS.items() if name == type(network).__name__)
        name = network.__dict__.get(_NAME) or type(network).__name__
        info = BaseInfo(name, Path(name), config, version, not type(network).__name__.endswith("_nono"), config[-1],
                        hasattr(network, "enc_q"), network.__dict__.get(_HASH) or _hash(network))
        slot.voice = VoiceLoader(Base(network, info), host, next(network.parameters()).device)
    return slot.voice


def give_voice(network: nn.Module, voice: "VoiceLoader") -> None:
    """Let `network.set_adapters` use `voice`, which knows where its base came from."""
    network.__dict__.setdefault(_SLOT, _Slot()).voice = voice


# ---------------------------------------------------------------- the WebUI's converter

def _patch_vc(vc: Type[Any]) -> None:
    get_vc, vc_single = vc.get_vc, vc.vc_single

    @functools.wraps(vc_single)
    def single(self: Any, *args: Any, **kwargs: Any) -> Any:
        with in_use.conversion():
            return vc_single(self, *args, **kwargs)

    @functools.wraps(get_vc)
    def get(self: Any, sid: Any, *args: Any, **kwargs: Any) -> Any:
        """RVC's own choice of a voice.

        Our panel empties RVC's list when it puts a base into `vc`, and the page then asks for the voice "": that is no wish
        to unload the base. RVC's button for unloading reaches the panel by itself.
        """
        before = None
        with in_use.change(), voice_allowed():
            ours = getattr(self, BASE, None)
            if ours is None or ours is not self.net_g:
                answer = get_vc(self, sid, *args, **kwargs)
            elif not sid:
                return tuple(dict(_UPDATE) for _ in range(5))
            else:
                before = dict(self.__dict__)
                try:
                    answer = get_vc(self, sid, *args, **kwargs)
                except Exception:
                    self.__dict__.update(before)  # our base stays loaded, whole
                    raise
            setattr(self, BASE, None)
            if sid and isinstance(self.net_g, nn.Module):
                self.net_g.__dict__[_NAME] = Path(str(sid)).stem
        if ours is not None:
            del ours, before
            gc.collect()  # a network and its voices hold each other
        return answer

    vc.vc_single, vc.get_vc = single, get
    setattr(vc, _PATCHED, True)


# ---------------------------------------------------------------- files that torch >= 2.6 refuses

def _patch_fairseq() -> None:
    """Whoever in the checkout reads HuBERT does it through this one function of fairseq's."""
    with suppress(ImportError):
        from fairseq import checkpoint_utils

        load: Callable[..., Any] = checkpoint_utils.load_checkpoint_to_cpu
        if not hasattr(load, _PATCHED):

            @functools.wraps(load)
            def allowed(*args: Any, **kwargs: Any) -> Any:
                with hubert_allowed():
                    return load(*args, **kwargs)

            setattr(allowed, _PATCHED, True)
            checkpoint_utils.load_checkpoint_to_cpu = allowed
