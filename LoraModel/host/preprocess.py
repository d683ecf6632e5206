"""RVC's own data preparation, run as its WebUI runs it: slicing, pitch, features, index. Each step is a process of the
host's script.

The scripts exit with 0 after errors and go on without the recordings that failed, so what they produced is counted, and
what their logs say of an error is passed on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..arrays import array_shape
from ..messages import Text, UserError, disk_full, listing, tr
from ..paths import printable
from . import index_names
from .experiment import COARSE_PITCH, FEATURES, PITCH, WAVS, WAVS_16K, feature_folder, indexes, stems
from .layout import Host
from .pipeline import at_root, host_config, host_environment, rmvpe_model

_SLICE_SECONDS = "3.0"  # the WebUI's choice on CPUs and small GPUs
_READS_HUBERT = {"features"}
_TRACE = "Traceback (most recent"
Progress = Callable[[int], None]
"""Called with how many results there are so far."""


def check_needs(host: Host, f0_method: Optional[str]) -> None:
    """Check what the scripts need before anything is written.

    Raises:
        UserError: HuBERT or rmvpe is missing, or the layout has no such f0 method.
    """
    hubert = host.checkout / host.layout.hubert
    if not hubert.is_file():
        raise UserError("HuBERT is missing ({hubert}): download it as RVC's README says", hubert=hubert)
    if f0_method is not None and f0_method not in host.layout.f0_training:
        raise UserError("this RVC ({host}) has no f0 method {f0_method!r} for training: choose from {f0_training}",
                        host=host.describe(), f0_method=f0_method, f0_training=listing(host.layout.f0_training))
    model = rmvpe_model(host, named=False)
    if f0_method == "rmvpe" and not model.is_file():
        raise UserError("rmvpe is missing ({checkout}): download it as RVC's README says, or use --f0_method pm",
                        checkout=model)


def slice_recordings(
    host: Host, recordings: Path, experiment: Path, sample_rate: int, workers: int, progress: Progress,
    names: Optional[Sequence[str]] = None
) -> None:
    """Cut the recordings into `0_gt_wavs` (at `sample_rate`, Hz) and `1_16k_wavs`; progress counts recordings begun.

    A recording that RVC cannot read is named on standard error and left out.

    Args:
        recordings: a folder that holds them and nothing else. names: how messages call them, in the order of their
            files' names.

    Raises:
        UserError: nothing came out, the script broke off, or the disk is full.
    """
    folder = experiment / WAVS_16K
    inputs = list(names) if names is not None else sorted(file.name for file in recordings.iterdir())
    numbers = lambda: {name.split("_")[0] for name in stems(folder, ".wav")}  # noqa: E731  slices are NUMBER_PART.wav
    output = _run(host, "slice", [str(recordings), str(sample_rate), str(workers), str(experiment), "False",
                                  _SLICE_SECONDS],
                  lambda: progress(len(numbers())))
    lost = [name for number, name in enumerate(inputs) if str(number) not in numbers()]
    _judge(len(inputs), lost, output, Text("slicing"), skip=True)
    if stems(folder, ".wav") != stems(experiment / WAVS, ".wav"):
        raise UserError("{wavs} and {wavs_16k} of {experiment} differ: delete the folder and run this again", wavs=WAVS,
                        wavs_16k=WAVS_16K, experiment=experiment)


def extract_f0(host: Host, experiment: Path, method: str, workers: int, progress: Progress) -> None:
    """Find the pitch of each slice: `2a_f0` (1 to 255) and `2b-f0nsf` (Hz), `NAME.wav.npy`."""
    wanted = stems(experiment / WAVS_16K, ".wav")
    folders = [experiment / COARSE_PITCH, experiment / PITCH]
    done = lambda: set.intersection(*(stems(folder, ".wav.npy") for folder in folders))  # noqa: E731
    arguments = [str(experiment), str(workers), method]
    output = _run(host, "f0", [*host.layout.f0_script_first, *arguments], lambda: progress(len(done())))
    _judge(len(wanted), sorted(wanted - done()), output, Text("pitch"))


def extract_features(host: Host, experiment: Path, version: str, progress: Progress) -> None:
    """Take HuBERT's features of each slice: `3_feature256` (v1) or `3_feature768` (v2)."""
    import torch

    wanted, folder = stems(experiment / WAVS_16K, ".wav"), feature_folder(experiment, version)
    cuda = torch.cuda.is_available()
    half = False
    if cuda:
        with at_root(host):  # some cards are to compute in fp32, which classic's script leaves to its page
            half = bool(host_config(None).is_half)
    # With a graphics card named, all versions of the script take the same arguments: tag 2.2.231006 knows no half
    # precision, and without
    # a card it would take a further argument for another form.
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    arguments = ["cuda:0" if cuda else "cpu", "1", "0", card, str(experiment), version, str(half)]
    output = _run(host, "features", arguments, lambda: progress(len(stems(folder, ".npy"))))
    _judge(len(wanted), sorted(wanted - stems(folder, ".npy")), output, Text("feature extraction"))


