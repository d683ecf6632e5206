"""The plan's commands, as PROJECT_OUTLINE.md has them, typed one after the other where data/raw, pretrained/ and
input.wav lie."""

import importlib
import os
import re
import shutil
from pathlib import Path

import pytest
import soundfile
import tiny_base
import training_data

from LoraModel.lora import load_adapter
from LoraModel.lora.adapter_file import read_preview
from LoraModel.messages import cli
from LoraModel.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = pytest.fixture(autouse=True, scope="module")(training_data.one_thread)
COMMANDS = re.findall(
    r"^python (\S+)\.py (.*)$", (ROOT / "PROJECT_OUTLINE.md").read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as the plan expects it: recordings of a second each, and a base so small that 100 epochs take
    seconds."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    for number in (1, 2, 3):
        soundfile.write(
            str(tmp_path / "data" / "raw" / f"{number}.wav"),
            training_data.clip(number, 0.4, 1.0)[0],
            training_data.RATE,
        )
    tiny_base.make(tmp_path / "pretrained" / "G40k.pth")
    shutil.copyfile(str(tmp_path / "data" / "raw" / "3.wav"), str(tmp_path / "input.wav"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        os, "fsync", lambda _handle: None
    )  # 100 saves; that a crash leaves them whole is tested elsewhere
    monkeypatch.setattr(checkpoint, "save_state", lambda folder, state: (folder / checkpoint.STATE_FILE).touch())
    return tmp_path


def test_the_plans_commands_run_exactly_as_typed(place, capsys):
    assert [module for module, _ in COMMANDS] == [
        "scripts/prepare_data",
        "training/train_lora",
        "scripts/merge_lora",
        "inference/infer_lora",
        "inference/infer_lora",
    ]
    said = []
    for module, options in COMMANDS:
        (place / "output.wav").unlink() if (place / "output.wav").exists() else None
        assert cli(importlib.import_module("LoraModel." + module.replace("/", ".")).main, options.split()) == 0, (
            capsys.readouterr().err
        )
        said.append("".join(capsys.readouterr()))
    adapter = place / "output" / "processed.safetensors"
    assert f"adapter {sum(t.numel() for t in load_adapter(adapter).tensors.values()):,} (" in said[1]
    told = int(re.search(r"a file of (\d+) KB", said[1]).group(1))
    preview = 4 / 3 * len(read_preview(adapter))  # made after the training, and kept as base64
    assert preview and abs(told - (adapter.stat().st_size - preview) / 1000) < 1
    assert "the rank is higher than" in said[1] and "100 steps to go: about" in said[1]
    for text in said[2:4]:
        assert f"./output/lora.pth: taking the best adapter of this run, {adapter}" in text
    assert (place / "output" / "merged.pth").is_file() and soundfile.info(str(place / "output.wav")).frames == 16000
    assert load_adapter(adapter).config.targets["flow"].r == 8
