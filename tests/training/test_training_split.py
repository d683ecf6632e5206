"""The two parts of the loss: posteriors computed once, and a decoder that learns at every k-th step only."""

import pytest
import torch
from training_data import log, make_experiment, one_thread, settings, trained

from LoraModel.messages import UserError
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.losses import DECODER_LOSSES, PRIOR_LOSSES, Loss

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """An experiment folder of clips of two lengths; leave it as you found it."""
    folder = make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4)
    longer = make_experiment(folder.with_name("longer"), clips=3, seconds=1.6)
    for path in longer.rglob("*_0.*"):
        path.replace(folder / path.parent.name / path.name.replace("_0.", "_1."))
    return folder


def trainer_of(voice, output, **more):
    return prepare(TrainConfig.from_dict(settings(voice, output, **more)))


def test_a_kept_posterior_is_the_one_of_the_batch(voice, tmp_path):
    trainer = trainer_of(voice, tmp_path / "out")
    frames = [int(trainer.train.batch([index]).lengths) for index in range(len(trainer.train))]
    assert len(set(frames)) == 2
    pair = [frames.index(max(frames)), frames.index(min(frames))]  # as RVC's collate sorts them
    raw = trainer.train.batch(pair)
    whole = trainer.model.posterior(raw.spec, raw.lengths)
    state = torch.get_rng_state()
    batch = trainer.posteriors.batch(pair)
    assert torch.equal(torch.get_rng_state(), state)  # a step draws the same numbers whether or not the clip was known
    assert torch.equal(batch.posterior.mask, whole.mask) and torch.equal(batch.lengths, raw.lengths)
    for kept, computed in ((batch.mean, whole.mean), (batch.log_scale, whole.log_scale)):
        torch.testing.assert_close(kept * whole.mask, computed * whole.mask, rtol=1e-4, atol=1e-5)
    for name in ("phone", "pitch", "f0", "wave"):
        assert torch.equal(getattr(batch, name), getattr(raw, name)), name
    mel = trainer.mel.of_spectrogram(raw.spec)
    assert torch.equal(batch.mel[0], mel[0]) and torch.equal(batch.mel[1, :, :min(frames)], mel[1, :, :min(frames)])
    assert torch.equal(trainer.posteriors.batch(pair).mean, batch.mean)


def test_spectrograms_are_let_go(voice, tmp_path):
    trainer = trainer_of(voice, tmp_path / "out")
    trainer.posteriors.batch(range(len(trainer.train)))
    assert trainer.train._items == [None] * len(trainer.train)


def test_the_decoder_learns_on_its_steps_alone(voice, tmp_path):
    trainer = trainer_of(voice, tmp_path / "out", decoder_every=3, lora=None, preset="balanced")
    parts = {"dec": [], "prior": []}
    for name, tensor in trainer.model.injection.tensors().items():
        parts["dec" if name.startswith("dec.") else "prior"].append(tensor)
    for step in range(6):
        before = {part: [tensor.detach().clone() for tensor in tensors] for part, tensors in parts.items()}
        losses = trainer.step([0, 1])
        moved = {part: any(not torch.equal(a, b) for a, b in zip(before[part], parts[part])) for part in parts}
        assert moved == {"dec": step % 3 == 0, "prior": True}
        assert ("mel" in losses) == ("stft" in losses) == ("total" in losses) == (step % 3 == 0) and losses["kl"] > 0


def test_the_voice_is_held_to_the_base_own_sound(voice, tmp_path):
    """By the same z, pitch and excitation: a fresh adapter sounds as the speaker that it started from, so the loss
    begins at 0 and grows. The base stays as it is, and the step draws the numbers that it draws without."""
    trainer, free = trainer_of(voice, tmp_path / "held", c_hold=5.0), trainer_of(voice, tmp_path / "free")
    base = {name: tensor.clone() for name, tensor in trainer.model.network.state_dict().items()}
    found, without = ([one.step([0, 1]) for _ in range(3)] for one in (trainer, free) if torch.manual_seed(3))
    assert found[0]["hold"] < 1e-4 < found[1]["hold"] < found[2]["hold"]
    assert "hold" not in without[0] and found[0]["mel"] == pytest.approx(without[0]["mel"], rel=1e-6)
    assert all(torch.equal(tensor, base[name]) for name, tensor in trainer.model.network.state_dict().items())
    assert all(layer._attached for _, layer in trainer.model.injection.items())


def test_a_run_that_is_stopped_and_resumed_is_the_same_run(voice, tmp_path):
    more = {"decoder_every": 2, "epochs": 4}
    trained(voice, tmp_path / "whole", **more)
    first = trainer_of(voice, tmp_path / "parts", **more)
    first.stop_asked = True  # after one step
    assert first.run() is False
    again = prepare(first.config, resume=True)
    again.stop_asked = True
    assert again.run() is False
    assert prepare(first.config, resume=True).run() is True
    assert log(tmp_path / "parts") == log(tmp_path / "whole")


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_decoder_every_must_be_a_whole_number_above_0(value):
    with pytest.raises(Exception, match="decoder_every"):
        TrainConfig(decoder_every=value)


def test_lora_plus_moves_b_by_its_own_rate(voice, tmp_path):
    """AdamW's first step moves each number by the rate itself, whatever the gradient."""
    def moved(output, **more):
        trainer = trainer_of(voice, output, warmup_steps=0, lr=1e-3, **more)
        before = {name: tensor.detach().clone() for name, tensor in trainer.model.injection.tensors().items()}
        trainer.step(range(2))
        return {name: float((tensor.detach() - before[name]).abs().max()) for name,
                tensor in trainer.model.injection.tensors().items()}

    even, plus = moved(tmp_path / "a"), moved(tmp_path / "b", lora_plus=4.0)
    for name in even:
        if name.endswith("lora_B.weight"):
            assert even[name] == pytest.approx(1e-3, rel=1e-2) and plus[name] == pytest.approx(4e-3, rel=1e-2)
        else:
            assert plus[name] == pytest.approx(even[name])


@pytest.mark.parametrize("change", [{"lora_plus": 2.0}, {"batch_size": 1}])
def test_resume_refuses_another_optimiser(voice, tmp_path, change):
    first = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=1)))
    assert first.run() is True
    with pytest.raises(UserError, match=next(iter(change))):
        prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=2, **change)), resume=True)


def test_a_further_loss_is_a_line_of_its_table(voice, tmp_path, monkeypatch):
    """It is weighed, trained on and logged, without another line of code."""
    monkeypatch.setitem(PRIOR_LOSSES, "drift", Loss(lambda host, prior, posterior: prior.mean.square().mean(),
                                                     weight=2))
    monkeypatch.setitem(DECODER_LOSSES, "peak", Loss(lambda made: made.audio.abs().amax(), weight=3))
    folder = trained(voice, tmp_path / "out", epochs=1).folder
    first = log(folder)[0]
    config = TrainConfig
    assert first["total"] == pytest.approx(config.c_kl * first["kl"] + 2 * first["drift"] + config.c_mel * first["mel"]
                                           + config.c_stft * first["stft"] + 3 * first["peak"], rel=1e-5)
    assert first["drift"] > 0 and first["peak"] > 0
