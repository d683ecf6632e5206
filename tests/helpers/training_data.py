"""Small experiment folders, made from the demo's recordings or from generated audio, and runs of the trainer on
them."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import tiny_base
import torch
from scipy.io import wavfile

from LoraModel.inference import stand_in as features
from LoraModel.training import TrainConfig, prepare

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "LoraModel" / "demo"
BASE = DEMO / "base" / "f0G16k.pth"
RATE = 16000  # Hz, of the demo's base
HOP = 160  # samples a frame
SMALL = {"lora": {"r": 2, "lora_alpha": 4, "targets": {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}}}
"""A small adapter, for the tests that ask nothing of its quality."""


@functools.lru_cache(maxsize=None)
def clip(recording, start, seconds):
    """A stretch of one of the demo's target recordings with its features: (audio, content, pitch, f0)."""
    audio, rate = soundfile.read(str(DEMO / "recordings" / "target" / f"{recording:02d}.flac"), dtype="float32")
    assert rate == RATE
    audio = audio[int(start * RATE):int((start + seconds) * RATE)]
    f0 = features.pitch(audio, len(audio) // HOP)
    return audio, features.content_features(audio), features.coarse_pitch(f0), f0


def make_experiment(folder, clips=6, seconds=1.2):
    """An experiment folder as RVC lays it out, of one clip from each of the first recordings: logs/NAME without a
    filelist."""
    for part in ("0_gt_wavs", "3_feature768", "2a_f0", "2b-f0nsf"):
        (folder / part).mkdir(parents=True)
    for index in range(clips):
        audio, content, pitch, f0 = clip(index + 1, 0.4, seconds)
        name = f"{index}_0"
        wavfile.write(str(folder / "0_gt_wavs" / f"{name}.wav"), RATE, audio)
        np.save(str(folder / "3_feature768" / f"{name}.npy"), content)
        np.save(str(folder / "2a_f0" / f"{name}.wav.npy"), pitch)
        np.save(str(folder / "2b-f0nsf" / f"{name}.wav.npy"), f0)
    (folder / "config.json").write_bytes((DEMO / "base" / "config.json").read_bytes())
    return folder


def write_filelist(folder, extra=(), where=None):
    """RVC's filelist.txt: absolute paths, of `where` if the folder is to look moved."""
    lines = []
    for wav in sorted((folder / "0_gt_wavs").glob("*.wav")):
        paths = (f"0_gt_wavs/{wav.name}", f"3_feature768/{wav.stem}.npy", f"2a_f0/{wav.name}.npy",
                 f"2b-f0nsf/{wav.name}.npy")
        lines.append("|".join(f"{where or folder}/{path}" for path in paths) + "|0")
    (folder / "filelist.txt").write_text("\n".join(lines + list(extra)), encoding="utf-8")
    return folder / "filelist.txt"


def make_mute(folder):
    """RVC's logs/mute at 16 kHz, and its line in a filelist."""
    for part in ("0_gt_wavs", "3_feature768", "2a_f0", "2b-f0nsf"):
        (folder / part).mkdir(parents=True)
    frames = 100
    paths = [folder / "0_gt_wavs" / "mute16k.wav", folder / "3_feature768" / "mute.npy",
             folder / "2a_f0" / "mute.wav.npy", folder / "2b-f0nsf" / "mute.wav.npy"]
    wavfile.write(str(paths[0]), RATE, np.zeros(frames * HOP, dtype=np.float32))
    np.save(str(paths[1]), np.zeros((frames // 2 + 1, 768), dtype=np.float32))
    np.save(str(paths[2]), np.ones(frames, dtype=np.int64))
    np.save(str(paths[3]), np.zeros(frames))
    return "|".join(str(path) for path in paths) + "|0"


def settings(experiment, output, **more):
    """Settings of a short run in which every step is different and saves come often."""
    return {
        "base_model": str(BASE), "data_dir": str(experiment), "output_dir": str(output), "epochs": 3, "batch_size": 2,
        "device": "cpu", "init_speaker": 2, "valid_clips": 2, "lr": 2e-3, "warmup_steps": 2, "segment_frames": 12,
        **SMALL, **more,
    }


def tiny_settings(experiment, output, **more):
    """The same on a tiny base (`tiny_base`), for the tests that ask nothing of what is learnt."""
    return settings(experiment, output, **{"base_model": str(tiny_base.shared()), **more})


def trained(experiment, output, **more):
    """The trainer of such a run, which went to its end."""
    trainer = prepare(TrainConfig.from_dict(settings(experiment, output, **more)))
    assert trainer.run() is True
    return trainer


def argv(values, *flags, config=None):
    """The same settings as a command line; what has no option of its own goes through `config`, a path to write to."""
    options = {key: values[key] for key in ("base_model", "data_dir", "output_dir")}
    rest = {key: value for key, value in values.items() if key not in options}
    line = [text for key, value in options.items() for text in (f"--{key}", value)]
    if rest:
        Path(config).write_text(json.dumps(rest), encoding="utf-8")
        line += ["--config", str(config)]
    return [*line, "--no_preview", *flags]


def environment(**more):
    """For subprocesses: English, one thread (the same sums in every process), no checkout."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RVC_ROOT", "PYTHONPATH")}
    return {**kept, "RVC_LORA_LANG": "en", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **more}


def start(arguments, module=True, **more):
    """Start the trainer as a user does: `python -m` from above LoraModel/, or the file from inside it."""
    command = ["-m", "LoraModel.training.train_lora"] if module else [os.path.join("training", "train_lora.py")]
    return subprocess.Popen(
        [sys.executable, *command, *arguments], cwd=str(ROOT if module else ROOT / "LoraModel"),
        env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )


def in_two(arguments, program=("-m", "LoraModel.training.train_lora"), cwd=ROOT, timeout=280):
    """The trainer in two processes, which torchrun starts; it has ended."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *program, *arguments]
    run = subprocess.Popen([sys.executable, *command], cwd=str(cwd), env=environment(PYTHONPATH=str(ROOT)),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        out, err = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.terminate()  # so that torchrun ends the two, which are in sessions of their own
        run.communicate()
        raise
    return subprocess.CompletedProcess(run.args, run.returncode, out, err)


def log(output):
    """The lines of train.jsonl without their times."""
    lines = [json.loads(line) for line in (Path(output) / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def one_thread():
    """To be made a fixture of a module: the same sums in every process, and no waiting of threads for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
