"""Starting from another adapter in place of one that changes nothing."""

from __future__ import annotations

import re

import torch

from ..lora import Adapter
from ..lora.adapter_file import check_base, tensors_hash
from ..messages import Text, UserError
from ..models import PRESETS, BaseInfo, SynthesizerLoRA
from ..models.prior_noise import noise_layers


def identity(adapter: Adapter) -> str:
    """What tells this start from others: SHA-256 of its tensors."""
    return tensors_hash(adapter.tensors.items())


def check_start(adapter: Adapter, model: SynthesizerLoRA, info: BaseInfo) -> None:
    """
    Raises:
        UserError: it is of another base, or of other layers or ranks than the run trains.
    """
    check_base(adapter, info.base_hash, info.name)
    wanted = {name: tuple(parameter.shape) for name, parameter in model.injection.tensors().items()}
    found = {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
    own = noise_layers(adapter)  # the run sets it by itself, at each save
    for name in [name for name in found if name not in wanted and name.rpartition(".lora_")[0] in own]:
        del found[name]
    advice = _advice(adapter.config.preset, model.injection.config.preset)
    for name in sorted(set(wanted) ^ set(found)):
        if name in wanted:
            raise UserError("--init needs this run's layers: {adapter!r} has no {name}, which this run trains: "
                            "{advice}", adapter=adapter.name, name=name, advice=advice)
        raise UserError("--init needs this run's layers: {adapter!r} has {name}, which this run does not train: "
                        "{advice}", adapter=adapter.name, name=name, advice=advice)
    for name, shape in wanted.items():
        if found[name] != shape:
            raise UserError("--init needs this run's ranks: {name} of {adapter!r} has the shape {found}, this run's "
                            "{shape}: {advice}", name=name, adapter=adapter.name, found=found[name], shape=shape,
                            advice=advice)


def _advice(theirs: str, own: str) -> Text:
    """What makes the run's layers those of the adapter. theirs, own: what `LoRAConfig.preset` says of the two."""
    known = re.fullmatch(r"(\w+)(?:, rank (\d{1,4}))?(?:, alpha ([0-9.e+-]{1,12}))?", theirs)
    if known is None or known.group(1) not in PRESETS or theirs == own:
        return Text("choose another adapter, or give the run its layers and ranks (setting lora, docs/settings.md)")
    options = zip(("--preset", "--lora_rank", "--lora_alpha"), known.groups())
    return Text("train with {options}, as it was trained, or choose another adapter",
                options=" ".join(f"{option} {value}" for option, value in options if value is not None))


@torch.no_grad()
def begin_with(model: SynthesizerLoRA, adapter: Adapter) -> None:
    """Write the adapter's values into what is trained; `check_start` has been passed. What the two scale differently is
    evened out in B."""
    own, theirs, up = model.injection.config, adapter.config, model.injection.up()
    for name, parameter in model.injection.tensors().items():
        value = adapter.tensors[name].to(parameter)
        if name in up:
            path = name.rpartition(".lora_")[0]
            target, their = own.target_of(path) or "", theirs.target_of(path) or ""
            value = value * (theirs.scaling(their) / own.scaling(target))
        parameter.copy_(value)
