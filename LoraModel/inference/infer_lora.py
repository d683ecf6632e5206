"""Convert recordings with a base and adapters, or with a full voice.

python inference/infer_lora.py --base_model f0G40k.pth --lora_weights voice.safetensors --input in.wav --output out.wav
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import sys
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import numpy as np
import torch
from tqdm import tqdm

from LoraModel.host import Host, find_host
from LoraModel.host.pipeline import HostPipeline, check_f0_method
from LoraModel.inference.audio import FORMATS, audio_files, check_writable, read_audio, write_audio
from LoraModel.inference.convert import INPUT_RATE, ConvertOptions, Retrieval, check_index, convert
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.messages import UserError, cli, tr

_said_stand_in = False


def say_stand_in() -> None:
    """Say once that the features are no HuBERT's."""
    global _said_stand_in
    if not _said_stand_in:
        _said_stand_in = True
        print(tr("no RVC checkout: content features come from the demo's stand-in, not from HuBERT; only the demo's own base was trained on them "
                 "(name a checkout with --rvc_root)",
                 "没有 RVC 目录：内容特征来自演示用的替代实现，而非 HuBERT；只有演示底模用它训练过（可用 --rvc_root 指定 RVC）"), file=sys.stderr)


class Converter:
    """Converts with the voice that is applied on `voice`: by RVC's own Pipeline in a checkout, else by `inference.convert`.

    In a checkout the network moves to where RVC's Config runs networks, in fp16 if it does, so make the converter before
    adapters are applied.

    Args:
        device: None for RVC's own choice, or in the library layout the voice's.

    Raises:
        UserError: a package or HuBERT is missing; a v1 base without a checkout.
    """

    def __init__(self, voice: VoiceLoader, device: Optional[str] = None):
        self.voice, self.host = voice, voice.host
        self._pipeline: Optional[HostPipeline] = None
        self._retrieval: Optional[Tuple[str, Retrieval]] = None
        if self.host.is_checkout:
            self._pipeline = HostPipeline(self.host, voice.info.sample_rate, device)
            voice.move(self._pipeline.device, self._pipeline.is_half)
            return
        if voice.info.version == "v1":
            raise UserError(
                f"base {voice.info.name} is v1, which takes HuBERT features of 256 values: without an RVC checkout there are only the demo's "
                "stand-ins of 768. Name a checkout with --rvc_root, or use a v2 base",
                f"底模 {voice.info.name} 为 v1，需要 256 维的 HuBERT 特征：没有 RVC 目录时只有 768 维的"
                "替代特征。请用 --rvc_root 指定 RVC，或使用 v2 底模",
            )
        say_stand_in()

    def __call__(self, audio: np.ndarray, options: ConvertOptions, progress: Optional[Callable[[float], None]] = None) -> np.ndarray:
        """audio: (samples,) at 16 kHz -> (samples,) at the base's sample rate."""
        voice, info = self.voice, self.voice.info
        method = check_f0_method(self.host, options.f0_method)
        size = voice.network.enc_p.emb_phone.in_features
        if self._pipeline is None:
            if options.rms_mix_rate not in (None, 1.0):
                raise UserError("--rms_mix_rate is RVC's own: it needs an RVC checkout (--rvc_root)", "--rms_mix_rate 需要 RVC 目录（--rvc_root）")
            from LoraModel.inference import stand_in

            retrieval = self._read_index(options, size)
            return convert(voice, audio, options, stand_in.content_features, stand_in.pitch, stand_in.coarse_pitch, progress=progress,
                           retrieval=retrieval)
        speaker = voice.speaker if options.speaker is None else options.speaker
        if not 0 <= speaker < info.speakers:
            raise UserError(f"speaker {speaker} is not among the base's {info.speakers}: choose 0 to {info.speakers - 1}",
                            f"底模只有 {info.speakers} 个说话人，没有 {speaker} 号：请选择 0 到 {info.speakers - 1}")
        if options.index is not None:
            check_index(options.index, size)
        with voice.lock:
            return self._pipeline.convert(
                voice.network, audio, version=info.version, f0=info.f0, speaker=speaker, transpose=options.transpose, f0_method=method,
                index=options.index, index_rate=options.index_rate, protect=options.protect, rms_mix_rate=options.rms_mix_rate, seed=options.seed,
            )

    def _read_index(self, options: ConvertOptions, size: int) -> Optional[Retrieval]:
        if options.index is None or not options.index_rate:
            return None
        stamp = f"{options.index}:{options.index.stat().st_mtime_ns if options.index.is_file() else 0}"
        if self._retrieval is None or self._retrieval[0] != stamp:
            self._retrieval = (stamp, Retrieval(options.index, size))
        return self._retrieval[1]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="infer_lora.py", description=tr(
        "Convert recordings with a base and adapters (--base_model, --lora_weights) or with a full voice (--model).",
        "用底模和适配器（--base_model、--lora_weights）或完整模型（--model）转换录音。"))
    p.add_argument("--base_model", help=tr("the base: a pretrained generator or a full voice (.pth)", "底模：预训练生成器或完整模型（.pth）"))
    p.add_argument("--lora_weights", action="append", default=[],
                   help=tr("an adapter (.safetensors); give it again to blend several", "适配器（.safetensors）；重复给出可混合多个"))
    p.add_argument("--strength", action="append", type=float, default=[],
                   help=tr("strength of each adapter, in their order (default 1)", "各适配器的强度，按顺序（默认 1）"))
    p.add_argument("--model", help=tr("a full voice (.pth), instead of base and adapters", "完整模型（.pth），代替底模与适配器"))
    p.add_argument("--input", required=True, help=tr("a recording, or a folder of recordings", "录音，或录音文件夹"))
    p.add_argument("--output", required=True, help=tr("the file to write (wav, flac, ogg, mp3), or a folder",
                                                      "输出文件（wav、flac、ogg、mp3）或文件夹"))
    p.add_argument("--format", default="wav", choices=[end[1:] for end in FORMATS], help=tr("for folders", "用于文件夹"))
    p.add_argument("--index", help=tr("the voice's added_….index", "该声音的 added_….index"))
    p.add_argument("--transpose", type=float, default=0.0, help=tr("semitones", "变调（半音）"))
    p.add_argument("--speaker", type=int, help=tr("row of the speaker table (the voice's own)", "说话人编号（默认为该声音自身）"))
    add_conversion_options(p)
    return p


