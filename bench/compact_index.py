"""What an index of a tenth of the size changes in converted audio, beside what the index itself changes.

python bench/compact_index.py --base VOICE.pth --data logs/NAME [--index_rate 0.75] [--json FILE]
python bench/compact_index.py --quick            the demo's base, made-up features

The demo's source recordings are converted with the whole index, with the compact one and with none; log-mel L1 between
them, with intervals over the recordings, and seconds of a search.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bench.common import arguments, finish, make_experiment, table
from bench.voices import DEMO_BASE, named
from LoraModel.evaluation.bootstrap import mean_interval, ratio_interval
from LoraModel.evaluation.metrics import pair_metrics
from LoraModel.host import find_host, hush_torch
from LoraModel.host.compact_index import compact
from LoraModel.host.experiment import feature_folder
from LoraModel.host.index import build_index
from LoraModel.inference import ConvertOptions, Retrieval, VoiceLoader
from LoraModel.inference.audio import read_audio
from LoraModel.inference.convert import INPUT_RATE
from LoraModel.inference.converter import Converter
from LoraModel.messages import cli

SOURCE = DEMO_BASE.parents[1] / "recordings" / "source"


def measure(base: Path, data: Path, folder: Path, rate: float, most: int) -> Dict[str, Any]:
    """Convert with each of the three, and compare."""
    host = find_host()
    voice = VoiceLoader(base, host)
    version = voice.info.version
    shutil.copytree(str(feature_folder(data, version)), str(feature_folder(folder / data.name, version)))
    whole = build_index(folder / data.name, version)
    small, before, after = compact(whole, folder / "compact.index")
    converter = Converter(voice, "cpu")
    rows: Dict[str, List[float]] = {"compact": [], "none": []}
    for file in sorted(SOURCE.glob("*.flac"))[:most]:
        sound = read_audio(file, INPUT_RATE)
        made = [converter(sound, ConvertOptions(index=index, index_rate=rate)) for index in (whole, small, None)]
        for name, audio in zip(rows, made[1:]):
            rows[name].append(pair_metrics(audio, made[0], voice.info.sample_rate)["mel_l1"])
    size = voice.network.enc_p.emb_phone.in_features
    features = np.random.default_rng(0).normal(0, 0.3, (500, size)).astype(np.float32)  # ten seconds
    return {"bytes_whole": before, "bytes_compact": after, "share": after / before,
            **named("mel_compact", mean_interval(rows["compact"])), **named("mel_none", mean_interval(rows["none"])),
            **named("ratio", ratio_interval(rows["compact"], rows["none"])),
            "search_seconds_whole": seconds(Retrieval(whole, size), features),
            "search_seconds_compact": seconds(Retrieval(small, size), features)}


def seconds(index: Retrieval, features: np.ndarray) -> float:
    started = time.perf_counter()
    index.mix(features, 0.75)
    return time.perf_counter() - started


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--base", help="the voice that converts, .pth (default: with --quick the demo's base)")
    parser.add_argument("--data", help="experiment folder whose features are indexed (default: with --quick made up)")
    parser.add_argument("--index_rate", type=float, default=0.75, help="share of the retrieved features")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        if args.quick:
            config = json.loads((DEMO_BASE.parent / "config.json").read_text(encoding="utf-8"))
            args.base, args.data = DEMO_BASE, make_experiment(Path(name) / "tones", config, "v2", 10, 4.0)
        if not args.base or not args.data:
            parser.error("give --base and --data, or --quick")
        figures = measure(Path(args.base), Path(args.data), Path(name) / "index", args.index_rate,
                          1 if args.quick else 100)
    print(table([("log-mel L1 to the whole index's conversion", "mean", "low", "high"),
                 *((f"with {what}", *(figures[f"mel_{key}{end}"] for end in ("", "_low", "_high")))
                   for what, key in (("the compact index", "compact"), ("no index", "none")))]))
    print(f"{figures['bytes_compact']:,} bytes instead of {figures['bytes_whole']:,} ({figures['share']:.1%}); a "
          f"search of ten seconds {figures['search_seconds_compact']:.3f} s instead of "
          f"{figures['search_seconds_whole']:.3f}")
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
