"""Write a blend of adapters as one adapter.

python scripts/blend_lora.py A.safetensors:0.7 B.safetensors:0.3 --output C.safetensors
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.blend_lora"))

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from LoraModel import commands
from LoraModel.conversion.blend import blend, table_of
from LoraModel.conversion.factors import ranks_within, resized
from LoraModel.conversion.files import check_adapter_output
from LoraModel.host import find_checkout
from LoraModel.inference.adapter_choice import find_adapter
from LoraModel.inference.strength import FREE_STRENGTH, check_strength
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import tr
from LoraModel.names import plain_name
from LoraModel.places import to_read, to_write


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(
        prog="blend_lora.py",
        description=tr("Write a blend of adapters as one adapter."),
    )
    add = p.add_argument
    add("adapters", nargs="+", metavar="FILE:STRENGTH", help=tr("an adapter and its strength, 0 to 1.5 (default: 1)"))
    add("--output", type=commands.path, required=True, help=tr("the adapter to write (.safetensors); a relative one "
                                                               "lies in the RVC checkout"))
    add("--name", default="", help=tr("name of the blend (default: its file's)"))
    add("--rank", type=commands.whole(1, 4096), help=tr("at most this rank in every layer (default: exact, the sum of "
                                                        "their ranks)"))
    add("--max_kb", type=commands.number(1, 100_000), help=tr("at most this many KB (1000 bytes) (default: as large "
                                                              "as is exact)"))
    add("--bits", type=int, choices=(8, 16), default=16, help=tr("bits of each number in the file"))
    add("--base_model", type=commands.path, help=tr("the base, for voices of other rows than 0 (default: not needed)"))
    add("--force", action="store_true", help=tr("overwrite --output, and blend adapters of different bases"))
    commands.add_rvc_root(p)
    commands.add_any_strength(p)
    return p


def parts_of(text: str) -> Tuple[Path, float]:
    """FILE:STRENGTH -> (file, strength); a file whose own name has a colon is taken as it is where it is there.

    Raises:
        UserError: the strength is no number.
    """
    whole = Path(commands.clean_path(text))
    front, colon, strength = text.rpartition(":")
    if (
        whole.is_file()
        or not colon
        or not front
        or "/" in strength
        or "\\" in strength
        or strength.lower().endswith(".safetensors")
    ):
        return whole, 1.0
    return Path(commands.clean_path(front)), commands.parse_number(strength, -FREE_STRENGTH, FREE_STRENGTH)


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    chosen: List[Tuple[Path, float]] = [parts_of(text) for text in args.adapters]
    for _, strength in chosen:
        check_strength(strength, args.any_strength)
    checkout = find_checkout(args.rvc_root)
    root = checkout.root if checkout is not None else None
    output = to_write(args.output, root)
    chosen = [(find_adapter(file, root), strength) for file, strength in chosen]
    check_adapter_output(output, args.force, *(file for file, _ in chosen))
    name = plain_name(args.name or output.stem)
    adapters = [(load_adapter(file), strength) for file, strength in chosen]
    table = table_of(to_read(args.base_model, root), adapters, args.force) if args.base_model else None
    adapter = blend(adapters, name, table, args.force, [file.name for file, _ in chosen])
    ranks = dict.fromkeys(adapter.config.targets, args.rank) if args.rank else {}
    if args.max_kb:
        least = ranks_within(adapter, int(args.max_kb * 1000), args.bits)
        ranks = {target: min(rank, ranks.get(target, rank)) for target, rank in least.items()}
    made = resized(adapter, ranks)
    save_adapter(output, made.adapter.tensors, made.adapter.config, made.adapter.metadata, args.bits)
    if ranks and made.error:
        print(
            tr("cut to smaller ranks: the blend loses {error:.1%} of its size, most in {first} ({worst:.1%})",
               error=made.error, first=made.worst[0], worst=made.worst[1])
        )
    else:
        print(tr("the blend is exact, but for the rounding of the file"))
    print(tr("wrote {output}, {st_size} bytes", output=output, st_size=output.stat().st_size))
    return 0