def add_conversion_options(p: argparse.ArgumentParser) -> None:
    """The options of every command that converts: how, with which RVC, on which device."""
    p.add_argument("--index_rate", type=float, default=0.75, help="0 … 1 (0.75)")
    p.add_argument("--f0_method", help=tr("how pitch is found: what this RVC offers (rmvpe if it is there, else pm)",
                                          "音高算法：取决于 RVC（有 rmvpe 则用之，否则 pm）"))
    p.add_argument("--protect", type=float, default=0.33, help="0 … 0.5 (0.33)")
    p.add_argument("--rms_mix_rate", type=float, help=tr("loudness, in a checkout only: 0 the source's, 1 the network's (0.25)",
                                                         "响度（仅限 RVC 目录）：0 为源，1 为网络输出（0.25）"))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--rvc_root", help=tr("the RVC checkout", "RVC 目录"))
    p.add_argument("--device", help="cpu, cuda, cuda:0 …")
    p.add_argument("--sample_rate", help=tr("of the base in Hz (or 40k …), where two fit", "底模采样率（Hz 或 40k 等），两种都符合时使用"))
    p.add_argument("--config_json", help=tr("config.json of a custom base (one beside the base is found by itself)",
                                            "自定义底模的 config.json（与底模同目录时自动使用）"))
    p.add_argument("--force", action="store_true", help=tr("take an adapter on another base than its own", "允许适配器用于其他底模"))


def parse_rate(text: Optional[str]) -> Optional[int]:
    """"40k" or "40000" -> 40000.

    Raises:
        UserError: neither.
    """
    if text is None:
        return None
    try:
        return int(float(text[:-1]) * 1000) if text.lower().endswith("k") else int(text)
    except ValueError:
        raise UserError(f"sample rate {text!r} is no number: give Hz, such as 40000, or 40k",
                        f"采样率 {text!r} 不是数字：请给出 Hz，如 40000 或 40k") from None


def paired_strengths(weights: List[str], strengths: List[float]) -> List[Tuple[str, float]]:
    """Adapters with their strengths: one for each, or none given at all.

    Raises:
        UserError: another number of strengths.
    """
    if strengths and len(strengths) != len(weights):
        raise UserError(f"{len(weights)} adapters but {len(strengths)} strengths: give --strength once for each --lora_weights, or not at all",
                        f"有 {len(weights)} 个适配器，却有 {len(strengths)} 个强度：请为每个 --lora_weights 给一个 --strength，或都不给")
    return list(zip(weights, strengths or [1.0] * len(weights)))


