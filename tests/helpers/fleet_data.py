"""Voices for the tests of many voices: small experiment folders, recordings, and the command on a tiny base."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import tiny_base
import training_data

from LoraModel.fleet.ledger import Ledger
from LoraModel.fleet.session import Session, load, work_of
from LoraModel.host import find_host

SMALL = {"r": 2, "lora_alpha": 4, "targets": {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}}
SETTINGS = {"epochs": 3, "batch_size": 2, "device": "cpu", "init_speaker": 1, "valid_clips": 2, "warmup_steps": 2,
            "segment_frames": 12, "lora": SMALL}
"""Runs of a few steps that save every epoch."""


def make_place(folder, names=("anna", "ben", "carla"), clips=5):
    """A tiny base.pth, logs/NAME for each voice, and settings.json; the folder."""
    tiny_base.make(folder / "base.pth")
    for number, name in enumerate(names):
        training_data.make_experiment(folder / "logs" / name, clips=clips, seconds=0.6 + 0.1 * (number % 3))
    (folder / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return folder


def make_recordings(folder, count=3, first=1):
    """A folder of recordings of one voice."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        soundfile.write(str(folder / f"{number}.wav"), training_data.clip(number, 0.4, 1.0)[0], training_data.RATE)
    return folder


def make_one_recording(file, clips=3):
    """The same voice in one file."""
    sound = np.concatenate([training_data.clip(number, 0.4, 2.0)[0] for number in range(1, clips + 1)])
    soundfile.write(str(file), sound, training_data.RATE)
    return file


def line(place, output, *more, voices=None):
    """The command's options."""
    return ["--base_model", str(place / "base.pth"), "--voices", str(voices or place / "logs"), "--output_dir",
            str(output), "--config", str(place / "settings.json"), *more]


def start(arguments, **more):
    """The command as a user starts it, in a session of its own so that all of it can be killed."""
    return subprocess.Popen([sys.executable, "-m", "LoraModel.training.train_many", *arguments],
                            cwd=str(training_data.ROOT), env=training_data.environment(**more), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True)


def session_of(place, output, **settings):
    """A session, its base and its work, in this process."""
    host = find_host()
    base = load(host, str(place / "base.pth"), None, None)
    session = Session(Path(output))
    work = work_of(base, session.output, {**SETTINGS, **settings}, host)
    session.begin(work)
    return session, base, work


def states(output):
    return {entry.name: entry.state for entry in Ledger(Path(output)).entries()}


def done_once(output):
    """Whether every voice that is done was so once, and none is under way."""
    ended = [event["name"] for event in Ledger(Path(output)).events() if event["what"] == "done"]
    return sorted(ended) == sorted(name for name, state in states(output).items() if state == "done")


def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
