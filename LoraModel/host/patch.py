"""How RVC's classes are patched; `LoraModel.inference.patched` says with what, and is what a script calls.

The four synthesizer classes get methods and lose nothing. Their `forward` and `infer` are not touched, so that a
network with no adapter on it gives what RVC gives, bit for bit. `VC`, the realtime class and the API scripts all make
their networks of them.

Around `VC`: a change of weights waits for the conversions under way, and they for it (`in_use`); a base that was put
into `vc` by our panel stays when the page's own, emptied voice list says so (see `get` below). Files that torch >= 2.6
refuses are let through type by type, while they are read (`safe_types`).
"""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, Type

from torch import nn

from ..messages import UserError
from .index import check_index
from .layout import FEATURE_SIZES, SYNTHESIZERS, Host
from .safe_types import hubert_allowed, voice_allowed

_PATCHED = "_rvc_lora_patched"
CONFIG, HASH, NAME, TOLD = "_rvc_lora_config", "_rvc_lora_hash", "_rvc_lora_name", "_rvc_lora_told"
"""What a network knows of itself: RVC's list of 18 values; the hash of its tensors, where weight norm has been taken
off since; the voice that RVC loaded it from; what that file says in words and numbers beside its tensors."""
BASE = "rvc_lora_base"
"""The attribute of a `VC` that holds the network which our panel put into it."""
TRANSPOSE = "rvc_lora_transpose"
"""The attribute of a `VC` that says what to shift a recording by: (path, number that was given) -> (semitones, what to
say of them)."""
_NUMBER, _RECORDING = ("f0_up_key", "transpose"), ("input_audio_path", "recording")
"""The arguments of `vc_single`: RVC's name, that of our own page."""
_INDICES = ("file_index", "file_index2")
"""Those of `vc_single` that name an index, the first one before the second."""
_UPDATE = {"__type__": "update"}


class Use:
    """Conversions use the weights side by side; a change of weights has them alone, and goes before conversions that
    come later."""

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


def patch_host(
    host: Host, vc: Optional[Type[Any]], methods: Mapping[str, Callable[..., Any]],
    tensors_hash: Callable[[nn.Module], str]
) -> None:
    """Patch the host's classes; a second time changes nothing.

    Args:
        vc: the class `VC` of the WebUI; None patches the networks alone.
        methods: what the synthesizer classes get, by name.
        tensors_hash: of a network's base; asked before weight norm is removed from a network, after which its tensors
            are other ones.

    Raises:
        UserError: the models module cannot be imported.
    """
    models = host.module("models")
    for name in SYNTHESIZERS.values():
        cls = getattr(models, name)
        if _PATCHED not in vars(cls):
            _patch_network(cls, methods, tensors_hash)
    if vc is not None and _PATCHED not in vars(vc):
        _patch_vc(vc)
    if host.layout.hubert_reader == "fairseq":
        _patch_fairseq()


def _patch_network(cls: Type[nn.Module], methods: Mapping[str, Callable[..., Any]],
                   tensors_hash: Callable[[nn.Module], str]) -> None:
    init, remove_weight_norm = cls.__init__, cls.remove_weight_norm
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        given = list(signature.bind(self, *args, **kwargs).arguments.items())[1:]
        self.__dict__[CONFIG] = [value for name, value in given if name != "kwargs"]

    @functools.wraps(remove_weight_norm)
    def remove(self: nn.Module) -> None:
        if HASH not in self.__dict__:
            self.__dict__[HASH] = tensors_hash(self)
        remove_weight_norm(self)

    cls.__init__, cls.remove_weight_norm = __init__, remove
    for name, method in methods.items():
        setattr(cls, name, method)
    setattr(cls, _PATCHED, True)


def remember(network: nn.Module, checkpoint: Any) -> None:
    """Keep with a network what the file that RVC made it of says beside its tensors."""
    if isinstance(checkpoint, Mapping):
        network.__dict__[TOLD] = {key: value for key, value in checkpoint.items()
                                  if isinstance(value, (str, int, float))}


