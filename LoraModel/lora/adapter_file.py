"""The adapter file: one `.safetensors` a voice.

Tensors are named `<module path>.lora_A.weight`, `<module path>.lora_B.weight` (PEFT's names and shapes where PEFT has
the layer) and `emb_g.lora_row.weight` for the speaker's row. Metadata is strings, listed in `FIELDS`. Nothing in it is
ever unpickled, mapped or trusted: `adapter_bytes` and `adapter_metadata` check before memory is taken.
docs/adapter_format.md describes the format for other programs.

In 8 bits each rank component of a factor (a row of A, a column of B) is stored as int8 with one fp16 scale, in a
tensor named `<tensor>_scale`: the error of a value is at most half its scale, about 1/254 of the largest of its
component.

A safetensors file has no checksum of its own: `checksum` in the metadata is one, over metadata and tensors
(`checksum()`).
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Mapping, Optional, Tuple, Union

import safetensors.torch
import torch
from torch import Tensor, nn

from ..files import atomic_write
from ..messages import Text, UserError
from ..places import near_words
from ..recent import Recent
from .adapter_bytes import Stamp, read_header, read_tensors, stamp_of
from .adapter_layer import by_layer, component_axes, kind_of, place_of
from .adapter_metadata import (
    FIELDS,
    FORMAT,
    FORMAT_VERSION,
    REQUIRED,
    check_metadata,
    checked_field,
    damaged,
    one_line,
    preview_sound,
)
from .lora_config import LoRAConfig
from .lora_layer import SpeakerRow, delta_product, dense_delta, layer_class
from .model_spec import model_spec
from .targets import form_of

_OWN = ("format", "format_version", "checksum", "lora_config")
"""Metadata that `save_adapter` writes by itself."""

_SCALE = "_scale"


@dataclass(eq=False)
class Adapter:
    """An adapter in memory: one is equal to itself alone, and may be a key, as in {adapter: strength}.

    Attributes:
        tensors: fp16 or fp32, by the file's names.
        config: targets with rank and alpha.
        metadata: the fields of FIELDS, as strings.
    """

    tensors: Dict[str, Tensor]
    config: LoRAConfig
    metadata: Dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the voice is called."""
        return self.metadata.get("name", "")

    @property
    def speaker(self) -> int:
        """The row of the speaker table that it was trained on."""
        return int(self.metadata.get("speaker", "0"))

    def layers(self) -> Dict[str, Dict[str, Tensor]]:
        """Tensors by module path: {path: {"lora_A.weight": …, "lora_B.weight": …}}."""
        return by_layer(self.tensors)

    def check(self, network: nn.Module) -> None:
        """Check every key and shape against the network that the adapter is to sit on.

        Raises:
            UserError: names the first key that is missing, left over or of another shape.
        """
        modules = dict(network.named_modules())
        layers = self.layers()
        expected = {path: target for path, target in ((p, self.config.target_of(p)) for p in modules) if target}
        for path in sorted(set(expected) ^ set(layers)):
            what = Text("lacks") if path in expected else Text(
                "has, but its configuration or the network does not know,")
            raise UserError("adapter {name!r} {what} the layer {path}: it is damaged or of another network",
                            name=self.name, what=what, path=path)
        for path, target in expected.items():
            kind = layer_class(modules[path], form_of(target))
            wanted = kind.file_shapes(modules[path], self.config.targets[target].r) if kind is not None else {}
            found = {key: tuple(tensor.shape) for key, tensor in layers[path].items()}
            if found != wanted:
                raise UserError("adapter {name!r}: {path} has {found}, the network wants {wanted}", name=self.name,
                                path=path, found=found, wanted=wanted)
            if kind is SpeakerRow and not 0 <= self.speaker < modules[path].num_embeddings:
                raise UserError("adapter {name!r} adapts speaker {speaker}, the base has {num_embeddings}",
                                name=self.name, speaker=self.speaker, num_embeddings=modules[path].num_embeddings)

    def _scaling(self, path: str) -> float:
        target = self.config.target_of(path)
        return self.config.scaling(target) if target is not None else 1.0

    def deltas(self, network: nn.Module, strength: float = 1.0) -> Dict[str, Tensor]:
        """strength * scale * B A for each layer, dense, fp32, on the network's device."""
        return {
            place_of(path, kind_of(layer, tensors)): strength * dense_delta(layer, tensors, self._scaling(path),
                                                                            self.speaker)
            for path, tensors in self.layers().items() for layer in [network.get_submodule(path)]
        }

    def products(self, network: nn.Module) -> Dict[str, Tuple[Tensor, Tensor]]:
        """The delta of each layer as (left, right), for `LiveWeights.write_products`: fp32, on the network's device."""
        return {
            place_of(path, kind_of(layer, tensors)): delta_product(layer, tensors, self._scaling(path), self.speaker)
            for path, tensors in self.layers().items() for layer in [network.get_submodule(path)]
        }


