"""RVC's training step against ours, in turn, on the same data: seconds a step and for each part, and peak memory.

python bench/train_time.py [--base_d] [--config FILE] [--repeats N] [--rvc_root CHECKOUT] [--json FILE] [--quick]

RVC's step is written here from what its train.py does, with the host's own classes and losses: the generator's
forward, the discriminator's forward and backward, its forward again, the generator's backward, two AdamW steps. Ours
is the trainer's own. Peak memory is the high-water mark of resident memory (on CUDA: of allocated memory) of a process
of its own for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from bench import train_commands
from bench.common import arguments, finish, make_base, make_experiment, ratio, short_segments, table
from bench.rvc_recipe import RVCStep, training_clips
from bench.step_parts import OurStep
from LoraModel.host import find_host, hush_torch
from LoraModel.messages import cli
from LoraModel.training import TrainConfig, Trainer, prepare
from LoraModel.training.data_loader import Batch
from LoraModel.training.settings_file import read_config_file

SIZES = {False: ("v2", 40000, 4, 3.7), True: ("v2", 32000, 2, 1.0)}
"""version, Hz, clips a batch, seconds a clip; for --quick."""


def build(folder: Path, quick: bool, with_d: bool, more: Optional[Dict[str, Any]] = None,
          clips: Optional[int] = None) -> Dict[str, Any]:
    """Base, discriminator, experiment and settings in `folder`, which may hold them already. more: settings of our
    trainer. clips: so many are made (default: a batch)."""
    host = find_host()
    version, rate, batch, seconds = SIZES[quick]
    clips = clips or batch
    if not (folder / "logs").exists():
        generator, discriminator, config = make_base(folder, host, version, rate)
        make_experiment(folder / "logs", short_segments(config) if quick else config, version, clips + 1, seconds)
    generator, discriminator = (folder / f"f0{kind}{rate // 1000}k.pth" for kind in "GD")
    config = json.loads((folder / "logs" / "config.json").read_text(encoding="utf-8"))
    return {"host": host, "version": version, "generator": generator, "discriminator": discriminator, "config": config,
            "settings": TrainConfig.from_dict({
                "base_model": str(generator), "data_dir": str(folder / "logs"), "output_dir": str(folder / "out"),
                "name": "voice",
                "base_d": str(discriminator) if with_d else None, "batch_size": batch, "init_speaker": 0,
                **(more or {})})}


def trainer_of(parts: Dict[str, Any]) -> Trainer:
    return prepare(parts["settings"])


def rvc_of(parts: Dict[str, Any], device: torch.device) -> RVCStep:
    return RVCStep(parts["host"], parts["config"], parts["version"], parts["generator"], parts["discriminator"], device)


def timed(action: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `action` takes."""
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure_time(folder: Path, quick: bool, with_d: bool, repeats: int,
                 more: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Both steps in one process, in turn, after one unmeasured step of each.

    A step of ours is the mean over as many as all that is not done at each step takes to come round. Ours has each
    clip's posterior by then: in a run it is computed once for each clip, which `bench/time_to_quality.py` counts.
    """
    parts = build(folder, quick, with_d, more)
    trainer = trainer_of(parts)
    device, indices, config = trainer.device, range(len(trainer.train)), trainer.config
    cycle = config.decoder_every * config.d_every
    rvc = rvc_of(parts, device)
    batch = trainer.train.batch(indices).to(device)
    step = OurStep(trainer)
    rvc(batch)
    for _ in range(cycle):
        step(indices)
    rvc.parts.clear()
    step.parts.clear()
    ours: List[List[float]] = []
    theirs: List[float] = []
    for _ in range(repeats):
        theirs.append(timed(lambda: rvc(batch), device))
        ours.append([timed(lambda: step(indices), device) for _ in range(cycle)])
    return {**ratio([sum(steps) / cycle for steps in ours], theirs, "ratio_step"), "seconds_ours": ours,
            "seconds_rvc": theirs, "parts_rvc": {name: total / repeats for name, total in rvc.parts.items()},
            "parts_ours": {name: total / (repeats * cycle) for name, total in step.parts.items()},
            "device": str(device)}


def measure_memory(folder: Path, which: str, quick: bool, with_d: bool, more: Optional[Dict[str, Any]] = None) -> int:
    """Peak bytes of this process after two steps of one kind."""
    parts = build(folder, quick, with_d, more)
    if which == "rvc":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        batch = trainer_clips(parts).to(device)
        rvc = rvc_of(parts, device)
        step: Callable[[], Any] = lambda: rvc(batch)  # noqa: E731
    else:
        trainer = trainer_of(parts)
        step = lambda: trainer.step(range(len(trainer.train)))  # noqa: E731
    for _ in range(2):
        step()
    return measure_peak()


def measure_peak() -> int:
    """The most memory that this process has held, in bytes: on CUDA of allocated memory, else of resident memory."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident()


def peak_resident() -> int:
    """The high-water mark of this process's resident memory in bytes.

    Not `ru_maxrss` where there is better: on Linux a child starts with its parent's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def trainer_clips(parts: Dict[str, Any]) -> Batch:
    """The training batch alone, without a trainer's networks in memory."""
    clips = training_clips(parts["host"], parts["settings"], SimpleNamespace(f0=True, version=parts["version"]))
    return clips.batch(range(len(clips)))


def memory_in_process(folder: Path, which: str, args: Any) -> int:
    command = [sys.executable, __file__, "--memory_of", which, "--folder",
               str(folder)] + ["--quick"] * args.quick + ["--base_d"] * args.base_d
    command += ["--config", args.config] if args.config else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return int(done.stdout.decode().split()[-1])


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--base_d", action="store_true", help="ours with the discriminator as well")
    parser.add_argument("--config", help="JSON, TOML or YAML file of settings for our trainer (default: none)")
    parser.add_argument("--rvc_root", help="an RVC checkout: its networks are taken, "
                        "and its own train.py is run before our train_lora.py (default: none)")
    parser.add_argument("--repeats", type=int, help="steps of each, in turn (default: 7; --quick: 2)")
    parser.add_argument("--memory_rounds", type=int,
                        help="processes of each whose peak memory is taken (default: 3; --quick: 1)")
    parser.add_argument("--memory_of", choices=("rvc", "ours"),
                        help="print the peak memory of this one and end (default: neither)")
    parser.add_argument("--folder", help="where base and experiment are kept (default: a temporary folder)")
    args = parser.parse_args(argv)
    more = read_config_file(args.config) if args.config else {}
    if args.rvc_root:
        os.environ["RVC_ROOT"] = str(Path(args.rvc_root).resolve())  # for the processes of the memory figures too
    if args.memory_of:
        print(measure_memory(Path(args.folder), args.memory_of, args.quick, args.base_d, more))
        return
    repeats = args.repeats or (2 if args.quick else 7)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        figures = measure_time(folder, args.quick, args.base_d, repeats, more)
        rounds = args.memory_rounds or (1 if args.quick else 3)
        memory: Dict[str, List[int]] = {"ours": [], "rvc": []}
        for _ in range(rounds):
            for which in memory:
                memory[which].append(memory_in_process(folder, which, args))
        if args.rvc_root:
            parts = build(folder, args.quick, args.base_d, more)
            figures.update(train_commands.measure(parts, args.rvc_root, 2 if args.quick else 4, folder / "commands",
                                                  args.config))
    figures.update(ratio(memory["ours"], memory["rvc"], "ratio_peak_memory"), peak_bytes_ours=memory["ours"],
                   peak_bytes_rvc=memory["rvc"])
    figures.update(threads=torch.get_num_threads(), discriminator=bool(args.base_d), size=SIZES[args.quick])
    rows: List[Any] = [("", "ratio", "low", "high")]
    for name in ("ratio_step", "ratio_peak_memory", "ratio_step_commands"):
        if name in figures:
            rows.append((name, figures[name], figures[f"{name}_low"], figures[f"{name}_high"]))
    if args.rvc_root:
        rows.append(("ratio_peak_memory_commands", figures["ratio_peak_memory_commands"], "", ""))
    print(table(rows))
    print(table([("part of RVC's step", "seconds"), *figures["parts_rvc"].items()]))
    print(table([("part of ours", "seconds"), *figures["parts_ours"].items()]))
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
