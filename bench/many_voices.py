"""Many voices: what `train_many` saves, and what it does not.

    python -m bench.many_voices [--quick] [--only time,memory,batch,simulation] [--json FILE]

time: eight voices by train_many against eight runs of train_lora one after another, in turn, with the same steps; and
the time from the start of a voice to its first step, after the first voice. memory: what each further worker takes for
itself at RVC's v2 40k, and the base, which is counted once. batch: a step of several voices in one batch against their
steps one after another. simulation: 1,000 voices on 100 workers of which 5% are killed, by the state file alone ("on
paper") and by Ray where it is installed, with training that is none.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from bench.common import arguments, finish, make_base, make_experiment, ratio, short_segments
from LoraModel.fleet.ledger import Entry, Ledger
from LoraModel.fleet.local import bytes_of, cores
from LoraModel.fleet.manifest import Voice
from LoraModel.fleet.memory import own_memory
from LoraModel.fleet.session import Session, load, work_of
from LoraModel.fleet.together import Member, joint_step
from LoraModel.fleet.work import VOICES, Job, trainer_of
from LoraModel.host import Host, find_host
from LoraModel.messages import UserError, table
from LoraModel.training.monitor import LOG_FILE

CODE = Path(__file__).resolve().parents[1]
DEMO = CODE / "LoraModel" / "demo"
PARTS = ("time", "memory", "batch", "simulation")
KILLED = 0.05


def main(argv: Optional[List[str]] = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    args = parser.parse_args(argv)
    figures: Dict[str, Any] = {"cores": cores(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="many-voices-") as name:
        folder = Path(name)
        for part in args.only.split(","):
            figures.update(globals()[f"measure_{part}"](folder / part, args.quick))
    print(table([["figure", "value"], *([key, str(value)] for key, value in figures.items())]))
    finish(figures, args.json)


# ---------------------------------------------------------------- time

def measure_time(folder: Path, quick: bool) -> Dict[str, Any]:
    """Both as a user starts them, on the demo's base."""
    names = [f"voice{number}" for number in range(2 if quick else 8)]
    base = DEMO / "base" / "f0G16k.pth"
    config = json.loads((DEMO / "base" / "config.json").read_text(encoding="utf-8"))
    for name in names:
        make_experiment(folder / "logs" / name, config, "v2", 6 if quick else 20, 1.0 if quick else 3.0)
    settings = {"epochs": 1 if quick else 8, "batch_size": 4, "save_every": 4, "device": "cpu"}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    ours: List[float] = []
    theirs: List[float] = []
    first: List[Tuple[float, float]] = []
    for turn in range(1 if quick else 3):
        output = folder / f"many{turn}"
        ours.append(_timed("LoraModel.training.train_many", "--base_model", base, "--voices", folder / "logs",
                           "--output_dir", output, "--config", folder / "settings.json"))
        first += to_first_step(Ledger(output))[1:]
        theirs.append(sum(_timed("LoraModel.training.train_lora", "--base_model", base, "--data_dir",
                                 folder / "logs" / name, "--output_dir", folder / f"one{turn}" / name, "--config",
                                 folder / "settings.json") for name in names))
        _same_steps(Ledger(output), folder / f"one{turn}", names)
    return {**ratio(ours, theirs, "ratio_train_many"), "train_many_seconds": ours, "train_lora_seconds": theirs,
            "voices": len(names), **_median("seconds_to_first_step", [before for before, _ in first]),
            **_median("seconds_to_end_of_first_step", [end for _, end in first])}


def _median(name: str, values: List[float]) -> Dict[str, Any]:
    return {name: sorted(values), f"median_{name}": statistics.median(values) if values else None}


def _timed(module: str, *options: Any) -> float:
    environment = {key: value for key, value in os.environ.items() if key not in ("RVC_ROOT", "OMP_NUM_THREADS",
                                                                                  "MKL_NUM_THREADS")}
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *map(str, options)], cwd=str(CODE), env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-3000:]}")
    return time.perf_counter() - begun


def _same_steps(ledger: Ledger, one: Path, names: List[str]) -> None:
    """A benchmark that times other work would say nothing."""
    for entry in ledger.entries():
        alone = json.loads((one / entry.name / "run.json").read_text(encoding="utf-8"))
        assert entry.state == "done" and entry.figures["steps"] == alone["steps"], entry.name
    assert len(ledger.entries()) == len(names)


