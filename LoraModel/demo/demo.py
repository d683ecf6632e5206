"""The demo: train a voice on the bundled recordings, convert another speaker's with it, merge it, measure and report.

`python run.py demo` makes the environment and runs this. Everything goes to demo_output/: adapter.safetensors,
merged.pth, source, converted and target audio, report.json and report.html. A second run takes up what the first left.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from ..commands import Parser, path, start, whole
from ..files import atomic_write, check_folder_place
from ..host import find_host, hush_torch
from ..inference.convert import ConvertOptions, convert
from ..inference.model_loader import VoiceLoader
from ..inference.stand_in import coarse_pitch, content_features, median_pitch, pitch
from ..judges import SpeakerEncoder
from ..messages import Text, UserError, cli, tr
from ..preparation import Plan, Settings
from ..preparation import prepare as prepare_data
from ..training import TrainConfig, Trainer
from ..training import prepare as prepare_training
from ..training.losses import DECODER_LOSSES, PRIOR_LOSSES
from ..training.monitor import read_log
from ..training.signals import handle_signals
from .measures import check_listener, conversion_figures, texts_of
from .report import write_report

HERE = Path(__file__).resolve().parent
BASE = HERE / "base" / "f0G16k.pth"
RECORDINGS = HERE / "recordings"
NAME = "demo_voice"
RATE = 16000
EPOCHS, SAVE_EVERY = 40, 4
PRESET, RATE_OF_LEARNING = "clear", 3e-3  # fewest words lost of what was tried on this base (docs/quality.md)
LOSS_WINDOW = 5
"""Steps whose mean loss stands for the first and the last: a single step's is mostly the luck of its clips."""


def main(argv: Optional[List[str]] = None) -> int:
    parser = Parser(prog="demo", description=tr("Train, convert, merge and report."))
    parser.add_argument("--output_dir", type=path, default="demo_output",
                        help=tr("where everything goes"))
    parser.add_argument("--data_dir", type=path, help=tr("the app's folder, in which the voice is shown too (default: "
                                                         "app_data beside --output_dir)"))
    parser.add_argument("--epochs", type=whole(1, 10**6), default=EPOCHS, help=tr("passes over the clips"))
    parser.add_argument("--no-open", "--no_open", action="store_true", help=tr(
        "do not open the report in the browser at the end"))
    parser.add_argument("--asr", type=path, metavar="DIR", help=tr("count lost words with this folder's "
                                                                   "faster-whisper model (default: none)"))
    options = parser.parse_args(argv)
    hush_torch()
    os.environ.pop("RVC_ROOT", None)  # the demo has a base and features of its own, an RVC checkout has neither
    folder = check_folder_place(options.output_dir).resolve()
    data = check_folder_place(options.data_dir or folder.parent / "app_data", "--data_dir").resolve()
    check_listener(options.asr)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    say("1/4 preparing the recordings")
    experiment = folder / "logs" / NAME
    config = json.loads((BASE.parent / "config.json").read_text(encoding="utf-8"))
    prepare_data(find_host(), Plan(RECORDINGS / "target", experiment, Settings("v2", RATE, "pm", "stand-in"), config))
    say("2/4 training the adapter")
    trainer = train(experiment, folder / "training", options.epochs)
    if trainer is None:
        return 0
    adapter = folder / "adapter.safetensors"
    shutil.copyfile(str(trainer.adapter_path), str(adapter))
    say("3/4 converting and merging")
    converted = Conversions(folder, adapter)
    say("4/4 measuring")
    figures = measure(trainer, adapter, converted)
    made = {"base": converted.base, "adapter": converted.adapter}
    figures.update(conversion_figures(converted.source, made, converted.reference, texts_of(RECORDINGS, "source"),
                                      options.asr))
    figures["seconds_total"] = round(time.perf_counter() - started, 1)
    report(folder, trainer, figures, converted)
    shown_at = show_in_app(data, folder)
    print_summary(folder, figures)
    print(tr("the page (python run.py app) has the voice as {shown_at_name}", shown_at_name=shown_at.name))
    if not options.no_open and can_open():
        webbrowser.open((folder / "report.html").as_uri())
    return 0


