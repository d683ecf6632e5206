"""Write a base with adapters as an ordinary small RVC model.

python scripts/merge_lora.py --base_model f0G40k.pth --lora_weights voice.safetensors --output voice.pth
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.merge_lora"))

import argparse
import sys
from typing import Optional

from tqdm import tqdm

from LoraModel import commands
from LoraModel.host import find_host
from LoraModel.inference.adapter_choice import find_adapter, paired_strengths
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.inference.options import add_adapter_options
from LoraModel.messages import UserError, tr
from LoraModel.models.voice_file import check_output, save_model


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="merge_lora.py", description=tr("Merge adapters into their base: an ordinary small RVC "
                                                             "model (.pth)."))
    p.add_argument("--base_model", type=commands.path, required=True, help=tr("the base (.pth)"))
    add_adapter_options(p)
    p.add_argument("--output", type=commands.path, required=True, help=tr(
        "the model to write (.pth); a relative one lies in the RVC checkout: assets/weights/NAME.pth shows it in "
        "RVC's list"))
    p.add_argument("--name", help=tr("name stored in the model (default: the adapters' names)"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output, and accept adapters of another base"))
    commands.add_base_form(p)
    commands.add_rvc_root(p)
    return p


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    if not args.lora_weights and args.noise is None:
        raise UserError("nothing is to be merged: give --lora_weights, or --noise for the base alone")
    adapters = paired_strengths(args.lora_weights, args.strength, args.any_strength)
    host = find_host(args.rvc_root)
    output = host.result(args.output)
    base, files = host.resolve(args.base_model), [find_adapter(path, host.root) for path, _ in adapters]
    check_output(output, args.force, base, *files)
    with tqdm(total=3, desc=tr("merging")) as bar:
        voice = VoiceLoader(base, host, "cpu", args.sample_rate, args.config_json)
        bar.update()
        loaded = [(voice.load(file, args.force), strength) for file, (_, strength) in zip(files, adapters)]
        voice.set_adapters(loaded, any_strength=args.any_strength, noise=args.noise)
        bar.update()
        save_model(output, voice.as_model(args.name or ""))
        bar.update()
    print(tr("wrote {output}", output=output))
    return 0
