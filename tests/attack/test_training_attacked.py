"""Training under attack: killed at random moments, and data folders and saves of flipped bits."""

import random
import shutil

import pytest
import torch
from killing import kill
from training_data import argv, log, make_experiment, one_thread, settings, start, write_filelist

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError
from LoraModel.training import TrainConfig, prepare

pytestmark = pytest.mark.attack
one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
KILLS = 1  # a round


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=0.9)


def steps_logged(output):
    path = output / "train.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def values(voice, output, **more):
    return settings(voice, output, **{"epochs": 4, "batch_size": 2, **more})


def test_killed_at_random_moments_it_ends_as_if_it_never_was(voice, tmp_path, attack_rounds):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert prepare(TrainConfig.from_dict(values(voice, whole))).run() is True
    moments = random.Random(17)
    for _ in range(KILLS * attack_rounds):
        run = start(argv(values(voice, broken), "--resume", config=tmp_path / "c.json"))
        before = steps_logged(broken)
        kill(run, moments.uniform(0, 0.4), until=lambda before=before: steps_logged(broken) not in (0, before))
    trainer = prepare(TrainConfig.from_dict(values(voice, broken)), resume=True)
    assert trainer.run() is True
    assert log(whole) == log(broken)
    for name in ("voice.safetensors", "voice_last.safetensors"):
        first, second = load_adapter(whole / name).tensors, load_adapter(broken / name).tensors
        assert set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


def flipped(data, dice):
    """`data` with a few bytes changed, cut, or repeated."""
    data = bytearray(data)
    kind = dice.randrange(3)
    if kind == 0:
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(min(len(data), 400) if dice.random() < 0.6 else len(data))] = dice.randrange(256)
    elif kind == 1:
        del data[dice.randrange(len(data)):]
    else:
        at = dice.randrange(len(data))
        data[at:at] = data[at:at + dice.randrange(1, 64)]
    return bytes(data)


@pytest.mark.parametrize("part", ["0_gt_wavs/1_0.wav", "3_feature768/1_0.npy", "2a_f0/1_0.wav.npy",
                                  "2b-f0nsf/1_0.wav.npy", "filelist.txt"])
def test_mutated_data_is_refused_in_words_or_taken(voice, tmp_path, library, attack_rounds, part):
    """Never a fault of the program, and never a byte written."""
    from training_data import BASE, DEMO

    from LoraModel.models import load_base
    from LoraModel.training.data_loader import ClipSet, read_experiment
    from LoraModel.training.validate import check_experiment

    info = load_base(BASE, library, config_json=DEMO / "base" / "config.json").info
    shutil.copytree(str(voice), str(tmp_path / "voice"))
    write_filelist(tmp_path / "voice")
    path = tmp_path / "voice" / part
    whole, dice, refused = path.read_bytes(), random.Random(part), 0
    for _ in range(25 * attack_rounds):
        path.write_bytes(flipped(whole, dice))
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / "voice").rglob("*")}
        try:
            experiment = read_experiment(tmp_path / "voice", library, info)
            check_experiment(experiment, info, 12)
            ClipSet(experiment.clips, library, experiment.data, True, 12)
        except UserError as error:
            refused += 1
            assert len(str(error)) < 1000
        assert {file: file.stat().st_mtime_ns for file in (tmp_path / "voice").rglob("*")} == before
    assert refused > 3


def test_mutated_saves_are_refused_in_words_or_taken(voice, tmp_path, attack_rounds):
    output = tmp_path / "out"
    trainer = prepare(TrainConfig.from_dict(values(voice, output)))
    trainer.stop_asked = True
    assert trainer.run() is False
    whole, dice, refused = (output / "state.pt").read_bytes(), random.Random(3), 0
    for _ in range(40 * attack_rounds):
        (output / "state.pt").write_bytes(flipped(whole, dice))
        try:
            trainer.load()
        except UserError:
            refused += 1
    assert refused > 10
