"""Pretrain a base and its discriminator from fresh weights on many voices, by RVC's own losses: a base of full size
for the other benchmarks.

python bench/pretrain_base.py --data logs/ALICE logs/BOB … --out DIR [--steps 200000] [--warmup 20000] [--version v2]
[--quick]

Each experiment folder is one speaker, whose row is its place in the list; all were prepared at one rate, and the first
one's config.json decides the networks' size. For the first `--warmup` steps multi-resolution STFT stands where the
discriminator will, which learns beside it only afterwards: a generator of noise teaches a discriminator nothing. DIR
gets f0G{rate}k.pth and f0D{rate}k.pth in RVC's format, config.json beside them, and state.pt, from which the same
command goes on exactly where it was stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from bench.common import arguments, finish, fresh_base, make_experiment, short_segments, table
from bench.rvc_recipe import RVCStep
from bench.voices import DEMO_BASE
from LoraModel.files import atomic_file, atomic_write
from LoraModel.host import Host, find_host, hush_torch
from LoraModel.messages import UserError, cli
from LoraModel.models import read_checkpoint
from LoraModel.training.checkpoint import STATE_FILE, random_state, set_random_state
from LoraModel.training.data_loader import Clip, ClipSet, read_experiment
from LoraModel.training.signals import handle_signals


def config_of(experiment: Path) -> Dict[str, Any]:
    """The experiment's config.json. UserError where it has none."""
    path = experiment / "config.json"
    if not path.is_file():
        raise UserError("{path} is missing: prepare this voice first (scripts/prepare_data.py), or copy the config of "
                        "RVC's that fits its rate", path=path)
    return json.loads(path.read_text(encoding="utf-8"))


def clips_of(data: List[Path], host: Host, version: str, config: Dict[str, Any]) -> ClipSet:
    """All experiments' clips, each experiment a speaker. UserError where two of them differ in rate or window, or rows
    run out."""
    if len(data) > config["model"]["spk_embed_dim"]:
        raise UserError("{count} voices, but the base has {spk_embed_dim} speaker rows (spk_embed_dim)",
                        count=len(data), spk_embed_dim=config["model"]["spk_embed_dim"])
    clips: List[Clip] = []
    segment = 0
    for speaker, folder in enumerate(data):
        experiment = read_experiment(folder, host, SimpleNamespace(version=version, f0=True))
        if experiment.data != config["data"]:
            raise UserError("{folder} was prepared otherwise than {first}: all voices need one rate and one window",
                            folder=folder, first=data[0])
        segment = experiment.segment_frames
        clips += [clip._replace(speaker=speaker) for clip in experiment.clips]
    return ClipSet(clips, host, config["data"], True, segment)


