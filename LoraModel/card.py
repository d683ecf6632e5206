"""Present a folder of adapters: README.md as a model card, and index.html to search and listen.

python -m LoraModel.card DIR [--title TEXT] [--force]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from LoraModel import commands
from LoraModel.conversion.card import GALLERY, README, write_cards
from LoraModel.messages import cli, tr
from LoraModel.paths import printable


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="card", description=tr("Write a model card (README.md) and a page (index.html) for a "
                                                    "folder of adapters."))
    p.add_argument("folder", type=commands.path, help=tr("the folder of the adapters"))
    p.add_argument("--title", default="", help=tr("of both (default: the folder's name)"))
    p.add_argument("--force", action="store_true", help=tr("overwrite a README.md or index.html of your own"))
    return p


def main(argv: Optional[List[str]] = None) -> int:
    args = parser().parse_args(argv)
    folder = Path(args.folder).expanduser().absolute()
    entries, others = write_cards(folder, args.title or printable(folder.name), args.force)
    for _, error in others:
        print(printable(f"{tr('note: ')}{error}"), file=sys.stderr)
    print(tr("wrote {readme} and {gallery} in {folder}: {count} voices", readme=README, gallery=GALLERY, folder=folder,
             count=len(entries)))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
