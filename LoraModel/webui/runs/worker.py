"""The process of a run: `python LoraModel/webui/runs/worker.py JOB.json`. Trains, and puts each new best adapter into
the list.

The job file holds {"train": [options of train_lora], "adapter": the run's adapter, "publish": where the list looks for
it, "record": what tells a published file from one of the user's, "exit": where to write the exit code, "started": to
write beside it}. The page may be closed and the WebUI ended meanwhile: nothing here needs them.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any, Dict

if __package__ in (None, ""):
    # By its path, since an embedded Python (RVC's package for Windows) looks for modules neither in PYTHONPATH nor in
    # the working folder.
    _here, _root = str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[3])
    sys.path[:] = [_root, *(entry for entry in sys.path if entry != _here)]

from LoraModel.commands import start  # noqa: E402
from LoraModel.files import atomic_write  # noqa: E402
from LoraModel.training.publishing import Publisher, improves  # noqa: E402


def run(job: Dict[str, Any]) -> int:
    with Publisher(Path(job["adapter"]), Path(job["publish"]), Path(job["record"]), improves):
        return start("LoraModel.training.train_lora", job["train"])


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    def broken_off(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    # until the trainer has handlers of its own: importing torch takes seconds
    signal.signal(signal.SIGTERM, broken_off)
    code = 1
    try:
        code = run(job)
    except KeyboardInterrupt:
        code = 130
    finally:
        atomic_write(Path(job["exit"]), json.dumps({"code": code, "started": job.get("started")}).encode())
    return code


if __name__ == "__main__":
    sys.exit(main())
