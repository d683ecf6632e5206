"""Inject LoRA into a network, take it out, merge it in, freeze and count.

The network stays the host's: no module is replaced, no state-dict key changes. What is injected lives in an `Injection`
beside it, which is an `nn.Module` of its own: give *its* parameters to the optimiser, move and save *it*.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Set, Tuple

from torch import nn

from ..messages import UserError
from .adapter_layer import place_of
from .live import LiveWeights
from .lora_config import LoRAConfig
from .lora_layer import LoRALayer, layer_class
from .targets import form_of

_ATTRIBUTE = "_rvc_lora_injection"


class Injection(nn.Module):
    """The LoRA layers of one network, by module path.

    Attributes:
        config: the LoRAConfig they were made from.
        names: module paths, in the network's order.
    """

    def __init__(self, network: nn.Module, config: LoRAConfig, layers: Dict[str, nn.Module]):
        super().__init__()
        self.config = config
        self.names: List[str] = list(layers)
        self._layers = nn.ModuleDict({name.replace(".", "/"): layer for name, layer in layers.items()})
        object.__setattr__(self, "live", LiveWeights(network))
        self.merged = False

    def items(self) -> Iterator[Tuple[str, nn.Module]]:
        """(module path, LoRA layer) pairs."""
        return ((name, self._layers[name.replace(".", "/")]) for name in self.names)

    def __getitem__(self, name: str) -> nn.Module:
        return self._layers[name.replace(".", "/")]

    def clamped(self) -> Dict[str, int]:
        """The layers whose smaller side is below the rank that was asked for, by module path, with the rank that they
        got."""
        asked = {name: self.config.targets[self.config.target_of(name) or ""].r for name in self.names}
        return {name: layer.r for name, layer in self.items() if isinstance(layer, LoRALayer) and layer.r < asked[name]}

    def tensors(self) -> Dict[str, nn.Parameter]:
        """Live parameters by the adapter file's names (`<module path>.lora_A.weight` and so on), in the order of
        `parameters()`."""
        return {f"{name}.{key}": parameter for name, layer in self.items() for key,
                parameter in layer.named_parameters()}

    def up(self) -> Set[str]:
        """The names of `tensors()` that carry the scale, such as B."""
        return {f"{name}.{key}" for name, layer in self.items() for key in layer.UP}


def inject(network: nn.Module, config: LoRAConfig, speaker: int = 0) -> Injection:
    """Hang a LoRA branch on every layer of `network` that `config` names.

    Args:
        speaker: the row of the speaker table that a target of the form "row" adapts.

    Raises:
        UserError: a target matches no layer, or the network has LoRA already.
    """
    if getattr(network, _ATTRIBUTE, None) is not None:
        raise UserError("this network has LoRA injected already: call extract(network) first, or load the base anew")
    layers: Dict[str, nn.Module] = {}
    taken = dict.fromkeys(config.targets, 0)
    for path, module in network.named_modules():
        target = config.target_of(path)
        if target is None:
            continue
        cls = layer_class(module, form_of(target))
        if cls is None:
            raise UserError("target {target} names {path}, a {name}, for which there is no LoRA layer", target=target,
                            path=path, name=type(module).__name__)
        layers[path] = cls.make(module, target, config, speaker)
        taken[target] += 1
    missing = [name for name, count in taken.items() if not count]
    if missing:
        raise UserError("target {first!r} matches no layer of {name}: switch it off, or check that this is an RVC "
                        "network", first=missing[0], name=type(network).__name__)
    injection = Injection(network, config, layers)
    put_on(network, injection)
    return injection


def injection_of(network: nn.Module) -> Injection:
    """The injection of `network`.

    Raises:
        UserError: there is none.
    """
    injection = getattr(network, _ATTRIBUTE, None)
    if injection is None:
        raise UserError("this network has no LoRA injected: call inject(network, config) first")
    return injection


def extract(network: nn.Module) -> Injection:
    """Take the LoRA layers off `network`, which is the plain base again bit for bit, and return them."""
    injection = injection_of(network)
    if injection.merged:
        unmerge(network)
    for _, layer in injection.items():
        layer.detach()
    object.__setattr__(network, _ATTRIBUTE, None)
    return injection


def put_on(network: nn.Module, injection: Injection) -> None:
    """Hang the layers that `extract` took off on their network again.

    Raises:
        UserError: it has others injected.
    """
    if getattr(network, _ATTRIBUTE, None) is not None:
        raise UserError("this network has LoRA injected already: call extract(network) first, or load the base anew")
    for _, layer in injection.items():
        layer.attach()
    object.__setattr__(network, _ATTRIBUTE, injection)


def attached(injection: Injection) -> bool:
    """Whether the layers hang on their network: not while `taken_off`, nor after `extract` or `merge`."""
    layers: List[Any] = [layer for _, layer in injection.items()]
    return any(layer._attached for layer in layers)


@contextlib.contextmanager
def taken_off(injection: Injection) -> Iterator[None]:
    """While the block runs, the network is the plain base; what hung on it before hangs on it again afterwards."""
    layers: List[Any] = [layer for _, layer in injection.items()]
    hung = [layer for layer in layers if layer._attached]
    for layer in hung:
        layer.detach()
    try:
        yield
    finally:
        for layer in hung:
            layer.attach()


def merge(network: nn.Module) -> None:
    """Write W + scale * B A into the network's weights, in place, and take the branches off. Merging twice does
    nothing."""
    injection = injection_of(network)
    if injection.merged:
        return
    for _, layer in injection.items():
        layer.detach()
    injection.live.write({place_of(name, type(layer)): layer.delta_weight() for name, layer in injection.items()})
    injection.merged = True


def unmerge(network: nn.Module) -> None:
    """Undo `merge`: the pristine weights are copied back bit for bit and the branches hung on again."""
    injection = injection_of(network)
    if not injection.merged:
        return
    injection.live.restore()
    for _, layer in injection.items():
        layer.attach()
    injection.merged = False


def freeze(module: nn.Module) -> None:
    """Ask for no gradient of any parameter of `module`."""
    module.requires_grad_(False)


def unfreeze(module: nn.Module) -> None:
    """Ask for gradients of every parameter of `module`."""
    module.requires_grad_(True)


def mark_only_lora_as_trainable(network: nn.Module) -> List[nn.Parameter]:
    """Freeze the base, unfreeze its LoRA, and return what is trainable."""
    injection = injection_of(network)
    freeze(network)
    unfreeze(injection)
    return list(injection.parameters())


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters: of the base, of the adapter, and of the adapter in percent of the base."""

    base: int
    adapter: int

    @property
    def percent(self) -> float:
        return 100.0 * self.adapter / self.base


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count the base's parameters and those injected into it (0 where nothing is)."""
    injection = getattr(network, _ATTRIBUTE, None)
    adapter = sum(p.numel() for p in injection.parameters()) if injection is not None else 0
    return ParameterCount(sum(p.numel() for p in network.parameters()), adapter)