def show_in_app(data: Path, folder: Path) -> Path:
    """Put the demo's adapter, and its merged voice, where the page lists what there is, and the recordings where it
    plays them; return the adapter's place."""
    for heard_in in (folder / f"{key}.wav" for key in ("source", "converted_base", "converted", "target")):
        if heard_in.is_file():
            atomic_write(data / "demo" / heard_in.name, heard_in.read_bytes())
    places = {"adapter.safetensors": data / "assets" / "lora" / f"{NAME}.safetensors",
              "merged.pth": data / "assets" / "weights" / f"{NAME}.pth"}
    for name, place in places.items():
        atomic_write(place, (folder / name).read_bytes())
    return places["adapter.safetensors"]


def can_open() -> bool:
    """Whether somebody sits before a screen: a browser is opened for nobody else."""
    has_screen = os.name == "nt" or sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return bool(has_screen and sys.stdout is not None and sys.stdout.isatty())


def say(english: str, /, **values: Any) -> None:
    """One line to the user on standard error. Arguments as `messages.Text`."""
    print(tr(english, **values), file=sys.stderr, flush=True)


def step(command: str, *arguments: Any) -> None:
    """Run one of the commands, named by its module, as a user would.

    Raises:
        UserError: it ended with another exit code than 0; it has printed itself what went wrong.
    """
    code = start(command, [str(argument) for argument in arguments])
    if code:
        raise UserError("{command} ended with exit code {code}, see above", command=command, code=code)


def train(experiment: Path, output: Path, epochs: int) -> Optional[Trainer]:
    """Train, or resume an interrupted run. None where the user stopped it."""
    trainer = prepare_training(
        TrainConfig(base_model=str(BASE), data_dir=str(experiment), output_dir=str(output), name=NAME, epochs=epochs,
                    save_every=SAVE_EVERY, preset=PRESET, lr=RATE_OF_LEARNING, device="cpu",
                    notes="flite voice rms, trained by the demo"),
        resume=True,
    )
    undo = handle_signals(trainer)
    try:
        return trainer if trainer.run() else None
    finally:
        undo()


class Conversions:
    """The source recordings in other voices: by the base alone, with the adapter, by the merged model; and what is
    compared.

    Attributes:
        source, base, adapter, merged: one (samples,) float32 array for each source recording.
        reference: the target speaker saying the first of them. target: the recordings it was trained on.
        unload_identical: whether taking the adapter off gave the base's weights and audio back bit for bit.
        merge_max_abs_diff: largest difference between audio of adapter and merged model, full scale 1.
        transpose: semitones between the two speakers' median pitches.
    """

    def __init__(self, folder: Path, adapter: Path):
        self.source = read_all("source")
        self.target, self.reference = read_all("target"), read_all("reference")
        self.transpose = round(12 * np.log2(median_pitch(self.target) / median_pitch(self.source)))
        self.bar = tqdm(total=4 * len(self.source), desc=tr("converting"), unit=tr("file"),
                        file=sys.stderr)
        host = find_host()
        voice = VoiceLoader(BASE, host)
        pristine = {key: value.clone() for key, value in voice.network.state_dict().items()}
        self.base = self._convert(voice)
        voice.set_adapters([(adapter, 1.0)])
        self.adapter = self._convert(voice)
        voice.unload()
        again = self._convert(voice)
        same_weights = all(torch.equal(value, pristine[key]) for key, value in voice.network.state_dict().items())
        self.unload_identical = same_weights and all(np.array_equal(a, b) for a, b in zip(self.base, again))
        self.merged_path = folder / "merged.pth"
        step("LoraModel.scripts.merge_lora", "--base_model", BASE, "--lora_weights", adapter, "--output",
             self.merged_path, "--force")
        self.merged = self._convert(VoiceLoader(self.merged_path, host))
        self.merge_max_abs_diff = max(float(np.abs(a - b).max()) for a, b in zip(self.adapter, self.merged))
        self.bar.close()
        self.files: List[Tuple[str, Path]] = []
        for key, audio in (("source", self.source), ("converted_base", self.base), ("converted", self.adapter),
                           ("converted_merged", self.merged), ("target", self.reference)):
            path = folder / f"{key}.wav"
            soundfile.write(str(path), np.clip(audio[0], -1, 1), RATE, subtype="PCM_16")
            self.files.append((key, path))

    def _convert(self, voice: VoiceLoader) -> List[np.ndarray]:
        results = []
        for audio in self.source:
            results.append(convert(voice, audio, ConvertOptions(transpose=self.transpose), content_features, pitch,
                                   coarse_pitch))
            self.bar.update(1)
        return results


