"""The networks that judge a save: how their figures count, what they may cost, and that a resumed run knows them."""

import math

import numpy as np
import pytest
import torch
from training_data import make_experiment, one_thread, settings

from LoraModel.messages import UserError
from LoraModel.training import TrainConfig, judge, prepare, trainer
from LoraModel.training.heldout import Score
from LoraModel.training.judge import NOTHING, Judge, Judged, judge_of, middle, read_judged

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
RATE = 16000


class Encoder:
    """Hears the mean of a sound as the angle of its speaker."""

    def embedding(self, audio, sr):
        if not audio.any():
            raise UserError("no speech")
        return np.array([math.cos(audio.mean()), math.sin(audio.mean())])


class Quality:
    asked = 0

    def rate(self, audio, sr):
        Quality.asked += 1
        return {"dnsmos": 3.0 if audio.mean() > 0.5 else 2.5}


def clip(value, seconds=1.0):
    return np.full(int(seconds * RATE), value, np.float32)


def test_one_rule_over_all_figures():
    plain = Score(0.5, 0.9, 1.1)
    assert plain.value == pytest.approx(0.5 * 1.1)
    assert plain._replace(judged=NOTHING).value == plain.value
    assert plain._replace(judged=Judged(0.9)).value == pytest.approx(plain.value * 1.1)
    assert plain._replace(judged=Judged(0.9, 2.8, 3.0)).value == pytest.approx(plain.value * 1.1 * 1.05)
    assert Judged(1.2, 4.0, 3.0).factor == 1  # better than the recordings is no better than as good
    assert Judged(1.0, leak=0.2).factor == pytest.approx(1.02) and Judged(1.0, leak=-0.1).factor == 1
    # a percent of log-mel L1 against a hundredth of similarity
    assert Score(0.500, judged=Judged(0.80)).value > Score(0.504, judged=Judged(0.82)).value
    assert Score(0.5, judged=Judged(0.8, 2.5, 3.0)).log()["heldout_dnsmos"] == 2.5
    assert "heldout_similarity" not in Score(0.5).log()


def test_the_figures_of_a_save():
    listener = Judge(Encoder(), Quality(), [clip(1.0), clip(0.0), clip(1.0)], RATE)
    found = listener.judge([clip(1.0), clip(0.4), clip(0.0)], [clip(1.0), clip(1.0)], 1e9)
    assert found.similarity == pytest.approx((1 + math.cos(0.6)) / 2) and listener.every == 1
    assert (found.dnsmos, found.dnsmos_real) == (2.75, 3.0)
    assert found.leak is None
    silent = Judge(Encoder(), None, [clip(1.0)], RATE).judge([clip(0.0)], [clip(1.0)], 1e9)
    assert silent == NOTHING
    assert Judge(None, None, [], RATE).judge([clip(1.0)], [clip(1.0)], 1.0) == NOTHING


class Other:
    """Another speaker, who sounds as 0.2 does."""

    sound = clip(0.2)


def test_the_leak_of_another_speaker():
    """The voice as 1.0 and the other speaker as 0.2: a conversion as 0.2 leaks all, as 1.0 nothing."""
    listener = Judge(Encoder(), None, [clip(1.0)], RATE, other=Other())
    leaks = [listener.judge([clip(1.0)], [clip(1.0)], 1e9, lambda other, value=value: clip(value)).leak
             for value in (0.2, 1.0, 0.6, 0.0)]
    between = math.cos(0.8)
    assert leaks[:3] == pytest.approx([1.0, 0.0, (math.cos(0.4) - between) / (1 - between)], abs=1e-6)
    assert leaks[3] is None  # silence has no speaker
    same = Judge(Encoder(), None, [clip(0.2)], RATE, other=Other())
    assert same.judge([clip(0.2)], [clip(0.2)], 1e9, lambda other: clip(0.2)).leak is None  # one speaker to the network


def test_it_takes_a_twentieth_of_the_time_at_most(monkeypatch):
    now = iter(np.arange(0.0, 1000.0, 1.0))  # each look at the clock a second later
    monkeypatch.setattr(judge.time, "perf_counter", lambda: float(next(now)))
    listener = Judge(Encoder(), Quality(), [clip(1.0)], RATE)
    figures = [listener.judge([clip(value)], [clip(1.0)], 5.0) for value in (1.0, 0.9, 0.8, 0.7, 0.6)]
    assert listener.every == 4  # a second of 5% of 5 seconds
    assert figures[0] == figures[1] == figures[3] != figures[4]
    again = Judge(Encoder(), Quality(), [clip(1.0)], RATE)
    again.restore(listener.state())
    assert again.every == 4 and again.judge([clip(0.1)], [clip(1.0)], 5.0) == figures[4]


