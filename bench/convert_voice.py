"""What an adapter keeps of a full voice: share of its gain, speaker similarity, size, seconds.

python bench/convert_voice.py --base G.pth --data logs/ALICE logs/BOB logs/CAROL [--full ALICE.pth BOB.pth CAROL.pth]
    [--content DIR] [--steps N] [--out DIR] [--json FILE]
python bench/convert_voice.py --quick            a made-up voice, a few steps
python bench/convert_voice.py --full_size        seconds a step and peak memory at RVC's v2 40k, on fresh weights

Without --full each voice is fine-tuned whole first, by our losses, for --epochs, on the clips that are not kept out.
Then it becomes an adapter twice, by the command's defaults and by --fast. Held-out recordings of the speaker, which
neither training nor conversion saw, go through the host's inference path:

kept         (base - adapter) / (base - full voice), of log-mel L1 to the recordings
similarity   cosine to the speaker's training clips (Resemblyzer), of the adapter's sound less that of the full voice's

Intervals are bootstrapped over the held-out clips; over all voices they are of the mean.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn

from bench.common import finish, make_base, table
from bench.rvc_recipe import RVCStep
from bench.time_to_quality import gain
from bench.trainings import FullTraining
from bench.voices import (
    ALL_CLIPS,
    DEMO_BASE,
    each_voice,
    judges_of,
    named,
    quick_inputs,
    references_of,
    voice_arguments,
)
from LoraModel.conversion import Converter, VoiceOptions
from LoraModel.conversion.voice import STEPS
from LoraModel.evaluation.bootstrap import Interval, pooled
from LoraModel.evaluation.compare import Judges
from LoraModel.host import find_host, hush_torch
from LoraModel.inference import VoiceLoader
from LoraModel.judges import cosine_to_mean
from LoraModel.messages import cli
from LoraModel.models import load_base_beside_config
from LoraModel.models.voice_file import save_model, small_model
from LoraModel.training import TrainConfig, Trainer, prepare

FORMS = ("default", "fast")
BASE, FULL = "base", "full voice"


def measure_voice(data: Path, full: Optional[Path], args: Any, folder: Path, judges: Judges) -> Dict[str, Any]:
    """One voice: fine-tuned whole where it is not given, converted in each form, evaluated in all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrainConfig.from_dict({
        "base_model": str(args.base), "data_dir": str(data), "output_dir": str(folder / "run"), "name": data.name,
        "valid_clips": ALL_CLIPS, "valid_fraction": args.valid_fraction, "seed": args.seed})
    trainer = prepare(settings)
    trainer.held.write_filelist(folder / "heldout.txt")
    voice = full or fine_tuned(trainer, settings, args, folder)
    references = [found for found in (judges.embedding(audio, trainer.info.sample_rate)
                                      for audio in references_of(trainer)) if found is not None]
    loader = VoiceLoader(str(args.base), trainer.host)
    heard = {BASE: hear(trainer, loader.network, references, judges),
             FULL: hear(trainer, load_base_beside_config(str(voice), trainer.host).network, references, judges)}
    converter, made = Converter(trainer.host, Path(args.base), args.content), {}
    for form in FORMS:
        options = VoiceOptions(steps=args.steps) if form == "default" else VoiceOptions(fast=True)
        done = converter.convert(voice, folder / f"{data.name}_{form}.safetensors", options)
        loader.set_adapters([(done.path, 1.0)])
        heard[form] = hear(trainer, loader.network, references, judges)
        loader.unload()
        figures = done.figures()
        made[form] = {key: figures[key] for key in ("bytes_before", "bytes_after", "seconds", "step_seconds", "steps",
                                                    "ranks", "base_distance")}
        made[form]["kept_of_sound"] = figures.get("kept")
    return {"heard": heard, "made": made, "clips_held_out": len(trainer.held), **ratios([heard])}


def fine_tuned(trainer: Trainer, settings: TrainConfig, args: Any, folder: Path) -> Path:
    """The voice as full fine-tuning makes it: the best of `--epochs` by held-out log-mel L1."""
    config = json.loads((Path(settings.data_dir) / "config.json").read_text(encoding="utf-8"))
    step = RVCStep(trainer.host, config, trainer.info.version, Path(args.base), None, trainer.device, args.lr)
    training = FullTraining(step, settings, trainer.host, trainer.info, trainer.heldout, args.epochs, args.points,
                  trainer.device)
    path, best = folder / "full.pth", float("inf")
    while training.progress < 1:
        point = training.advance()
        print(f"{settings.name}: full fine-tuning, step {point.steps}: held-out {point.loss:.4f}", flush=True)
        if point.loss < best:
            best = point.loss
            save_model(path, small_model(step.generator, trainer.info, "full fine-tuning"))
    return path


