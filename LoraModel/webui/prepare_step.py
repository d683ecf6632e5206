"""`python LoraModel/webui/prepare_step.py EXIT_FILE STEP OPTIONS…`: `prepare_data` up to one step, in a process of its own.

STEP is preprocess (slices alone), extract or index (all of it: the index takes no time, and training needs what is written
after it). The exit code goes into EXIT_FILE, for whoever did not start this process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, List

if __package__ in (None, ""):
    # By its path, since an embedded Python (RVC's package for Windows) looks for modules neither in PYTHONPATH nor in the working folder.
    _here, _root = str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])
    sys.path[:] = [_root, *(entry for entry in sys.path if entry != _here)]

from LoraModel.files import atomic_write  # noqa: E402
from LoraModel.messages import cli  # noqa: E402


class _Reached(Exception):
    """All that was asked for is there."""


def main(argv: List[str]) -> int:
    code_file, step, options = Path(argv[0]), argv[1], argv[2:]
    from LoraModel.scripts import prepare_data

    class Steps(prepare_data.Steps):
        def run(self, name: str, title: str, total: int, work: Any) -> None:
            if step == "preprocess" and name != "slices":
                raise _Reached
            super().run(name, title, total, work)

    prepare_data.Steps = Steps  # type: ignore[misc]
    try:
        code = cli(prepare_data.main, options)
    except _Reached:
        code = 0
    atomic_write(code_file, str(code).encode())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
