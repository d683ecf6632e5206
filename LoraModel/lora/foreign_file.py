"""What a file is that was given as an adapter and is none, in the user's words.

Names of tensors and the first bytes tell: nothing is loaded for it.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Optional

from ..first_bytes import what_starts_so
from ..messages import Text

_MODEL = Text("it is a model file of PyTorch (.pth), such as a full voice or a base: give that as the base or as the "
              "voice itself")
_SOVITS = Text("it is a voice or LoRA of GPT-SoVITS, which RVC cannot use")


def what_it_is(start: bytes) -> Optional[Text]:
    """Told by the first bytes; None where they say nothing."""
    if start[:2] in (b"03", b"04") and (start[2:4] == b"\x03\x04" or b"data.pkl" in start):
        return _SOVITS  # a zip whose first two bytes are the version of that program
    if start[:2] == b"PK":
        if b"cfm." in start or b"lora_rank" in start:
            return _SOVITS
        return _MODEL if b"data.pkl" in start or b".data/" in start else Text("it is a zip archive: unpack it")
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return _MODEL
    found = what_starts_so(start)
    return None if found is None else found.words()


def what_tensors_are(names: Iterable[str], metadata: Mapping[str, str]) -> Optional[Text]:
    """Told by the names of a safetensors file's tensors and by its metadata; None for what may be our own."""
    if metadata.get("format") == "rvc-lora":
        return None
    names = [name for name in names if isinstance(name, str)]
    if any(key.startswith("ss_") for key in metadata) or any(
            name.startswith(("lora_unet_", "lora_te", "lycoris_")) or ".lora_down." in name or ".hada_w1" in name
            for name in names):
        return Text("it is a kohya LoRA for images (Stable Diffusion), which RVC cannot use")
    if any("cfm." in name and "lora_" in name for name in names) or "lora_rank" in metadata:
        return _SOVITS
    if any(name.startswith("base_model.model.") or ".lora_A.default." in name for name in names):
        return Text("it is a PEFT LoRA for another kind of model, which RVC cannot use")
    if any(name.startswith(("unet.", "transformer.", "text_encoder.")) and "lora" in name for name in names):
        return Text("it is a diffusers LoRA for images, which RVC cannot use")
    if any(name in ("enc_p.emb_phone.weight", "emb_g.weight") for name in names):
        return Text("it is a full voice or a base, not an adapter: give it as the base or as the voice itself")
    return None
