"""What the benchmarks that train voices share: their options, one voice after another, and what is judged at the
end."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from bench.common import arguments, make_experiment, short_segments
from LoraModel.evaluation.bootstrap import Interval
from LoraModel.evaluation.compare import Judges
from LoraModel.evaluation.metrics import pair_metrics
from LoraModel.files import atomic_write
from LoraModel.host import find_host
from LoraModel.judges import SpeakerEncoder, SpeechQuality, cosine_to_mean
from LoraModel.training import Trainer

DEMO_BASE = Path(__file__).resolve().parents[1] / "LoraModel" / "demo" / "base" / "f0G16k.pth"
ALL_CLIPS = 1000
REFERENCES = 12
"""Training clips whose mean embedding stands for the speaker."""


def voice_arguments(description: str) -> argparse.ArgumentParser:
    """The options of a benchmark that trains voices."""
    parser = arguments(description)
    parser.add_argument("--base", help="pretrained generator (default: the demo's with --quick; needed without)")
    parser.add_argument("--data", nargs="+",
                        help="experiment folders, one for each voice (default: with --quick the demo's)")
    parser.add_argument("--device", default="auto", help="the device to compute on: auto, cpu, cuda, cuda:1 …")
    parser.add_argument("--seed", type=int, default=1234, help="seed of all random numbers")
    parser.add_argument("--out",
                        help="where all that is measured goes, and is found again (default: a temporary folder)")
    parser.add_argument("--no_judges", action="store_true", help="leave out speaker similarity and DNSMOS")
    return parser


def judges_of(args: Any) -> Judges:
    return Judges() if args.no_judges else Judges(SpeakerEncoder(), SpeechQuality())


def each_voice(data: Sequence[Any], folder: Path,
               measure: Callable[[Path], Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """The figures of each experiment folder, one after the other; those that `folder` has already are taken from
    there."""
    voices: Dict[str, Dict[str, Any]] = {}
    for path in map(Path, data):
        record = folder / f"{path.name}.json"
        if not record.is_file():
            atomic_write(record, json.dumps(measure(path), indent=1).encode())
        voices[path.name] = json.loads(record.read_text(encoding="utf-8"))
    return voices


def references_of(trainer: Trainer) -> List[np.ndarray]:
    """Some training clips, (samples,) each: before the first step, which lets clips go."""
    return [trainer.train.batch([index]).wave[0, 0].numpy() for index in range(min(REFERENCES, len(trainer.train)))]


def named(name: str, interval: Interval) -> Dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def judged(clips: Sequence[Tuple[np.ndarray, Optional[np.ndarray]]], references: Sequence[np.ndarray], rate: int,
           judges: Judges) -> Dict[str, float]:
    """Means over clips: distances to the recordings, similarity to the speaker, DNSMOS.

    clips: (samples,) and the recording that it should be, None for the recordings themselves.
    """
    known = [embedding for embedding in (judges.embedding(audio, rate) for audio in references)
             if embedding is not None]
    rows: List[Dict[str, float]] = []
    for audio, real in clips:
        row = {} if real is None else dict(pair_metrics(audio, real, rate))
        embedding = judges.embedding(audio, rate)
        if embedding is not None and known:
            row["similarity"] = cosine_to_mean(embedding, known)
        row.update({key: value for key, value in judges.rate(audio, rate).items() if key == "dnsmos"})
        rows.append(row)
    keys = {key for row in rows for key in row}
    return {key: float(np.nanmean([row.get(key, np.nan) for row in rows])) for key in sorted(keys)}


def quick_inputs(folder: Path) -> Tuple[Path, Path, List[Path]]:
    """The demo's base, a discriminator of fresh weights, and a made-up voice."""
    config = short_segments(json.loads((DEMO_BASE.parent / "config.json").read_text(encoding="utf-8")))
    torch.manual_seed(0)
    discriminator = folder / "f0D16k.pth"
    torch.save({"model": find_host().build_discriminator("v2").state_dict()}, str(discriminator))
    return DEMO_BASE, discriminator, [make_experiment(folder / "logs" / "tones", config, "v2", 4, 1.0)]
