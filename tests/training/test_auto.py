"""--epochs auto: the rate, when the fall begins, how it ends, and that a killed run goes on to the bit."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from training_data import ROOT, argv, environment, log, make_experiment, one_thread
from training_data import tiny_settings as settings

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training import TrainConfig, checkpoint, prepare, schedule
from LoraModel.training.schedule import (
    FALL,
    GAIN,
    LEAST_FALL,
    LEAST_STABLE,
    LOOK,
    MOST_STABLE,
    PATIENCE,
    Auto,
    Fixed,
    fall_steps,
)
from LoraModel.training.train_lora import main, parser

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
SMALL_AUTO = {"LOOK": 2, "LEAST_STABLE": 4, "MOST_STABLE": 8, "LEAST_FALL": 4}
"""A run that ends after 6 to 12 steps."""
RUN = ("import sys; from LoraModel.training import schedule; from LoraModel.training.train_lora import main; "
       f"vars(schedule).update({SMALL_AUTO}); from LoraModel.messages import cli; sys.exit(cli(main))")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=6, seconds=1.0)


@pytest.fixture
def small(monkeypatch):
    for name, value in SMALL_AUTO.items():
        monkeypatch.setattr(schedule, name, value)


def auto(**more):
    return Auto(TrainConfig(epochs="auto", **more))


def told(plan, values):
    """Tell the schedule the value of each save, in turn -> the step after the last."""
    step = 0
    for value in values:
        step += LOOK
        assert plan.due(step) and not plan.over(step, 0)
        plan.judged(value, step)
    return step


def test_the_rate_rises_stays_and_falls():
    plan = auto(lr=1.0, lr_final=0.1, warmup_steps=10)
    assert [plan.rate(step) for step in (0, 4, 9, 10, 200)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    step = told(plan, [1.0] * (1 + PATIENCE))
    assert plan.falls_from == step == 50 and plan.total_steps == 50 + LEAST_FALL
    assert plan.rate(50) == 1 and plan.rate(55) == pytest.approx(0.1 + 0.9 * (1 - math.sqrt(5 / LEAST_FALL)))
    rates = [plan.rate(step) for step in range(50, 71)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.1)
    assert not plan.over(69, 9) and plan.over(70, 0) and plan.due(70)


def test_it_waits_for_what_improves_and_not_for_less_than_a_gain():
    better = [0.99 ** index for index in range(12)]
    plan = auto()
    told(plan, better)
    assert plan.falls_from is None
    plan = auto()
    told(plan, [1.0] + [1 - GAIN / 2] * PATIENCE)
    assert plan.falls_from == (1 + PATIENCE) * LOOK
    plan = auto(patience=6)
    told(plan, [1.0] * 6)
    assert plan.falls_from is None
    plan.judged(1.0, 7 * LOOK)
    assert plan.falls_from == 7 * LOOK


def test_it_ends_at_its_limits_whatever_comes():
    plan = auto()
    assert plan.total_steps == MOST_STABLE + fall_steps(MOST_STABLE) == int(MOST_STABLE * (1 + FALL))
    told(plan, [0.9 ** index for index in range(MOST_STABLE // LOOK)])
    assert plan.falls_from == MOST_STABLE and plan.over(plan.total_steps, 0)
    worse = auto(patience=1)
    worse.judged(1.0, LOOK)
    worse.judged(2.0, 2 * LOOK)
    assert worse.falls_from is None and LEAST_STABLE > 2 * LOOK - 1  # not before it has begun to learn


def test_the_state_is_taken_back_and_nonsense_is_not():
    plan, again = auto(), auto()
    told(plan, [1.0, 0.9, 0.9, 0.9])
    again.restore(plan.state())
    assert again.state() == plan.state()
    for step in (50, 60):
        plan.judged(0.9, step)
        again.judged(0.9, step)
    assert again.falls_from == plan.falls_from == 60
    for wrong in ({}, {"falls_from": "1", "best": 1.0, "best_step": 1}, {"falls_from": None, "best": 1, "best_step": 1},
                  {"falls_from": -1, "best": 1.0, "best_step": 1},
                  {"falls_from": None, "best": math.nan, "best_step": 1}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            auto().restore(wrong)


def test_a_number_of_epochs_means_what_it_did():
    """The cosine of before, number by number."""
    plan = Fixed(TrainConfig(epochs=5, lr=2e-3, warmup_steps=3, lr_final=0.1), 4)
    for step in range(20):
        through = min(1.0, (step - 3) / 17)
        cosine = 2e-3 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * through)))
        assert plan.rate(step) == (2e-3 * (step + 1) / 3 if step < 3 else cosine)
    assert [step for step in range(1, 21) if plan.due(step)] == [4, 8, 12, 16, 20] and plan.saves == 5
    assert plan.over(20, 0) and not plan.over(19, 99) and Fixed(TrainConfig(epochs=5, patience=2), 4).over(8, 2)


@pytest.mark.parametrize("epochs", ["Auto", "0", "soon", "1.5", "-3"])
def test_epochs_are_a_number_or_auto(epochs, tmp_path, capsys):
    if epochs == "Auto":
        assert parser().parse_args(["--epochs", epochs]).epochs == "auto"
        return
    assert cli(main, ["--base_model", "x", "--data_dir", "x", "--output_dir", str(tmp_path), "--epochs", epochs]) == 2
    assert "--epochs" in capsys.readouterr().err
    with pytest.raises(UserError):
        TrainConfig(epochs=epochs)


def test_a_run_ends_by_itself(voice, tmp_path, small, capsys):
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs="auto", patience=1)))
    assert trainer.run() is True
    lines = log(tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert len(lines) == trainer.done_steps == trainer.total_steps == run["total_steps"] and run["state"] == "done"
    assert trainer.schedule.falls_from + max(4, int(0.3 * trainer.schedule.falls_from)) == len(lines) <= 12
    assert [line["step"] for line in lines if "heldout_mel" in line][0] == 2 and "heldout_mel" in lines[-1]
    assert lines[-1]["lr"] < lines[trainer.schedule.falls_from - 1]["lr"] == 2e-3
    assert (tmp_path / "out" / "voice.safetensors").is_file()
    again = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs="auto", patience=1)), resume=True)
    assert again.run() is True and log(tmp_path / "out") == lines


LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.1, "targets": {"enc_p_ffn": True, "flow": True, "ups": True,
                                                                  "spk_row": True}}


def command(voice, output, *flags):
    values = settings(voice, output, epochs="auto", lora=LORA)
    return [sys.executable, "-c", RUN, *argv(values, *flags, config=output.parent / f"{output.name}.json")]


def start(*arguments):
    return subprocess.Popen(command(*arguments), cwd=str(ROOT), env=environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_killed_before_and_in_the_fall_it_ends_as_if_it_never_had_been(voice, tmp_path, small):
    whole, output = tmp_path / "whole", tmp_path / "out"
    assert prepare(TrainConfig.from_dict(settings(voice, whole, epochs="auto", lora=LORA))).run() is True
    for flags, step in (((), 3), (("--resume",), 9)):
        run, end = start(voice, output, *flags), time.time() + 120
        while not (output / "train.jsonl").is_file() or (output / "train.jsonl").read_bytes().count(b"\n") < step:
            assert run.poll() is None and time.time() < end, run.communicate()[1]
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    run = start(voice, output, "--resume")
    assert run.wait(200) == 0, run.communicate()[1]
    assert log(whole) == log(output)
    states = [checkpoint.load_state(path) for path in (whole, output)]
    assert states[0]["schedule"] == states[1]["schedule"] and states[0]["schedule"]["falls_from"]
    for name in ("voice.safetensors", "voice_last.safetensors"):
        a, b = (load_adapter(path / name).tensors for path in (whole, output))
        assert all(torch.equal(a[key], b[key]) for key in a)
