"""Look into model files and change their form.

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
from pathlib import Path
from typing import List, Optional

from torch import Tensor

from LoraModel import commands
from LoraModel.files import check_file_place
from LoraModel.host import find_checkout, find_host
from LoraModel.inference.adapter_choice import find_adapter
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import UserError, cli, tr
from LoraModel.models import load_base_beside_config, read_checkpoint
from LoraModel.models.voice_file import check_output, save_model, small_model
from LoraModel.places import to_read, to_write


def describe(path: Path) -> List[str]:
    """What a model file says of itself, a line each; nothing in it is run.

    Raises:
        UserError: missing, damaged or unsafe.
    """
    if path.suffix.lower() == ".safetensors":
        adapter = load_adapter(path)
        values = sum(tensor.numel() for tensor in adapter.tensors.values())
        return [f"adapter: {len(adapter.layers())} layers, {values} values, {path.stat().st_size} bytes"] + [
            f"{key}: {value}" for key, value in sorted(adapter.metadata.items())]
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("weight", checkpoint.get("model", {}))
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)} if isinstance(weights, dict) else {}
    kind = "small RVC model" if "weight" in checkpoint else "pretrained base or training checkpoint" if "model" in checkpoint else "unknown"
    lines = [f"{kind}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values())} values, {path.stat().st_size} bytes"]
    lines += [f"{key}: {value}" for key, value in checkpoint.items() if isinstance(value, (str, int, float, list, tuple))]
    if "enc_p.emb_phone.weight" in tensors:
        lines += [f"features: {tensors['enc_p.emb_phone.weight'].shape[1]}", f"f0: {int('enc_p.emb_pitch.weight' in tensors)}",
                  f"speakers: {tensors['emb_g.weight'].shape[0]}" if "emb_g.weight" in tensors else "speakers: ?",
                  f"enc_q: {int(any(key.startswith('enc_q.') for key in tensors))}"]
    return lines


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="convert_model.py", description=tr("Look into model files and change their form.", "查看模型文件并转换格式。"))
    forms = p.add_subparsers(dest="command", required=True)
    info = forms.add_parser("info", help=tr("what a .pth or .safetensors says of itself", "显示 .pth 或 .safetensors 的信息"))
    _add_file(info)
    small = forms.add_parser("small", help=tr("a training checkpoint or base as a small RVC model", "将训练检查点或底模转为 RVC 小模型"))
    _add_file(small)
    _add_output(small)
    small.add_argument("--name", default="", help=tr("what the model says of itself (default: the base's name)", "模型信息（默认：底模名称）"))
    commands.add_base_form(small)
    adapter = forms.add_parser("adapter", help=tr("an adapter in 8 or 16 bits", "将适配器存为 8 或 16 位"))
    _add_file(adapter)
    adapter.add_argument("--bits", type=int, choices=(8, 16), default=8, help=tr("of each number", "每个数值的位数"))
    _add_output(adapter)
    for form in (info, small, adapter):
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
        if output.suffix.lower() != ".safetensors" or output.resolve() == source.resolve() or (output.exists() and not args.force):
            raise UserError(f"{output} exists, is the input or does not end in .safetensors: choose another --output (--force overwrites)",
                            f"{output} 已存在、与输入相同或不以 .safetensors 结尾：请更换 --output（--force 可覆盖）")
        check_file_place(output)
        loaded = load_adapter(source)
        fields = {key: value for key, value in loaded.metadata.items() if key not in ("format", "format_version", "lora_config")}
        save_adapter(output, loaded.tensors, loaded.config, fields, args.bits)
    print(tr(f"wrote {output}, {output.stat().st_size} bytes", f"已写入 {output}，{output.stat().st_size} 字节"))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
