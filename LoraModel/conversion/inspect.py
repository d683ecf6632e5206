"""What a model file says, and what an adapter would change, found without loading it into a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

from torch import Tensor

from ..lora import Adapter, load_adapter
from ..lora.adapter_metadata import PREVIEW_KINDS, one_line, preview_sound
from ..messages import Text, tr
from ..models import model_kind, read_checkpoint
from ..models.prior_noise import noise_layers
from ..names import shown
from .factors import exact_of, products_of, row_of

PARTS = {
    "enc_p": Text("text encoder"),
    "flow": Text("flow"),
    "dec": Text("decoder"),
    "emb_g": Text("speaker"),
}


def describe(path: Path) -> List[str]:
    """What a model file says of itself, a line each; nothing in it is run.

    Raises:
        UserError: missing, damaged or unsafe.
    """
    if path.suffix.lower() == ".safetensors" and model_kind(path).kind not in ("base", "voice"):
        return describe_adapter(path)
    return describe_model(path)


def describe_adapter(path: Path) -> List[str]:
    """An adapter's metadata, and for each part of the network how many layers it changes, and how much."""
    adapter = load_adapter(path)
    values = sum(tensor.numel() for tensor in adapter.tensors.values())
    lines = [tr("adapter: {layers} layers, {values} values, {size} bytes", layers=len(adapter.layers()), values=values,
                size=path.stat().st_size)]
    metadata = {**adapter.metadata}
    sound = preview_sound(metadata.pop("preview", ""))
    lines += [f"{key}: {value}" for key, value in sorted(metadata.items())]
    if sound:
        lines.append(tr("preview: {count} bytes, {kind}", count=len(sound), kind=PREVIEW_KINDS[sound[:4]]))
    lines.append(tr("what it would change at strength 1:"))
    for part, (layers, ranks, size) in changes(adapter).items():
        rank = f"{min(ranks)}" if len(set(ranks)) == 1 else f"{min(ranks)}–{max(ranks)}"
        lines.append(
            tr("  {name} ({part}): {layers} layers, rank {rank}, size of the change {size:.3g}",
               name=PARTS.get(part, part), part=part, layers=layers, rank=rank, size=size)
        )
    if noise_layers(adapter):
        lines.append(tr("  the noise that the voice is heard with (a shift of the text encoder's log scale)"))
    return lines


def changes(adapter: Adapter) -> Dict[str, Tuple[int, List[int], float]]:
    """(layers, their ranks, root of the sum of squares of the deltas) of each part of the network."""
    found: Dict[str, Tuple[int, List[int], float]] = {}
    noise = noise_layers(adapter)
    for path, product in products_of(adapter).items():
        if path in noise:  # of another kind and size than what is learnt
            continue
        part = one_line(path.partition(".")[0], 40)
        layers, ranks, energy = found.get(part, (0, [], 0.0))
        found[part] = (layers + 1, [*ranks, product.rank], energy + product.energy())
    for name, tensor in exact_of(adapter).items():
        part = one_line(name.partition(".")[0], 40)
        layers, ranks, energy = found.get(part, (0, [], 0.0))
        found[part] = (layers + 1, [*ranks, 1], energy + float(tensor.square().sum()))
    row = row_of(adapter)
    if row is not None and "emb_g" not in found:
        found["emb_g"] = (1, [1], float(row.square().sum()))
    return {part: (layers, ranks, math.sqrt(energy)) for part, (layers, ranks, energy) in found.items()}


def describe_model(path: Path) -> List[str]:
    """A base, a voice or a training checkpoint."""
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("weight", checkpoint.get("model", {}))
    tensors = (
        {key: value for key, value in weights.items() if isinstance(value, Tensor)}
        if isinstance(weights, dict)
        else {}
    )
    kind = (
        Text("small RVC model")
        if "weight" in checkpoint
        else Text("pretrained base or training checkpoint")
        if "model" in checkpoint
        else Text("unknown")
    )
    lines = [tr("{kind}: {tensors} tensors, {values} values, {size} bytes", kind=kind, tensors=len(tensors),
                values=sum(tensor.numel() for tensor in tensors.values()), size=path.stat().st_size)]
    lines += [
        f"{one_line(key, 80)}: {_value(value)}"
        for key, value in checkpoint.items()
        if isinstance(value, (str, int, float, list, tuple))
    ]
    if "enc_p.emb_phone.weight" in tensors:
        lines += [
            tr("features: {count}", count=_side(tensors["enc_p.emb_phone.weight"], 1)),
            f"f0: {int('enc_p.emb_pitch.weight' in tensors)}",
            tr("speakers: {count}", count=_side(tensors.get("emb_g.weight"), 0)),
            f"enc_q: {int(any(str(key).startswith('enc_q.') for key in tensors))}",
        ]
    return lines


def _side(matrix: Any, at: int) -> str:
    """One side of a matrix; "?" where a stranger's file has none, or something else in its place."""
    return str(matrix.shape[at]) if isinstance(matrix, Tensor) and matrix.dim() == 2 else "?"


def _value(value: object) -> str:
    if isinstance(value, str):
        return one_line(value, 500)
    return one_line(value, 500) if isinstance(value, (list, tuple, float)) else shown(value)[1:-1]
