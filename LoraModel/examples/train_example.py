"""Train an adapter through the Python API, on the demo's recordings.

    python LoraModel/examples/train_example.py [FOLDER] [--epochs 6]
    python examples/train_example.py                      (the same, from inside LoraModel/)

FOLDER keeps the experiment folder and the run; without one they are made in a temporary folder and removed at the end.
With an RVC checkout the experiment folder is RVC's own logs/NAME: then only steps 2 and 3 are needed.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.examples.train_example"))

import shutil
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

import numpy as np

from LoraModel import commands
from LoraModel.files import check_folder_place
from LoraModel.inference import stand_in as features
from LoraModel.inference.audio import read_audio, write_audio
from LoraModel.lora import load_adapter
from LoraModel.messages import tr
from LoraModel.training import TrainConfig, prepare

DEMO = Path(__file__).resolve().parents[1] / "demo"


def make_experiment(folder: Path) -> Path:
    """Step 1: an experiment folder as RVC lays it out, 16 kHz, with the stand-in for HuBERT as content features. What
    is there stays: a run continues on the very files that it began with."""
    for part in ("0_gt_wavs", "3_feature768", "2a_f0", "2b-f0nsf"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(sorted((DEMO / "recordings" / "target").glob("*.flac"))):
        name = f"{index}_0"  # RVC's names: recording_slice
        wav = folder / "0_gt_wavs" / f"{name}.wav"
        if wav.is_file():  # it is written last
            continue
        audio = read_audio(path, features.SAMPLE_RATE)  # (samples,) at 16 kHz
        f0 = features.pitch(audio, len(audio) // features.PITCH_HOP)  # (frames,) in Hz, 100 frames a second
        np.save(str(folder / "3_feature768" / f"{name}.npy"), features.content_features(audio))  # (frames // 2, 768)
        np.save(str(folder / "2a_f0" / f"{name}.wav.npy"), features.coarse_pitch(f0))
        np.save(str(folder / "2b-f0nsf" / f"{name}.wav.npy"), f0)
        write_audio(wav, audio, features.SAMPLE_RATE)
    shutil.copyfile(str(DEMO / "base" / "config.json"), str(folder / "config.json"))
    return folder


def train(folder: Path, epochs: int) -> None:
    experiment = make_experiment(folder / "rms")

    # Step 2: everything is loaded and checked here, and nothing is written yet. What cannot work raises a UserError.
    trainer = prepare(TrainConfig(
        base_model=str(DEMO / "base" / "f0G16k.pth"),
        data_dir=str(experiment),
        output_dir=str(folder / "run"),
        name="rms",
        epochs=epochs,
    ), resume=True)  # a run that was interrupted in FOLDER continues

    # Step 3: train. False means that it was asked to stop (trainer.stop_asked, or a file named "stop" in output_dir).
    if not trainer.run():
        return

    # Step 4: what came of it. The recordings that were kept out of training decide which save is the best.
    adapter = load_adapter(trainer.adapter_path)
    print(f"log-mel L1 on {len(trainer.held)} recordings kept out: base {trainer.base_heldout:.4f}, "
          f"with adapter {trainer.best:.4f} (step {trainer.best_step} of {trainer.done_steps})")
    print(f"{trainer.adapter_path}: {trainer.model.count().adapter:,} parameters in "
          f"{trainer.adapter_path.stat().st_size:,} bytes, "
          f"{len(adapter.layers())} layers, {adapter.metadata['data_seconds']} s of recordings")


def main(argv: Optional[List[str]] = None) -> int:
    parser = commands.Parser(description=tr("Train an adapter on the demo's recordings."))
    parser.add_argument("folder", nargs="?", type=commands.path,
                        help=tr("keeps the experiment folder and the run (default: a temporary folder)"))
    parser.add_argument("--epochs", type=commands.whole(1, 10**6), default=6, help=tr("passes over the clips"))
    options = parser.parse_args(argv)
    if options.folder is not None:
        train(check_folder_place(options.folder, "FOLDER"), options.epochs)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), options.epochs)
    return 0
