"""Hostile input of the commands: paths, indexes, places, limits of disk and memory."""

import io
import os
import random
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from killing import savers_killed

from LoraModel import commands
from LoraModel.evaluation import evaluate
from LoraModel.examples import infer_example, serve
from LoraModel.inference import infer_lora, realtime
from LoraModel.scripts import blend_lora, convert_model, merge_lora, prepare_data
from LoraModel.training import train_lora

pytestmark = pytest.mark.attack
ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "LoraModel" / "demo" / "base" / "f0G16k.pth"
HOSTILE = ["a\0b", "\ud800", "x" * 5000, "a/" * 3000, "~nosuchuser/x", "", "\"\"", "/dev/null/x", "/proc/self/mem",
           "n" * 256, "\x1b[31m", "a\nb", "."]


def refused(main, argv):
    """One line on standard error and exit code 2."""
    said = io.StringIO()
    with redirect_stderr(said):
        code = commands.run(main, argv)
    lines = [line for line in said.getvalue().splitlines() if line.startswith("error")]  # beside a bar of progress
    assert "Traceback" not in said.getvalue()
    assert code == 2 and len(lines) == 1 and len(lines[0]) < 1000, (argv, code, lines)
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_path_option_with_every_hostile_path(tmp_path, monkeypatch, hostile):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.wav").write_bytes(b"")
    good = {"--base_model": str(BASE), "--input": "in.wav", "--output": str(tmp_path / "o.wav")}
    for option in ("--base_model", "--input", "--output", "--index", "--config_json", "--lora_weights", "--rvc_root"):
        refused(infer_lora.main, [part for pair in {**good, option: hostile}.items() for part in pair])
    good = {"--base_model": str(BASE), "--lora_weights": "a.safetensors", "--output": str(tmp_path / "o.pth")}
    for option in good:
        refused(merge_lora.main, [part for pair in {**good, option: hostile}.items() for part in pair])
    refused(convert_model.main, ["info", hostile])
    refused(convert_model.main, ["small", hostile, "--output", str(tmp_path / "o.pth")])
    refused(convert_model.main, ["small", str(BASE), "--output", hostile])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.wav"]


WRITER = """
import sys, torch
from LoraModel.models.voice_file import save_model
from pathlib import Path
while True:
    save_model(Path(sys.argv[1]), {"weight": {"a": torch.zeros(400000)}})
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_killed_saves_leave_one_temporary_file_at_most(tmp_path, attack_rounds):
    from LoraModel import files

    path, dice = tmp_path / "voice.pth", random.Random(0)
    for _ in savers_killed(WRITER, path, [dice.uniform(0, 0.05) for _ in range(8 * attack_rounds)]):
        assert len(list(tmp_path.iterdir())) <= 2
    files._scans.clear()
    files.atomic_write(path, b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["voice.pth"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_every_path_option_of_the_other_commands(tmp_path, monkeypatch, hostile):
    """Blending, full voices, streams, evaluation, preparation, training, examples: as the first three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(infer_example, "DEMO", tmp_path / "package" / "demo")  # here the demo may have run
    (tmp_path / "in.wav").write_bytes(b"")
    out = str(tmp_path / "o")
    for main, good in (
        (blend_lora.main, {"": "a.safetensors", "--output": f"{out}.safetensors", "--base_model": str(BASE)}),
        (convert_model.main, {"voice": "v.pth", "--base_model": str(BASE), "--output": f"{out}.safetensors"}),
        (realtime.main, {"--base_model": "none.pth", "--input": "in.wav", "--output": f"{out}.wav", "--json": out,
                         "--index": "no.index"}),
        (evaluate.main, {"--base": str(BASE), "--recordings": "in.wav", "--out": out, "--json": f"{out}.json"}),
        (prepare_data.main, {"--input_dir": "in.wav", "--output_dir": out}),
        (train_lora.main, {"--base_model": "none.pth", "--data_dir": "none", "--output_dir": out, "--base_d": "D.pth"}),
        (serve.main, {"--base_model": "none.pth", "--voices": "none"}),
        (infer_example.main, {"": "a.safetensors"}),
    ):
        for option in good:
            given = {**good, option: hostile}
            refused(main, [part for pair in given.items() for part in pair if part or pair[0]])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.wav"]
