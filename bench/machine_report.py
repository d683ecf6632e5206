"""The report of `on_my_machine.py`: what is measured, on what kind of machine, and nothing that tells whose it is.

Everything in it is taken over by name, one thing after the other: what is not named here does not get in.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from bench.machine_stages import BASE, FULL, LORA, OTHER_NOISE, Task
from bench.trainings import FULL as FULL_TRAINING
from bench.trainings import LORA as LORA_TRAINING
from LoraModel.charts import line_chart
from LoraModel.evaluation import page
from LoraModel.evaluation.figures import FIGURES
from LoraModel.evaluation.report import figures_table
from LoraModel.evaluation.results import versions
from LoraModel.files import atomic_write
from LoraModel.messages import Text

FORMAT, FORMAT_VERSION = "rvc-lora-machine", 1
QUICK = Text("--quick: a few steps of everything. It shows that all of it runs; the figures say nothing.")
REAL = "real recordings"
COSTS = ("ratio_step", "ratio_peak_memory", "ratio_switch", "switch_ms", "rvc_ms", "ratio_convert", "unload_identical")
"""Of the stages "step" and "switch", each with its interval where it has one."""
TRAINED = (
    "ratio_time",
    "quality_ratio",
    "seconds_step_full",
    "seconds_step_lora",
    "clips",
    "clips_held_out",
    "seconds_data",
    "epochs",
    "lora_epochs",
)
SETTINGS = ("f0_method", "index_rate", "protect", "rms_mix_rate", "seed", "features", "versions")


def machine(device: str) -> Dict[str, Any]:
    """What kind of machine this is: no host name, no user, no path."""
    import torch

    found: Dict[str, Any] = {
        "system": platform.system(),
        "release": platform.release().split("-")[0],
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **versions(),
    }
    try:
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        found["memory_gb"] = None
    if torch.cuda.is_available() and device != "cpu":
        card = torch.cuda.get_device_properties(torch.device(device))
        found.update(card=card.name, card_memory_gb=round(card.total_memory / 2**30, 1))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _chosen(figures: Dict[str, Any], names: Tuple[str, ...]) -> Dict[str, Any]:
    """The named figures and their intervals; what JSON lacks becomes null."""
    wanted = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return {
        name: None if isinstance(figures[name], float) and not math.isfinite(figures[name]) else figures[name]
        for name in wanted
        if name in figures
    }


def contents_of(task: Task, found: Dict[str, Dict[str, Any]], with_names: bool) -> Dict[str, Any]:
    """The content of report.json.

    Args:
        found: what each stage has left. with_names: whether the recordings are called by their names, not by numbers.
    """
    judged, trained = found["judge"], found["train"]

    def part(model: Dict[str, Any], kind: str) -> Dict[str, Any]:
        clips = [
            {"clip": str(clip["clip"]) if with_names else place, **{key: clip[key] for key in FIGURES if key in clip}}
            for place, clip in enumerate(model[kind]["clips"], 1)
        ]
        return {
            "clips": clips,
            **{
                kind_of: {key: value for key, value in model[kind][kind_of].items() if key in FIGURES}
                for kind_of in ("means", "difference")
            },
        }

    labels = [REAL, BASE, LORA, FULL, *(label for label, _ in OTHER_NOISE)]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "quick": task.quick,
        "hours": task.hours,
        "machine": machine(task.device),
        "base": {
            "sample_rate": task.rate,
            "version": task.version,
            "base_hash": judged["models"][1]["about"]["base_hash"],
        },
        "settings": {name: judged["settings"][name] for name in SETTINGS if name in judged["settings"]},
        "seconds": {stage: figures.get("seconds_stage") for stage, figures in found.items()},
        "costs": {
            **_chosen(found["step"], COSTS),
            **_chosen(found["switch"], COSTS),
            "peak_bytes_ours": found["step"]["peak_bytes_ours"],
            "peak_bytes_rvc": found["step"]["peak_bytes_rvc"],
        },
        "training": {
            **_chosen(trained, TRAINED),
            "curves": {
                name: [
                    {
                        "steps": point["steps"],
                        "seconds": point["seconds"],
                        "log_mel_l1": sum(point["errors"]) / len(point["errors"]),
                    }
                    for point in points
                ]
                for name, points in trained["curves"].items()
            },
        },
        "models": [
            {"label": label, "recordings": part(model, "recordings"), "sources": part(model, "sources")}
            for label, model in zip(labels, judged["models"])
        ],
    }


def _number(value: Optional[float], digits: int = 2) -> str:
    return page.number(value, digits)


def _percent(figures: Dict[str, Any], name: str) -> str:
    value = figures.get(name)
    return "–" if value is None else f"{100 * value:.0f}%"


def _tiles(contents: Dict[str, Any]) -> List[str]:
    costs, training = contents["costs"], contents["training"]
    return [
        page.tile(
            _percent(training, "ratio_time"),
            page.two("of RVC’s time to the log-mel L1 that RVC’s recipe ends with"),
        ),
        page.tile(_percent(costs, "ratio_step"), page.two("of RVC’s training step")),
        page.tile(
            _percent(costs, "ratio_peak_memory"),
            page.two("of RVC’s peak memory while training"),
        ),
        page.tile(
            f"{_number(costs.get('switch_ms'), 0)} ms",
            page.two("to change voices; loading one as RVC does takes {value} ms",
                     value=_number(costs.get("rvc_ms"), 0)),
        ),
        page.tile(
            _percent(costs, "ratio_convert"),
            page.two("of the plain base’s time to convert, with an adapter"),
        ),
    ]


def _curves(contents: Dict[str, Any]) -> str:
    charts = ""
    for training, name in ((FULL_TRAINING, Text("RVC’s recipe")), (LORA_TRAINING, "RVC-LoRA")):
        points = contents["training"]["curves"].get(training, [])
        end = contents["training"]["curves"][FULL_TRAINING][-1]["log_mel_l1"]
        svg = line_chart([(point["seconds"], point["log_mel_l1"]) for point in points], str(name), dots=True, level=end)
        charts += page.chart(
            page.plain(name),
            page.two("held-out log-mel L1 over seconds of training; dashed: RVC’s end"),
            svg,
        )
    return f'<section class="charts">{charts}</section>'


def _facts(contents: Dict[str, Any]) -> str:
    rows = {
        **{key: value for key, value in contents["machine"].items() if key != "versions"},
        **contents["machine"]["versions"],
        **{f"base: {key}": value for key, value in contents["base"].items()},
        **{key: value for key, value in contents["settings"].items() if key != "versions"},
        **{f"seconds: {key}": value for key, value in contents["seconds"].items()},
        **{key: value for key, value in contents["training"].items() if key != "curves"},
        **contents["costs"],
    }
    lines = "".join(
        f"<tr><td><code>{escape(str(key))}</code></td>"
        f"<td>{escape(f'{value:.4g}' if isinstance(value, float) else str(value))}</td></tr>"
        for key, value in rows.items()
        if value is not None
    )
    title = page.two("Machine, settings and all figures of cost")
    return f'<details class="card"><summary>{title}</summary><div class="wide"><table>{lines}</table></div></details>'


def _players(task: Task) -> str:
    """The recordings that were judged and what each voice made of them, as the evaluation's own page plays them."""
    judged = (task.folder / "judged" / "report.html").read_text(encoding="utf-8")
    articles = re.findall(r'<article class="card clip" data-key="[^"]*">(.*?)</article>', judged, re.S)
    return '<section class="clips">' + "".join(
        f'<article class="card clip" data-key="{place}">{article}</article>' for place, article in enumerate(articles)
    ) + "</section>"


