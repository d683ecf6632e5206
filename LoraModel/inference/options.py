"""The options of every command that converts."""

from __future__ import annotations

import argparse

from .. import commands
from ..messages import tr


def add_conversion_options(p: argparse.ArgumentParser) -> None:
    """The options of every command that converts: how, with which RVC, on which device."""
    p.add_argument("--index_rate", type=commands.number(-1e6, 1e6), default=0.75, help="0 … 1 (0.75)")
    p.add_argument("--f0_method", help=tr("how pitch is found: what this RVC offers (rmvpe if it is there, else pm)",
                                          "音高算法：取决于 RVC（有 rmvpe 则用之，否则 pm）"))
    p.add_argument("--protect", type=commands.number(-1e6, 1e6), default=0.33, help="0 … 0.5 (0.33)")
    p.add_argument("--rms_mix_rate", type=commands.number(-1e6, 1e6), help=tr("loudness: 0 the source's, 1 the network's (0.25)",
                                                         "响度：0 为源，1 为网络输出（0.25）"))
    p.add_argument("--seed", type=commands.seed, default=0)
    add_device_options(p)


def add_device_options(p: argparse.ArgumentParser) -> None:
    """With which RVC, on which device, and on which base."""
    p.add_argument("--rvc_root", type=commands.path, help=tr("the RVC checkout", "RVC 目录"))
    p.add_argument("--device", type=commands.device, help="auto, cpu, cuda, cuda:0, mps, xpu …")
    p.add_argument("--sample_rate", type=commands.rate,
                   help=tr("of the base in Hz (or 40k …), where two fit", "底模采样率（Hz 或 40k 等），两种都符合时使用"))
    p.add_argument("--config_json", type=commands.path, help=tr("config.json of a custom base (one beside the base is found by itself)",
                                            "自定义底模的 config.json（与底模同目录时自动使用）"))
    p.add_argument("--force", action="store_true", help=tr("take an adapter on another base than its own", "允许适配器用于其他底模"))
