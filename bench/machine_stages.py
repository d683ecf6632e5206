"""What `on_my_machine.py` does, one stage after the other: each leaves its figures in a file, and one that is there
is not done again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from LoraModel.files import atomic_write, bounded_json
from LoraModel.host import experiment as layout
from LoraModel.host import find_host
from LoraModel.inference.audio import audio_files
from LoraModel.messages import UserError, tr
from LoraModel.models import load_base_beside_config
from LoraModel.models.prior_noise import last_norm
from LoraModel.training import TrainConfig

CODE = Path(__file__).resolve().parents[1]
DEMO = CODE / "LoraModel" / "demo"
FULL, LORA, BASE = "RVC", "RVC-LoRA", "base"
"""What the two trainings and the base alone are called in the report."""
OTHER_NOISE = (("RVC-LoRA, RVC's noise", 1.0), ("RVC, less noise", TrainConfig.noise))
"""What both voices are called with the other one's noise, and the shares of RVC's own: for a base that allows it."""
TRAINING_SHARE = 0.7
"""Of the hours; the rest is for preparing, measuring and judging."""
LORA_EPOCHS = 2
"""Epochs of ours for each of RVC's, as bench/time_to_quality.py has it."""
MOST_EPOCHS, MOST_SOURCES = 200, 12
BATCH = 4
WITH_PARENT = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(130)), daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script until it ends, or until whoever started it is gone: a killed run leaves nothing that works on."""


@dataclass
class Task:
    """What is measured on.

    Attributes:
        root: the checkout. folder: where all is kept until the report is written. recordings: of one voice.
        base, base_d: generator and discriminator. rate: Hz. version: "v1" or "v2". config_json: of a base that RVC
        has no configuration for.
        device: "cpu", "cuda", …
        hours: in all. quick: a few steps of everything. data: an experiment folder that is prepared already; None has
        it prepared.
        sources: recordings of other speakers. asr: folder of a speech recogniser.
    """

    root: Path
    folder: Path
    recordings: Optional[Path]
    base: Path
    base_d: Path
    rate: int
    version: str
    config_json: Optional[Path]
    device: str
    hours: float
    quick: bool
    data: Optional[Path]
    sources: Path
    asr: Optional[Path] = None
    f0_method: Optional[str] = None

    @property
    def experiment(self) -> Path:
        """The experiment folder, prepared already or to be made."""
        if self.data is not None and self.quick:  # --quick shortens what is trained on: of a copy
            return self.folder / "logs" / self.data.name
        return self.data or self.folder / "logs" / "voice"

    def record(self, stage: str) -> Path:
        """The file that a stage leaves."""
        return self.folder / f"{stage}.json"

    def done(self, stage: str) -> Optional[Dict[str, Any]]:
        """What a stage has left; None where it is still to be done."""
        try:
            found = bounded_json(self.record(stage), 64 * 2**20)
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def run(task: Task, script: str, arguments: Sequence[Any]) -> None:
    """One of this project's commands as a process of its own: its memory is its own, and a kill leaves what it has
    kept.

    Raises:
        UserError: it ended with an error, which stands on standard error above.
    """
    environment = {**os.environ, "RVC_ROOT": str(task.root)}
    if task.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # the benchmarks that name no device would take the card
    command = [sys.executable, "-c", WITH_PARENT, str(CODE / script), *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment, cwd=str(CODE), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:  # its standard input stays open for as long as this process lives
        code = process.wait()
    if code:
        raise UserError("{script} ended with exit code {code}, see above. Finished parts are kept: run the same "
                        "command again to continue", script=script, code=code)


def prepare(task: Task) -> Dict[str, Any]:
    """RVC's own slicing, pitch and features."""
    started = time.perf_counter()
    if task.data is None:
        options = [
            "--input_dir",
            task.recordings,
            "--output_dir",
            task.experiment,
            "--rvc_root",
            task.root,
            "--version",
            task.version,
            "--sample_rate",
            task.rate,
        ]
        options += ["--config_json", task.config_json] if task.config_json else []
        options += ["--f0_method", task.f0_method] if task.f0_method else []
        run(task, "LoraModel/scripts/prepare_data.py", options)
    elif task.quick:
        copy_experiment(task.data, task.experiment)
    wavs = list((task.experiment / "0_gt_wavs").glob("*.wav"))
    if task.quick:
        shorten(task.experiment)
    return {"seconds": time.perf_counter() - started, "clips": len(wavs), "prepared_here": task.data is None}


def copy_experiment(source: Path, target: Path) -> None:
    """What is trained on of an experiment folder, with its times."""
    folders = (layout.WAVS, layout.COARSE_PITCH, layout.PITCH, *layout.FEATURES.values())
    for file in [*source.glob("*.txt"), *source.glob("*.json"), *(one for name in folders
                                                                  for one in (source / name).glob("*"))]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file() and not copy.exists():
            shutil.copy2(str(file), str(copy))


def shorten(experiment: Path, frames: int = 16) -> None:
    """Let decoder and discriminator train on stretches of so many frames: for --quick, which only shows that
    everything runs."""
    path = experiment / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["train"]["segment_size"] = frames * config["data"]["hop_length"]
    atomic_write(path, json.dumps(config).encode())


