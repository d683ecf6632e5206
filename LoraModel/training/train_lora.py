"""Train an adapter: `python training/train_lora.py --base_model G.pth --data_dir logs/NAME --output_dir OUT`.

Exit codes: 0 trained, or stopped and saved on SIGINT or SIGTERM; 2 something to put right, said in one line.
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from LoraModel.host import find_host
from LoraModel.lora import PRESETS
from LoraModel.messages import UserError, cli, tr
from LoraModel.models import load_base
from LoraModel.training.checkpoint import check_output
from LoraModel.training.config import PRECISIONS, TrainConfig, read_config_file
from LoraModel.training.data_loader import ClipSet, read_experiment, split
from LoraModel.training.trainer import Trainer, choose_device, run_identity
from LoraModel.training.validate import check_base, check_disk, check_experiment


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="train_lora", description=tr("Train a LoRA adapter for one voice.", "为一个声音训练 LoRA 适配器。"),
                                argument_default=argparse.SUPPRESS)
    add = p.add_argument
    add("--base_model", required=True, help=tr("pretrained generator, e.g. assets/pretrained_v2/f0G40k.pth", "预训练生成器，如 assets/pretrained_v2/f0G40k.pth"))
    add("--data_dir", required=True, help=tr("RVC experiment folder, logs/NAME", "RVC 实验文件夹 logs/NAME"))
    add("--output_dir", required=True, help=tr("folder for the adapter and the run", "适配器与训练记录的输出文件夹"))
    add("--name", help=tr("of the voice; default: the experiment folder's", "声音名称；默认取实验文件夹名"))
    add("--base_d", help=tr("pretrained discriminator: adversarial training", "预训练判别器：启用对抗训练"))
    add("--preset", choices=list(PRESETS), help=tr("layers and ranks", "目标层与秩的预设"))
    add("--lora_rank", type=int, help=tr("one rank for all layers of the preset", "为预设中的所有层使用同一个秩"))
    add("--config", help=tr("JSON file of settings; the command line goes before it", "JSON 配置文件；命令行参数优先"))
    add("--epochs", type=int)
    add("--batch_size", type=int)
    add("--lr", type=float)
    add("--save_every", type=int, help=tr("epochs between saves", "每隔多少轮保存一次"))
    add("--patience", type=int, help=tr("end after so many saves without a better held-out loss", "连续多少次保存没有改善则提前结束"))
    add("--device", help="auto, cpu, cuda, cuda:1 …")
    add("--precision", choices=PRECISIONS)
    add("--seed", type=int)
    add("--valid_fraction", type=float, help=tr("share of clips kept out of training", "留作验证的片段比例"))
    add("--init_speaker", type=int, help=tr("base's speaker to start from; -1 tries all", "从底模的哪个说话人开始；-1 表示全部尝试"))
    add("--resume", action="store_true", help=tr("go on with the run in --output_dir", "继续 --output_dir 中的训练"))
    add("--rvc_root", help=tr("RVC checkout", "RVC 目录"))
    add("--sample_rate", type=int, help=tr("Hz, where two configurations fit the base", "当底模可对应两种配置时指定（Hz）"))
    for key in ("author", "license", "notes"):
        add(f"--{key}", help=tr("stored in the adapter", "写入适配器"))
    return p


def main(argv: Optional[List[str]] = None) -> int:
    options = vars(parser().parse_args(argv))
    resume, rvc_root, rate = options.pop("resume", False), options.pop("rvc_root", None), options.pop("sample_rate", None)
    settings: Dict[str, Any] = read_config_file(options.pop("config")) if "config" in options else {}
    settings.update(options)
    settings.setdefault("name", Path(settings["data_dir"]).resolve().name)
    trainer = prepare(TrainConfig.from_dict(settings), resume, rvc_root, rate)
    handle_signals(trainer)
    started = time.perf_counter()
    finished = trainer.run()
    if finished:
        report(trainer, time.perf_counter() - started)
    return 0


def prepare(config: TrainConfig, resume: bool = False, rvc_root: Optional[str] = None, sample_rate: Optional[int] = None) -> Trainer:
    """Load and check everything a run needs; nothing is written before all of it is known to be good.

    Raises:
        UserError: one line that says what to put right.
    """
    host = find_host(rvc_root)
    check_name(config.name)
    choose_device(config.device)
    folder, output = host.resolve(config.data_dir), Path(config.output_dir)
    base_path = host.resolve(config.base_model)
    base = load_base(base_path, host, sample_rate, next((p for p in _sidecars(base_path, folder) if p.is_file()), None))
    check_base(base.info)
    config.data_dir = str(folder)
    going_on = check_output(output, run_identity(config, base.info.base_hash), resume)
    experiment = read_experiment(folder, host, base.info)
    check_experiment(experiment, base.info)
    check_disk(output)
    train, held = split(experiment.clips, config.valid_fraction, config.seed)
    frames = config.segment_frames or experiment.segment_frames
    lists = output / "filelists"
    train_set = ClipSet(train, lists / "train.txt", host, experiment.data, base.info.f0, frames)
    held_set = ClipSet(held, lists / "heldout.txt", host, experiment.data, base.info.f0, frames)
    if not len(train_set) or not len(held_set):
        raise UserError(f"all clips of {folder} are shorter than {frames} frames: use longer recordings",
                        f"{folder} 中的片段都短于 {frames} 帧：请使用更长的录音")
    trainer = Trainer(config, host, base, experiment, train_set, held_set, going_on)
    count = trainer.model.count()
    print(tr(f"voice {config.name}: {len(train_set)} clips ({train_set.seconds:.0f} s), {len(held_set)} kept out; base {base.info.name} "
             f"({base.info.version}, {base.info.sample_rate} Hz) with {count.base:,} parameters, adapter {count.adapter:,} ({count.percent:.2f}%); "
             f"{trainer.total_steps} steps on {trainer.device}",
             f"声音 {config.name}：{len(train_set)} 个片段（{train_set.seconds:.0f} 秒），留出 {len(held_set)} 个；底模 {base.info.name}"
             f"（{base.info.version}，{base.info.sample_rate} Hz）共 {count.base:,} 个参数，适配器 {count.adapter:,} 个（{count.percent:.2f}%）；"
             f"在 {trainer.device} 上训练 {trainer.total_steps} 步"), file=sys.stderr)
    return trainer


def check_name(name: str) -> None:
    """A voice's name becomes a file name."""
    if not name or name.strip() != name or any(c in name for c in '/\\:*?"<>|\0') or name.startswith("."):
        raise UserError(f"the name {name!r} cannot be a file name: choose one without / \\ : * ? \" < > | and leading dots",
                        f"名称 {name!r} 不能用作文件名：请避免 / \\ : * ? \" < > | 以及开头的点")


def _sidecars(base: Path, data: Path) -> List[Path]:
    """Where a base's own configuration may lie: beside it."""
    return [base.with_suffix(".json"), base.parent / "config.json"]


def handle_signals(trainer: Trainer) -> None:
    """SIGINT and SIGTERM finish the step and save; a second SIGINT breaks off at once."""

    def ask(number: int, _frame: Any) -> None:
        if trainer.stop_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        trainer.stop_asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)


def report(trainer: Trainer, seconds: float) -> None:
    best, path = trainer.best, trainer.adapter_path
    print(tr(f"done in {seconds:.0f} s. Held-out log-mel L1: base {trainer.base_heldout:.4f}, adapter {best:.4f} (step {trainer.best_step}). "
             f"Adapter: {path} ({path.stat().st_size:,} bytes)",
             f"完成，用时 {seconds:.0f} 秒。留出集 log-mel L1：底模 {trainer.base_heldout:.4f}，适配器 {best:.4f}（第 {trainer.best_step} 步）。"
             f"适配器：{path}（{path.stat().st_size:,} 字节）"))


if __name__ == "__main__":
    sys.exit(cli(main))
