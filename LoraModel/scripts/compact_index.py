"""An index of a tenth of the size, which RVC reads as it reads its own: `python scripts/compact_index.py FILE`."""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.scripts.compact_index"))

import argparse
import sys
from typing import List, Optional

from LoraModel import commands
from LoraModel.files import check_file_place
from LoraModel.host import find_checkout
from LoraModel.host.compact_index import compact
from LoraModel.messages import UserError, tr
from LoraModel.places import to_read, to_write


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="compact_index.py", description=tr("Make an index a tenth of its size; RVC reads it as "
                                                                "before."))
    p.add_argument("file", type=commands.path, help=tr("the voice's added_….index"))
    p.add_argument("--output", type=commands.path, help=tr("the index to write (default: in place of the file)"))
    p.add_argument("--force", action="store_true", help=tr("overwrite --output"))
    p.add_argument("--seed", type=commands.seed, default=0, help=tr("seed of all random numbers"))
    commands.add_rvc_root(p)
    return p


def main(argv: Optional[List[str]] = None) -> int:
    args = parser().parse_args(argv)
    checkout = find_checkout(args.rvc_root)
    root = checkout.root if checkout is not None else None
    output = to_write(args.output, root) if args.output else None
    if output is not None:
        check_file_place(output)
        if output.exists() and not args.force:
            raise UserError("{path} exists: choose another --output, or pass --force to overwrite it", path=output)
    written, before, after = compact(to_read(args.file, root), output, args.seed)
    print(tr("wrote {output}: {after:.2f} MB instead of {before:.2f}", output=written, after=after / 1e6,
             before=before / 1e6))
    return 0
