"""Preparation under attack: kill -9 in a loop, a full disk, and recordings with hostile names and contents."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from killing import kill

pytestmark = pytest.mark.attack
ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "LoraModel" / "demo" / "recordings" / "target"
RUN = "import sys; from LoraModel import commands; from LoraModel.scripts.prepare_data import main; "


def process(raw, out, before=""):
    code = before + RUN + "sys.exit(commands.run(main, sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, "--input_dir", str(raw), "--output_dir", str(out)],
                            cwd=str(ROOT),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})


def made(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*")
            if file.is_file() and file.suffix in (".npy", ".wav", ".index") and file.name[0] != "."}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    shutil.copy(str(RECORDINGS / "01.flac"), str(folder))
    return folder


@pytest.mark.skipif(os.name == "nt", reason="no kill -9 there")
def test_killed_again_and_again_it_ends_with_the_same_result(tmp_path, raw, attack_rounds):
    from LoraModel.messages import cli
    from LoraModel.scripts import prepare_data

    whole, out = tmp_path / "whole" / "voice", tmp_path / "killed" / "voice"
    assert cli(prepare_data.main, ["--input_dir", str(raw), "--output_dir", str(whole)]) == 0
    dice, marks = random.Random(0), ["prepared.json", "1_16k_wavs/*.wav", "3_feature768/*.npy"]
    for _ in range(2 * attack_rounds):
        victim, pattern = process(raw, out), dice.choice(marks)
        kill(victim, dice.random() * 0.05, until=lambda pattern=pattern: any(out.glob(pattern)))
    assert cli(prepare_data.main, ["--input_dir", str(raw), "--output_dir", str(out)]) == 0
    assert made(out) == made(whole)


@pytest.mark.skipif(os.name == "nt", reason="no limits there")
def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path, raw):
    out = tmp_path / "voice"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    done = process(raw, out, limit)
    _, said = done.communicate()
    assert done.returncode == 2 and "disk is full" in said.decode().splitlines()[-1] and b"Traceback" not in said
    assert not [file for file in out.rglob("*") if file.name.endswith((".tmp", ".part"))]
    assert all(file.stat().st_size < 20000 for file in out.rglob("*.wav"))


def test_hostile_names_and_contents_leave_the_good_recording(tmp_path, raw, attack_rounds, capsys):
    from LoraModel.messages import cli
    from LoraModel.scripts import prepare_data

    dice = random.Random(1)
    names = ["-i.wav", "a b.wav", "\u2028.wav", "con\x1b[31m.wav", "x" * 200 + ".wav", "'\".wav", "concat:x.wav",
             "$(touch y).flac"]
    for number in range(8 * attack_rounds):
        name = names[number % len(names)] if number < len(names) else f"{number}.wav"
        (raw / name).write_bytes(bytes(dice.randrange(256) for _ in range(dice.randrange(200))))
    soundfile.write(str(raw / "empty.wav"), np.zeros(0), 16000)
    (raw / "loop").mkdir()
    if os.name != "nt":
        (raw / "loop" / "back").symlink_to(raw)
        (raw / "nowhere.wav").symlink_to(raw / "gone.wav")
    out = tmp_path / "voice"
    assert cli(prepare_data.main, ["--input_dir", str(raw), "--output_dir", str(out)]) == 0
    said = capsys.readouterr().err
    assert "\x1b" not in said and "empty.wav" in said
    assert {name.rpartition("/")[2].split("_")[0] for name in made(out) if name.startswith("0_gt")} == {"0"}
