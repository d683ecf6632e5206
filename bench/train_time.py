"""RVC's training step against ours, in turn, on the same data: seconds a step and for each part, and peak memory.

python bench/train_time.py [--base_d] [--repeats N] [--json FILE] [--quick]

RVC's step is written here from what its train.py does, with the host's own classes and losses: the generator's forward, the
discriminator's forward and backward, its forward again, the generator's backward, two AdamW steps. Ours is the trainer's own.
Peak memory is the high-water mark of resident memory (on CUDA: of allocated memory) of a process of its own for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F

from bench.common import arguments, finish, make_base, make_experiment, ratio, table
from LoraModel.host import Host, find_host, hush_torch
from LoraModel.models import load_discriminator
from LoraModel.models.model_utils import config_list
from LoraModel.training import TrainConfig, Trainer, prepare
from LoraModel.training.data_loader import Batch, ClipSet, read_experiment, split
from LoraModel.training.losses import Mel

SIZES = {False: ("v2", 40000, 4, 3.7), True: ("v2", 32000, 2, 1.0)}
"""version, Hz, clips a batch, seconds a clip; for --quick."""


class RVCStep:
    """One step of RVC's train.py in fp32, on whatever networks and losses the host has."""

    def __init__(self, host: Host, config: Dict[str, Any], version: str, generator: Path, discriminator: Path, device: torch.device):
        self.commons, self.losses, self.mel = host.module("commons"), host.module("losses"), Mel(host, config["data"])
        self.config = config
        self.generator = host.build_synthesizer(config_list(config), version, True).to(device).train()
        self.generator.load_state_dict(torch.load(str(generator), map_location="cpu", weights_only=True)["model"])
        self.discriminator = load_discriminator(discriminator, host, version).to(device).train().requires_grad_(True)
        train = config["train"]
        settings = {"lr": train["learning_rate"], "betas": tuple(train["betas"]), "eps": train["eps"]}
        self.optimizer_g = torch.optim.AdamW(self.generator.parameters(), **settings)
        self.optimizer_d = torch.optim.AdamW(self.discriminator.parameters(), **settings)
        self.parts: Dict[str, float] = {}

    def __call__(self, batch: Batch) -> float:
        data, train = self.config["data"], self.config["train"]
        clock = _Clock(self.parts, batch.spec.device)
        out = self.generator(batch.phone, batch.lengths, batch.pitch, batch.f0, batch.spec, batch.lengths, batch.speaker)
        audio, starts, _, mask, (_, z_p, mean_p, log_p, _, log_q) = out
        mel = self.mel.of_spectrogram(batch.spec)
        real_mel = self.commons.slice_segments(mel, starts, train["segment_size"] // data["hop_length"])
        made_mel = self.mel.of_audio(audio.squeeze(1))
        wave = self.commons.slice_segments(batch.wave, starts * data["hop_length"], train["segment_size"])
        clock.part("G forward")
        real, made, _, _ = self.discriminator(wave, audio.detach())
        loss_d, _, _ = self.losses.discriminator_loss(real, made)
        clock.part("D forward")
        self.optimizer_d.zero_grad()
        loss_d.backward()
        clock.part("D backward")
        self.optimizer_d.step()
        clock.part("optimisers")
        _, made, features_real, features_made = self.discriminator(wave, audio)
        clock.part("D forward again")
        loss = F.l1_loss(real_mel, made_mel) * train["c_mel"] + self.losses.kl_loss(z_p, log_q, mean_p, log_p, mask) * train["c_kl"]
        loss = loss + self.losses.feature_loss(features_real, features_made) + self.losses.generator_loss(made)[0]
        self.optimizer_g.zero_grad()
        loss.backward()
        clock.part("G backward")
        self.optimizer_g.step()
        clock.part("optimisers")
        return float(loss.detach())


class _Clock:
    def __init__(self, parts: Dict[str, float], device: torch.device):
        self._parts, self._device, self._then = parts, device, time.perf_counter()

    def part(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._parts[name] = self._parts.get(name, 0.0) + now - self._then
        self._then = now


def build(folder: Path, quick: bool, with_d: bool) -> Dict[str, Any]:
    """Base, discriminator, experiment and trainer in `folder`, which may hold them already."""
    host = find_host()
    version, rate, clips, seconds = SIZES[quick]
    if not (folder / "logs").exists():
        generator, discriminator, config = make_base(folder, host, version, rate)
        make_experiment(folder / "logs", config, version, clips + 1, seconds)
    generator, discriminator = (folder / f"f0{kind}{rate // 1000}k.pth" for kind in "GD")
    config = json.loads((folder / "logs" / "config.json").read_text(encoding="utf-8"))
    return {"host": host, "version": version, "generator": generator, "discriminator": discriminator, "config": config,
            "settings": TrainConfig(base_model=str(generator), data_dir=str(folder / "logs"), output_dir=str(folder / "out"), name="voice",
                                    base_d=str(discriminator) if with_d else None, batch_size=clips, init_speaker=0)}


def trainer_of(parts: Dict[str, Any]) -> Trainer:
    return prepare(parts["settings"])


def rvc_of(parts: Dict[str, Any], device: torch.device) -> RVCStep:
    return RVCStep(parts["host"], parts["config"], parts["version"], parts["generator"], parts["discriminator"], device)


def timed(step: Callable[[Batch], Any], batch: Batch) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    step(batch)
    if batch.spec.device.type == "cuda":
        torch.cuda.synchronize(batch.spec.device)
    return time.perf_counter() - started


def measure_time(folder: Path, quick: bool, with_d: bool, repeats: int) -> Dict[str, Any]:
    """Both steps in one process, in turn, after one unmeasured step of each."""
    parts = build(folder, quick, with_d)
    trainer = trainer_of(parts)
    rvc = rvc_of(parts, trainer.device)
    batch = trainer.train.batch(range(len(trainer.train))).to(trainer.device)
    rvc(batch), trainer.step(batch)
    rvc.parts.clear()
    ours: List[float] = []
    theirs: List[float] = []
    for _ in range(repeats):
        theirs.append(timed(rvc, batch))
        ours.append(timed(trainer.step, batch))
    return {**ratio(ours, theirs, "ratio_step"), "seconds_ours": ours, "seconds_rvc": theirs,
            "parts_rvc": {name: total / repeats for name, total in rvc.parts.items()}, "device": str(trainer.device)}


def measure_memory(folder: Path, which: str, quick: bool, with_d: bool) -> int:
    """Peak bytes of this process after two steps of one kind."""
    parts = build(folder, quick, with_d)
    if which == "rvc":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        batch = trainer_clips(parts).to(device)
        step: Callable[[Batch], Any] = rvc_of(parts, device)
    else:
        trainer = trainer_of(parts)
        step, batch = trainer.step, trainer.train.batch(range(len(trainer.train)))
    for _ in range(2):
        step(batch)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return peak_resident()


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
    settings, info = parts["settings"], SimpleNamespace(f0=True, version=parts["version"])
    experiment = read_experiment(Path(settings.data_dir), parts["host"], info)
    train, _ = split(experiment.clips, settings.valid_fraction, settings.seed)
    clips = ClipSet(train, parts["host"], experiment.data, True)
    return clips.batch(range(len(clips)))


def memory_in_process(folder: Path, which: str, quick: bool, with_d: bool) -> int:
    command = [sys.executable, __file__, "--memory_of", which, "--folder", str(folder)] + ["--quick"] * quick + ["--base_d"] * with_d
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return int(done.stdout.decode().split()[-1])


def main() -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--base_d", action="store_true", help="ours with the discriminator as well")
    parser.add_argument("--repeats", type=int, help="steps of each, in turn")
    parser.add_argument("--memory_of", choices=("rvc", "ours"), help="print the peak memory of this one and end")
    parser.add_argument("--folder", help="where base and experiment are kept")
    args = parser.parse_args()
    if args.memory_of:
        print(measure_memory(Path(args.folder), args.memory_of, args.quick, args.base_d))
        return
    repeats = args.repeats or (2 if args.quick else 7)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        figures = measure_time(folder, args.quick, args.base_d, repeats)
        rounds = 1 if args.quick else 3
        memory: Dict[str, List[int]] = {"ours": [], "rvc": []}
        for _ in range(rounds):
            for which in memory:
                memory[which].append(memory_in_process(folder, which, args.quick, args.base_d))
    figures.update(ratio(memory["ours"], memory["rvc"], "ratio_peak_memory"), peak_bytes_ours=memory["ours"], peak_bytes_rvc=memory["rvc"])
    figures.update(threads=torch.get_num_threads(), discriminator=bool(args.base_d), size=SIZES[args.quick])
    rows: List[Any] = [("", "ratio", "low", "high")]
    for name in ("ratio_step", "ratio_peak_memory"):
        rows.append((name, figures[name], figures[f"{name}_low"], figures[f"{name}_high"]))
    print(table(rows))
    print(table([("part of RVC's step", "seconds"), *figures["parts_rvc"].items()]))
    finish(figures, args.json)


if __name__ == "__main__":
    main()