def test_only_some_seconds_are_heard():
    assert len(middle(clip(1.0, 10), RATE)) == judge.SECONDS * RATE and len(middle(clip(1.0), RATE)) == RATE
    sound = np.arange(10 * RATE, dtype=np.float32)
    assert middle(sound, RATE)[0] == 3.5 * RATE


@pytest.mark.parametrize("wrong", [[1], "abc", ["x", None, None], [float("nan"), None, None], 3])
def test_a_damaged_state_is_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        read_judged(wrong)
    with pytest.raises((TypeError, ValueError, KeyError)):
        Judge(None, None, [], RATE).restore({"every": 1, "saves": 1, "last": wrong})
    assert read_judged(None) == NOTHING and read_judged([0.9, 3.0, 3.1]) == Judged(0.9, 3.0, 3.1)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=1.0)


def test_a_long_run_is_judged_goes_on_so_and_says_what_is_not_there(voice, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "seconds_to_go", lambda *arguments: 1000.0)
    made = []

    def listener(clips, rate, device, other_speaker):
        assert all(path.is_file() for path in clips) and rate == RATE
        missing = [UserError("speech quality needs a package")]
        made.append(Judge(Encoder(), None, [clip(1.2)], rate, missing, other_speaker()))
        return made[-1]

    monkeypatch.setattr(trainer, "judge_of", listener)
    run = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=2)))
    assert run.run() is True and len(made) == 1
    assert "speech quality needs a package" in capsys.readouterr().err
    assert run.best_judged.similarity is not None and run.best_judged.leak is not None
    assert made[0].other.sound.shape == (48000,) and run.state()["judge"]["every"] >= 1
    again = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=3)), resume=True)
    assert again.best_judged == run.best_judged and len(made) == 2 and again.judge.every == run.judge.every
    none = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "none", epochs=1, judges=False)))
    none.run()
    assert none.judge is None and len(made) == 2


def test_a_short_run_does_without(voice, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "judge_of", lambda *arguments: pytest.fail("it is not worth it"))
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=1))).run()


def test_features_that_cannot_be_had(voice, tmp_path, monkeypatch, capsys):
    """As without HuBERT in a checkout: that is said, and the rest is judged."""
    def none():
        raise UserError("HuBERT is missing")

    monkeypatch.setattr(judge, "_networks", lambda: (Encoder(), None, ()))
    listener = judge_of(sorted((voice / "0_gt_wavs").iterdir()), RATE, torch.device("cpu"), none)
    assert listener.other is None and [str(why) for why in listener.missing] == ["HuBERT is missing"]
    assert listener.judge([clip(1.0)], [clip(1.0)], 1e9, lambda other: pytest.fail("no other")).similarity is not None


def test_the_networks_do_not_disturb_training(voice):
    clips = sorted((voice / "0_gt_wavs").iterdir())
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    listener = judge_of(clips, RATE, torch.device("cpu"))
    found = listener.judge([np.zeros(RATE, np.float32)], [np.zeros(RATE, np.float32)], 1.0)
    assert torch.equal(torch.rand(3), expected) and isinstance(found, Judged)


@pytest.mark.parametrize("checkout, seconds, leak", [(False, 130.0, True), (True, 130.0, False), (True, 500.0, True)])
def test_hubert_is_loaded_for_a_long_run_alone(voice, tmp_path, monkeypatch, checkout, seconds, leak):
    asked = []
    monkeypatch.setattr(trainer, "seconds_to_go", lambda *arguments: seconds)
    monkeypatch.setattr(trainer, "judge_of", lambda clips, rate, device, other: asked.append(other) or Judge(
        Encoder(), None, [clip(1.0)], rate, other=Other() if other else None))
    run = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=1)))
    monkeypatch.setattr(type(run.host), "is_checkout", property(lambda host: checkout))
    monkeypatch.setattr(run, "_convert", lambda other: clip(0.6))
    run.run()
    assert [other is not None for other in asked] == [leak] and (run.best_judged.leak is not None) is leak
    asked.clear()
    prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=2)), resume=True)
    assert [other is not None for other in asked] == [leak]  # as the saved run has it


def test_what_networks_hear_does_not_end_a_run(voice, tmp_path, monkeypatch):
    """The best save is chosen by their figures, too; whether anything improves is asked of the smooth ones alone."""
    run = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs="auto")))
    asked = []
    monkeypatch.setattr(run.schedule, "judged", lambda value, step: asked.append(value))
    monkeypatch.setattr(run, "save_adapter_file", lambda path, score: None)
    run._judge(Score(0.5, judged=Judged(0.9)))
    run._judge(Score(0.4, judged=Judged(0.5)))
    assert asked == [0.5, 0.4] and run.best == 0.5  # 0.55 and 0.6 to those that judge
