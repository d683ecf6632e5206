"""How large an adapter will be, and the ranks that fit a size: where the bytes of a converted voice go."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from torch import nn

from ..lora import LoRAConfig
from ..lora.adapter_layer import component_axes
from ..lora.lora_layer import layer_class
from ..lora.model_spec import model_spec
from ..lora.targets import form_of, has_rank
from ..messages import UserError

MAX_KB = 387.0
"""Of a converted voice where nothing else is asked for; 1 KB is 1,000 bytes."""
BITS = 8
"""In which a converted voice is stored: twice the ranks that the same bytes hold in 16 bits, and a rounding that is
not heard."""
PROFILE: Dict[str, int] = {
    "enc_p_attn": 4,
    "enc_p_ffn": 3,
    "flow": 1,
    "ups": 4,
    "resblocks": 2,
    "dec_in": 3,
    "enc_p_io": 2,
}
"""Ranks that fill 387 KB at v2 40k in 8 bits; other sizes and bases have them in proportion. Beside a preset's layers
it has the inputs of enc_p and decoder: a full voice moved them. The flow has least: with an adapter's flow in the full
voice 0.2% of its gain was lost, with its decoder 0.3%, with its enc_p 1.7%. At these ranks more for enc_p and less for
the decoder keeps less (docs/convert.md)."""
_DROPPED = ("dec_in", "enc_p_io", "resblocks", "enc_p_attn", "ups", "enc_p_ffn")
"""What is left out, in this order, where even rank 1 everywhere is too large."""


@dataclass(frozen=True)
class Size:
    """What was asked for. max_bytes: of the file, which ranks are chosen to fill; None: as large as the ranks of the
    preset make it."""

    max_bytes: Optional[int] = int(MAX_KB * 1000)
    preset: Optional[str] = None
    rank: Optional[int] = None
    bits: int = BITS


def shapes_of(network: nn.Module, config: LoRAConfig) -> Dict[str, Tuple[int, ...]]:
    """Shapes of the adapter's tensors on `network`, by their names.

    Raises:
        UserError: a rank does not fit a layer.
    """
    found: Dict[str, Tuple[int, ...]] = {}
    for path, module in network.named_modules():
        target = config.target_of(path)
        if target is None:
            continue
        kind: Any = layer_class(module, form_of(target))
        rank = config.targets[target].r
        if has_rank(target) and rank > kind.fitting_rank(module, rank):
            raise UserError("rank {rank} does not fit {path}, whose smaller side is {side}: give at most {side}",
                            rank=rank, path=path, side=kind.fitting_rank(module, rank))
        found.update({f"{path}.{key}": shape for key, shape in kind.file_shapes(module, rank).items()})
    return found


def size_of(network: nn.Module, config: LoRAConfig, metadata: Mapping[str, Any], bits: int) -> int:
    """At most so many bytes will the adapter's file have: no more than 2% above what it really has, and worked out
    without making it.

    metadata: as long as it will be.
    """
    return header_bytes(config, metadata) + tensor_bytes(shapes_of(network, config), bits)


def header_bytes(config: LoRAConfig, metadata: Mapping[str, Any]) -> int:
    """Bytes of what stands before the tensors of a file, without their entries."""
    values = sum(
        len(json.dumps(str(item))) + len(key) + 4
        for key, item in {**metadata, **model_spec(metadata)}.items()
        if key not in ("lora_config", "checksum")
    )
    return 424 + values + len(json.dumps(config.to_json()))


def tensor_bytes(shapes: Mapping[str, Tuple[int, ...]], bits: int) -> int:
    """Bytes of tensors, and of their entries in the header. shapes: by the file's names."""
    total, axes = 0, component_axes(shapes)
    for name, shape in shapes.items():
        values, axis = math.prod(shape), axes[name]
        if bits == 8 and axis is not None:
            components = shape[axis]
            total += values + 2 * components + _entry(name + "_scale", (components,))
        else:
            total += 2 * values
        total += _entry(name, shape)
    return total


def _entry(name: str, shape: Tuple[int, ...]) -> int:
    """Bytes of a tensor's entry in a safetensors header, its places in the file taken to have six digits each."""
    return len(name) + len(
        f'"":{{"dtype":"F16","shape":[{",".join(map(str, shape))}],"data_offsets":[123456,123456]}},'
    )