def build_host_index(host: Host, experiment: Path, version: str) -> bool:
    """Let the 2026 layout's own script build the index of an experiment inside its logs/; False where it made none.

    Raises:
        UserError: the disk is full.
    """
    if "index" not in host.layout.scripts or experiment.parent != host.checkout / "logs":
        return False
    outside = os.environ.get("outside_index_root") or host_environment(host)["outside_index_root"]
    if not indexes(experiment):
        index_names.free_name(experiment, version)
    output = _run(host, "index", [experiment.name, version, outside, str(os.cpu_count() or 1)], lambda: None)
    if indexes(experiment):
        return True
    if disk_full(OSError(output[1])):
        _judge(1, [experiment.name], output, Text("building the index"))
    print(tr("RVC's own script built no index ({reason}): it is built here instead",
             reason=_reason(output[1]) or Text("exit code {code}", code=output[0])), file=sys.stderr)
    return False


def remove_broken(experiment: Path) -> List[Path]:
    """Delete the arrays that an interrupted run left half written; the scripts would take them for done."""
    broken = []
    for folder in (COARSE_PITCH, PITCH, *FEATURES.values()):
        for file in (experiment / folder).glob("*.npy"):
            if array_shape(file) is None:
                file.unlink()
                broken.append(file)
    return broken


def script_command(host: Host, step: str, arguments: List[str]) -> Tuple[List[str], Dict[str, str]]:
    """What runs a step's script, with the checkout's root as working folder -> (command, environment)."""
    script = host.layout.scripts[step]
    launcher = ["LoraModel.host.launch"] if step in _READS_HUBERT else []
    environment = {**host_environment(host), **os.environ}
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([str(host.root), package,
                                                 *filter(None, [os.environ.get("PYTHONPATH")])])
    environment["PYTHONIOENCODING"] = "utf-8"
    return [sys.executable, "-m", *launcher, script, *arguments], environment


def _run(host: Host, step: str, arguments: List[str], tick: Callable[[], None]) -> Tuple[int, str]:
    """Run a step's script at the checkout's root -> (exit code, its output)."""
    command, environment = script_command(host, step, arguments)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=str(host.root), env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.25)
                tick()
        finally:
            if process.poll() is None:  # interrupted: don't leave it behind
                process.terminate()
                process.wait()
        tick()
        log.seek(0)
        return process.returncode, log.read().decode("utf-8", "replace")


def _judge(wanted: int, lost: List[str], output: Tuple[int, str], step: Text, skip: bool = False) -> None:
    """Raise for a step that failed; say on standard error what was left out, by RVC's own judgement or, with `skip`,
    after an error.

    Raises:
        UserError: the step failed, or, with `skip`, failed for all.
    """
    code, text = output
    traces = _TRACE in text
    reason = _reason(text) if traces or code or wanted == len(lost) else ""
    full = bool(code or lost) and disk_full(OSError(text))
    some = ", ".join(lost[:3]) + (" …" if len(lost) > 3 else "")
    if full:
        raise UserError("the disk is full: RVC's {step} failed for {count} of {wanted} ({reason}): free some "
                        "space and run this again",
                        step=step, count=len(lost), wanted=wanted, reason=reason)
    if code or (lost and (traces and not skip or wanted == len(lost))):
        raise UserError("RVC's {step} failed for {count} of {wanted} ({some}): {reason}", step=step, count=len(lost),
                        wanted=wanted, some=some, reason=reason or Text("exit code {code}", code=code))
    if lost:
        because = f" ({reason})" if traces else ""
        print(tr("RVC's {step} left out {count} of {wanted}: {lost}{because}", step=step, count=len(lost),
                 wanted=wanted, lost=listing(lost[:5]), because=because), file=sys.stderr)


def error_in(text: str) -> str:
    """The error that a script's output names: the first line after its last traceback that is no longer indented; ""
    where it names none."""
    lines = text.splitlines()
    traces = [number for number, line in enumerate(lines) if _TRACE in line]
    after = lines[traces[-1] + 1:] if traces else []
    return printable(next((line for line in after if line and not line.startswith((" ", "\t"))), "").strip())[:300]


def _reason(text: str) -> str:
    """The error that a script's output names, or else its last line; "" where it says nothing."""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return error_in(text) or ("" if _TRACE in text else printable(last.strip())[:300])
