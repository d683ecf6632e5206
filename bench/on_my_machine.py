"""RVC's own training and this project's on your machine: your checkout, your recordings, your graphics card; one
report to send back.

python bench/on_my_machine.py --rvc_root CHECKOUT --recordings DIR [--hours 1] [--quick] [--out DIR]

Prepares the recordings by RVC's own scripts, measures a training step, peak memory, a change of voice and a conversion,
trains a voice by RVC's recipe and by ours in turn, from the official base and discriminator, and judges both on clips
that neither was trained on. It looks first whether everything is there and says how long it will take. Interrupted at
any moment, even by a power cut, the same command goes on. OUT/report.html and OUT/report.json hold no names, no paths
and no audio unless you ask for them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, ContextManager, Dict, Iterable, List, Optional, Tuple, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from bench.machine_report import write_reports
from bench.machine_stages import DEMO, STAGES, TRAINING_SHARE, Task, titles
from LoraModel import commands, folder_lock
from LoraModel.evaluation.words import MODEL_FILE
from LoraModel.files import atomic_write, bounded_json, check_folder_place
from LoraModel.host import Host, find_host, hush_torch, preprocess
from LoraModel.host.experiment import WAVS
from LoraModel.host.pipeline import check_f0_method
from LoraModel.inference.audio import audio_files, read_audio
from LoraModel.messages import Text, UserError, cli, say, tr
from LoraModel.paths import printable
from LoraModel.preparation.fingerprint import describe_recordings

OFFICIAL = ("assets/pretrained_v2/f0G40k.pth", "assets/pretrained_v2/f0D40k.pth")
ENOUGH_SECONDS = 60.0
"""Of recordings: less gives no clips to keep out."""
NEEDED_BYTES = 6 * 2**30
"""Free space that a run asks for: RVC's recipe keeps 1.3 GB where it stands, twice while it is written."""
CHECKS = 30
"""Recordings that are read to the end before anything begins; the rest is looked at when it is prepared."""


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(
        prog="on_my_machine.py",
        description=tr("Train a voice by RVC's own recipe and by RVC-LoRA on this machine, evaluate both, and write "
                       "one report to send back."),
    )
    add = p.add_argument
    add("--rvc_root", type=commands.path, required=True, help=tr("the RVC checkout"))
    add(
        "--recordings",
        type=commands.path,
        metavar="DIR",
        help=tr("recordings of one voice, a minute or more (default: none)"),
    )
    add(
        "--data",
        type=commands.path,
        metavar="logs/NAME",
        help=tr("an experiment folder that RVC has prepared, in place of --recordings (default: none)"),
    )
    add(
        "--hours",
        type=commands.number(0.05, 100),
        default=1.0,
        help=tr("about how long it may take"),
    )
    add(
        "--quick",
        action="store_true",
        help=tr("a few steps of everything: shows that it runs, the figures say nothing"),
    )
    add(
        "--base",
        type=commands.path,
        help=tr("the generator (default: assets/pretrained_v2/f0G40k.pth)"),
    )
    add("--base_d", type=commands.path, help=tr("the discriminator that fits it (default: the one beside it)"))
    add(
        "--sources",
        type=commands.path,
        metavar="DIR",
        help=tr("recordings of other speakers to convert (default: synthetic speech that comes with this project)"),
    )
    add(
        "--asr",
        type=commands.path,
        metavar="DIR",
        help=tr("folder of a faster-whisper model: count words (default: none)"),
    )
    add("--f0_method", help=tr("how pitch is found (default: rmvpe where its model is there, else pm)"))
    add("--device", type=commands.device,
        help=tr("the device to compute on: cpu, cuda … (default: the GPU where there is one)"))
    add(
        "--out",
        type=commands.path,
        default="on_my_machine",
        metavar="DIR",
        help=tr("where the report and the work go"),
    )
    add(
        "--with_names",
        action="store_true",
        help=tr("put the recordings' names into the report"),
    )
    add(
        "--with_audio",
        action="store_true",
        help=tr("put two of the recordings and their conversions into the report"),
    )
    return p


