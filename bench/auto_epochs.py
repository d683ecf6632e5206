"""Training that knows when it is done against a number of epochs that somebody chose: steps, seconds, quality.

python bench/auto_epochs.py --base G.pth --data logs/A logs/B … --out DIR [--epochs 20] [--json FILE] [--quick]

Both are trained on the same clips by the trainer's own loop. For each voice:

steps_ratio     steps of `--epochs auto` over those of `--epochs N`.
within          the best save's score (training/heldout.py; without the judges, which short runs do not load) of auto
                over that of the N epochs, less 1; 0.01 is one percent worse, negative is better.

`bench/lab_voices.py` makes ten voices to measure on. What DIR has already is not trained again.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import finish, table
from bench.voices import DEMO_BASE, each_voice, quick_inputs, voice_arguments
from LoraModel.host import hush_torch
from LoraModel.messages import cli
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.config import AUTO
from LoraModel.training.heldout import Score
from LoraModel.training.monitor import read_log

ALMOST, MANY = 0.01, 0.5
"""Goals: within so much of the best epoch's score, in at most so much of the steps."""


def trained(data: Path, folder: Path, args: Any, epochs: Any) -> Dict[str, Any]:
    """One run to its end: steps, seconds, the best save, and the score at each save."""
    settings = {"base_model": str(args.base), "data_dir": str(data), "output_dir": str(folder), "name": data.name,
                "epochs": epochs, "device": args.device, "seed": args.seed}
    trainer = prepare(TrainConfig.from_dict(settings), resume=folder.is_dir())
    started = time.perf_counter()
    trainer.run()
    curve = [(line["step"], line["heldout_score"]) for line in read_log(folder) if "heldout_score" in line]
    return {"steps": trainer.done_steps, "seconds": time.perf_counter() - started, "best_step": trainer.best_step,
            "best": Score(trainer.best, *trainer.best_sharp).value, "best_mel": trainer.best,
            "base_mel": trainer.base_heldout, "curve": curve, "clips": len(trainer.train),
            "seconds_data": trainer.train.seconds}


def measure(args: Any, folder: Path) -> Dict[str, Any]:
    """All voices, one after the other."""

    def both(data: Path) -> Dict[str, Any]:
        auto = trained(data, folder / data.name / AUTO, args, AUTO)
        fixed = trained(data, folder / data.name / "fixed", args, args.epochs)
        return {"auto": auto, "fixed": fixed, "steps_ratio": auto["steps"] / fixed["steps"],
                "within": auto["best"] / fixed["best"] - 1}

    voices = each_voice(args.data, folder, both)
    return {"voices": voices, "epochs": args.epochs, **summary(list(voices.values()))}


def summary(voices: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """How many of the voices keep each goal."""
    return {"count": len(voices), "within_one_percent": sum(voice["within"] <= ALMOST for voice in voices),
            "at_most_half_the_steps": sum(voice["steps_ratio"] <= MANY for voice in voices),
            "both": sum(voice["within"] <= ALMOST and voice["steps_ratio"] <= MANY for voice in voices)}


def show(figures: Dict[str, Any]) -> None:
    rows: List[Sequence[Any]] = [("voice", "data, s", "steps, fixed", "auto", "steps_ratio", "score, fixed", "auto",
                                  "within")]
    for name, voice in figures["voices"].items():
        fixed, auto = voice["fixed"], voice["auto"]
        rows.append((name, auto["seconds_data"], fixed["steps"], auto["steps"], voice["steps_ratio"], fixed["best"],
                     auto["best"], voice["within"]))
    print(table(rows))
    print(f"within one percent: {figures['within_one_percent']} of {figures['count']}; at most half the steps: "
          f"{figures['at_most_half_the_steps']}; both: {figures['both']}")


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = voice_arguments(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="of the run that auto is compared with")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if args.quick:
            args.base, _, args.data = quick_inputs(Path(temporary))
            args.epochs = 2
        args.base = args.base or DEMO_BASE
        if not args.data:
            parser.error("--data is needed (or --quick)")
        figures = measure(args, Path(args.out or temporary))
    show(figures)
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
