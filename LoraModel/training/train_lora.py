"""Train an adapter: `python training/train_lora.py --base_model G.pth --data_dir logs/NAME --output_dir OUT`.

Exit codes: 0 trained, or stopped and saved on SIGINT or SIGTERM; 2 something to put right, said in one line; 3 trained, and worse than
the base alone on the recordings kept out; 130 broken off by SIGINT or SIGTERM before the first step, or by a second SIGINT.
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import sys
import time
from typing import Any, Dict, List, Optional

from LoraModel import commands
from LoraModel.host import hush_torch
from LoraModel.messages import UserError, cli, tr
from LoraModel.models import PRESETS
from LoraModel.names import shown
from LoraModel.training.build import prepare
from LoraModel.training.config import PRECISIONS, TrainConfig, read_config_file
from LoraModel.training.heldout import Score
from LoraModel.training.signals import handle_signals
from LoraModel.training.trainer import Trainer

WORSE = 3
"""Exit code of a run whose best adapter is worse than the base alone."""


def _whole(text: str) -> int:
    """A whole number of an option; `TrainConfig` checks its limits."""
    if len(text) > 30:
        raise argparse.ArgumentTypeError(f"{shown(text, 30)} is too long for a number")
    return int(text)


_whole.__name__ = "int"  # argparse names the type in its message


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="train_lora", description=tr("Train a LoRA adapter for one voice.", "为一个声音训练 LoRA 适配器。"),
               argument_default=argparse.SUPPRESS)
    add = p.add_argument
    add("--base_model", type=commands.path,
        help=tr("pretrained generator, e.g. assets/pretrained_v2/f0G40k.pth", "预训练生成器，如 assets/pretrained_v2/f0G40k.pth"))
    add("--data_dir", type=commands.path, help=tr("RVC experiment folder, logs/NAME", "RVC 实验文件夹 logs/NAME"))
    add("--output_dir", type=commands.path, help=tr("folder for the adapter and the run", "适配器与训练记录的输出文件夹"))
    add("--name", help=tr("of the voice; default: the experiment folder's", "声音名称；默认取实验文件夹名"))
    add("--base_d", type=commands.path, help=tr("pretrained discriminator: adversarial training", "预训练判别器：启用对抗训练"))
    add("--preset", choices=list(PRESETS), help=tr("layers and ranks", "目标层与秩的预设"))
    add("--lora_rank", type=_whole, help=tr("one rank for all layers of the preset", "为预设中的所有层使用同一个秩"))
    add("--config", type=commands.path, help=tr("JSON file of settings; the command line goes before it", "JSON 配置文件；命令行参数优先"))
    add("--epochs", type=_whole, help=tr("passes over the training clips", "对训练片段训练的轮数"))
    add("--batch_size", type=_whole, help=tr("clips a step", "每步的片段数"))
    add("--lr", type=float, help=tr("peak learning rate", "最大学习率"))
    add("--save_every", type=_whole, help=tr("epochs between saves", "每隔多少轮保存一次"))
    add("--patience", type=_whole, help=tr("end after so many saves without a better held-out loss", "连续多少次保存没有改善则提前结束"))
    add("--decoder_every", type=_whole, help=tr("train the decoder on each so many-th step: 2 takes about half the time a step and learns less in it",
                                             "每隔多少步训练一次解码器：2 使每步耗时约减半，但学到的也较少"))
    add("--device", help="auto, cpu, cuda, cuda:1 …")
    add("--precision", choices=PRECISIONS, help=tr("number format of the networks' arithmetic", "网络计算所用的数值格式"))
    add("--seed", type=commands.seed, help=tr("of all random numbers", "随机种子"))
    add("--valid_fraction", type=float, help=tr("share of clips kept out of training", "留作验证的片段比例"))
    add("--speaker_id", type=_whole, help=tr("take the clips of this speaker, where the filelist has several",
                                          "当文件列表含有多个说话人时，使用该说话人的片段"))
    add("--init_speaker", type=_whole, help=tr("base's speaker to start from; -1 tries all", "从底模的哪个说话人开始；-1 表示全部尝试"))
    add("--resume", action="store_true", help=tr("go on with the run in --output_dir", "继续 --output_dir 中的训练"))
    add("--rvc_root", type=commands.path, help=tr("RVC checkout", "RVC 目录"))
    add("--sample_rate", type=commands.rate, help=tr("32k, 40k, 48k or Hz, where two configurations fit the base",
                                                          "当底模可对应两种配置时指定：32k、40k、48k 或 Hz"))
    add("--config_json", type=commands.path, help=tr("config.json of a custom base (one beside the base is found by itself)",
                                 "自定义底模的 config.json（与底模同目录时自动使用）"))
    for key in ("author", "license", "notes"):
        add(f"--{key}", help=tr("stored in the adapter", "写入适配器"))
    return p


def main(argv: Optional[List[str]] = None) -> int:
    options = vars(parser().parse_args(argv))
    resume, rvc_root, rate = options.pop("resume", False), options.pop("rvc_root", None), options.pop("sample_rate", None)
    config_json = options.pop("config_json", None)
    settings: Dict[str, Any] = read_config_file(options.pop("config")) if "config" in options else {}
    settings.update(options)
    for key in ("base_model", "data_dir", "output_dir"):
        if not settings.get(key):
            raise UserError(f"--{key} is missing (--help lists the options)", f"缺少 --{key}（--help 可查看全部选项）")
    hush_torch()
    undo = handle_signals(None)
    try:
        trainer = prepare(TrainConfig.from_dict(settings), resume, rvc_root, rate, config_json)
        handle_signals(trainer)
        started = time.perf_counter()
        if trainer.run():
            return report(trainer, time.perf_counter() - started)
        return 0
    except KeyboardInterrupt:
        print(tr("broken off; the last save, if there was one, is kept", "已中断；如有上一次保存，仍然有效"), file=sys.stderr)
        return 130
    finally:
        undo()


def report(trainer: Trainer, seconds: float) -> int:
    """Tell how the run ended, and return the exit code."""
    best, path = trainer.best, trainer.adapter_path
    sharp = Score(best, *trainer.best_sharp).words()
    print(tr(f"done in {seconds:.0f} s. Held-out log-mel L1: base {trainer.base_heldout:.4f}, adapter {best:.4f} (step {trainer.best_step}); "
             f"{sharp}. Adapter: {path} ({path.stat().st_size:,} bytes)",
             f"完成，用时 {seconds:.0f} 秒。留出集 log-mel L1：底模 {trainer.base_heldout:.4f}，适配器 {best:.4f}（第 {trainer.best_step} 步）；"
             f"{sharp}。适配器：{path}（{path.stat().st_size:,} 字节）"))
    if trainer.base_heldout is None or best <= trainer.base_heldout:
        return 0
    print(tr("warning: THE ADAPTER IS WORSE THAN THE BASE ALONE on the recordings kept out of training: do not use it. Train again with a lower "
             "--lr, more epochs or more recordings",
             "警告：在未参与训练的录音上，该适配器比仅用底模更差，请勿使用。请降低 --lr、增加轮数或录音后重新训练"), file=sys.stderr)
    return WORSE


if __name__ == "__main__":
    sys.exit(cli(main))
