"""Ways of making our training step cheaper, beside the step as it is: seconds a step in turn, and peak memory, at full
size. What each costs in quality, `bench/recipes.py` measures with the same settings.

python bench/step_table.py [--recipes FILE] [--repeats N] [--memory_rounds N] [--json FILE] [--quick]

FILE is JSON: {"NAME": {settings of the trainer}, ...}, the first of them what the others are compared with; by default
bf16, other segments and batches, fewer of the decoder's layers and gradient checkpointing. Beside settings a recipe may
have "checkpoint": true: the decoder's residual blocks are computed again on the way back (`torch.utils.checkpoint`)
instead of being kept.

ratio_step     seconds a step over the first recipe's: the median of the turns, with its interval.
ratio_clip     the same for each clip of the batch.
ratio_memory   peak resident memory of a process of its own over the first recipe's (on CUDA: of allocated memory).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.common import arguments, finish, ratio, table
from bench.train_time import build, measure_peak, timed, trainer_of
from LoraModel.host import hush_torch
from LoraModel.messages import cli
from LoraModel.models.targets import PRESETS
from LoraModel.training import Trainer
from LoraModel.training.settings_file import read_config_file

MOST_CLIPS = 8
CLEAR = {name: {"r": r, "lora_alpha": alpha} for name, (r, alpha) in PRESETS["clear"].items()}
RECIPES: Dict[str, Dict[str, Any]] = {
    "as it is": {},
    "bf16": {"precision": "bf16"},
    "half the segment": {"segment_frames": 16},
    "twice the segment": {"segment_frames": 64},
    "batch of 2": {"batch_size": 2},
    "batch of 8": {"batch_size": 8},
    "decoder at each second step": {"decoder_every": 2},
    "no LoRA on the residual blocks": {"lora": {"targets": {
        name: value for name, value in CLEAR.items() if name != "resblocks"}}},
    "no LoRA on the decoder": {"lora": {"targets": {name: CLEAR[name] for name in ("flow", "spk_row")}}},
    "gradient checkpointing": {"checkpoint": True},
}


class Again(nn.Module):
    """A residual block whose insides are computed again on the way back."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, *given: Any) -> Tensor:
        return checkpoint(self.block, *given, use_reentrant=False)


def prepared(folder: Path, recipe: Dict[str, Any], quick: bool) -> Trainer:
    """A trainer by one recipe. Every recipe has the same clips; a smaller batch takes the first of them."""
    settings = {"batch_size": 2 if quick else 4, **recipe}
    own = settings.pop("checkpoint", False)
    trainer = trainer_of(build(folder, quick, False, settings, clips=MOST_CLIPS))
    if own:
        blocks = trainer.model.network.dec.resblocks
        for number, block in enumerate(blocks):
            blocks[number] = Again(block)
    return trainer


def steps_of(trainer: Trainer) -> Tuple[List[int], int]:
    """Which clips a step takes, and how many steps it takes for all that is done at each k-th to come round."""
    return list(range(trainer.config.batch_size)), trainer.config.decoder_every


def measure_time(folder: Path, recipes: Dict[str, Dict[str, Any]], quick: bool,
                 repeats: int) -> Dict[str, Dict[str, float]]:
    """All recipes in one process, in turn, after unmeasured steps of each."""
    trainers = {name: prepared(folder, recipe, quick) for name, recipe in recipes.items()}
    seconds: Dict[str, List[float]] = {name: [] for name in recipes}
    for turn in range(repeats + 1):
        for name, trainer in trainers.items():
            indices, cycle = steps_of(trainer)
            taken = sum(timed(partial(trainer.step, indices), trainer.device) for _ in range(cycle)) / cycle
            if turn:
                seconds[name].append(taken)
    first = next(iter(recipes))
    figures: Dict[str, Dict[str, float]] = {}
    for name, trainer in trainers.items():
        step, clips = ratio(seconds[name], seconds[first], "ratio_step"), trainer.config.batch_size
        figures[name] = {"seconds": sorted(seconds[name])[repeats // 2], **step,
                         "ratio_clip": round(step["ratio_step"] * trainers[first].config.batch_size / clips, 4),
                         "adapter": trainer.model.count().adapter}
    return figures


def peak(folder: Path, recipe: Dict[str, Any], quick: bool) -> int:
    """Peak bytes of this process after two rounds of steps."""
    trainer = prepared(folder, recipe, quick)
    indices, cycle = steps_of(trainer)
    for _ in range(2 * cycle):
        trainer.step(indices)
    return measure_peak()


def peak_in_process(folder: Path, name: str, args: Any) -> int:
    command = [sys.executable, __file__, "--peak_of", name, "--folder", str(folder)] + ["--quick"] * args.quick
    command += ["--recipes", args.recipes] if args.recipes else []
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().split()[-1])


def main(argv: Optional[List[str]] = None) -> int:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--recipes", help="JSON, TOML or YAML file: name -> settings (default: those named above)")
    parser.add_argument("--repeats", type=int, help="steps of each, in turn (default: 5; --quick: 1)")
    parser.add_argument("--memory_rounds", type=int, default=1, help="processes of each whose peak memory is taken")
    parser.add_argument("--peak_of", metavar="NAME", help="print the peak memory of this recipe and end "
                        "(default: none)")
    parser.add_argument("--folder", help="where base and experiment are kept (default: a temporary folder)")
    args = parser.parse_args(argv)
    recipes = read_config_file(args.recipes) if args.recipes else RECIPES
    if args.quick and not args.recipes:
        recipes = {name: RECIPES[name] for name in ("as it is", "bf16", "gradient checkpointing")}
    if args.peak_of:
        print(peak(Path(args.folder), recipes[args.peak_of], args.quick))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        figures = measure_time(folder, recipes, args.quick, args.repeats or (1 if args.quick else 5))
        memory: Dict[str, List[int]] = {name: [] for name in recipes}
        for _ in range(args.memory_rounds):
            for name in recipes:
                memory[name].append(peak_in_process(folder, name, args))
    first = next(iter(recipes))
    for name, own in figures.items():
        own.update(ratio(memory[name], memory[first], "ratio_memory"), peak_bytes=max(memory[name]))
    columns = ("seconds", "ratio_step", "ratio_step_low", "ratio_step_high", "ratio_clip", "ratio_memory", "adapter")
    print(table([("recipe", *columns), *([name, *(own[key] for key in columns)] for name, own in figures.items())]))
    finish({"recipes": figures, "threads": torch.get_num_threads()}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