def read_all(kind: str) -> List[np.ndarray]:
    return [soundfile.read(str(path), dtype="float32")[0] for path in sorted((RECORDINGS / kind).glob("*.flac"))]


def measure(trainer: Trainer, adapter: Path, converted: Conversions) -> Dict[str, Any]:
    """The figures of report.json."""
    steps = [line["total"] for line in read_log(trainer.folder) if "total" in line]
    encoder = SpeakerEncoder()

    def similarity(clips: List[np.ndarray]) -> float:
        return float(np.mean([encoder.similarity(clip, RATE, converted.target, RATE) for clip in clips]))

    count = trainer.model.count()
    return {
        "base_params": count.base,
        "adapter_params": count.adapter,
        "adapter_bytes": adapter.stat().st_size,
        "noise": trainer.noise,
        "base_bytes": BASE.stat().st_size,
        "merged_bytes": converted.merged_path.stat().st_size,
        "seconds_train": round(trainer.train_seconds, 1),
        "seconds_data": round(trainer.train.seconds, 1),
        "steps": trainer.done_steps,
        "best_step": trainer.best_step,
        "loss_first": float(np.mean(steps[:LOSS_WINDOW])),
        "loss_last": float(np.mean(steps[-LOSS_WINDOW:])),
        "heldout_mel_base": trainer.base_heldout,
        "heldout_mel_adapter": trainer.best,
        "heldout_clips": len(trainer.held),
        "speaker_similarity_source": similarity(converted.source),
        "speaker_similarity_base": similarity(converted.base),
        "speaker_similarity_adapter": similarity(converted.adapter),
        "speaker_similarity_reference": similarity(converted.reference),
        "merge_max_abs_diff": converted.merge_max_abs_diff,
        "unload_identical": converted.unload_identical,
        "transpose": converted.transpose,
        "voice": NAME,
    }


def report(folder: Path, trainer: Trainer, figures: Dict[str, Any], converted: Conversions) -> None:
    titles = {
        "source": Text("Source: another speaker"),
        "converted_base": Text("Converted by the base alone"),
        "converted": Text("Converted by base + adapter"),
        "converted_merged": Text("Converted by the merged model"),
        "target": Text("Target: the real voice, same words"),
    }
    log = read_log(trainer.folder)
    atomic_write(folder / "report.json", json.dumps(figures, indent=1).encode())
    write_report(folder, {
        "figures": figures,
        "said": texts_of(RECORDINGS, "source")[0],
        "audio": [{"key": key, "title": titles[key], "path": path} for key, path in converted.files],
        "curves": {
            "loss": loss_curves(log),
            "heldout": [{"step": 0, "mel": trainer.base_heldout}]
            + [{"step": line["step"], "mel": line["heldout_mel"]} for line in log if "heldout_mel" in line],
        },
        "notes": [],
    })


def loss_curves(log: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Of a run's log the losses of the steps in which the decoder learnt: those that this run has."""
    names = ("step", "total", *DECODER_LOSSES, *PRIOR_LOSSES)
    return [{name: line[name] for name in names if name in line} for line in log if "total" in line]


def print_summary(folder: Path, figures: Dict[str, Any]) -> None:
    f = figures
    print(tr("adapter: {adapter_params:,} parameters, {adapter_bytes:,} bytes, trained in {seconds_train:.0f} "
             "s\nheld-out log-mel L1: {heldout_mel_base:.3f} with the base alone, {heldout_mel_adapter:.3f} with the "
             "adapter\nsimilarity to the target speaker: {speaker_similarity_base:.3f} base, "
             "{speaker_similarity_adapter:.3f} adapter, {speaker_similarity_reference:.3f} real recordings\nopen "
             "{folder} to listen and look",
             adapter_params=f["adapter_params"], adapter_bytes=f["adapter_bytes"], seconds_train=f["seconds_train"],
             heldout_mel_base=f["heldout_mel_base"], heldout_mel_adapter=f["heldout_mel_adapter"],
             speaker_similarity_base=f["speaker_similarity_base"],
             speaker_similarity_adapter=f["speaker_similarity_adapter"],
             speaker_similarity_reference=f["speaker_similarity_reference"], folder=folder / "report.html"))


if __name__ == "__main__":
    sys.exit(cli(main))
