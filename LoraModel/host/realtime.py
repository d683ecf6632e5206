"""RVC's realtime class (`RVC` of rtrvc.py): its voice may be an adapter, and changes between two blocks.

The class gets no line of its own changed: its network is made by `get_synthesizer`, which is asked first whether the
file is ours, and around `infer` the change of voice that is ready is taken. What those two do is given by
`LoraModel.realtime.rvc_class`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
from types import ModuleType
from typing import Any, Callable, ContextManager, Dict, List, Optional, Tuple, Type

from torch import nn

from ..messages import UserError, listing
from .layout import Host
from .patch import in_use, remember
from .pipeline import at_root
from .safe_types import hubert_allowed, voice_allowed

MakeNetwork = Callable[[str, Any], Optional[nn.Module]]
"""(path, device) -> the network for it, without weight norm; None leaves the file to RVC."""
Describe = Callable[[nn.Module], Dict[str, Any]]
"""What RVC reads of a voice's file beside its network: config, f0, version."""
_PATCHED = "_rvc_lora_patched"


def realtime_module(host: Host) -> ModuleType:
    """The module of the realtime class.

    Raises:
        UserError: the checkout has none, or a package that it needs is missing.
    """
    if host.root is None:
        raise UserError("RVC's realtime class is in RVC's checkout: name one with --rvc_root")
    with at_root(host):
        for name in host.layout.realtime:
            if not (host.root / (name.replace(".", "/") + ".py")).is_file():
                continue
            try:
                return importlib.import_module(name)
            except ImportError as error:
                raise UserError("RVC's realtime class ({name}) cannot be imported: {error}. Install what it needs "
                                "(its requirements file)", name=name, error=error) from error
    raise UserError("this RVC has no realtime class ({realtime})", realtime=listing(host.layout.realtime))


def takes_frames(module: ModuleType) -> bool:
    """Whether `infer` is given in frames what to skip and what to return: since 2024; before that, the window did it
    itself."""
    return "skip_head" in inspect.signature(module.RVC.infer).parameters


def patch_realtime(module: ModuleType, make: MakeNetwork, describe: Describe, made: Callable[[Any], None],
                   block: Callable[[Any], ContextManager[None]]) -> None:
    """Patch the class; a second time changes nothing.

    Args:
        make: asked for a network before RVC reads the file itself.
        describe: of a network that `make` made.
        made: called with the object when it has been made.
        block: called with the object for each block, which is converted inside of it; no change of weights is under
            way then.
    """
    cls: Type[Any] = module.RVC
    if hasattr(cls, _PATCHED):
        return
    get_synthesizer, init, infer = module.get_synthesizer, cls.__init__, cls.infer
    faults: List[BaseException] = []

    @functools.wraps(get_synthesizer)
    def network_of(path: str, *args: Any, **kwargs: Any) -> Tuple[nn.Module, Dict[str, Any]]:
        try:
            network = make(path, kwargs.get("device", args[0] if args else "cpu"))
        except UserError as error:
            faults.append(error)  # RVC prints what is raised here and goes on without a network
            raise
        if network is not None:
            return network, describe(network)
        network, checkpoint = get_synthesizer(path, *args, **kwargs)
        remember(network, checkpoint)
        return network, checkpoint

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        del faults[:]
        with voice_allowed(), hubert_allowed():
            init(self, *args, **kwargs)
        if faults:
            raise faults.pop()
        if getattr(self, "net_g", None) is not None:
            made(self)

    @functools.wraps(infer)
    def converted(self: Any, *args: Any, **kwargs: Any) -> Any:
        with in_use.conversion(), block(self):
            return infer(self, *args, **kwargs)

    setattr(module, "get_synthesizer", network_of)  # noqa: B010  (a module of RVC's, of which mypy knows nothing)
    cls.__init__, cls.infer = __init__, converted
    setattr(cls, _PATCHED, True)


def make_realtime(module: ModuleType, config: Any, path: str, transpose: float = 0.0, index: str = "",
                  index_rate: float = 0.0) -> Any:
    """An object of the realtime class, for a script that has none of its own; what it prints is left out.

    Args:
        config: RVC's Config.
        path: what RVC's window calls pth_path.

    Raises:
        UserError: it could not be made; RVC's own words are in the message.
    """
    given = {"key": transpose, "formant": 0.0, "pth_path": path, "index_path": index, "index_rate": index_rate,
             "n_cpu": 1, "inp_q": None, "opt_q": None, "config": config, "last_rvc": None}
    wanted = inspect.signature(module.RVC.__init__).parameters
    printed: List[str] = []
    module.printt = lambda text, *values: printed.append(text % values if values else str(text))  # type: ignore[attr-defined]
    made = module.RVC(**{name: value for name, value in given.items() if name in wanted})
    module.printt = lambda *_: None  # type: ignore[attr-defined]
    if getattr(made, "net_g", None) is None:
        lines = [line.strip() for text in printed for line in text.splitlines() if line.strip()]
        raise UserError("RVC's realtime class could not be made ({reason})", reason=(lines or ["?"])[-1][:200])
    return made


def rate_of(made: Any) -> int:
    """The sample rate, in Hz, of what RVC's realtime class gives back."""
    return int(made.tgt_sr)


def forget_pitch(made: Any) -> None:
    """Let RVC's realtime class forget the pitch of its input."""
    made.cache_pitch.zero_()
    made.cache_pitchf.zero_()