def write_reports(
    folder: Path, task: Task, found: Dict[str, Dict[str, Any]], with_names: bool = False, with_audio: bool = False
) -> Tuple[Path, Path]:
    """Write report.html and report.json into `folder`; return both."""
    contents = contents_of(task, found, with_names)
    data = folder / "report.json"
    atomic_write(
        data, json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    )
    names: List[Union[Text, str]] = [Text("real recordings"), Text("base alone"), LORA, Text("RVC’s recipe"),
                                     Text("RVC-LoRA, RVC’s noise"), Text("RVC’s recipe, less noise")]
    names = names[:len(contents["models"])]
    lead = page.two("A voice trained by RVC’s own recipe and by RVC-LoRA on one machine, from the same base and "
                    "recordings.")
    body = [page.header(page.two("On my machine"), lead, _tiles(contents))]
    if task.quick:
        body.append(page.notes([QUICK]))
    body += [
        page.heading(
            Text("Training"),
            Text("In turn on the same machine; evaluations are not timed."),
        ),
        _curves(contents),
        page.heading(
            Text("Recordings kept out of both trainings"),
            Text("Converted by the voice itself and compared with the originals. Means, with 95% intervals over "
                 "recordings; in colour, the difference to the base alone."),
        ),
        figures_table(contents["models"], names, "recordings"),
        page.heading(Text("Other speakers, converted")),
        figures_table(contents["models"], [Text("not converted"), *names[1:]], "sources"),
    ]
    if with_audio:
        body += [page.heading(Text("Listen")), _players(task)]
    body.append(_facts(contents))
    return page.write_page(folder / "report.html", "on my machine", body, 4 if len(names) == 4 else 3, charts=2), data
