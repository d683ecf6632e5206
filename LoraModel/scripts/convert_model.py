"""Inspect and convert model files.

a full voice as an adapter; folders, too:
    python scripts/convert_model.py voice VOICE.pth --base_model f0G40k.pth --output A.safetensors
an adapter of other ranks:
    python scripts/convert_model.py resize A.safetensors --max_kb 200 --output B.safetensors
an adapter that is heard with less noise:
    python scripts/convert_model.py noise A.safetensors --base_model f0G40k.pth --output B.safetensors
what a .pth or .safetensors says of itself:
    python scripts/convert_model.py info FILE
a training checkpoint or base as a small RVC model:
    python scripts/convert_model.py small G_2333.pth --output voice.pth
an adapter in 8 bits:
    python scripts/convert_model.py adapter A.safetensors --bits 8 --output A8.safetensors
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.convert_model"))

import argparse
import sys
from pathlib import Path
from typing import Optional

from LoraModel import commands
from LoraModel.conversion import command as voice_command
from LoraModel.conversion.blend import other_base
from LoraModel.conversion.factors import bytes_of, ranks_within, resized
from LoraModel.conversion.files import check_adapter_output
from LoraModel.conversion.inspect import describe
from LoraModel.conversion.noise import share_of, with_noise
from LoraModel.conversion.peft_config import write_peft_config
from LoraModel.host import find_checkout, find_host
from LoraModel.inference.adapter_choice import find_adapter
from LoraModel.inference.options import WORDS, add_word_options
from LoraModel.lora import Adapter, load_adapter, save_adapter
from LoraModel.lora.adapter_metadata import checked_field
from LoraModel.messages import UserError, tr
from LoraModel.models import load_base_beside_config, prior_noise
from LoraModel.models.voice_file import check_output, save_model, small_model
from LoraModel.places import to_read, to_write
from LoraModel.training import TrainConfig


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="convert_model.py", description=tr("Inspect and convert model files."))
    forms = p.add_subparsers(dest="command", required=True)
    info = forms.add_parser("info", help=tr("the metadata of a .pth or .safetensors"))
    _add_file(info)
    voice = forms.add_parser("voice", help=tr("a full voice, or a folder of them, as adapters"))
    voice_command.add_options(voice)
    resize = forms.add_parser("resize", help=tr("an adapter of other ranks, by SVD"))
    _add_file(resize)
    resize.add_argument("--rank", type=commands.whole(1, 4096), help=tr("at most this rank in every layer (default: "
                                                                        "by --max_kb)"))
    resize.add_argument("--max_kb", type=commands.number(1, 100_000), help=tr(
        "at most this many KB (1000 bytes) (default: by --rank)"))
    resize.add_argument("--bits", type=int, choices=(8, 16), default=16, help=tr("bits of each number"))
    _add_output(resize)
    small = forms.add_parser("small", help=tr("a training checkpoint or base as a small RVC model"))
    _add_file(small)
    _add_output(small)
    small.add_argument("--name", default="", help=tr("name stored in the model (default: the base's name)"))
    commands.add_base_form(small)
    adapter = forms.add_parser("adapter", help=tr("an adapter in 8 or 16 bits"))
    _add_file(adapter)
    adapter.add_argument("--bits", type=int, choices=(8, 16), default=8, help=tr("bits of each number"))
    _add_output(adapter)
    add_word_options(adapter, None)
    adapter.add_argument("--no_preview", action="store_true", help=tr("leave out the sound that the file carries"))
    adapter.add_argument("--peft", action="store_true", help=tr("write adapter_config.json beside it, in PEFT's shape"))
    noise = forms.add_parser("noise", help=tr(
        "an adapter whose voice is heard with less of RVC's random noise, or more"))
    _add_file(noise)
    noise.add_argument("--base_model", type=commands.path, required=True, help=tr("the base that it was trained on"))
    noise.add_argument("--noise", type=commands.number(prior_noise.LEAST, prior_noise.MOST), default=TrainConfig.noise,
                       help=tr("share of RVC's random noise, 0.05 to 4: below 1 a clearer, calmer voice, 1 RVC's own"))
    noise.add_argument("--bits", type=int, choices=(8, 16), default=16, help=tr("bits of each number"))
    _add_output(noise)
    commands.add_base_form(noise)
    for form in (info, voice, resize, small, adapter, noise):
        commands.add_rvc_root(form)
    return p


def _add_file(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", type=commands.path, help=tr("the file to read: a .pth, a .safetensors, or the folder of a "
                                                       "training run"))


def _add_output(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", type=commands.path, required=True, help=tr(
        "the file to write; a relative one lies in the RVC checkout"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output"))


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    if args.command == "voice":
        return voice_command.run(args)
    checkout = find_checkout(args.rvc_root)
    root = checkout.root if checkout is not None else None
    source = to_read(args.file, root)
    if args.command != "small":
        source = find_adapter(args.file, root)
    if args.command == "info":
        print("\n".join(describe(source)))
        return 0
    output = to_write(args.output, root)
    if args.command == "small":
        host = find_host(args.rvc_root)
        check_output(output, args.force, source)
        base = load_base_beside_config(source, host, args.sample_rate, args.config_json)
        save_model(output, small_model(base.network, base.info, args.name or base.info.name, pitch=base.info.pitch,
                                       noise=base.info.noise))
    else:
        check_adapter_output(output, args.force, source)
        adapter = load_adapter(source)
        if args.command == "resize":
            adapter = _resized(adapter, args.rank, args.max_kb, args.bits)
        if args.command == "noise":
            adapter = _with_noise(adapter, args, root)
        own = ("format", "format_version", "lora_config")
        fields = {key: value for key, value in adapter.metadata.items() if key not in own}
        if args.command == "adapter":
            given = {key: getattr(args, key) for key in WORDS if getattr(args, key) is not None}
            fields.update({key: checked_field(key, value) for key, value in given.items()})
            if args.no_preview:
                fields.pop("preview", None)
        save_adapter(output, adapter.tensors, adapter.config, fields, args.bits)
        if args.command == "adapter" and args.peft:
            beside = write_peft_config(output)
            print(tr("wrote {path}: PEFT's shape, for programs that read it; PEFT itself cannot load this adapter, it "
                     "has no transposed convolution", path=beside))
    print(tr("wrote {output}, {st_size} bytes", output=output, st_size=output.stat().st_size))
    return 0


def _with_noise(adapter: Adapter, args: argparse.Namespace, root: Optional[Path]) -> Adapter:
    """An adapter that is heard with another share of RVC's noise."""
    base = load_base_beside_config(to_read(args.base_model, root), find_host(args.rvc_root), args.sample_rate,
                                   args.config_json)
    if adapter.metadata["base_hash"] != base.info.base_hash:
        raise other_base(adapter)
    adapter.check(base.network)
    had = share_of(adapter, base.network)
    made = with_noise(adapter, base.network, args.noise)
    print(tr("noise: {had:.0%} of RVC's before, {now:.0%} now", had=had, now=args.noise))
    return made


def _resized(adapter: Adapter, rank: Optional[int], max_kb: Optional[float], bits: int) -> Adapter:
    """An adapter of other ranks; what that loses is listed."""
    if (rank is None) == (max_kb is None):
        raise UserError("give --rank or --max_kb, one of them")
    if rank is not None:
        ranks = dict.fromkeys(adapter.config.targets, rank)
    else:
        ranks = ranks_within(adapter, int(max_kb * 1000), bits)  # type: ignore[operator]
    made = resized(adapter, ranks)
    listed = ", ".join(f"{name} {target.r}" for name, target in made.adapter.config.targets.items())
    worst, share = made.worst
    print(tr("ranks: {listed}; the change loses {error:.1%} of its size, most in {worst} ({share:.1%}); at most "
             "{adapter} bytes",
             listed=listed, error=made.error, worst=worst, share=share, adapter=bytes_of(made.adapter, bits)))
    return made.adapter