def to_first_step(ledger: Ledger) -> List[Tuple[float, float]]:
    """Seconds from each voice's start to its first step, and to the end of that step, in the order of the starts."""
    started: Dict[Tuple[str, int], float] = {}
    seconds: List[Tuple[float, float]] = []
    for event in ledger.events():
        key = (event["name"], event["attempt"])
        if event["what"] == "training":
            started[key] = event["time"]
        elif event["what"] == "first step" and key in started:
            end = event["time"] - started[key]
            with open(ledger.folder / VOICES / event["name"] / LOG_FILE, encoding="utf-8") as stream:
                seconds.append((round(end - json.loads(stream.readline())["seconds"], 3), round(end, 3)))
    return seconds


# ---------------------------------------------------------------- memory

def measure_memory(folder: Path, quick: bool) -> Dict[str, Any]:
    """Two workers at once: the most that each had for itself."""
    host = Host("library")
    folder.mkdir()
    base_file, _, config = make_base(folder, host, "v2", 40000)
    config = short_segments(config) if quick else config
    for name in ("one", "two"):
        make_experiment(folder / "logs" / name, config, "v2", 4, 1.0)
    session, work, base = _session(folder / "out", base_file, {"epochs": 1, "batch_size": 2, "device": "cpu",
                                                               "init_speaker": 0, "valid_clips": 1}, 40000)
    session.ledger.add([Voice(name, str(folder / "logs" / name), {}, True) for name in ("one", "two")])
    engine = session.local(base, work, workers=2)
    most: Dict[int, int] = {}

    def watch() -> None:
        for one in engine._processes:
            most[one.process.pid] = max(most.get(one.process.pid, 0), own_memory(one.process.pid) or 0)

    engine.run(watch)
    assert all(entry.state == "done" for entry in session.ledger.entries()), session.ledger.entries()
    alone = _alone_bytes(folder, base_file)
    size = bytes_of(base)
    return {"base_mb": size >> 20, "worker_own_mb": [value >> 20 for value in most.values()],
            "train_lora_own_mb": alone >> 20, "saved_by_each_further_worker_mb": (alone - max(most.values())) >> 20}


