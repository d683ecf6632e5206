"""Several adapters as one: the exact sum that `VoiceLoader.set_adapters` makes, by their factors side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..lora import Adapter
from ..lora.adapter_file import tensors_hash
from ..lora.adapter_metadata import Part, parts_text
from ..lora.voice_pitch import pitch_of_blend
from ..messages import Text, UserError
from .factors import Product, adapter_of, exact_of, products_of, row_of

MOST = 16
"""Adapters in one blend."""


def check_same_base(adapters: Sequence[Adapter], force: bool = False) -> None:
    """Check that all were made for one base.

    Raises:
        UserError: two were not; both, and their bases, are named.
    """
    first = adapters[0]
    for other in adapters[1:]:
        same = all(first.metadata[key] == other.metadata[key] for key in ("rvc_version", "sample_rate", "f0"))
        if not same or (first.metadata["base_hash"] != other.metadata["base_hash"] and not force):
            one, two = (
                f"{a.metadata['base_name']} ({a.metadata['base_hash'][:8]}…, {a.metadata['sample_rate']} Hz)"
                for a in (first, other)
            )
            raise UserError(
                "adapter {first_name!r} is of base {one}, adapter {other_name!r} of base {two}: adapters of one base "
                "alone blend{also}",
                first_name=first.name, one=one, other_name=other.name, two=two,
                also=Text(", or pass --force") if same else "",
            )


def blend(
    adapters: Sequence[Tuple[Adapter, float]], name: str, table: Optional[Tensor] = None, force: bool = False,
    files: Sequence[str] = (),
) -> Adapter:
    """The sum of strength * delta as one adapter of row 0: its ranks are the sums of theirs, at most a layer's smaller
    side.

    Args:
        adapters: (adapter, strength) pairs. table: the base's speaker table, (rows, size), which voices of other
            rows need. files: their names, by which a page finds them again.

    Raises:
        UserError: adapters of different bases, or of rows that cannot be blended without the base.
    """
    if not 1 <= len(adapters) <= MOST:
        raise UserError("give 1 to {most} adapters, not {count}", most=MOST, count=len(adapters))
    check_same_base([adapter for adapter, _ in adapters], force)
    parts: Dict[str, List[Tuple[Product, float]]] = {}
    for adapter, strength in adapters:
        for path, product in products_of(adapter).items():
            if path != "emb_g":
                parts.setdefault(path, []).append((product, strength))
    products = {}
    for path, some in parts.items():
        if len({(product.kind, product.shapes) for product, _ in some}) > 1:
            raise UserError("the layer {path} has other shapes in these adapters: they are of different bases",
                            path=path)
        left = torch.cat([product.left * strength for product, strength in some], 1)
        products[path] = some[0][0]._replace(left=left, right=torch.cat([product.right for product, _ in some], 0))
    row = _row(adapters, table)
    made = adapter_of(products, adapters[0][0], "blend", row, _exact(adapters))
    made.metadata = {**_metadata(adapters), "name": name}
    if len(files) == len(adapters) and all(adapter.metadata.get("checksum") for adapter, _ in adapters):
        made.metadata["parts"] = parts_text([Part(file, adapter.metadata["checksum"], strength)
                                             for file, (adapter, strength) in zip(files, adapters)])
    return made


def _exact(adapters: Sequence[Tuple[Adapter, float]]) -> Dict[str, Tensor]:
    """What has no rank, added up."""
    total: Dict[str, Tensor] = {}
    for adapter, strength in adapters:
        for name, tensor in exact_of(adapter).items():
            if name in total and total[name].shape != tensor.shape:
                raise UserError("the layer {path} has other shapes in these adapters: they are of different bases",
                                path=name.rpartition(".lora_")[0])
            total[name] = total[name] + strength * tensor if name in total else strength * tensor
    return total


def _row(adapters: Sequence[Tuple[Adapter, float]], table: Optional[Tensor]) -> Optional[Tensor]:
    """The delta of row 0 of the table, as `VoiceLoader` makes it; None where no adapter changes it."""
    row: Optional[Tensor] = None
    for adapter, strength in adapters:
        delta = row_of(adapter)
        if adapter.speaker:
            if table is None or not 0 <= adapter.speaker < len(table):
                raise UserError("adapter {adapter_name!r} was trained on row {speaker} of its base's speakers: name "
                                "the base with --base_model, so that the row can be blended",
                                adapter_name=adapter.name, speaker=adapter.speaker)
            moved = table[adapter.speaker].float() - table[0].float()
            if delta is not None and delta.shape != moved.shape:
                raise other_base(adapter)
            delta = moved if delta is None else delta + moved
        if delta is not None and row is not None and delta.shape != row.shape:
            raise UserError("the layer {path} has other shapes in these adapters: they are of different bases",
                            path="emb_g")
        if delta is not None:
            row = strength * delta if row is None else row + strength * delta
    return row


def _metadata(adapters: Sequence[Tuple[Adapter, float]]) -> Dict[str, Any]:
    first = adapters[0][0].metadata
    kept = {key: first[key] for key in ("base_hash", "base_name", "rvc_version", "sample_rate", "f0")}
    mixture = " + ".join(f"{strength:g} x {adapter.name}" for adapter, strength in adapters)
    for key in ("author", "license"):
        values = {adapter.metadata.get(key, "") for adapter, _ in adapters} - {""}
        kept[key] = "; ".join(sorted(values))
    pitch = pitch_of_blend([(adapter.metadata, strength) for adapter, strength in adapters])
    return {**kept, "speaker": "0", "notes": f"blend: {mixture}", "pitch": "" if pitch is None else pitch.to_text()}


def other_base(adapter: Adapter) -> UserError:
    """That the base which was given is not the one of an adapter."""
    return UserError("adapter {adapter_name!r} was trained on base {base_name} ({base_hash}…), --base_model is another "
                     "one: give that base", adapter_name=adapter.name, base_name=adapter.metadata["base_name"],
                     base_hash=adapter.metadata["base_hash"][:8])


def table_of(base: Path, adapters: Sequence[Tuple[Adapter, float]] = (), force: bool = False) -> Tensor:
    """The speaker table of a base's file, fp32.

    Args:
        adapters: with their strengths; they must be of this base. force: take another one.

    Raises:
        UserError: it is no base, or not the one of the adapters.
    """
    from ..models.checkpoint_file import open_checkpoint
    from ..models.model_utils import generator_form

    with open_checkpoint(base) as file:
        form = generator_form(base, file.contents)
        if adapters and not force:
            weights = form.tensors(file.tensor)
            found = tensors_hash((key, value) for key, value in weights.items() if not key.startswith("enc_q."))
            for adapter, _ in adapters:
                if adapter.metadata["base_hash"] != found:
                    raise other_base(adapter)
        table = file.tensor(form.weights["emb_g.weight"]).float()
    if not bool(torch.isfinite(table).all()):
        raise UserError("{base} is damaged: {key} holds values that are no numbers (NaN or infinity). Download it "
                        "again, or choose another", base=base, key="emb_g.weight")
    return table
