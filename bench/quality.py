"""Quality of voices on recordings kept out of training: what LoraModel/evaluation/evaluate.py does, from here.

python bench/quality.py --base B.pth --adapter A.safetensors --recordings HELD_OUT …
python bench/quality.py --quick [--json FILE]      two of the demo's base speakers, on its recordings
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from LoraModel.commands import start
from LoraModel.messages import cli

DEMO = Path(__file__).resolve().parents[1] / "LoraModel" / "demo"
BASE = DEMO / "base" / "f0G16k.pth"
SPEAKERS = (0, 3)


def quick() -> List[str]:
    """Arguments that train nothing: the base's own speakers against the demo's target."""
    models = [part for speaker in SPEAKERS for part in ("--base", str(BASE), "--speaker", str(speaker), "--label",
                                                        f"speaker {speaker}")]
    return [*models, "--recordings", str(DEMO / "recordings" / "reference"), "--sources",
            str(DEMO / "recordings" / "source" / "01.flac")]


def main(argv: Optional[List[str]] = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--quick" in argv:
        argv.remove("--quick")
        argv = quick() + argv
    return start("LoraModel.evaluation.evaluate", argv)


if __name__ == "__main__":
    sys.exit(cli(main))