def jobs(source: Path, target: Path, ending: str) -> List[Tuple[Path, Path]]:
    """(input, output) pairs.

    Raises:
        UserError: no input, an output that cannot be written or that would overwrite its input.
    """
    if source.is_dir():
        if target.is_file():
            raise UserError(f"{source} is a folder but {target} is a file: give --output a folder",
                            f"{source} 是文件夹，而 {target} 是文件：请将 --output 设为文件夹")
        files = audio_files(source)
        stems = [file.stem for file in files]
        # a.wav and a.mp3 would both become a.wav: such names keep their old ending
        pairs = [(file, target / f"{file.name if stems.count(file.stem) > 1 else file.stem}.{ending}") for file in files]
    else:
        if not source.is_file():
            raise UserError(f"there is no input {source}: check the path", f"找不到输入 {source}：请检查路径")
        pairs = [(source, target / f"{source.stem}.{ending}" if target.is_dir() else target)]
    inputs = {file.resolve() for file, _ in pairs}
    for _, out in pairs:
        check_writable(out)
        if out.resolve() in inputs:
            raise UserError(f"{out} is an input: choose another --output, recordings are never overwritten",
                            f"{out} 是输入文件：请更换 --output，录音不会被覆盖")
    return pairs


def choose_device(name: Optional[str], host: Host) -> Optional[str]:
    """The device to ask for; None where RVC's Config decides.

    Raises:
        UserError: PyTorch knows no such device, or it is not here.
    """
    if name is None:
        return None if host.is_checkout else ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}): use --device cpu",
                        f"无法使用设备 {name!r}（{str(error).splitlines()[0]}）：请使用 --device cpu") from None
    return name


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    if bool(args.model) == bool(args.base_model):
        raise UserError("give either --base_model (with --lora_weights) or --model", "请给出 --base_model（配合 --lora_weights）或 --model 之一")
    if args.model and args.lora_weights:
        raise UserError("--model is a voice by itself: to put adapters on it, give it as --base_model",
                        "--model 本身就是完整声音：若要加载适配器，请用 --base_model 指定")
    adapters = paired_strengths(args.lora_weights, args.strength)
    host = find_host(args.rvc_root)
    check_f0_method(host, args.f0_method)
    options = ConvertOptions(args.transpose, host.resolve(args.index) if args.index else None, args.index_rate, args.protect, args.f0_method,
                             args.rms_mix_rate, args.speaker, args.seed)
    pairs = jobs(host.resolve(args.input), Path(args.output).expanduser().absolute(), args.format)
    device = choose_device(args.device, host)
    start = "cpu" if host.is_checkout else device or "cpu"
    voice = VoiceLoader(args.base_model or args.model, host, start, parse_rate(args.sample_rate), args.config_json)
    loaded = [(voice.load(host.resolve(path), args.force), strength) for path, strength in adapters]
    if options.index is not None:
        check_index(options.index, voice.network.enc_p.emb_phone.in_features)
    converter = Converter(voice, device)
    voice.set_adapters(loaded)
    failed: List[str] = []
    for source, target in tqdm(pairs, desc=tr("converting", "转换中"), unit=tr("file", "个"), disable=len(pairs) == 1):
        try:
            with tqdm(total=100, desc=source.name, unit="%", leave=False, disable=len(pairs) > 1 or host.is_checkout) as bar:
                audio = converter(read_audio(source, INPUT_RATE), options, lambda share: bar.update(int(share * 100) - bar.n))
            write_audio(target, audio, voice.info.sample_rate)
        except UserError as error:
            if len(pairs) == 1:
                raise
            failed.append(str(error))
    if failed:
        for line in failed:
            print(line, file=sys.stderr)
        raise UserError(f"{len(failed)} of {len(pairs)} recordings were not converted (see above); the others are in {args.output}",
                        f"{len(pairs)} 个录音中有 {len(failed)} 个未能转换（见上）；其余已写入 {args.output}")
    print(tr(f"wrote {pairs[0][1] if len(pairs) == 1 else f'{len(pairs)} files to {args.output}'}",
             f"已写入 {pairs[0][1] if len(pairs) == 1 else f'{args.output}（{len(pairs)} 个文件）'}"))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
