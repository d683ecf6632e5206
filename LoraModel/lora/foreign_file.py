"""What a file is that was given as an adapter and is none, in the user's words.

Names of tensors and the first bytes tell: nothing is loaded for it.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Tuple

from ..first_bytes import what_starts_so

Words = Tuple[str, str]
"""English and Chinese."""

_MODEL = ("it is a model file of PyTorch (.pth), such as a full voice or a base: give that as the base or as the voice "
          "itself", "这是 PyTorch 模型文件（.pth），例如完整声音或底模：请将其用作底模或完整声音")
_SOVITS = ("it is a voice or LoRA of GPT-SoVITS, which RVC cannot use", "这是 GPT-SoVITS 的模型或 LoRA，RVC 无法使用")


def what_it_is(start: bytes) -> Optional[Words]:
    """Told by the first bytes; None where they say nothing."""
    if start[:2] in (b"03", b"04") and (start[2:4] == b"\x03\x04" or b"data.pkl" in start):
        return _SOVITS  # a zip whose first two bytes are the version of that program
    if start[:2] == b"PK":
        if b"cfm." in start or b"lora_rank" in start:
            return _SOVITS
        return _MODEL if b"data.pkl" in start or b".data/" in start else ("it is a zip archive: unpack it",
                                                                          "这是 zip 压缩包：请先解压")
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return _MODEL
    found = what_starts_so(start)
    if found is None:
        return None
    return (f"{found.en}: {found.advice_en}" if found.advice_en else found.en,
            f"{found.zh}：{found.advice_zh}" if found.advice_zh else found.zh)


def what_tensors_are(names: Iterable[str], metadata: Mapping[str, str]) -> Optional[Words]:
    """Told by the names of a safetensors file's tensors and by its metadata; None for what may be our own."""
    if metadata.get("format") == "rvc-lora":
        return None
    names = [name for name in names if isinstance(name, str)]
    if any(key.startswith("ss_") for key in metadata) or any(
            name.startswith(("lora_unet_", "lora_te", "lycoris_")) or ".lora_down." in name or ".hada_w1" in name
            for name in names):
        return ("it is a LoRA of kohya's for pictures (Stable Diffusion), which RVC cannot use",
                "这是 kohya 的图像 LoRA（Stable Diffusion），RVC 无法使用")
    if any("cfm." in name and "lora_" in name for name in names) or "lora_rank" in metadata:
        return _SOVITS
    if any(name.startswith("base_model.model.") or ".lora_A.default." in name for name in names):
        return ("it is a LoRA of PEFT's for another kind of model, which RVC cannot use",
                "这是 PEFT 的 LoRA，用于其他类型的模型，RVC 无法使用")
    if any(name.startswith(("unet.", "transformer.", "text_encoder.")) and "lora" in name for name in names):
        return ("it is a LoRA of diffusers for pictures, which RVC cannot use",
                "这是 diffusers 的图像 LoRA，RVC 无法使用")
    if any(name in ("enc_p.emb_phone.weight", "emb_g.weight") for name in names):
        return ("it is a full voice or a base, not an adapter: give it as the base or as the voice itself",
                "这是完整声音或底模，而不是适配器：请将其用作底模或完整声音")
    return None
