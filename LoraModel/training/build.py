"""From a TrainConfig to a Trainer that is ready to run: everything is loaded and checked here, nothing is written."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Optional

import torch

from ..defaults import usual_defaults
from ..host import find_host
from ..lora import Adapter
from ..messages import Text, UserError, tr
from ..models import Base, BaseInfo, load_base_beside_config, load_discriminator
from ..names import check_name
from . import ranks
from .agreement import check_times
from .checkpoint import check_output, read_run, run_folder, run_identity
from .config import TrainConfig
from .data_loader import ClipSet, Experiment, read_experiment, split
from .device import choose_device
from .objective import can_autocast
from .parts import assemble
from .ranks import RankTrainer
from .run_lock import check_free
from .start import check_start
from .trainer import Trainer
from .validate import check_base, check_disk, check_experiment


@usual_defaults()
def prepare(
    config: TrainConfig, resume: bool = False, rvc_root: Optional[str] = None, sample_rate: Optional[int] = None,
    config_json: Optional[str] = None, base: Optional[Base] = None, init: Optional[Adapter] = None,
    preview: bool = False,
) -> Trainer:
    """Load and check everything a run needs.

    Args:
        config: `base_model`, `data_dir` and `output_dir` must be given; `name` is the experiment folder's where it is
            empty.
        resume: go on from the last save in `output_dir`, if there is one.
        rvc_root: the RVC checkout. sample_rate: Hz, where two of RVC's configurations fit the base.
        config_json: a custom base's own; one that lies beside it is found by itself.
        base: `base_model`, loaded already.
        init: the adapter to start from, of the same layers and ranks; None starts from the base.
        preview: whether the caller adds a preview afterwards, which is only announced here.

    Raises:
        UserError: one line that says what to put right.
    """
    host = find_host(rvc_root)
    choose_device(config.device)
    folder, output = host.resolve(config.data_dir), run_folder(host, config.output_dir, resume)
    check_free(output)
    # a folder that was renamed meanwhile is the same experiment
    resumed = (read_run(output) or {}).get("name") if resume else None
    name = config.name or (resumed if isinstance(resumed, str) else "") or folder.resolve().name
    config = replace(config, data_dir=str(folder), output_dir=str(output), name=name)
    check_name(config.name)
    base = base or load_base_beside_config(config.base_model, host, sample_rate, config_json)
    check_base(base.info)
    check_rate(sample_rate, base.info)
    check_speakers(config, base.info)
    going_on = check_output(output, run_identity(config, base.info), resume)
    experiment = read_experiment(folder, host, base.info, config.speaker_id)
    tell_speaker(experiment, config)
    frames = config.segment_frames or experiment.segment_frames
    check_experiment(experiment, base.info, frames)
    check_disk(output)
    discriminator = load_discriminator(host.resolve(config.base_d), host, base.info.version) if config.base_d else None
    train, held = split(experiment.clips, config.valid_fraction, config.seed)
    train_set = ClipSet(train, host, experiment.data, base.info.f0, frames)
    held_set = ClipSet(held, host, experiment.data, base.info.f0, frames)
    if not len(train_set) or not len(held_set):
        raise UserError("all clips of {folder} are shorter than {frames} frames: use longer recordings", folder=folder,
                        frames=frames)
    _check_precision(config)
    check_times(train_set.clips + held_set.clips)
    train_set.levels.join(held_set.levels).tell(folder)
    parts = assemble(config, host, base, experiment, train_set, held_set, discriminator)
    if init is not None:
        check_start(init, parts.model, base.info)
    trainer = RankTrainer(parts, init) if ranks.several() else Trainer(parts, init)
    if going_on:
        trainer.load()
    describe(trainer, preview)
    if config.precision == "fp16" and trainer.device.type == "cpu":
        print(tr("note: fp16 on a CPU is many times slower than fp32 or bf16"), file=sys.stderr)
    return trainer


def check_rate(sample_rate: Optional[int], info: BaseInfo) -> None:
    """
    Raises:
        UserError: --sample_rate names another rate than the base's.
    """
    if sample_rate is not None and sample_rate != info.sample_rate:
        raise UserError("--sample_rate is {sample_rate} Hz, base {info_name} is of {sample_rate_2} Hz: leave it out, "
                        "or choose another base",
                        sample_rate=sample_rate, info_name=info.name, sample_rate_2=info.sample_rate)


def check_speakers(config: TrainConfig, info: BaseInfo) -> None:
    for key in ("speaker", "init_speaker"):
        if getattr(config, key) >= info.speakers:
            raise UserError("{key} {config} is not among the base's {speakers} speakers: choose 0 to {speakers_2}",
                            key=key, config=getattr(config, key), speakers=info.speakers, speakers_2=info.speakers - 1)


def tell_speaker(experiment: Experiment, config: TrainConfig) -> None:
    """Say on standard error where the filelist's one speaker is another number than the row that the voice is trained
    on."""
    speakers = {clip.speaker for clip in experiment.clips if not clip.mute}
    if config.speaker_id is None and len(speakers) == 1 and config.speaker not in speakers:
        number = speakers.pop()
        print(tr("note: the filelist names speaker {number}, and the voice is trained on row {speaker} of the base: "
                 "--speaker {number} would take that row", number=number, speaker=config.speaker),
              file=sys.stderr)


def describe(trainer: Trainer, preview: bool = False) -> None:
    """Tell the user, on standard error, what is about to be trained on what. preview: whether one will be added."""
    train, info, count = trainer.train, trainer.info, trainer.model.count()
    dropped, size = train.dropped + trainer.held.dropped, len(trainer.adapter_contents())
    total: Any = trainer.total_steps if trainer.config.passes() else Text("at most {steps}", steps=trainer.total_steps)
    print(tr("voice {config_name}: {count} clips ({seconds:.0f} s), {count_2} kept out{also}; base {info_name} "
             "({version}, {sample_rate} Hz) with {base:,} parameters, adapter {adapter:,} ({percent:.2f}%), a file of "
             "{size:,.0f} KB{preview}; {total_steps} steps on {device}",
             config_name=trainer.config.name, count=len(train), seconds=train.seconds, count_2=len(trainer.held),
             also=Text(", {dropped} too short", dropped=dropped) if dropped else "", info_name=info.name,
             version=info.version, sample_rate=info.sample_rate, base=count.base, adapter=count.adapter,
             percent=count.percent, size=size / 1000,
             preview=Text(" and about 27 KB more for its preview") if preview else "", total_steps=total,
             device=trainer.device),
          file=sys.stderr)
    if trainer.noise != trainer.config.noise:
        print(tr("note: this base, or the layers that are trained, do not let the voice's random noise be set: it is "
                 "heard with RVC's own"), file=sys.stderr)
    clamped = trainer.model.injection.clamped()
    if clamped:
        ranks = ", ".join(str(rank) for rank in sorted(set(clamped.values())))
        print(tr("note: the rank is higher than {count} layers can make use of; there it is their smaller side "
                 "({ranks})", count=len(clamped), ranks=ranks),
              file=sys.stderr)


def _check_precision(config: TrainConfig) -> None:
    """
    Raises:
        UserError: this PyTorch cannot compute in the precision that was asked for on the device.
    """
    device = choose_device(config.device)
    if not can_autocast(device, config.precision):
        raise UserError("PyTorch {version} does not compute in {precision} on {type}: use --precision bf16 or fp32, "
                        "or a newer PyTorch", version=torch.__version__, precision=config.precision, type=device.type)