def smallest_sides(network: nn.Module) -> Dict[str, int]:
    """The highest rank that every layer of a target of PROFILE can have."""
    every = LoRAConfig(targets={name: {"r": 1, "lora_alpha": 1} for name in PROFILE})
    sides: Dict[str, int] = {}
    for path, module in network.named_modules():
        target = every.target_of(path)
        if target is not None:
            kind: Any = layer_class(module)
            sides[target] = min(sides.get(target, 1 << 30), kind.shapes(module, 1)[2])
    return sides


def ranks_config(ranks: Mapping[str, int], name: str) -> LoRAConfig:
    """A configuration of these ranks, whose deltas are not scaled, and the speaker's row."""
    targets: Dict[str, Any] = {target: {"r": rank, "lora_alpha": rank} for target, rank in ranks.items() if rank}
    targets["spk_row"] = {"r": 1, "lora_alpha": 1}
    return LoRAConfig(targets=targets, preset=name)


def config_for(network: nn.Module, size: Size, metadata: Mapping[str, Any]) -> LoRAConfig:
    """The layers and ranks of a converted voice.

    Raises:
        UserError: a preset or rank that does not fit the size, or a size that holds no adapter; the message gives the
            figures.
    """
    if size.preset is not None or size.rank is not None:
        if size.preset is not None:
            config = LoRAConfig.from_preset(size.preset, size.rank)
        else:
            config = ranks_config(dict.fromkeys(PROFILE, size.rank or 1), f"converted, rank {size.rank}")
        if size.max_bytes is not None:
            wanted = size_of(network, config, metadata, size.bits)
            if wanted > size.max_bytes:
                raise UserError("an adapter of {preset} takes {wanted:.0f} KB in {bits} bits on this base, and "
                                "--max_kb is {max_bytes:g}: give a lower --rank, a smaller --preset, or a larger "
                                "--max_kb",
                                preset=config.preset, wanted=wanted / 1000, bits=size.bits,
                                max_bytes=size.max_bytes / 1000)
        return config
    return _largest(network, size, metadata)


def _largest(network: nn.Module, size: Size, metadata: Mapping[str, Any]) -> LoRAConfig:
    sides = smallest_sides(network)
    limit = size.max_bytes if size.max_bytes is not None else 1 << 62

    def scaled(factor: float) -> Dict[str, int]:
        return {
            target: min(max(1, int(rank * factor)), sides[target])
            for target, rank in PROFILE.items()
            if target in sides
        }

    def fits(ranks: Mapping[str, int]) -> bool:
        return size_of(network, ranks_config(ranks, "converted"), metadata, size.bits) <= limit

    if not fits(scaled(0.0)):
        return _fewer_layers(network, sides, fits, size, metadata)
    low, high = 0.0, 1.0
    if fits(scaled(1.0)):
        if size.max_bytes is None:
            return ranks_config(scaled(1.0), "converted")
        while high < 1024 and fits(scaled(2 * high)):
            high *= 2
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(scaled(middle)) else (low, middle)
    return ranks_config(_grown(scaled(low), sides, fits), "converted")


def _grown(ranks: Dict[str, int], sides: Mapping[str, int], fits: Callable[[Mapping[str, int]], bool]
           ) -> Dict[str, int]:
    """The ranks raised one after another, as long as the file takes it."""
    growing = True
    while growing:
        growing = False
        for target in ranks:
            more = {**ranks, target: min(ranks[target] + 1, sides[target])}
            if more != ranks and fits(more):
                ranks, growing = more, True
    return ranks


def _fewer_layers(
    network: nn.Module, sides: Dict[str, int], fits: Any, size: Size, metadata: Mapping[str, Any]
) -> LoRAConfig:
    ranks = {target: 1 for target in PROFILE if target in sides}
    for target in _DROPPED:
        ranks.pop(target, None)
        if fits(ranks):
            return ranks_config(_grown(ranks, sides, fits), "converted")
    least = size_of(network, ranks_config(ranks, "converted"), metadata, size.bits)
    raise UserError("no adapter of this base is as small as {max_bytes:g} KB: the smallest takes {least:.0f} KB; give "
                    "a larger --max_kb", max_bytes=(size.max_bytes or 0) / 1000, least=least / 1000)