def step(task: Task) -> Dict[str, Any]:
    """Seconds of a step and peak memory, of RVC's and of ours, at RVC's full size."""
    out = task.folder / "step_figures.json"
    options = ["--json", out, *(["--quick", "--repeats", 1, "--memory_rounds", 1] if task.quick else [])]
    run(task, "bench/train_time.py", options)
    return json.loads(out.read_text(encoding="utf-8"))


def switch(task: Task) -> Dict[str, Any]:
    """Milliseconds to change voices, and what an adapter costs in a conversion."""
    out = task.folder / "switch_figures.json"
    run(
        task,
        "bench/switch_time.py",
        ["--json", out, "--device", task.device, *(["--quick", "--repeats", 1] if task.quick else [])],
    )
    return json.loads(out.read_text(encoding="utf-8"))


def epochs_for(task: Task, seconds_rvc: float, seconds_ours: float, clips: int) -> int:
    """How many epochs of RVC's recipe, with as many times `LORA_EPOCHS` of ours after them in turn, fit into the
    training's share.

    Args:
        seconds_rvc, seconds_ours: of a step. clips: to train on.
    """
    if task.quick:
        return 1
    steps = max(1, -(-clips // BATCH))
    each = steps * (seconds_rvc + LORA_EPOCHS * seconds_ours)
    return int(min(MOST_EPOCHS, max(1, 3600 * task.hours * TRAINING_SHARE // each)))


def step_seconds(figures: Dict[str, Any]) -> Tuple[float, float]:
    """Mean seconds of a step, RVC's and ours, from `step`."""
    ours = [one for several in figures["seconds_ours"] for one in several]
    return sum(figures["seconds_rvc"]) / len(figures["seconds_rvc"]), sum(ours) / len(ours)


def train(task: Task) -> Dict[str, Any]:
    """RVC's own recipe and ours, in turn, from the same base, discriminator, clips and split."""
    prepared, measured = task.done("prepare") or {}, task.done("step") or {}
    epochs = epochs_for(task, *step_seconds(measured), int(prepared["clips"]))
    run(
        task,
        "bench/time_to_quality.py",
        [
            "--base",
            task.base,
            "--base_d",
            task.base_d,
            "--data",
            task.experiment,
            "--epochs",
            epochs,
            "--lora_epochs",
            LORA_EPOCHS * epochs,
            "--points",
            2 if task.quick else 10,
            "--device",
            task.device,
            "--out",
            task.folder / "training",
            "--no_judges",
        ],
    )
    voice = json.loads((task.folder / "training" / f"{task.experiment.name}.json").read_text(encoding="utf-8"))
    return {**voice, "epochs": epochs, "lora_epochs": LORA_EPOCHS * epochs}


def judge(task: Task) -> Dict[str, Any]:
    """Base alone, RVC's voice and ours on the clips that both were kept from, and on other speakers, by all figures."""
    trained = task.done("train") or {}
    models = {name.split(" ")[0]: path for name, path in trained["models"].items()}
    held = (task.folder / "training" / task.experiment.name / "heldout.txt").read_text(encoding="utf-8").splitlines()
    recordings = task.folder / "heldout.txt"
    atomic_write(recordings, "\n".join(held[: 2 if task.quick else len(held)]).encode("utf-8", "surrogateescape"))
    sources = audio_files(task.sources)[: 1 if task.quick else MOST_SOURCES]
    options: List[Any] = [
        "--base",
        task.base,
        "--label",
        BASE,
        "--adapter",
        models["LoRA"],
        "--label",
        LORA,
        "--model",
        models["full"],
        "--label",
        FULL,
        *other_noise(task, models),
        "--recordings",
        recordings,
        "--sources",
        *sources,
    ]
    options += ["--out", task.folder / "judged", "--players", 2, "--rvc_root", task.root, "--index_rate", 0]
    options += ["--config_json", task.config_json] if task.config_json else []
    options += ["--asr", task.asr] if task.asr else []
    options += ["--f0_method", task.f0_method] if task.f0_method else []
    options += ["--device", task.device] if task.device == "cpu" else []
    run(task, "LoraModel/evaluation/evaluate.py", options)
    return json.loads((task.folder / "judged" / "report.json").read_text(encoding="utf-8"))


def other_noise(task: Task, models: Dict[str, Any]) -> List[Any]:
    """Both voices once more, each with the other one's noise: options of evaluate.py; none where the noise of one of
    them cannot be set."""
    host = find_host(task.root)
    for file in (task.base, models["full"]):  # full fine-tuning moves the layer norm
        if not last_norm(load_base_beside_config(file, host, task.rate, task.config_json).network).usable:
            return []
    ours, theirs = OTHER_NOISE
    return ["--adapter", models["LoRA"], "--label", ours[0], "--noise", ours[1],
            "--model", models["full"], "--label", theirs[0], "--noise", theirs[1]]


STAGES: Dict[str, Callable[[Task], Dict[str, Any]]] = {
    "prepare": prepare,
    "step": step,
    "switch": switch,
    "train": train,
    "judge": judge,
}
"""In their order."""


def titles() -> Dict[str, str]:
    """What each stage is called on the terminal."""
    return {
        "prepare": tr("preparing the recordings"),
        "step": tr("measuring a training step and its memory"),
        "switch": tr("measuring a change of voice and a conversion"),
        "train": tr("training RVC's way and ours, in turn"),
        "judge": tr("evaluating both voices"),
    }
