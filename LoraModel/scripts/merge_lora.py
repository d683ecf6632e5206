"""Write a base with adapters as an ordinary small RVC model.

python scripts/merge_lora.py --base_model f0G40k.pth --lora_weights voice.safetensors --output voice.pth
"""

from __future__ import annotations

if __name__ == "__main__" and not __package__:  # as a script: import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.merge_lora"))

import argparse
import sys
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from LoraModel import commands
from LoraModel.host import find_host
from LoraModel.inference.converter import paired_strengths
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.messages import cli, tr
from LoraModel.models.voice_file import check_output, save_model, small_model


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="merge_lora.py", description=tr("Merge adapters into their base: an ordinary small RVC model (.pth).",
                                                                     "将适配器合并进底模，得到普通的 RVC 小模型（.pth）。"))
    p.add_argument("--base_model", type=commands.path, required=True, help=tr("the base (.pth)", "底模（.pth）"))
    p.add_argument("--lora_weights", action="append", type=commands.path, required=True, help=tr("an adapter; give it again to blend several",
                                                                             "适配器；重复给出可混合多个"))
    p.add_argument("--strength", action="append", type=commands.number(-1e12, 1e12), default=[],
                   help=tr("of each adapter, in their order: 0 to 1.5 (1)",
                                                                                  "各适配器的强度，按顺序：0 到 1.5（1）"))
    commands.add_any_strength(p)
    p.add_argument("--output", type=commands.path, required=True, help=tr("the model to write (.pth)", "输出模型（.pth）"))
    p.add_argument("--name", help=tr("what the model says of itself (the adapters' names)", "模型信息（默认为适配器名称）"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output, and take adapters of another base",
                                                           "覆盖 --output，并允许使用其他底模的适配器"))
    p.add_argument("--sample_rate", type=commands.rate, help=tr("of the base, where two fit", "底模采样率，两种都符合时使用"))
    p.add_argument("--config_json", type=commands.path, help=tr("config.json of a custom base", "自定义底模的 config.json"))
    p.add_argument("--rvc_root", type=commands.path, help=tr("the RVC checkout", "RVC 目录"))
    return p


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    adapters = paired_strengths(args.lora_weights, args.strength)
    host = find_host(args.rvc_root)
    output = Path(args.output).expanduser().absolute()
    base, files = host.resolve(args.base_model), [host.resolve(path) for path, _ in adapters]
    check_output(output, args.force, base, *files)
    with tqdm(total=3, desc=tr("merging", "合并中")) as bar:
        voice = VoiceLoader(base, host, "cpu", args.sample_rate, args.config_json)
        bar.update()
        loaded = [(voice.load(file, args.force), strength) for file, (_, strength) in zip(files, adapters)]
        voice.set_adapters(loaded, any_strength=args.any_strength)
        bar.update()
        names = args.name or " + ".join(a.name if s == 1 else f"{s:g} x {a.name}" for a, s in loaded)
        changed = {path for adapter, _ in voice.applied for path in adapter.layers()}
        save_model(output, small_model(voice.network, voice.info, f"{names} (RVC-LoRA, base {voice.info.name})", sorted(changed)))
        bar.update()
    print(tr(f"wrote {output}", f"已写入 {output}"))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