def tensors_hash(tensors: Iterable[Tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes and values in fp16, in the order of the names: the same for any container file.

    Values are taken in fp16 so that a base and its half-precision copy, which RVC uses alike, are the same base.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name}{tuple(tensor.shape)}".encode("utf-8", "surrogatepass"))
        digest.update(tensor.detach().to(device="cpu", dtype=torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the metadata (without `checksum`) and the stored tensors, each in the order of the names.

    A line `key=value` for each field, in UTF-8; then for each tensor a line `name dtype [shape]` and its bytes.
    """
    digest = hashlib.sha256()
    for key in sorted(set(metadata) - {"checksum"}):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {str(tensor.dtype).replace('torch.', '')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _quantize(name: str, tensor: Tensor, axis: int) -> Dict[str, Tensor]:
    """axis: that counts the rank's components."""
    rows = tensor.float().transpose(0, axis)  # (components, ...)
    exact = rows.flatten(1).abs().amax(1) / 127  # (components,)
    scale = exact.to(torch.float16)
    # Rounded up, never down: a scale below the exact one would clip the largest values, and small scales round
    # coarsely.
    # Adding one to the bits of a positive fp16 number gives the next larger one.
    scale = torch.where(scale.float() < exact, (scale.view(torch.int16) + 1).view(torch.float16), scale)
    # A component of zeros has scale 0.
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale).float()
    steps = torch.round(rows / divisor.view(-1, *[1] * (rows.dim() - 1))).clamp(-127, 127)
    return {name: steps.transpose(0, axis).contiguous().to(torch.int8), name + _SCALE: scale}


def _dequantize(name: str, tensor: Tensor, scale: Tensor, axis: int) -> Tensor:
    if tensor.dim() < 2 or scale.shape != (tensor.shape[axis],):
        raise UserError("tensor {name} has shape {shape} but {shape_2} scales: the file is damaged", name=name,
                        shape=tuple(tensor.shape), shape_2=tuple(scale.shape))
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return tensor.float() * scale.float().view(shape)


def save_adapter(
    path: Union[str, Path], tensors: Mapping[str, Tensor], config: LoRAConfig, metadata: Mapping[str, Any],
    bits: int = 16
) -> Path:
    """Write an adapter file, whole or not at all. Arguments and ValueError as `adapter_contents`.

    Raises:
        OSError: as the file system gives it; an older file of that name is left as it was.
    """
    atomic_write(path, adapter_contents(tensors, config, metadata, bits))
    return Path(path)


def adapter_contents(tensors: Mapping[str, Tensor], config: LoRAConfig, metadata: Mapping[str, Any],
                     bits: int = 16) -> bytes:
    """An adapter file's bytes.

    Args:
        tensors: by the file's names, as `Injection.tensors()` gives them.
        metadata: fields of FIELDS; values are written as strings. What a loaded adapter's metadata holds beside them
            is made anew.
        bits: 16 (fp16) or 8.

    Raises:
        ValueError: a field that is not known or is missing, values that are not finite, bits other than 16 and 8.
    """
    # A file name may hold bytes that are no UTF-8 (lone surrogates in Python): they become question marks.
    fields = {key: str(value).encode("utf-8", "replace").decode() for key, value in metadata.items() if key not in _OWN}
    fields["lora_config"] = config.to_json()
    fields.setdefault("preset", config.preset)
    unknown, missing = set(fields) - set(FIELDS), set(REQUIRED) - set(fields)
    if unknown or missing:
        raise ValueError(f"adapter metadata: unknown {sorted(unknown)}, missing {sorted(missing)}")
    stored = stored_tensors(tensors, bits)
    return _written(fields, stored)


def _written(fields: Mapping[str, str], stored: Mapping[str, Tensor]) -> bytes:
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, **fields, **model_spec(fields)}
    header["checksum"] = checksum(header, stored)
    return safetensors.torch.save(dict(stored), header)


def edit_metadata(path: Union[str, Path], fields: Mapping[str, str]) -> None:
    """Change what an adapter's file says of itself; its tensors keep their bytes. The file is written whole or not at
    all.

    Args:
        fields: of FIELDS, those that only describe; "" takes one away.

    Raises:
        UserError: the file is no adapter, or a field cannot hold its value. OSError: as the file system gives it.
    """
    path = Path(path)
    own = load_adapter(path).metadata
    with _opened(path) as stream:
        stored = read_tensors(path, stream, read_header(path, stream))
    kept = {key: value for key, value in own.items() if key in FIELDS}
    kept.update({key: checked_field(key, value) for key, value in fields.items()})
    atomic_write(path, _written({key: value for key, value in kept.items() if value or key in REQUIRED}, stored))


def stored_tensors(tensors: Mapping[str, Tensor], bits: int) -> Dict[str, Tensor]:
    """What the file holds: fp16, or int8 with scales beside each.

    Raises:
        ValueError: bits other than 16 and 8. UserError: values that are not finite, a tensor that is no matrix.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits={bits}: an adapter is stored in 16 or in 8 bits")
    stored: Dict[str, Tensor] = {}
    axes = component_axes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        half = tensor.detach().cpu().to(torch.float16).contiguous()
        if not bool(torch.isfinite(half).all()):
            raise UserError("tensor {name} has values that are not finite in fp16: training went astray, a strength "
                            "is too high, or the adapter is damaged", name=one_line(name))
        axis = axes[name]
        if bits == 8 and axis is not None:
            if tensor.dim() < 2:
                raise UserError("tensor {name} has shape {shape}: the adapter is damaged, make it again",
                                name=one_line(name), shape=tuple(tensor.shape))
            stored.update(_quantize(name, tensor.detach().cpu(), axis))
        else:
            stored[name] = half
    return stored


def rounded(tensors: Mapping[str, Tensor], bits: int) -> Dict[str, Tensor]:
    """The values that a reader of the file gets: `tensors` rounded to 16 or 8 bits."""
    return _values(Path("adapter"), stored_tensors(tensors, bits))


_HEADERS: Recent[Tuple[Stamp, Dict[str, str]]] = Recent(512)
"""Metadata of the files that were asked for last: a page asks for it several times a click, a list for that of every
file."""
_HEADERS_LOCK = threading.Lock()


def read_metadata(path: Union[str, Path]) -> Dict[str, str]:
    """The metadata of an adapter file, checked (`adapter_metadata`), without its tensors; one that has not changed is
    not read again.

    Raises:
        UserError: not a safetensors file, or not an adapter of this format.
    """
    path = Path(path)
    stamp = stamp_of(path)
    with _HEADERS_LOCK:
        known = _HEADERS.get(path)
        if known is not None and known[0] == stamp:
            return dict(known[1])
    with _opened(path) as stream:
        metadata = check_metadata(path, read_header(path, stream).metadata)
    metadata.pop("preview", None)  # `read_preview` gives it: the others are kept in memory
    if stamp is not None:
        with _HEADERS_LOCK:
            _HEADERS.put(path, (stamp, metadata))
    return dict(metadata)


def read_preview(path: Union[str, Path]) -> bytes:
    """The sound that an adapter's file carries, a whole Ogg or FLAC file; b"" where it carries none. For a player: what
    is in it, nobody has looked at.

    Raises:
        UserError: as `read_metadata`.
    """
    path = Path(path)
    with _opened(path) as stream:
        return preview_sound(check_metadata(path, read_header(path, stream).metadata).get("preview", ""))


def load_adapter(path: Union[str, Path], base_hash: Optional[str] = None, base_name: str = "",
                 force: bool = False) -> Adapter:
    """Read an adapter file.

    Args:
        base_hash, base_name: of the loaded base; None checks nothing.
        force: take the adapter on another base than its own.

    Raises:
        UserError: the file is missing, damaged or of another format, or was trained on another base; the message names
            both.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = read_header(path, stream)
        metadata = check_metadata(path, header.metadata)
        tensors = read_tensors(path, stream, header)
    if metadata["checksum"] != checksum(header.metadata, tensors):
        raise damaged(path, Text("its checksum does not match its contents"))
    try:
        config = LoRAConfig.from_json(metadata["lora_config"])
    except UserError as error:
        raise damaged(path, error) from None
    adapter = Adapter(_values(path, tensors), config, metadata)
    if base_hash is not None and not force:
        check_base(adapter, base_hash, base_name)
    return adapter


def check_base(adapter: Adapter, base_hash: str, base_name: str) -> None:
    """
    Raises:
        UserError: the adapter was trained on another base; the message names both.
    """
    metadata = adapter.metadata
    if metadata["base_hash"] != base_hash:
        base = one_line(base_name)
        raise UserError("adapter {adapter_name!r} was trained on base {base_name} ({base_hash}…), the loaded base is "
                        "{base} ({base_hash_2}…): choose that base or pass --force",
                        adapter_name=adapter.name, base_name=metadata["base_name"], base_hash=metadata["base_hash"][:8],
                        base=base, base_hash_2=base_hash[:8])


def _values(path: Path, stored: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """The adapter's tensors as floating-point numbers: those stored in 8 bits multiplied by their scales, none wider
    than fp32. No adapter is written with values beyond fp16's (`stored_tensors`), and products of larger ones would be
    infinite in the network."""
    tensors: Dict[str, Tensor] = {}
    axes = component_axes({name: tuple(tensor.shape) for name, tensor in stored.items() if not name.endswith(_SCALE)})
    for name, tensor in stored.items():
        if name.endswith(_SCALE):
            if name[: -len(_SCALE)] not in stored:
                raise damaged(path, Text("scale {name} without its tensor", name=name))
            continue
        if ".lora_" not in name:
            raise damaged(path, Text("unknown tensor {name}", name=name))
        if tensor.dtype == torch.int8:
            if name + _SCALE not in stored:
                raise damaged(path, Text("tensor {name} without its scale", name=name))
            tensor = _dequantize(name, tensor, stored[name + _SCALE], axes[name] or 0)
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.to(torch.float16)).all()):
            raise damaged(path, Text("tensor {name} is not finite", name=name))
        tensors[name] = tensor.float() if tensor.dtype == torch.float64 else tensor
    return tensors


def _opened(path: Path) -> BinaryIO:
    """Open an adapter file. Raises UserError where there is none, or it cannot be read."""
    if stamp_of(path) is None or not path.is_file():
        shown = one_line(path, 300)
        near = near_words(path) if path.is_dir() or not path.exists() else ""
        raise UserError("there is no adapter file {shown}{near}: check the path", shown=shown,
                        near=near)
    try:
        return open(str(path), "rb")
    except OSError as error:
        raise damaged(path, one_line(error.strerror or error)) from None