# ---------------------------------------------------------------- the WebUI's converter

def _patch_vc(vc: Type[Any]) -> None:
    get_vc, vc_single = vc.get_vc, vc.vc_single
    signature = inspect.signature(vc_single)

    @functools.wraps(vc_single)
    def single(self: Any, *args: Any, **kwargs: Any) -> Any:
        shift = ""
        with suppress(TypeError):  # arguments that RVC's own function will refuse
            given = signature.bind(self, *args, **kwargs)
            wrong = _wrong_index(self, given.arguments)
            if wrong is not None:
                return str(wrong), (None, None)
            shift = _shift(self, given.arguments)
            args, kwargs = given.args[1:], given.kwargs
        with in_use.conversion():
            answer = vc_single(self, *args, **kwargs)
        if shift and isinstance(answer, tuple) and answer and isinstance(answer[0], str):
            answer = (f"{answer[0]}\n{shift}", *answer[1:])
        return answer

    @functools.wraps(get_vc)
    def get(self: Any, sid: Any, *args: Any, **kwargs: Any) -> Any:
        """RVC's own choice of a voice.

        Our panel empties RVC's list when it puts a base into `vc`, and the page then asks for the voice "": that is no
        wish to unload the base. RVC's button for unloading reaches the panel by itself.

        RVC's unloading deletes attributes that `VC` began with as None. They are None again, since RVC 2026's own
        loading of the next voice reads one.
        """
        before = None
        with in_use.change(), voice_allowed(), _none_for_deleted(self):
            ours = getattr(self, BASE, None)
            if ours is None or ours is not getattr(self, "net_g", None):
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
            network = getattr(self, "net_g", None)
            if sid and isinstance(network, nn.Module):
                network.__dict__[NAME] = Path(str(sid)).stem
                remember(network, getattr(self, "cpt", None))
        if ours is not None:
            del ours, before
            gc.collect()  # a network and its voices hold each other
        return answer

    vc.vc_single, vc.get_vc = single, get
    setattr(vc, _PATCHED, True)


@contextmanager
def _none_for_deleted(vc: Any) -> Iterator[None]:
    """What the block deletes of an object's attributes is None after it."""
    names = list(vars(vc))
    try:
        yield
    finally:
        for name in names:
            vars(vc).setdefault(name, None)


def _shift(vc: Any, given: Dict[str, Any]) -> str:
    """Put the semitones that the page's tick chooses into the arguments of a conversion; -> the text that says so."""
    choose = getattr(vc, TRANSPOSE, None)
    number = next((name for name in _NUMBER if name in given), None)
    recording = next((given[name] for name in _RECORDING if name in given), None)
    if choose is None or number is None:
        return ""
    given[number], text = choose(recording, given[number])
    return str(text)


_checked: Dict[Tuple[str, int, int, int], Optional[UserError]] = {}


def _wrong_index(vc: Any, given: Mapping[str, Any]) -> Optional[UserError]:
    """Why RVC's conversion cannot use the index that it is given: some would end the whole process. None where it can,
    or has none."""
    chosen = _index_read(given)
    path = Path(chosen)
    if not chosen or not given.get("index_rate", 1) or not path.is_file():
        return None
    stat, size = path.stat(), FEATURE_SIZES.get(getattr(vc, "version", None) or "v2", 768)
    key = (str(path), stat.st_mtime_ns, stat.st_size, size)
    if key not in _checked:
        try:
            check_index(path, size)
            _checked[key] = None
        except UserError as error:
            _checked[key] = error
    return _checked[key]


def _index_read(given: Mapping[str, Any]) -> str:
    """The index that RVC's conversion reads, of the one or two that it is given; "" for none. Every layout puts "added"
    for "trained" in the first, and classic takes the second, where the first is empty, as it stands."""
    first, second = ((given[name] if isinstance(given.get(name), str) else "") for name in _INDICES)
    if not first:
        return second
    for characters in (" ", '"', "\n", '"', " "):
        first = first.strip(characters)
    return first.replace("trained", "added")


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