def hear(trainer: Trainer, network: nn.Module, references: Sequence[np.ndarray], judges: Judges) -> Dict[str, Any]:
    """Of each held-out clip: log-mel L1 to the recording, and the similarity to the speaker (None without speech)."""
    rows: Dict[str, List[Any]] = {"errors": [], "similarity": []}
    for clip in trainer.heldout.measure(network.eval()):
        embedding = judges.embedding(clip.audio, trainer.info.sample_rate) if references else None
        rows["errors"].append(clip.error)
        rows["similarity"].append(None if embedding is None else cosine_to_mean(embedding, references))
    return rows


def ratios(voices: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, float]]:
    """`kept` and `similarity` of each form, of one voice or the mean of several, with the ends of their intervals."""
    found: Dict[str, Dict[str, float]] = {}
    for form in FORMS:
        found[form] = named("kept", pooled([
            gain(figures[BASE]["errors"], figures[form]["errors"], figures[FULL]["errors"]) for figures in voices]))
        pairs = [[(a, b) for a, b in zip(figures[form]["similarity"], figures[FULL]["similarity"])
                  if a is not None and b is not None] for figures in voices]
        if all(pairs):
            found[form].update(named("similarity", difference(pairs)))
    return found


def difference(voices: Sequence[Sequence[Any]]) -> Interval:
    """Mean of ours - theirs. voices: (ours, theirs) of each clip."""
    return pooled([(list(zip(*pairs)), lambda a, b: (a - b).mean(axis=-1)) for pairs in voices])


def measure(args: Any, folder: Path) -> Dict[str, Any]:
    """All voices, one after the other; those that OUT has already are taken from there."""
    judges = judges_of(args)
    given = dict(zip((Path(data).name for data in args.data), map(Path, args.full or [])))
    voices = each_voice(args.data, folder, lambda data: measure_voice(data, given.get(data.name), args,
                                                                      folder / data.name, judges))
    return {**ratios([voice["heard"] for voice in voices.values()]), "voices": voices,
            "threads": torch.get_num_threads()}


def show(figures: Dict[str, Any]) -> None:
    """A row for each voice and form, and the mean of all."""
    rows: List[Sequence[Any]] = [("voice", "form", "kept", "low", "high", "similarity", "low", "high", "KB", "seconds",
                                  "s a step")]
    for name, voice in [*figures["voices"].items(), ("all", figures)]:
        for form in FORMS:
            made = voice["made"][form] if "made" in voice else {}
            rows.append((name, form, *(voice[form].get(f"{key}{end}", float("nan")) for key in ("kept", "similarity")
                                                                          for end in ("", "_low", "_high")),
                         f"{made['bytes_after'] / 1000:.0f}" if made else "", made.get("seconds", ""),
                         made.get("step_seconds", "")))
    print(table(rows))


def full_size(folder: Path, steps: int) -> Dict[str, Any]:
    """Seconds and peak memory at v2 40k: what a step costs does not depend on what the weights are."""
    host = find_host()
    base, _, _ = make_base(folder, host, "v2", 40000)
    loaded = load_base_beside_config(base, host, 40000)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in loaded.network.parameters():
            value.add_(0.1 * value.std().nan_to_num(0) * torch.randn_like(value))
    voice = folder / "voice.pth"
    save_model(voice, small_model(loaded.network, loaded.info, "made up"))
    del loaded
    converter, figures = Converter(host, base), {"threads": torch.get_num_threads()}
    for form, options in (("fast", VoiceOptions(fast=True)), ("default", VoiceOptions(steps=steps))):
        done = converter.convert(voice, folder / f"{form}.safetensors", options)
        figures[form] = {"seconds": done.seconds, "step_seconds": done.step_seconds, "bytes_after": done.after,
                         "peak_bytes": peak_bytes()}
    return figures


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    parser = voice_arguments(__doc__.splitlines()[0])
    parser.add_argument("--full", nargs="+", help="full voices, one for each --data (default: they are trained)")
    parser.add_argument("--content", help="anybody's speech to learn with (default: the bundled recordings)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of learning")
    parser.add_argument("--epochs", type=int, default=6, help="of full fine-tuning")
    parser.add_argument("--points", type=int, default=6, help="at which its best is looked for")
    parser.add_argument("--lr", type=float, default=3e-4, help="of full fine-tuning")
    parser.add_argument("--valid_fraction", type=float, default=0.1, help="of the clips that are kept out")
    parser.add_argument("--full_size", action="store_true", help="seconds and memory at v2 40k alone")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.out or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.full_size:
            figures = full_size(folder, 1 if args.quick else min(args.steps, 5))
            print(json.dumps(figures, indent=1))
            finish(figures, args.json)
            return
        if args.quick:
            _, _, args.data = quick_inputs(Path(temporary))
            args.base, args.epochs, args.points, args.steps = str(DEMO_BASE), 1, 1, min(args.steps, 2)
        if not args.base or not args.data:
            parser.error("give --base and --data, or --quick")
        if args.full and len(args.full) != len(args.data):
            parser.error("give as many --full as --data")
        figures = measure(args, folder)
    show(figures)
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
