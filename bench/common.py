"""What the benchmarks share: an experiment folder and a base of full size, ratios with their spread, tables and
JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import numpy as np
import torch
from scipy.io import wavfile

from LoraModel.commands import Parser
from LoraModel.evaluation.bootstrap import median_interval
from LoraModel.files import atomic_write
from LoraModel.host import FEATURE_SIZES, Host
from LoraModel.messages import table as table  # the benchmarks take it from here
from LoraModel.models.model_utils import config_list


def make_base(folder: Path, host: Host, version: str, sample_rate: int,
              f0: bool = True) -> Tuple[Path, Path, Dict[str, Any]]:
    """A generator and a discriminator of RVC's own size with fresh weights: (G, D, RVC's configuration).

    What a step costs does not depend on what the weights are.
    """
    config = host.config_for(version, sample_rate)
    return (*fresh_base(folder, host, config, version, f0), config)


def fresh_base(folder: Path, host: Host, config: Dict[str, Any], version: str, f0: bool = True,
               seed: int = 0) -> Tuple[Path, Path]:
    """f0G…k.pth and f0D…k.pth of the configuration's size in `folder`, with fresh weights."""
    rate = config["data"]["sampling_rate"] // 1000
    torch.manual_seed(seed)
    generator, discriminator = folder / f"f0G{rate}k.pth", folder / f"f0D{rate}k.pth"
    torch.save({"model": host.build_synthesizer(config_list(config), version, f0).state_dict()}, str(generator))
    torch.save({"model": host.build_discriminator(version).state_dict()}, str(discriminator))
    return generator, discriminator


def short_segments(config: Dict[str, Any], frames: int = 10) -> Dict[str, Any]:
    """The configuration with so many frames of audio a clip for decoder and discriminator, for the benchmarks' quick
    form."""
    return {**config, "train": {**config["train"], "segment_size": frames * config["data"]["hop_length"]}}


def make_experiment(folder: Path, config: Dict[str, Any], version: str, clips: int, seconds: float) -> Path:
    """An experiment folder of made-up recordings: a gliding tone with overtones and noise, features of noise, the
    tone's f0."""
    rng = np.random.default_rng(0)
    rate, hop = config["data"]["sampling_rate"], config["data"]["hop_length"]
    feature = f"3_feature{FEATURE_SIZES[version]}"
    for part in ("0_gt_wavs", feature, "2a_f0", "2b-f0nsf"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    frames = int(seconds * rate) // hop // 2 * 2
    for index in range(clips):
        f0 = 140 + 60 * np.sin(np.linspace(0, 3 + index % 3, frames)) + index % 5 * 10  # Hz
        phase = 2 * np.pi * np.cumsum(np.repeat(f0, hop)) / rate
        audio = sum(np.sin(k * phase) / k for k in range(1, 6)) * 0.1 + rng.normal(0, 0.01, frames * hop)
        name = f"{index}_0"
        wavfile.write(str(folder / "0_gt_wavs" / f"{name}.wav"), rate, audio.astype(np.float32))
        np.save(str(folder / feature / f"{name}.npy"),
                rng.normal(0, 0.3, (frames // 2, FEATURE_SIZES[version])).astype(np.float32))
        mel = 1127 * np.log(1 + f0 / 700)
        low, high = (1127 * np.log(1 + edge / 700) for edge in (50, 1100))
        np.save(str(folder / "2a_f0" / f"{name}.wav.npy"),
                np.rint(np.clip((mel - low) * 254 / (high - low) + 1, 1, 255)).astype(int))
        np.save(str(folder / "2b-f0nsf" / f"{name}.wav.npy"), f0)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def ratio(ours: Sequence[float], theirs: Sequence[float], name: str) -> Dict[str, float]:
    """Ours over theirs from runs taken in turn: the median of the pairs' ratios with its interval."""
    middle, low, high = median_interval([a / b for a, b in zip(ours, theirs)])
    return {name: round(middle, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def arguments(description: str) -> Parser:
    """The options that every benchmark has."""
    parser = Parser(description=description)
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well (default: nowhere)")
    parser.add_argument("--quick", action="store_true", help="a minute or two: fewer repeats and smaller inputs")
    return parser


def finish(figures: Dict[str, Any], file: Any) -> None:
    """Write the figures where the user asked for it."""
    if file:
        atomic_write(file, json.dumps(figures, indent=1, sort_keys=True).encode())
        print(f"wrote {file}")
