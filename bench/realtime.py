"""Changes of voice under a stream: how long the audio thread is held, when they are audible, late blocks, jumps; and
what a batch costs.

python bench/realtime.py [--changes N] [--seconds S] [--block B] [--rvc_root PATH] [--json FILE] [--small] [--quick]

A base of RVC's own size (v2 40k) with fresh weights and two adapters of random tensors; the jump is looked at on the
demo's base, where speech comes out. The stream runs at the pace of real time, with as many changes of voice and with
none; where the machine is too slow for the block it runs at the pace that it can, and the report says so. Ratios are of
runs in turn.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from bench.common import arguments, finish, make_base, ratio, table
from bench.switch_time import make_adapter, milliseconds
from LoraModel.evaluation.bootstrap import median_interval
from LoraModel.host import find_host, hush_torch
from LoraModel.inference import VoiceLoader
from LoraModel.inference.audio import read_audio
from LoraModel.messages import cli
from LoraModel.realtime import RealtimeVoice, VoiceBatch
from LoraModel.realtime.synthesis import light

DEMO = Path(__file__).resolve().parents[1] / "LoraModel" / "demo"
RATE = 16000  # Hz, of the streams' input
FLUX_WINDOW, FLUX_HOP = 1024, 256


def held_and_ready(live: RealtimeVoice, files: List[Path], changes: int) -> Dict[str, Any]:
    """Milliseconds that a change holds the audio thread, against a change written in place as before; and until it is
    ready.

    Every change is to a blend that was not used before, so that all of it is prepared; then to kept ones.
    """
    live.use({files[0]: 1.0}).result()
    live._changes.take()
    held, ready, kept, before = [], [], [], []
    for index in range(changes):
        asked = time.perf_counter()
        live.use({files[index % 2]: 0.5 + 0.4 * (index + 1) / changes}).result()
        ready.append(1000 * (time.perf_counter() - asked))
        live._changes.take()
        held.append(1000 * live.held)
        before.append(milliseconds(lambda index=index: live.voice.set_adapters([(files[index % 2], 1.0)])))  # type: ignore[misc]
        live.use({files[0]: 1.0}).result()
        live._changes.take()
        asked = time.perf_counter()
        live.use({files[index % 2]: 0.5 + 0.4 * (index + 1) / changes})
        live._changes.take()
        kept.append(1000 * (time.perf_counter() - asked))
    return {"held_ms": median_interval(held).value, "held_ms_most": max(held), "held_ms_all": held,
            "ready_ms": median_interval(ready).value, "ready_ms_most": max(ready),
            "kept_ms": median_interval(kept).value, "written_in_place_ms": median_interval(before).value,
            **ratio(held, before, "ratio_held")}


def stream(live: RealtimeVoice, sound: np.ndarray, seconds: float, files: List[Path], changes: int,
           slow: float = 1.0) -> Dict[str, Any]:
    """A stream at the pace of real time, or `slow` times slower, with so many changes of voice spread over it.

    A block is late when its sound is not there when the one before has been played.
    """
    live.reset()
    size, length = live.block_samples, live.block_samples / live.rate * slow
    count = max(int(seconds / length), 1)
    asked: Dict[float, float] = {}
    waits, taken, late = [], [], 0
    started = time.perf_counter() + 0.2

    def change() -> None:
        torch.set_num_threads(1)
        for index in range(changes):
            time.sleep(max(started + (index + 0.37) * count * length / changes - time.perf_counter(), 0))
            strength = 0.5 + 0.4 * index / max(changes, 1)
            asked[strength] = time.perf_counter()
            live.use({files[index % 2]: strength})

    thread = threading.Thread(target=change)
    thread.start()
    last = 0.0
    for index in range(count):
        due = started + (index + 1) * length  # when all of the block has been played
        time.sleep(max(due - time.perf_counter(), 0))
        begun = time.perf_counter()
        live.process(sound[index * size % (len(sound) - size):][:size])
        taken.append(time.perf_counter() - begun)
        late += time.perf_counter() > due + length
        now = live.applied[0].strength if live.applied else 0.0
        if now != last and now in asked:
            waits.append(begun - asked[now] - length)
        last = now
    thread.join()
    return {"late": late, "blocks": count, "seconds_a_block": median_interval(taken).value,
            "seconds_a_block_all": taken, "changes_heard": len(waits),
            "beyond_a_block_ms": 1000 * max(waits, default=0.0),
            "beyond_a_block_ms_median": 1000 * float(np.median(waits)) if waits else 0.0}


def flux(sound: np.ndarray) -> np.ndarray:
    """Log-spectral flux: the mean over the bins of how much the log amplitude differs from the frame before, (frames -
    1,)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), FLUX_WINDOW)[::FLUX_HOP]
    spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(FLUX_WINDOW))) + 1e-4)
    return np.abs(np.diff(spectra, axis=0)).mean(axis=1)


