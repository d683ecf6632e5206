"""What a file is that was given as an adapter and is none, in the user's words.

Names of tensors and the first bytes tell: nothing is loaded for it.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Tuple

Words = Tuple[str, str]
"""English and Chinese."""

_STARTS: Tuple[Tuple[bytes, Words], ...] = (
    (b"version https://git-lfs", ("it is a pointer of Git LFS, not the file itself: download the file",
                                  "这是 Git LFS 指针而不是文件本身：请下载实际文件")),
    (b"\x89PNG", ("it is a picture", "这是图片")), (b"RIFF", ("it is a recording", "这是录音")), (b"fLaC", ("it is a recording", "这是录音")),
    (b"Rar!", ("it is a RAR archive: unpack it", "这是 RAR 压缩包：请先解压")),
    (b"7z\xbc\xaf", ("it is a 7z archive: unpack it", "这是 7z 压缩包：请先解压")),
    (b"\x1f\x8b", ("it is a gzip archive: unpack it", "这是 gzip 压缩包：请先解压")),
    (b"03", ("it is a voice or LoRA of GPT-SoVITS, which RVC cannot use", "这是 GPT-SoVITS 的模型或 LoRA，RVC 无法使用")),
    (b"04", ("it is a voice or LoRA of GPT-SoVITS, which RVC cannot use", "这是 GPT-SoVITS 的模型或 LoRA，RVC 无法使用")),
)
_MODEL = ("it is a model file of PyTorch (.pth), such as a full voice or a base: give that as the base or as the voice itself",
          "这是 PyTorch 模型文件（.pth），例如完整声音或底模：请将其用作底模或完整声音")
_SOVITS = ("it is a LoRA of GPT-SoVITS, which RVC cannot use", "这是 GPT-SoVITS 的 LoRA，RVC 无法使用")


def what_it_is(start: bytes) -> Optional[Words]:
    """Told by the first bytes; None where they say nothing."""
    if start[:2] == b"PK":
        if b"cfm." in start or b"lora_rank" in start:
            return _SOVITS
        return _MODEL if b"data.pkl" in start or b".data/" in start else ("it is a zip archive: unpack it", "这是 zip 压缩包：请先解压")
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return _MODEL
    for head, words in _STARTS:
        if start.startswith(head) and (len(head) > 2 or b"data.pkl" in start or start[2:4] == b"\x03\x04"):
            return words
    text = start.lstrip()[:200].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page: the download went wrong, download the file again", "这是网页：下载出错，请重新下载文件"
    return None


def what_tensors_are(names: Iterable[str], metadata: Mapping[str, str]) -> Optional[Words]:
    """Told by the names of a safetensors file's tensors and by its metadata; None for what may be our own."""
    if metadata.get("format") == "rvc-lora":
        return None
    names = [name for name in names if isinstance(name, str)]
    if any(key.startswith("ss_") for key in metadata) or any(
            name.startswith(("lora_unet_", "lora_te", "lycoris_")) or ".lora_down." in name or ".hada_w1" in name for name in names):
        return ("it is a LoRA of kohya's for pictures (Stable Diffusion), which RVC cannot use",
                "这是 kohya 的图像 LoRA（Stable Diffusion），RVC 无法使用")
    if any("cfm." in name and "lora_" in name for name in names) or "lora_rank" in metadata:
        return _SOVITS
    if any(name.startswith("base_model.model.") or ".lora_A.default." in name for name in names):
        return "it is a LoRA of PEFT's for another kind of model, which RVC cannot use", "这是 PEFT 的 LoRA，用于其他类型的模型，RVC 无法使用"
    if any(name.startswith(("unet.", "transformer.", "text_encoder.")) and "lora" in name for name in names):
        return "it is a LoRA of diffusers for pictures, which RVC cannot use", "这是 diffusers 的图像 LoRA，RVC 无法使用"
    if any(name in ("enc_p.emb_phone.weight", "emb_g.weight") for name in names):
        return ("it is a full voice or a base, not an adapter: give it as the base or as the voice itself",
                "这是完整声音或底模，而不是适配器：请将其用作底模或完整声音")
    return None
