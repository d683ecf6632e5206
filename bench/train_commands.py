"""RVC's own train.py and our train_lora.py as a user starts them, in turn, on the same experiment in a real checkout.

What stands in the checkout's logs/ and assets/weights/ for the measurement is taken away again.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from bench.common import ratio
from LoraModel.host import Host, find_host
from LoraModel.host.preprocess import script_command
from LoraModel.training.data_loader import read_experiment
from LoraModel.training.monitor import read_log

CODE = Path(__file__).resolve().parents[1]
NAME = f"rvc_lora_bench_{os.getpid()}"
PEAK = ("import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else "
        "1024), code)")
"""Runs a command and tells the largest resident memory of any process of its own: a small parent, whose own peak is
not handed on."""


def measure(parts: Dict[str, Any], root: str, epochs: int, folder: Path,
            config: Optional[str] = None) -> Dict[str, Any]:
    """Seconds a step and peak bytes of both commands over as many epochs, the first one left out of the seconds.

    parts: of `train_time.build`. folder: for our run. config: JSON file of its settings.
    """
    host = find_host(root)
    experiment = host.root / "logs" / NAME
    ours: List[float] = []
    theirs: List[float] = []
    try:
        shutil.copytree(str(Path(parts["settings"].data_dir)), str(experiment))
        in_fp32 = {**parts["config"], "train": {**parts["config"]["train"], "fp16_run": False}}
        (experiment / "config.json").write_text(json.dumps(in_fp32), encoding="utf-8")
        clips = read_experiment(experiment, host, _Info(parts["version"])).clips
        (experiment / "filelist.txt").write_text("\n".join(clip.line() for clip in clips), encoding="utf-8")
        rvc_peak, output = _run(host, *_train_py(host, parts, epochs))
        steps = math.ceil(len(clips) / parts["settings"].batch_size)
        # its train.log may be cut off
        theirs = [_seconds(text) / steps for text in re.findall(r"====> Epoch: \d+ .*\| \((.*)\)", output)][1:]
        if not theirs:
            raise SystemExit(f"RVC's train.py came to no second epoch; it printed:\n{output[-3000:]}")
        our_peak, output = _run(host, _train_lora(host, parts, experiment, epochs, folder, config), dict(os.environ))
        lines = read_log(folder)
        ours = [line["seconds"] for line in lines if line["epoch"] > 1]
        if not ours:
            raise SystemExit(f"train_lora.py came to no second epoch; it printed:\n{output[-3000:]}")
    finally:
        shutil.rmtree(str(experiment), ignore_errors=True)
        for left in (host.root / "assets" / "weights").glob(f"{NAME}*.pth"):
            left.unlink()
    mean = sum(ours) / len(ours)
    return {**ratio([mean] * len(theirs), theirs, "ratio_step_commands"),
            "ratio_peak_memory_commands": our_peak / rvc_peak,
            "train_py_seconds_step": theirs, "train_lora_seconds_step": mean, "train_py_peak_bytes": rvc_peak,
            "train_lora_peak_bytes": our_peak, "layout": host.name}


class _Info:
    def __init__(self, version: str):
        self.version, self.f0 = version, True


def _train_py(host: Host, parts: Dict[str, Any], epochs: int) -> Any:
    rate = f"{parts['config']['data']['sampling_rate'] // 1000}k"
    return script_command(host, "train", [
        "-e", NAME, "-sr", rate, "-f0", "1", "-bs", str(parts["settings"].batch_size), "-te", str(epochs), "-se",
        "1000", "-pg",
        str(parts["generator"]), "-pd", str(parts["discriminator"]), "-l", "1", "-c", "0", "-sw", "0", "-v",
        parts["version"]])


def _train_lora(host: Host, parts: Dict[str, Any], experiment: Path, epochs: int, folder: Path,
                config: Optional[str]) -> List[str]:
    s = parts["settings"]
    options = {"base_model": parts["generator"], "data_dir": experiment, "output_dir": folder, "rvc_root": host.root,
               "epochs": epochs,
               "save_every": epochs, "batch_size": s.batch_size, "init_speaker": 0,
               **({"base_d": s.base_d} if s.base_d else {}), **({"config": Path(config).resolve()} if config else {})}
    script = CODE / "LoraModel" / "training" / "train_lora.py"
    return [sys.executable, str(script), *(text for key, value in options.items() for text in (f"--{key}", str(value)))]


def _run(host: Host, command: List[str], environment: Dict[str, str]) -> Any:
    done = subprocess.run([sys.executable, "-c", PEAK, *command], cwd=str(host.root), env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode("utf-8", "replace")
    found = re.search(r"^peak (\d+) ", output, re.M)
    if not found:
        raise SystemExit(f"{' '.join(command[:3])} could not be run; it printed:\n{output[-3000:]}")
    return int(found.group(1)), output


def _seconds(text: str) -> float:
    """"0:01:02.5" -> 62.5."""
    hours, minutes, seconds = text.rpartition(" ")[2].split(":")
    return datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()
