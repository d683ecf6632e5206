"""Sharpness beside log-mel L1: the score by hand, what a run tells of it, and which save it keeps as the best."""

import json
import math

import numpy as np
import pytest
import torch
from training_data import make_experiment, one_thread, settings

from LoraModel.lora import load_adapter
from LoraModel.lora.adapter_metadata import losses
from LoraModel.training import TrainConfig, checkpoint, prepare
from LoraModel.training.heldout import UNKNOWN, Reconstructed, Score, read_sharp, score_of
from LoraModel.training.monitor import read_log

threads = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("experiment") / "logs" / "voice")


def trainer_of(voice, output, resume=False, **more):
    return prepare(TrainConfig.from_dict(settings(voice, output, **{"epochs": 1, "valid_clips": 1, **more})), resume)


def heard(error, variance, contrast):
    return Reconstructed(error, np.zeros(1), np.zeros(1), torch.zeros(1, 1), variance, contrast)


# The score ----------------------------------------------------------------------------------------------------------


def test_score_by_hand():
    assert Score(0.5).value == 0.5 and Score(0.5, 1.0, 1.0).value == 0.5
    assert Score(0.5, 0.9, 0.8).value == pytest.approx(0.5 * 1.15)
    assert Score(0.5, 1.1, 1.2).value == pytest.approx(0.5 * 1.15)  # rough is no better than blurred
    assert Score(0.5, 0.9, None).value == pytest.approx(0.5 * 1.1)


def test_a_blurred_voice_of_the_same_error_is_worse():
    sharp, blurred, near_but_blurred = Score(0.50, 0.97, 0.97), Score(0.50, 0.89, 0.89), Score(0.49, 0.89, 0.89)
    assert sharp.value < near_but_blurred.value < blurred.value


def test_score_of_clips_is_their_mean_and_leaves_out_what_is_unknown():
    score = score_of([heard(0.4, 0.8, math.nan), heard(0.6, 1.0, 0.9), heard(0.5, math.nan, math.nan)])
    assert score == Score(pytest.approx(0.5), pytest.approx(0.9), pytest.approx(0.9))
    assert score_of([heard(0.4, math.nan, math.nan)]) == Score(0.4)
    assert "90%" in score.words() and "?" in Score(1.0).words()


@pytest.mark.parametrize("saved", [[1.0], [1.0, "x"], [math.nan, 1.0], [1, 1.0], 5, [1.0, 2.0, 3.0]])
def test_nonsense_in_a_save_is_refused(saved):
    with pytest.raises((TypeError, ValueError)):
        read_sharp(saved)
    assert read_sharp(None) == UNKNOWN and read_sharp([0.5, None]) == (0.5, None)


# A run --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(voice, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    trainer = trainer_of(voice, output)
    assert trainer.run() is True
    return trainer, output


def test_a_run_tells_of_sharpness_everywhere(finished):
    trainer, output = finished
    line = read_log(output)[-1]
    assert 0.2 < line["heldout_variance"] < 2 and 0.2 < line["heldout_contrast"] < 2
    assert line["heldout_score"] == pytest.approx(
        Score(line["heldout_mel"], line["heldout_variance"], line["heldout_contrast"]).value
    )
    found = losses(load_adapter(output / "voice.safetensors").metadata["heldout"])
    assert found["global_variance"] == trainer.best_sharp[0] == line["heldout_variance"]
    assert (
        found["frame_contrast"] == trainer.best_sharp[1] and found["base_global_variance"] == trainer.base_sharp[0] > 0
    )
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert run["best_sharpness"] == list(trainer.best_sharp) and run["base_sharpness"] == list(trainer.base_sharp)


def test_tensorboard_has_it(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished[1] / "tensorboard"))
    board.Reload()
    assert {"heldout/heldout_variance", "heldout/heldout_contrast", "heldout/heldout_score"} <= set(
        board.Tags()["scalars"]
    )


def test_the_best_save_is_the_sharper_one_of_two_that_are_as_near(voice, tmp_path, monkeypatch):
    trainer = trainer_of(voice, tmp_path / "out", epochs=3)
    given = iter([Score(1.4, 0.95, 0.95), Score(0.510, 0.97, 0.97), Score(0.505, 0.88, 0.90), Score(0.511, 0.98, 0.96)])
    monkeypatch.setattr(trainer, "evaluate", lambda: (next(given), []))
    assert trainer.run() is True
    assert trainer.best == 0.510 and trainer.best_step == trainer.steps_per_epoch and trainer.best_sharp == (0.97, 0.97)
    assert json.loads(load_adapter(tmp_path / "out" / "voice.safetensors").metadata["heldout"])["adapter"] == 0.510


def test_a_save_from_before_goes_on_and_keeps_its_best_by_error(finished, voice, tmp_path):
    trainer, output = finished
    state = checkpoint.load_state(output)
    assert state.pop("best_sharp") == list(trainer.best_sharp) and state.pop("base_sharp")
    state.pop("version")
    checkpoint.save_state(output, state)
    old = trainer_of(voice, output, resume=True)
    assert old.best_sharp == old.base_sharp == UNKNOWN and old.best == trainer.best
    assert old._judge(Score(old.best + 0.01, 1.0, 1.0)) is False and old.best == trainer.best
