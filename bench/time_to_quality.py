"""Time to the same voice: full fine-tuning by RVC's recipe and LoRA, from the same base, discriminator, clips and
split.

python bench/time_to_quality.py --base G.pth --base_d D.pth --data logs/ALICE logs/BOB --epochs 4 --lora_epochs 8 --out
    DIR [--recipe rvc|same_losses] [--lr RATE] [--config FILE] [--json FILE] [--quick]

Both are trained in one process, in turn, so that what else the machine does slows both; held-out clips go through the
host's own inference path at regular points, which the clocks leave out. For each voice:

ratio_time      the time at which LoRA's held-out log-mel L1 first is as low as full fine-tuning's at its end, over the
time that
                full fine-tuning took. LoRA's time has the search for its speaker and the posteriors in it, not
                loading. Infinite where LoRA never comes so low.
quality_ratio   (base - LoRA) / (base - full fine-tuning), of log-mel L1 at the end of each.

Their intervals are bootstrapped over the held-out clips; over all voices they are of the mean.

`--recipe same_losses` takes our losses without a discriminator for full fine-tuning, a step that costs far less than
RVC's. A voice that is done is not done again: OUT keeps its figures, both models, and filelists of the clips that were
kept out. One that was interrupted, by a power cut too, goes on from the last point of its curves.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from bench.common import finish, table
from bench.curves import draw
from bench.rvc_recipe import RVCStep
from bench.trainings import FULL, LORA, FullTraining, LoRATraining, Training, take_turns
from bench.voices import ALL_CLIPS, each_voice, judged, judges_of, named, quick_inputs, references_of, voice_arguments
from LoraModel.evaluation.bootstrap import Group, Interval, pooled
from LoraModel.evaluation.compare import Judges
from LoraModel.host import hush_torch
from LoraModel.messages import cli
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.settings_file import read_config_file


def measure_voice(data: Path, args: Any, folder: Path, judges: Judges) -> Dict[str, Any]:
    """Train both on one voice, in turn, and compare them."""
    folder.mkdir(parents=True, exist_ok=True)
    overrides = read_config_file(args.config) if args.config else {}
    settings = TrainConfig.from_dict({
        "base_model": str(args.base), "data_dir": str(data), "output_dir": str(folder / "lora"), "name": data.name,
        "epochs": args.lora_epochs,
        "device": args.device, "valid_clips": ALL_CLIPS, "valid_fraction": args.valid_fraction, "seed": args.seed,
        **overrides})
    trainer = prepare(settings)
    references = references_of(trainer)
    lora = LoRATraining(trainer, args.points)
    config = json.loads((data / "config.json").read_text(encoding="utf-8"))
    step = RVCStep(trainer.host, config, trainer.info.version, Path(args.base),
                   Path(args.base_d) if args.recipe == "rvc" else None, trainer.device, args.lr)
    full = FullTraining(step, settings, trainer.host, trainer.info, trainer.heldout, args.epochs, args.points,
                   trainer.device)
    trainings: List[Training] = [full, lora]
    trainer.held.write_filelist(folder / "heldout.txt")
    keep = folder / "resume.pt"
    take_turns(trainings, data.name, keep)
    curves = {training.name: [asdict(point) for point in training.points] for training in trainings}
    figures = {**ratios([curves]), "curves": curves,
               "clips": len(trainer.train), "clips_held_out": len(trainer.held), "seconds_data": trainer.train.seconds,
               "seconds_step_full": full.points[-1].seconds / full.total,
               "seconds_step_lora": lora.points[-1].seconds / lora.total,
               "quality": {name: judged(clips, references, trainer.info.sample_rate, judges) for name, clips in (
                   ("the recordings", [(clip.real, None) for clip in full.renditions]),
                   *((training.name, [(clip.audio, clip.real) for clip in training.renditions])
                     for training in trainings))},
               "models": {training.name: str(training.save(folder)) for training in trainings}}
    with suppress(OSError):
        keep.unlink()
    return figures


Curves = Dict[str, List[Dict[str, Any]]]
"""The points of each training, by its name, as `asdict(Point)`."""


def ratios(voices: Sequence[Curves]) -> Dict[str, float]:
    """`ratio_time` and `quality_ratio` of one voice, or the mean of several, each with `_low` and `_high`."""
    faster = pooled([speed(curves) for curves in voices], harmonic_mean)
    shares = Interval(*(1 / value if value else float("inf") for value in (faster.value, faster.high, faster.low)))
    return {**named("ratio_time", shares), **named("quality_ratio", pooled([
        gain(curves[FULL][0]["errors"], curves[LORA][-1]["errors"], curves[FULL][-1]["errors"]) for curves in voices]))}


def speed(curves: Curves) -> Group:
    """How many times sooner LoRA's first point that is as good as full fine-tuning's end comes; 0 where none is."""
    end, points = curves[FULL][-1], curves[LORA]
    seconds = np.maximum([point["seconds"] for point in points], 1e-9)

    def statistic(*errors: np.ndarray) -> np.ndarray:
        """errors: of that end, then of each point, (..., clips)."""
        target = errors[0].mean(axis=-1)
        reached = np.stack([each.mean(axis=-1) <= target for each in errors[1:]])  # (points, ...)
        return np.where(reached.any(axis=0), end["seconds"] / seconds[reached.argmax(axis=0)], 0.0)

    return [end["errors"], *(point["errors"] for point in points)], statistic


def gain(base: Sequence[float], ours: Sequence[float], theirs: Sequence[float]) -> Group:
    """The share of what theirs gains over the base that ours gains; errors of the same clips."""
    def statistic(base: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        start = base.mean(axis=-1)
        return (start - ours.mean(axis=-1)) / (start - theirs.mean(axis=-1))

    return [base, ours, theirs], statistic


def harmonic_mean(speeds: np.ndarray) -> np.ndarray:
    """Over the first axis: one over the mean share of time; 0 where any is."""
    with np.errstate(divide="ignore"):
        return 1 / (1 / speeds).mean(axis=0)


def measure(args: Any, folder: Path) -> Dict[str, Any]:
    """All voices, one after the other; those that OUT has already are taken from there."""
    judges = judges_of(args)

    def timed(data: Path) -> Dict[str, Any]:
        started = time.perf_counter()
        figures = measure_voice(data, args, folder / data.name, judges)
        return {**figures, "seconds_in_all": time.perf_counter() - started}

    voices = each_voice(args.data, folder, timed)
    draw(voices, folder / "curves.png")
    return {**ratios([voice["curves"] for voice in voices.values()]), "voices": voices, "recipe": args.recipe,
            "threads": torch.get_num_threads()}


def show(figures: Dict[str, Any]) -> None:
    """Two tables: the ratios of each voice and of all, and what was measured at the end of each training."""
    rows: List[Sequence[Any]] = [("voice", "ratio_time", "low", "high", "quality_ratio", "low", "high",
                                  "s a step, full", "LoRA")]
    for name, voice in [*figures["voices"].items(), ("all", figures)]:
        ratio = [voice[f"{key}{end}"] for key in ("ratio_time", "quality_ratio") for end in ("", "_low", "_high")]
        rows.append((name, *ratio, voice.get("seconds_step_full", ""), voice.get("seconds_step_lora", "")))
    print(table(rows))
    first = next(iter(figures["voices"].values()))
    keys = list(first["quality"][LORA])
    rows = [("voice", "trained", *keys)]
    rows += [(name, training, *(means.get(key, float("nan")) for key in keys))
             for name, voice in figures["voices"].items() for training, means in voice["quality"].items()]
    print(table(rows))


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = voice_arguments(__doc__.splitlines()[0])
    parser.add_argument("--base_d", help="the discriminator that fits it (default: none)")
    parser.add_argument("--epochs", type=int, default=4, help="of full fine-tuning")
    parser.add_argument("--lora_epochs", type=int, default=8, help="of LoRA, whose rate falls along them")
    parser.add_argument("--recipe", choices=("rvc", "same_losses"), default="rvc", help="how full fine-tuning is done")
    parser.add_argument("--lr", type=float, help="of full fine-tuning (default: the experiment's own)")
    parser.add_argument("--config", help="JSON, TOML or YAML file of settings for our trainer (default: none)")
    parser.add_argument("--points", type=int, default=10, help="of each curve")
    parser.add_argument("--valid_fraction", type=float, default=0.1, help="of the clips, kept out of both trainings")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if args.quick:
            args.base, args.base_d, args.data = quick_inputs(Path(temporary))
            args.epochs = args.lora_epochs = args.points = 1
        if not (args.base and args.data and (args.base_d or args.recipe == "same_losses")):
            parser.error("--base, --base_d and --data are needed (or --quick)")
        figures = measure(args, Path(args.out or temporary))
    show(figures)
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
