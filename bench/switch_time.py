"""Milliseconds to change voices at RVC v2 40k, and seconds to convert with an adapter and without.

A change is between adapters on one base in memory, against loading a whole voice as RVC does. A conversion is of a
made-up recording, by the plain base and by the base with an adapter, in turn and each first as often as the other;
features and pitch, which both have in common, cost nothing in it.

python bench/switch_time.py [--repeats N] [--json FILE] [--quick]

RVC's side is what its VC.get_vc does for a voice: read the `.pth`, build the network, load the weights.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from bench.common import arguments, finish, make_base, ratio, table
from LoraModel.commands import start
from LoraModel.evaluation.bootstrap import median_interval
from LoraModel.host import Host, find_host, hush_torch
from LoraModel.inference import VoiceLoader
from LoraModel.inference.convert import FRAME, INPUT_RATE, ConvertOptions, convert
from LoraModel.lora import Adapter, LoRAConfig, extract, inject, save_adapter
from LoraModel.messages import cli

CPU = torch.device("cpu")


def make_adapter(path: Path, voice: VoiceLoader, seed: int) -> Path:
    """An adapter of the default preset with random tensors, on the loaded base."""
    injection = inject(voice.network, LoRAConfig.from_preset())
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.02 * torch.randn(tensor.shape, generator=generator) for name,
               tensor in injection.tensors().items()}
    extract(voice.network)
    info = voice.info
    return save_adapter(path, tensors, injection.config, {
        "name": path.stem, "base_hash": info.base_hash, "base_name": info.name, "rvc_version": info.version,
        "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": 0,
    })


def milliseconds(do: Callable[[], Any], device: torch.device = CPU) -> float:
    """How long `do` takes, and what it has the device do."""
    started = time.perf_counter()
    do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def load_as_rvc(host: Host, path: Path, version: str, device: torch.device = CPU) -> torch.nn.Module:
    """What a change of voice costs in RVC: the same calls as its VC.get_vc, without its pipeline."""
    checkpoint = torch.load(str(path), map_location="cpu", weights_only=True)
    network = host.build_synthesizer(checkpoint["config"], version, True)
    del network.enc_q
    network.load_state_dict(checkpoint["weight"], strict=False)
    return network.eval().float().to(device)


def conversion(voice: VoiceLoader, adapter: Adapter, repeats: int, seconds: float) -> Dict[str, Any]:
    """`ratio_convert`: so many seconds converted with the adapter over the same without, in pairs. The base is left
    plain."""
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, int(seconds * INPUT_RATE)).astype(np.float32)
    content = rng.normal(0, 0.3,
                         (len(audio) // (2 * FRAME) + 1, voice.network.enc_p.emb_phone.in_features)).astype(np.float32)
    options = ConvertOptions(speaker=0)
    renditions: Dict[str, np.ndarray] = {}

    def run(name: str) -> float:
        voice.set_adapters([(adapter, 1.0)] if name == "adapter" else [])
        started = time.perf_counter()
        renditions[name] = convert(voice, audio, options, lambda _: content, lambda _, frames: np.full(frames, 200.0),
                              lambda f0: np.full(len(f0), 120))
        return time.perf_counter() - started

    for name in ("base", "adapter"):
        run(name)  # unmeasured
    taken: Dict[str, List[float]] = {"adapter": [], "base": []}
    for index in range(repeats):
        for name in sorted(taken, reverse=bool(index % 2)):
            taken[name].append(run(name))
    voice.unload()
    if np.array_equal(renditions["adapter"], renditions["base"]):
        raise SystemExit("the adapter changed nothing")
    return {**ratio(taken["adapter"], taken["base"], "ratio_convert"), "convert_seconds_adapter": taken["adapter"],
            "convert_seconds_base": taken["base"], "converted_seconds": seconds}


def measure(folder: Path, repeats: int, seconds: float = 5.0, device: str = "cpu") -> Dict[str, Any]:
    """Both, with `seconds` of audio for the conversions."""
    place = torch.device(device)
    host, version, rate = find_host(), "v2", 40000
    generator, _, _ = make_base(folder, host, version, rate)
    voice = VoiceLoader(generator, host, place)
    files = [make_adapter(folder / f"voice_{name}.safetensors", voice, seed) for seed, name in enumerate("ab")]
    small = folder / "small.pth"
    if start("LoraModel.scripts.convert_model", ["small", str(generator), "--output", str(small)]):
        raise SystemExit("the base could not be made small")
    pristine = {name: value.clone() for name, value in voice.network.state_dict().items()}
    adapters = [voice.load(path) for path in files]
    ours: List[float] = []
    theirs: List[float] = []
    for index in range(repeats):
        ours.append(milliseconds(partial(voice.set_adapters, [(adapters[index % 2], 1.0)]), place))
        theirs.append(milliseconds(partial(load_as_rvc, host, small, version, place), place))
    unload = milliseconds(voice.unload)
    identical = all(torch.equal(value, pristine[name]) for name, value in voice.network.state_dict().items())
    middle, low, high = median_interval(ours)
    return {**ratio(ours, theirs, "ratio_switch"), **conversion(voice, adapters[0], repeats, seconds),
            "switch_ms": middle, "switch_ms_low": low, "switch_ms_high": high, "switch_ms_all": ours,
            "rvc_ms": median_interval(theirs).value, "rvc_ms_all": theirs, "unload_ms": unload,
            "unload_identical": identical,
            "device": device, "threads": torch.get_num_threads()}


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int,
                        help="changes of voice, in turn with RVC's, and pairs of conversions (default: 15; --quick: 3)")
    parser.add_argument("--device", default="cpu", help="where the voices are")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        repeats, seconds = (3, 1.0) if args.quick else (15, 5.0)
        figures = measure(Path(folder), args.repeats or repeats, seconds, args.device)
    print(table([("", "ms", "low", "high"),
                 ("change of adapter", figures["switch_ms"], figures["switch_ms_low"], figures["switch_ms_high"]),
                 ("loading a voice as RVC", figures["rvc_ms"], min(figures["rvc_ms_all"]), max(figures["rvc_ms_all"])),
                 ("unloading", figures["unload_ms"], "", ""),
                 ("ratio", figures["ratio_switch"], figures["ratio_switch_low"], figures["ratio_switch_high"])]))
    print(table([(f"converting {figures['converted_seconds']:g} s", "seconds"),
                 ("plain base", median_interval(figures["convert_seconds_base"]).value),
                 ("with an adapter", median_interval(figures["convert_seconds_adapter"]).value)]))
    print(table([("", "ratio", "low", "high"),
                 ("ratio_convert", *(figures[f"ratio_convert{end}"] for end in ("", "_low", "_high")))]))
    print("the base came back bit for bit" if figures["unload_identical"] else "THE BASE DID NOT COME BACK")
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