def check(args: argparse.Namespace) -> Tuple[Task, float]:
    """What is to be done, and the seconds of recordings there are.

    Raises:
        UserError: everything that is missing, in one list.
    """
    host = find_host(args.rvc_root)
    missing: List[Union[Text, UserError]] = []
    if (args.recordings is None) == (args.data is None):
        missing.append(
            Text("give --recordings, a folder of one voice's recordings, or --data, a prepared experiment folder")
        )
    out = check_folder_place(args.out, "--out")
    base, base_d = _networks(args, host, Path(out), missing)
    try:
        preprocess.check_needs(host, check_f0_method(host, args.f0_method, named=False))
    except UserError as error:
        missing.append(error)
    if args.asr is not None and not (host.resolve(args.asr) / MODEL_FILE).is_file():
        missing.append(Text("--asr: {folder} holds no {file}", folder=host.resolve(args.asr), file=MODEL_FILE))
    device = args.device or ("cuda" if _has_cuda() else "cpu")
    seconds = 0.0
    for place, option in ((args.recordings, "--recordings"), (args.sources, "--sources")):
        try:
            seconds = seconds if place is None else _seconds(host.resolve(place))
        except UserError as error:
            missing.append(Text("{name}: {words}", name=option, words=error))
        if option == "--recordings" and args.recordings is not None and seconds < ENOUGH_SECONDS and not args.quick:
            missing.append(
                Text("--recordings: {seconds:.0f} s are too little, give a minute or more", seconds=seconds)
            )
    free = shutil.disk_usage(
        str(next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists()))
    ).free
    if free < NEEDED_BYTES:
        missing.append(
            Text("{out} has {free:.1f} GB free, {needed_bytes:.0f} GB are needed: choose another --out", out=out,
                 free=free / 2 ** 30, needed_bytes=NEEDED_BYTES / 2 ** 30)
        )
    if missing or base is None or base_d is None:
        raise UserError("{missing}", missing="; ".join(map(str, missing)))
    rate, version = _kind(base, host)
    config = base.parent / "config.json" if host.config_for(version, rate) is None else None
    data = host.resolve(args.data) if args.data else None
    recordings = host.resolve(args.recordings) if args.recordings else None
    return Task(
        host.root,
        out.absolute() / "parts",
        recordings,
        base,
        base_d,
        rate,
        version,
        config,
        device,
        args.hours,
        args.quick,
        data,
        host.resolve(args.sources) if args.sources else DEMO / "recordings" / "source",
        host.resolve(args.asr) if args.asr else None,
        args.f0_method,
    ), seconds


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _networks(
    args: argparse.Namespace, host: Host, out: Path, missing: List[Union[Text, UserError]]
) -> Tuple[Optional[Path], Optional[Path]]:
    """Generator and discriminator; in --quick the demo's base and fresh weights stand in for what is not there."""
    named = [host.resolve(given or official) for given, official in zip((args.base, args.base_d), OFFICIAL)]
    if args.quick and not args.base and not named[0].is_file():
        say("--quick without the official base: the demo's stands in")
        named = [DEMO / "base" / "f0G16k.pth", out / "parts" / "f0D16k.pth"]
        if not named[1].is_file():
            _fresh_discriminator(host, named[1])
    for path, option in zip(named, ("--base", "--base_d")):
        if not path.is_file():
            missing.append(
                Text("there is no {path}: download it as RVC's README says, or name another by {option}", path=path,
                     option=option)
            )
    found = [path if path.is_file() else None for path in named]
    return found[0], found[1]


def _fresh_discriminator(host: Host, path: Path) -> None:
    import torch

    from LoraModel.files import atomic_file

    torch.manual_seed(0)
    with atomic_file(path) as file:
        torch.save({"model": host.build_discriminator("v2").state_dict()}, file)


def _kind(base: Path, host: Host) -> Tuple[int, str]:
    """Sample rate and version of a base that can be trained."""
    from LoraModel.models import load_base_beside_config
    from LoraModel.training.validate import check_base

    info = load_base_beside_config(base, host).info
    check_base(info)
    return info.sample_rate, info.version


def _seconds(folder: Path) -> float:
    """How long the recordings of a folder are, from the first of them where there are many."""
    files = audio_files(folder)
    found = [len(read_audio(path, 16000)) / 16000 for path in files[:CHECKS]]
    return sum(found) / len(found) * len(files)