def jump(folder: Path, blocks: int) -> Dict[str, Any]:
    """Flux at the changes of voice over the 99th percentile of the flux elsewhere; every fourth block changes.

    Speech jumps by itself, too: `own` is the flux at the same places of the stream in one of the two voices alone, the
    larger of them, over that percentile.
    """
    host = find_host()
    sound = np.concatenate([read_audio(DEMO / f"recordings/source/{index:02d}.flac", RATE) for index in (1, 2, 3)])
    voice = VoiceLoader(DEMO / "base/f0G16k.pth", host)
    files = [make_adapter(folder / f"demo_{name}.safetensors", voice, seed) for seed, name in enumerate("ab")]
    with RealtimeVoice(DEMO / "base/f0G16k.pth", rate=RATE, host=host) as live:
        size, fade = live.block_samples, live._joiner.fade
        count = min(blocks, len(sound) // size)
        joints = [index * size for index in range(count) if index % 4 == 3]

        def streamed(voice_of: Callable[[int], Path]) -> np.ndarray:
            live.reset()
            out = []
            for index in range(count):
                live.use({voice_of(index): 1.0}).result()
                out.append(live.process(sound[index * size:(index + 1) * size]))
            return flux(np.concatenate(out))

        changing = streamed(lambda index: files[(index + 1) // 4 % 2])
        alone = [streamed(lambda index, file=file: file) for file in files]  # type: ignore[misc]
    at = np.arange(len(changing)) * FLUX_HOP + FLUX_WINDOW / 2  # the middle of what both frames see
    spans = [(at > joint - FLUX_WINDOW / 2) & (at < joint + fade + FLUX_WINDOW / 2) for joint in joints]
    limit = float(np.percentile(changing[~np.any(spans, axis=0)], 99))
    ratios = [float(changing[span].max()) / limit for span in spans]
    own = [float(max(each[span].max() for each in alone)) / limit for span in spans]
    return {"jump": median_interval(ratios).value, "jump_most": max(ratios), "jump_all": ratios, "joints": len(joints),
            "own": median_interval(own).value, "own_all": own,
            "jump_beyond_own_most": max(one / max(1.0, other) for one, other in zip(ratios, own))}


def class_overhead(rvc_root: Path, base: Path, repeats: int) -> Dict[str, Any]:
    """Seconds a block of RVC's own realtime class, patched and as it is, in turn on one object."""
    from LoraModel.host.pipeline import at_root, host_config
    from LoraModel.host.realtime import make_realtime, realtime_module
    from LoraModel.realtime.rvc_class import patch_realtime_class, rvc_lora_voices

    host = find_host(rvc_root)
    module = realtime_module(host)
    plain = module.RVC.infer
    patch_realtime_class(host)
    with at_root(host):
        rvc = make_realtime(module, host_config("cpu"), str(base))
    rvc_lora_voices(rvc).use({}).result()
    sound = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 160 * 280).astype(np.float32))
    taken: Dict[str, List[float]] = {"patched": [], "as it is": []}
    for index in range(repeats + 1):
        for name in sorted(taken, reverse=bool(index % 2)):
            infer = plain if name == "as it is" else module.RVC.infer
            taken[name].append(milliseconds(lambda infer=infer: infer(rvc, sound, 4000, 250, 30, "pm")) / 1000)  # type: ignore[misc]
    return {**ratio(taken["patched"][1:], taken["as it is"][1:], "ratio_class"), "seconds_class": taken}


def batch(live: RealtimeVoice, files: List[Path], users: int, repeats: int) -> Dict[str, Any]:
    """Seconds a block of so many users with a voice each in one forward, against one user alone."""
    live.voice.unload()
    wanted = [{files[index % 2]: 0.5 + 0.5 * index / users} for index in range(users)]
    shape = live.shape
    window = np.random.default_rng(0).normal(0, 0.1, (users, shape.window * 160)).astype(np.float32)
    size = live.voice.network.enc_p.emb_phone.in_features
    content = [np.resize(one[:size], (shape.window, size)).astype(np.float32) for one in window]
    f0 = [np.full(shape.window, 150.0 + 10 * index) for index in range(users)]
    together = VoiceBatch(live.voice)
    taken: Dict[str, List[float]] = {"together": [], "alone": []}
    apart = 0.0
    first = np.zeros(0, dtype=np.float32)
    for _ in range(repeats + 1):
        for name in taken:
            rows = range(users) if name == "together" else range(1)
            begun = time.perf_counter()
            made = together.generate([content[row] for row in rows], [f0[row] for row in rows],
                                     [wanted[row] for row in rows], shape.context, shape.returned)
            taken[name].append(time.perf_counter() - begun)
            if name == "alone":
                apart = max(apart, float(np.abs(made[0] - first).max()))
            else:
                first = made[0]
    return {**ratio(taken["together"][1:], taken["alone"][1:], "ratio_batch"), "users": users, "seconds_batch": taken,
            "batch_apart": apart}


def measure(folder: Path, changes: int, seconds: float, block: float, repeats: int, quick: bool,
            rvc_root: Optional[Path] = None, users: int = 8, small: bool = False) -> Dict[str, Any]:
    host = find_host()
    base = DEMO / "base/f0G16k.pth" if quick or small else make_base(folder, host, "v2", 40000)[0]
    files = [make_adapter(folder / f"{name}.safetensors", VoiceLoader(base, host), seed) for seed,
             name in enumerate("ab")]
    sound = read_audio(DEMO / "recordings/source/01.flac", RATE)
    figures: Dict[str, Any] = {"quick": quick, "threads": torch.get_num_threads()}
    with RealtimeVoice(light(VoiceLoader(base, host)), rate=RATE, block=block, context=0.3 if quick else 2.5) as live:
        figures.update(held_and_ready(live, files, min(changes, 30)))
        live.process(np.zeros(live.block_samples, dtype=np.float32))
        need = max(milliseconds(lambda: live.process(sound[:live.block_samples])) for _ in range(3)) / 1000
        slow = max(1.0, 2.0 * need / (live.block_samples / live.rate))
        without = stream(live, sound, seconds, files, 0, slow)
        with_changes = stream(live, sound, seconds, files, changes, slow)
        figures.update({f"{name}_{key}": value for name, run in (("plain", without), ("changing", with_changes))
                        for key, value in run.items()})
        figures.update({"block_seconds": live.block_samples / live.rate, "slower_than_real_time": slow,
                        "changes": changes})
        figures.update(batch(live, files, users, repeats))
    figures.update(jump(folder, 9 if quick else 60))
    if rvc_root is not None:
        figures.update(class_overhead(rvc_root, base, repeats))
    return figures


def main(argv: Optional[list] = None) -> None:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, help="changes of voice in the stream (default: 200)")
    parser.add_argument("--seconds", type=float, help="of the stream, with changes and without (default: 60)")
    parser.add_argument("--block", type=float, default=0.25, help="seconds of a block")
    parser.add_argument("--repeats", type=int, help="runs in turn (default: 10)")
    parser.add_argument("--rvc_root", type=Path,
                        help="a checkout, whose realtime class is timed as it is and patched (default: none)")
    parser.add_argument("--small", action="store_true", help="on the demo's base, which a slower machine can stream")
    args = parser.parse_args(argv)
    quick = args.quick
    with tempfile.TemporaryDirectory() as folder:
        f = measure(Path(folder), args.changes or (6 if quick else 200), args.seconds or (2 if quick else 60),
                    args.block, args.repeats or (2 if quick else 10), quick, args.rvc_root, small=args.small)
    rows = [("figure", "", "wanted"),
            ("audio thread held, ms (median, most)", f"{f['held_ms']:.2f}, {f['held_ms_most']:.2f}", "2"),
            ("the same written in place, ms", f"{f['written_in_place_ms']:.1f}", ""),
            ("until a blend is ready, ms (median, most)", f"{f['ready_ms']:.1f}, {f['ready_ms_most']:.1f}", "50"),
            ("a kept one, use to audible, ms", f"{f['kept_ms']:.2f}", ""),
            ("use to audible beyond a block, ms (median, most)",
             f"{f['changing_beyond_a_block_ms_median']:.1f}, {f['changing_beyond_a_block_ms']:.1f}", "50"),
            ("late blocks with changes, without", f"{f['changing_late']}, {f['plain_late']} of {f['plain_blocks']}",
             "0"),
            ("jump at a change (median, most)", f"{f['jump']:.2f}, {f['jump_most']:.2f}", "1"),
            ("the same over what a voice alone has there, where that is more than 1 (most)",
             f"{f['jump_beyond_own_most']:.2f}", "1"),
            (f"{f['users']} voices in a batch over one", f"{f['ratio_batch']:.2f}", "3")]
    if "ratio_class" in f:
        rows.append(("a block of RVC's class, patched over as it is", f"{f['ratio_class']:.3f}", "1.02"))
    print(table(rows))
    if f["slower_than_real_time"] > 1:
        print(f"this machine is too slow for the block: the stream ran {f['slower_than_real_time']:.1f} times slower "
              f"than real time")
    finish(f, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
