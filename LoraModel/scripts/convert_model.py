"""Look into model files and change their form.

python scripts/convert_model.py voice VOICE.pth --base_model f0G40k.pth --output A.safetensors   a full voice as an adapter; folders, too
python scripts/convert_model.py resize A.safetensors --max_kb 200 --output B.safetensors         an adapter of other ranks
python scripts/convert_model.py info FILE                         what a .pth or .safetensors says of itself
python scripts/convert_model.py small G_2333.pth --output voice.pth   a training checkpoint or base as a small RVC model
python scripts/convert_model.py adapter A.safetensors --bits 8 --output A8.safetensors
"""

from __future__ import annotations

if __name__ == "__main__" and not __package__:  # as a script: import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.convert_model"))

import argparse
import sys
from typing import Optional

from LoraModel import commands
from LoraModel.conversion import command as voice_command
from LoraModel.conversion.factors import bytes_of, ranks_within, resized
from LoraModel.conversion.files import check_adapter_output
from LoraModel.conversion.inspect import describe
from LoraModel.host import find_checkout, find_host
from LoraModel.inference.adapter_choice import find_adapter
from LoraModel.lora import Adapter, load_adapter, save_adapter
from LoraModel.messages import UserError, cli, tr
from LoraModel.models import load_base_beside_config
from LoraModel.models.voice_file import check_output, save_model, small_model
from LoraModel.places import to_read, to_write


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="convert_model.py", description=tr("Look into model files and change their form.", "查看模型文件并转换格式。"))
    forms = p.add_subparsers(dest="command", required=True)
    info = forms.add_parser("info", help=tr("what a .pth or .safetensors says of itself", "显示 .pth 或 .safetensors 的信息"))
    _add_file(info)
    voice = forms.add_parser("voice", help=tr("a full voice, or a folder of them, as adapters", "将完整声音模型（或其文件夹）转为适配器"))
    voice_command.add_options(voice)
    resize = forms.add_parser("resize", help=tr("an adapter of other ranks, by SVD", "用 SVD 改变适配器的秩"))
    _add_file(resize)
    resize.add_argument("--rank", type=commands.whole(1, 4096), help=tr("at most this rank in every layer (default: by --max_kb)", "每层最多使用该秩（默认：由 --max_kb 决定）"))
    resize.add_argument("--max_kb", type=commands.number(1, 100_000), help=tr(
        "at most so many thousands of bytes (default: by --rank)", "最大千字节数（默认：由 --rank 决定）"))
    resize.add_argument("--bits", type=int, choices=(8, 16), default=16, help=tr("of each number", "每个数值的位数"))
    _add_output(resize)
    small = forms.add_parser("small", help=tr("a training checkpoint or base as a small RVC model", "将训练检查点或底模转为 RVC 小模型"))
    _add_file(small)
    _add_output(small)
    small.add_argument("--name", default="", help=tr("what the model says of itself (default: the base's name)", "模型信息（默认：底模名称）"))
    commands.add_base_form(small)
    adapter = forms.add_parser("adapter", help=tr("an adapter in 8 or 16 bits", "将适配器存为 8 或 16 位"))
    _add_file(adapter)
    adapter.add_argument("--bits", type=int, choices=(8, 16), default=8, help=tr("of each number", "每个数值的位数"))
    _add_output(adapter)
    for form in (info, voice, resize, small, adapter):
        commands.add_rvc_root(form)
    return p


def _add_file(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", type=commands.path, help=tr("the file to read: a .pth, a .safetensors, or the folder of a training run",
                                                       "要读取的文件：.pth、.safetensors 或训练文件夹"))


def _add_output(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", type=commands.path, required=True, help=tr(
        "the file to write; a relative one lies in the RVC checkout", "输出文件；相对路径位于 RVC 目录内"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output", "覆盖 --output"))


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
        save_model(output, small_model(base.network, base.info, args.name or base.info.name))
    else:
        check_adapter_output(output, args.force, source)
        adapter = load_adapter(source)
        if args.command == "resize":
            adapter = _resized(adapter, args.rank, args.max_kb, args.bits)
        own = ("format", "format_version", "lora_config")
        fields = {key: value for key, value in adapter.metadata.items() if key not in own}
        save_adapter(output, adapter.tensors, adapter.config, fields, args.bits)
    print(tr(f"wrote {output}, {output.stat().st_size} bytes", f"已写入 {output}，{output.stat().st_size} 字节"))
    return 0


def _resized(adapter: Adapter, rank: Optional[int], max_kb: Optional[float], bits: int) -> Adapter:
    """An adapter of other ranks; what that loses is said."""
    if (rank is None) == (max_kb is None):
        raise UserError("give --rank or --max_kb, one of them", "请给出 --rank 或 --max_kb 其中之一")
    if rank is not None:
        ranks = dict.fromkeys(adapter.config.targets, rank)
    else:
        ranks = ranks_within(adapter, int(max_kb * 1000), bits)  # type: ignore[operator]
    made = resized(adapter, ranks)
    said = ", ".join(f"{name} {target.r}" for name, target in made.adapter.config.targets.items())
    worst, share = made.worst
    print(tr(f"ranks: {said}; the change loses {made.error:.1%} of its size, most in {worst} ({share:.1%}); "
             f"at most {bytes_of(made.adapter, bits)} bytes",
             f"秩：{said}；改动损失 {made.error:.1%}，最多的是 {worst}（{share:.1%}）；"
             f"至多 {bytes_of(made.adapter, bits)} 字节"))
    return made.adapter


if __name__ == "__main__":
    sys.exit(cli(main))