class Pretraining:
    """Networks, optimisers and where the run stands; goes on from `folder` if a run with the same settings is there.

    Raises:
        UserError: `folder` holds a run with other settings, or a damaged one.
    """

    def __init__(self, args: Any, config: Dict[str, Any], folder: Path, device: torch.device):
        host = find_host()
        self.args, self.config, self.folder, self.device = args, config, folder, device
        self.clips = clips_of([Path(path) for path in args.data], host, args.version, config)
        self.settings = json.dumps([config, [clip.line() for clip in self.clips.clips], args.warmup, args.batch_size,
                                    args.seed, args.version])
        folder.mkdir(parents=True, exist_ok=True)
        self.steps_done, self.stop_asked = 0, False
        with tempfile.TemporaryDirectory() as fresh:
            generator, discriminator = fresh_base(Path(fresh), host, config, args.version, seed=args.seed)
            self.step = RVCStep(host, config, args.version, generator, discriminator, device)
        self.discriminator = self.step.discriminator
        torch.manual_seed(args.seed)
        if (folder / STATE_FILE).is_file():
            self._restore(read_checkpoint(folder / STATE_FILE))

    def _parts(self) -> Dict[str, Any]:
        return {"generator": self.step.generator, "discriminator": self.discriminator,
                "optimizer_g": self.step.optimizer_g, "optimizer_d": self.step.optimizer_d}

    def _restore(self, state: Dict[str, Any]) -> None:
        if state["settings"] != self.settings:
            raise UserError("{folder} holds a run with other voices or settings: give it another --out, or the same "
                            "ones to continue", folder=self.folder)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.steps_done = state["steps"]
        set_random_state(state["random"], self.device)

    def save(self) -> None:
        """The state, then base and discriminator in RVC's format; each file is whole or the old one."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state.update(settings=self.settings, steps=self.steps_done, random=random_state(self.device))
        rate = self.config["data"]["sampling_rate"] // 1000
        _write(self.folder / STATE_FILE, state)
        for kind, name in (("G", "generator"), ("D", "discriminator")):
            _write(self.folder / f"f0{kind}{rate}k.pth", {"model": state[name], "iteration": self.steps_done,
                                                         "learning_rate": self.config["train"]["learning_rate"]})
        atomic_write(self.folder / "config.json", json.dumps(self.config, indent=2).encode())

    def run(self) -> List[float]:
        """Train to `args.steps`, saving on the way and at the end: the losses of this call's steps."""
        losses: List[float] = []
        epoch = -1
        batches: List[List[int]] = []
        each = self.clips.steps_per_epoch(self.args.batch_size)
        with tqdm(total=self.args.steps, initial=self.steps_done, unit="step", desc="pretraining") as bar:
            while self.steps_done < self.args.steps and not self.stop_asked:
                if self.steps_done // each != epoch:
                    epoch = self.steps_done // each
                    batches = self.clips.epoch(self.args.batch_size, self.args.seed, epoch)
                self.step.discriminator = self.discriminator if self.steps_done >= self.args.warmup else None
                losses.append(self.step(self.clips.batch(batches[self.steps_done % each]).to(self.device)))
                self.steps_done += 1
                if self.steps_done % each == 0:
                    self.step.end_epoch()
                bar.update()
                bar.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.2f}", refresh=False)
                if self.steps_done % self.args.save_every == 0:
                    self.save()
        self.save()
        return losses


def _write(path: Path, contents: Dict[str, Any]) -> None:
    with atomic_file(path) as stream:
        torch.save(contents, stream)


def quick_voices(args: Any, folder: Path) -> Any:
    """Two made-up voices and a few steps of each kind."""
    config = short_segments(json.loads((DEMO_BASE.parent / "config.json").read_text(encoding="utf-8")))
    args.data = [str(make_experiment(folder / name, config, "v2", 3, 1.0)) for name in ("high", "low")]
    args.steps, args.warmup, args.save_every, args.batch_size = 4, 2, 2, 2
    return args


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+",
                        help="experiment folders, one for each speaker (needed unless --quick; default: none)")
    parser.add_argument("--out",
                        help="where base, discriminator and state go, and are found again (default: none)")
    parser.add_argument("--version", choices=("v1", "v2"), default="v2", help="of RVC, that the base is for")
    parser.add_argument("--steps", type=int, default=200000, help="of training")
    parser.add_argument("--warmup", type=int, default=20000, help="steps before the discriminator joins")
    parser.add_argument("--batch_size", type=int, default=16, help="clips a step")
    parser.add_argument("--save_every", type=int, default=1000, help="steps between saves")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="the device to compute on: cpu, cuda, cuda:1 …")
    parser.add_argument("--seed", type=int, default=1234, help="seed of all random numbers")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if args.quick:
            args = quick_voices(args, Path(temporary))
        elif not (args.data and args.out):
            parser.error("--data and --out are needed (or --quick)")
        run = Pretraining(args, config_of(Path(args.data[0])), Path(args.out or temporary), torch.device(args.device))
        begun, started = run.steps_done, time.perf_counter()
        undo = handle_signals(run)
        try:
            losses = run.run()
        finally:
            undo()
        seconds = time.perf_counter() - started
    last = losses[-100:]
    figures = {"steps": run.steps_done, "steps_before": begun, "voices": len(args.data), "clips": len(run.clips),
               "seconds_data": run.clips.seconds,
               "seconds": seconds, "loss": sum(last) / len(last) if last else None, "device": args.device}
    print(table([("figure", "value"), *((name, "" if value is None else value) for name, value in figures.items())]))
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
