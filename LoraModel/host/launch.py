"""Run one of RVC's own scripts that reads HuBERT: `python -m LoraModel.host.launch MODULE ARGUMENTS…`, from the
checkout's root.

The script runs as `python -m MODULE` would run it, with HuBERT's types allowed for `torch.load` (see `safe_types`).
Scripts that start processes of their own are run directly instead.
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
    sys.argv = list(argv)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with hubert_allowed():
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
