"""`python LoraModel/webui/preparing/prepare_step.py EXIT_FILE STEP OPTIONS…`: the preparation up to one step, in a
process of its own.

STEP is preprocess (slices alone), extract or index (all of it: the index takes no time, and training needs what is
written after it). The exit code goes into EXIT_FILE, for whoever did not start this process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

if __package__ in (None, ""):
    # By its path, since an embedded Python (RVC's package for Windows) looks for modules neither in PYTHONPATH nor in
    # the working folder.
    _here, _root = str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[3])
    sys.path[:] = [_root, *(entry for entry in sys.path if entry != _here)]

from LoraModel import commands  # noqa: E402
from LoraModel.files import atomic_write  # noqa: E402


def main(argv: List[str]) -> int:
    code_file, step, options = Path(argv[0]), argv[1], argv[2:]

    def work(argv: Optional[list]) -> int:
        from LoraModel.preparation.options import options_of, plan_from
        from LoraModel.preparation.steps import prepare

        host, plan = plan_from(options_of(argv))
        prepare(host, plan, until="slices" if step == "preprocess" else None)
        return 0

    code = commands.run(work, options)
    atomic_write(code_file, str(code).encode())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
