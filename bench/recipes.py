"""Several recipes of our trainer on the same voices, in turn: held-out quality and seconds a step, beside the first of
them.

python bench/recipes.py --base G.pth --data logs/ALICE logs/BOB --recipes FILE --epochs 4 --out DIR [--no_judges]
[--json FILE] [--quick]

FILE is JSON: {"NAME": {settings of the trainer}, ...}, such as {"balanced": {}, "adversarial": {"base_d": "D.pth",
"d_parts": 2}}. What a recipe may have beside settings of the trainer, bench/recipe_words.py says.

quality_ratio   (base - this recipe) / (base - the first recipe), of held-out log-mel L1 at the end of each; its
interval is bootstrapped over
                the held-out clips of each voice, and over all voices it is of the mean.
ratio_step      seconds a step over the first recipe's; of all voices the mean, with the lowest and highest of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import finish, table
from bench.remedies import lora_training, settings_of
from bench.time_to_quality import gain
from bench.trainings import LoRATraining, take_turns
from bench.voices import each_voice, judged, judges_of, named, quick_inputs, references_of, voice_arguments
from LoraModel.evaluation.bootstrap import pooled
from LoraModel.evaluation.compare import Judges
from LoraModel.host import hush_torch
from LoraModel.messages import cli
from LoraModel.training import prepare
from LoraModel.training.settings_file import read_config_file


def measure_voice(data: Path, args: Any, recipes: Dict[str, Dict[str, Any]], folder: Path,
                  judges: Judges) -> Dict[str, Dict[str, Any]]:
    """Train by all recipes on one voice, in turn: recipe -> figures."""
    trainings: List[LoRATraining] = []
    begun: List[float] = []
    for name, settings in recipes.items():
        trainer = prepare(settings_of(settings, data, folder / name, args))
        trainings.append(lora_training(trainer, settings, Path(args.small_d) if args.small_d else None, args.points,
                                       name))
        begun.append(trainings[-1].seconds)
    references = references_of(trainings[0].trainer)
    take_turns(trainings, data.name)
    rate = trainings[0].trainer.info.sample_rate
    return {training.name: {
        "base_errors": training.points[0].errors, "errors": training.points[-1].errors, "steps": training.total,
        "seconds_step": (training.points[-1].seconds - start) / training.total,
        "adapter_parameters": training.trainer.model.count().adapter,
        "quality": judged([(clip.audio, clip.real) for clip in training.renditions], references, rate, judges),
    } for training, start in zip(trainings, begun)}


def compare(voices: Dict[str, Dict[str, Dict[str, Any]]]) -> Dict[str, Dict[str, float]]:
    """Each recipe beside the first, over all voices: recipe -> `quality_ratio` and `ratio_step`, with `_low` and
    `_high`."""
    names = list(next(iter(voices.values())))
    found = {}
    for name in names:
        pairs = [(voice[name], voice[names[0]]) for voice in voices.values()]
        steps = [ours["seconds_step"] / first["seconds_step"] for ours, first in pairs]
        found[name] = {
            **named("quality_ratio",
                    pooled([gain(ours["base_errors"], ours["errors"], first["errors"]) for ours, first in pairs])),
            "ratio_step": sum(steps) / len(steps), "ratio_step_low": min(steps), "ratio_step_high": max(steps)}
    return found


def measure(args: Any, recipes: Dict[str, Dict[str, Any]], folder: Path) -> Dict[str, Any]:
    """All voices, one after the other; those that OUT has already are taken from there."""
    judges = judges_of(args)
    voices = each_voice(args.data, folder, lambda data: measure_voice(data, args, recipes, folder / data.name, judges))
    return {"recipes": compare(voices), "voices": voices}


def show(figures: Dict[str, Any]) -> None:
    """Two tables: each recipe beside the first, and what each came to on each voice."""
    rows: List[Sequence[Any]] = [("recipe", "quality_ratio", "low", "high", "ratio_step", "low", "high")]
    rows += [(name, *ratios.values()) for name, ratios in figures["recipes"].items()]
    print(table(rows))
    first = next(iter(figures["voices"].values()))
    keys = list(next(iter(first.values()))["quality"])
    rows = [("voice", "recipe", "steps", "s a step", *keys)]
    rows += [(voice, name, training["steps"], training["seconds_step"], *(training["quality"][key] for key in keys))
             for voice, recipes in figures["voices"].items() for name, training in recipes.items()]
    print(table(rows))


def quick_recipes(args: Any, folder: Path) -> Tuple[Any, Dict[str, Dict[str, Any]]]:
    """Two recipes on a made-up voice."""
    args.base, discriminator, args.data = quick_inputs(folder)
    args.epochs = args.points = 1
    return args, {"default": {}, "adversarial": {"base_d": str(discriminator), "d_parts": 2}}


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = voice_arguments(__doc__.splitlines()[0])
    parser.add_argument("--recipes",
                        help="JSON, TOML or YAML file: name -> settings of the trainer (default: those in this file)")
    parser.add_argument("--small_d", help="discriminator.pt of bench/pretrain_small.py, for the recipes that name it "
                        "(default: none)")
    parser.add_argument("--epochs", type=int, default=4, help="of each recipe")
    parser.add_argument("--points", type=int, default=4, help="turns that each recipe takes")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if args.quick:
            args, recipes = quick_recipes(args, Path(temporary))
        elif not (args.base and args.data and args.recipes):
            parser.error("--base, --data and --recipes are needed (or --quick)")
        else:
            recipes = read_config_file(args.recipes)
        figures = measure(args, recipes, Path(args.out or temporary))
    show(figures)
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
