"""`train`: a run from start to end for programs, from an experiment folder or from plain recordings."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

from ..commands import parse_rate
from ..host import Host, find_host
from ..host import experiment as layout
from ..messages import UserError
from ..models import BaseInfo, load_base_beside_config, load_discriminator
from ..preparation import prepare as prepare_data
from ..preparation.options import parser as preparation_options
from ..preparation.options import plan_from
from .build import check_rate, check_speakers, prepare
from .checkpoint import run_folder
from .config import TrainConfig
from .validate import check_base


class Step(NamedTuple):
    """Where a run stands after a step.

    Attributes:
        step, total_steps, epoch: counted from 1. losses: of this step by their names (kl, mel, stft, …; grad_norm, lr).
        heldout: log-mel L1 on the recordings kept out, after the steps that end in a save; None after the others.
        seconds: that the step took.
    """

    step: int
    total_steps: int
    epoch: int
    losses: Dict[str, Optional[float]]
    heldout: Optional[float]
    seconds: float


class Trained(NamedTuple):
    """What came of a run.

    Attributes:
        adapter: the best adapter's file. finished: False where the callback stopped the run; `resume=True` goes on
            with it.
        heldout: log-mel L1 of the best adapter on the recordings kept out; base_heldout: of the base alone. Lower is
            nearer.
        best_step, steps: at which step it was saved, and how many were done. seconds: that the steps took.
    """

    adapter: Path
    finished: bool
    heldout: float
    base_heldout: float
    best_step: int
    steps: int
    seconds: float

    @property
    def better_than_base(self) -> bool:
        """Whether the adapter is nearer to the voice than the base alone: one that is not should not be used."""
        return self.heldout <= self.base_heldout


Callback = Callable[[Step], Any]


def train(config: TrainConfig, callback: Optional[Callback] = None, resume: bool = False,
          rvc_root: Optional[str] = None,
          sample_rate: Union[int, str, None] = None, config_json: Optional[str] = None) -> Trained:
    """Train an adapter for one voice.

    Args:
        config: `base_model`, `data_dir` and `output_dir` at least. `data_dir` is an experiment folder, or a folder of
            recordings: those are prepared first, into logs/NAME of the checkout, or without one into `data` in the
                run's folder.
        callback: called after every step; where it returns False the run saves and ends.
        resume: continue the run in `output_dir`, if there is one.
        rvc_root: the RVC checkout; None finds it. sample_rate: Hz, or text such as "40k", where two of RVC's
            configurations fit the base.
        config_json: a custom base's own configuration; one that lies beside the base is found by itself.

    Raises:
        UserError: one line that says what to put right. OSError: as the file system gives it.

    >>> trained = train(TrainConfig(base_model="f0G40k.pth", data_dir="recordings/anna", output_dir="runs/anna"),
    ...                 callback=lambda step: print(step.step, "of", step.total_steps))
    >>> trained.adapter, trained.better_than_base
    (PosixPath('runs/anna/anna.safetensors'), True)
    """
    for key in ("base_model", "data_dir", "output_dir"):
        if not getattr(config, key):
            raise UserError("{key} is missing: TrainConfig({key}=…)", key=key)
    host, sample_rate = find_host(rvc_root), parse_rate(sample_rate)
    config = with_recordings_prepared(config, host, resume, sample_rate, config_json)
    trainer = prepare(config, resume, rvc_root, sample_rate, config_json)
    if callback is not None:
        report = callback

        def after(line: Dict[str, Any], total: int) -> None:
            losses = {key: value for key, value in line.items() if key not in ("step", "epoch", "seconds")
                      and not key.startswith("heldout")}
            if report(Step(line["step"], total, line["epoch"], losses, line.get("heldout_mel"),
                         line["seconds"])) is False:
                trainer.stop_asked = True

        trainer.on_step = after
    finished = trainer.run()
    return Trained(trainer.adapter_path, finished, trainer.best, float(trainer.base_heldout or 0.0), trainer.best_step,
                   trainer.done_steps, trainer.train_seconds)


def is_experiment(folder: Path) -> bool:
    """Whether RVC, or preparation here, has made this folder."""
    return any((folder / name).exists() for name in (layout.FILELIST, layout.WAVS, layout.WAVS_16K,
                                                     *layout.FEATURES.values()))


def with_recordings_prepared(config: TrainConfig, host: Host, resume: bool = False, sample_rate: Optional[int] = None,
                             config_json: Optional[str] = None, info: Optional[BaseInfo] = None) -> TrainConfig:
    """`config` with an experiment folder for `data_dir`: what is no such folder is taken for recordings, and prepared.

    Args:
        info: of the base, where it is known already.

    Raises:
        UserError: the folder is missing, holds no recording, or is the run's own.
    """
    source = host.resolve(config.data_dir)
    if not source.exists() or is_experiment(source):
        return config
    run = run_folder(host, config.output_dir, resume)
    if run.resolve() == source.resolve():
        raise UserError("{folder} is the folder of the recordings: choose another --output_dir, or what the run "
                        "writes there would be taken for recordings", folder=run)
    name = config.name or (source.stem if source.is_file() else source.resolve().name)
    info = info or load_base_beside_config(config.base_model, host, sample_rate, config_json).info
    check_base(info)  # what the recordings have no part in is said before they are prepared
    check_rate(sample_rate, info)
    check_speakers(config, info)
    if config.base_d:
        load_discriminator(host.resolve(config.base_d), host, info.version)
    output = Path("logs") / name if host.is_checkout else run / "data"
    beside = config_json or _configuration_beside(info.path, host, info.version, info.sample_rate)
    options = ["--input_dir", str(source), "--output_dir", str(output), "--version", info.version, "--sample_rate",
               str(info.sample_rate)]
    options += ([] if info.f0 else ["--no_f0"]) + (["--config_json", str(beside)] if beside else [])
    options += ["--rvc_root", str(host.root)] if host.root is not None else []
    arguments: argparse.Namespace = preparation_options().parse_args(options)
    found, plan = plan_from(arguments)
    prepare_data(found, plan)
    return replace(config, data_dir=str(plan.experiment), name=name)


def _configuration_beside(base: Path, host: Host, version: str, sample_rate: int) -> Optional[Path]:
    """The configuration beside a base for which RVC has none."""
    if host.config_for(version, sample_rate) is not None:
        return None
    return next((file for file in (base.with_suffix(".json"), base.parent / "config.json") if file.is_file()), None)
