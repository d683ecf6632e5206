"""Run one of RVC's own scripts that reads HuBERT: `python -m LoraModel.host.launch SCRIPT ARGUMENTS…`, from the checkout's root.

The script runs as it would by itself (its name is `__main__`, its folder and the root are on the path), with HuBERT's types
allowed for `torch.load` (see `safe_types`). Scripts that start processes of their own are run directly instead.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import List

from .safe_types import hubert_allowed


def main(argv: List[str]) -> None:
    if not argv:
        raise SystemExit(__doc__)
    script = os.path.abspath(argv[0])
    sys.argv = [argv[0], *argv[1:]]
    sys.path[0] = os.path.dirname(script)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with hubert_allowed():
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