def _alone_bytes(folder: Path, base: Path) -> int:
    """The most that train_lora has for itself, on the same voice."""
    options = ["--base_model", base, "--data_dir", folder / "logs" / "one", "--output_dir", folder / "alone",
               "--epochs", "1", "--batch_size", "2", "--device", "cpu", "--init_speaker", "0", "--sample_rate", "40k"]
    (folder / "c.json").write_text('{"valid_clips": 1}', encoding="utf-8")
    run = subprocess.Popen([sys.executable, "-m", "LoraModel.training.train_lora", *map(str, options), "--config",
                            str(folder / "c.json")], cwd=str(CODE), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    most = 0
    while run.poll() is None:
        most = max(most, own_memory(run.pid) or 0)
        time.sleep(0.1)
    assert run.returncode in (0, 3), run.returncode
    return most


def _session(output: Path, base_file: Path, settings: Dict[str, Any], rate: Any = None) -> Tuple[Session, Any, Any]:
    host = find_host()
    base = load(host, str(base_file), rate, None)
    session = Session(output)
    work = work_of(base, output, settings, host, sample_rate=rate, publish=False)
    session.begin(work)
    return session, work, base


# ---------------------------------------------------------------- a batch of voices

def measure_batch(folder: Path, quick: bool) -> Dict[str, Any]:
    """A step of several voices in one batch over their steps one after another; on a GPU where there is one."""
    gpu = torch.cuda.is_available()
    count = 2 if quick else 40 if gpu else 4
    config = json.loads((DEMO / "base" / "config.json").read_text(encoding="utf-8"))
    make_experiment(folder / "voice", config, "v2", 8, 1.0 if quick else 3.0)
    device = "cuda" if gpu else "cpu"
    settings = {"epochs": 50, "batch_size": 4, "device": device, "init_speaker": 0, "valid_clips": 1}
    _, work, base = _session(folder / "out", DEMO / "base" / "f0G16k.pth", settings)
    job = Job("v", 1, str(folder / "voice"), {}, str(folder / "voice"))
    members = [Member(lambda n=n: trainer_of(work, Job(f"v{n}", 1, job.recordings, {}, job.data_dir), base),
                      torch.device(device)) for n in range(count)]
    for member in members:
        member.go_on()
    together: List[float] = []
    alone: List[float] = []
    for _ in range(2 if quick else 6):
        together.append(_step_seconds(lambda: joint_step(members), gpu))
        alone.append(_step_seconds(lambda: [joint_step([member]) for member in members], gpu))
        by_themselves = _step_seconds(lambda: [_own_step(member) for member in members], gpu)
        alone[-1] = min(alone[-1], by_themselves)
    for member in members:
        member.close()
    found = ratio(together[1:], alone[1:], "ratio_batch")
    return {**found, "batch_voices": count, "batch_device": device,
            "batch_of_forty_on_a_gpu": found["ratio_batch"] if gpu else "unknown: no GPU here"}


def _own_step(member: Member) -> Any:
    with member.turn():
        return member.trainer.step(member.indices)


def _step_seconds(step: Any, gpu: bool) -> float:
    if gpu:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    step()
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begun


# ---------------------------------------------------------------- simulation

def measure_simulation(folder: Path, quick: bool) -> Dict[str, Any]:
    voices, workers = (60, 10) if quick else (1000, 100)
    figures = {"simulated_voices": voices, "simulated_workers": workers, **on_paper(folder / "paper", voices, workers)}
    try:
        figures.update(by_ray(folder / "ray", voices, 4 if quick else workers))
    except UserError as error:
        figures["by_ray"] = f"not measured: {error}"
    return figures


def _fill(folder: Path, voices: int) -> Ledger:
    (folder / "x").mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.add([Voice(f"v{number:05d}", str(folder / "x"), {}, True) for number in range(voices)])
    return ledger


def _checked(ledger: Ledger, name: str) -> Dict[str, Any]:
    """All done, nothing twice; how many workers were lost."""
    done = [event["name"] for event in ledger.events() if event["what"] == "done"]
    entries = ledger.entries()
    assert sorted(done) == sorted(entry.name for entry in entries), "a voice was lost, or done twice"
    return {f"{name}_done": len(done), f"{name}_lost": sum(entry.lost for entry in entries)}


def on_paper(folder: Path, voices: int, workers: int, killed: float = KILLED) -> Dict[str, Any]:
    """Workers that only pass the time, on the state file itself: each attempt takes 60 to 180 s of made-up time, and a
    share of them ends amid it; what such a worker says later is not to count."""
    ledger, chance = _fill(folder, voices), random.Random(0)
    going: List[Tuple[float, int, Entry, bool]] = []
    clock, serial, late = 0.0, 0, 0

    def begin(now: float) -> None:
        nonlocal serial
        entry = ledger.claim("paper", False)
        if entry is not None:
            serial += 1
            dies = chance.random() < killed
            length = chance.uniform(60, 180) * (chance.random() if dies else 1.0)
            heapq.heappush(going, (now + length, serial, entry, dies))

    for _ in range(workers):
        begin(0.0)
    while going:
        clock, _, entry, dies = heapq.heappop(going)
        if dies:
            ledger.lost(entry.name, entry.attempt, 20, UserError("{why}", why="killed"))
            late += ledger.done(entry.name, entry.attempt, {"steps": 1}, 1.0)  # it was only thought dead
        else:
            assert ledger.done(entry.name, entry.attempt, {"steps": 1}, 1.0)
        begin(clock)
    assert late == 0
    ideal = voices * 120 / workers
    return {**_checked(ledger, "paper"), "paper_time_over_ideal": round(clock / ideal, 3)}


def by_ray(folder: Path, voices: int, workers: int) -> Dict[str, Any]:
    """The real engine and Ray's own scheduling, with tasks that train nothing."""
    from bench.fake_voices import fake
    from LoraModel.fleet.by_ray import ByRay, ray_module

    class Engine(ByRay):
        """Sends a task nothing but its name."""

        def _send(self, entry: Entry) -> None:
            stream = self._task.remote(entry.name, entry.attempt, KILLED, 0.3)
            self._going[stream] = (entry, time.monotonic(), [])

    ray = ray_module()
    base = load(find_host(), str(DEMO / "base" / "f0G16k.pth"), None, None)
    ledger = _fill(folder, voices)
    work = work_of(base, folder, {}, find_host(), publish=False)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CODE), os.environ.get("PYTHONPATH"))))
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=200 * 2**20)
    try:
        engine = Engine(ledger, work, base, workers, work_of_task=fake)
        engine.lost_at_most = 20
        begun = time.perf_counter()
        engine.run(lambda: None)
        seconds = time.perf_counter() - begun
    finally:
        ray.shutdown()
    files = sorted(path.name for path in (folder / "voices").glob("*/*.safetensors"))
    assert len(files) == voices
    return {**_checked(ledger, "ray"), "ray_workers": workers, "ray_seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