def expected(task: Task, seconds: float) -> Dict[str, float]:
    """About how many minutes each stage takes: what is measured here corrects it when it is known."""
    slow = 1.0 if task.device == "cpu" else 0.1
    prepared = 0.0 if task.data is not None else max(0.5, seconds * slow / 60)
    if task.quick:
        return {"prepare": prepared, "step": 2.0, "switch": 0.5, "train": 2.0, "judge": 1.0}
    return {
        "prepare": prepared,
        "step": 1.0 + 20 * slow,
        "switch": 2.0,
        "train": 60 * task.hours * TRAINING_SHARE,
        "judge": 1.0 + max(seconds, 60.0) * 0.1 * 3 * slow / 60 + 5,
    }


def same_task(task: Task, described: Dict[str, Any]) -> None:
    """Note in the work's folder what is measured; what an earlier command measured there must be the same.

    Args:
        described: what tells this task from others, by the option that it comes from.

    Raises:
        UserError: it is another one: its figures would stand in this report.
    """
    path = task.folder / "task.json"
    try:
        before = bounded_json(path, 64 * 2**20)
    except (OSError, ValueError):
        before = None
    now = json.loads(json.dumps(described))
    if isinstance(before, dict) and before != now:
        differs = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        raise UserError("{folder} holds what was measured with another {differs}: choose another --out, or delete that "
                        "folder", folder=task.folder, differs=differs)
    if before is None:
        atomic_write(path, json.dumps(described).encode("utf-8"))


def describe_task(task: Task) -> Dict[str, Any]:
    """What tells a task from others: recordings, base and discriminator by their contents, and how it is measured."""
    def contents(place: Optional[Path], files: Iterable[Path]) -> Any:
        return None if place is None else describe_recordings(sorted(files), place)

    def below(place: Optional[Path]) -> Any:
        return contents(place, [] if place is None else [file for file in place.rglob("*") if file.is_file()])

    data = task.data and task.data / WAVS
    return {
        "--recordings": below(task.recordings), "--data": below(data), "--sources": below(task.sources),
        "--base": contents(task.base.parent, [task.base]), "--base_d": contents(task.base_d.parent, [task.base_d]),
        "--quick": task.quick, "--hours": task.hours, "--device": task.device, "--f0_method": task.f0_method,
        "--asr": None if task.asr is None else str(task.asr),
    }


def only_one(task: Task) -> ContextManager[None]:
    """Hold the work's folder: two commands in it would take turns at the same files.

    Raises:
        UserError: on entering, where another one is at work in it.
    """
    def taken(pid: int) -> UserError:
        who = Text(" (process {pid})", pid=pid) if pid else ""
        return UserError("{folder} is in use by another run{who}: wait for its end, or choose another --out",
                         folder=task.folder, who=who)

    task.folder.mkdir(parents=True, exist_ok=True)
    return folder_lock.hold(task.folder / ".lock", taken)


def go(task: Task, minutes: Dict[str, float]) -> Dict[str, Dict[str, Any]]:
    """Every stage that is not done, with a bar over all of them; what each has left."""
    with only_one(task), tqdm(
        total=round(sum(minutes.values()), 1),
        unit=tr("min"),
        file=sys.stderr,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
        desc=tr("all together"),
    ) as bar:
        same_task(task, describe_task(task))
        for stage, work in STAGES.items():
            bar.set_postfix_str(titles()[stage])
            if task.done(stage) is None:
                bar.write(
                    tr("{titles}: about {minutes:.0f} min", titles=titles()[stage], minutes=minutes[stage]),
                    file=sys.stderr,
                )
                started = time.perf_counter()
                left = work(task)
                left["seconds_stage"] = round(time.perf_counter() - started, 1)
                atomic_write(task.record(stage), json.dumps(left).encode("utf-8", "backslashreplace"))
            bar.update(round(minutes[stage], 1))
    return {stage: task.done(stage) or {} for stage in STAGES}


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    hush_torch()
    task, seconds = check(args)
    minutes = expected(task, seconds)
    total = f"{sum(minutes.values()):.0f}"
    say("everything is there. On {device} this takes about {total} minutes; if it is interrupted, run the same "
        "command again to continue",
        device=task.device, total=total)
    found = go(task, minutes)
    html, data = write_reports(Path(args.out).absolute(), task, found, args.with_names, args.with_audio)
    shown, sent, work = (printable(str(path)) for path in (html, data, task.folder))
    say("open {shown}; to help this project, attach {sent} to an issue. {work} can be deleted now", shown=shown,
        sent=sent, work=work)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    sys.exit(cli(main))
