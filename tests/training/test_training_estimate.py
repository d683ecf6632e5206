"""The guess of a run's time tries a step, and leaves no trace of it: the run is the same, bit for bit, as without."""

import random

import numpy as np
import pytest
import torch
from training_data import make_experiment, one_thread, settings

from LoraModel.host import Host
from LoraModel.training import TrainConfig, estimate, prepare

threads = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("experiment") / "logs" / "voice", clips=4)


def held(trainer):
    """Everything that a step could touch, copied: weights, buffers, gradients, optimiser, averages, generators."""
    network = trainer.model.network
    found = {f"network {name}": tensor for name, tensor in network.state_dict().items()}
    found.update({f"lora {name}": tensor for name, tensor in trainer.model.injection.tensors().items()})
    found.update({f"average {n}": tensor for n, tensor in enumerate(trainer.average)})
    if trainer.adversary is not None:
        found.update(_tensors("adversary", trainer.adversary.state()))
    found.update(_tensors("optimizer", trainer.optimizer.state_dict()))
    found["random"] = torch.get_rng_state()
    copied = {name: tensor.detach().clone() for name, tensor in found.items()}
    plain = (random.getstate(), [str(part) for part in np.random.get_state()], trainer.done_steps,
             [parameter.grad for parameter in trainer.model.trainable], network.training, trainer.best)
    return copied, plain


def _tensors(name, value):
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {key: tensor for part, inner in items for key, tensor in _tensors(f"{name} {part}", inner).items()}


@pytest.mark.parametrize("with_d", [False, True], ids=["alone", "with a discriminator"])
def test_the_estimate_leaves_everything_as_it_was(voice, tmp_path, with_d, monkeypatch):
    more = {}
    if with_d:
        torch.save({"model": Host("library").build_discriminator("v2").state_dict()}, str(tmp_path / "D.pth"))
        more["base_d"] = str(tmp_path / "D.pth")
    monkeypatch.setattr(estimate, "SLOW", 0.0)  # one step is enough to leave traces
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=20, batch_size=1, **more)))
    trainer.step(trainer.train.epoch(1, 0, 0)[0])  # so that the optimiser holds something
    before, plain = held(trainer)
    assert any(name.startswith("optimizer") for name in before) and any(name.startswith("network") for name in before)
    seconds = estimate.seconds_to_go(trainer, evaluating=0.5)
    assert seconds is not None and seconds > 0
    after, still = held(trainer)
    assert list(before) == list(after) and [name for name in before if not torch.equal(before[name], after[name])] == []
    assert plain[:3] == still[:3] and plain[4:] == still[4:] and all(grad is None for grad in still[3])


def test_a_known_step_is_not_tried(voice, tmp_path, monkeypatch):
    """40 steps of half a second, and an evaluation of two at each of four saves."""
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path, epochs=20, save_every=5)))
    monkeypatch.setattr(estimate, "_tried", None)
    trainer.step_seconds = 0.5
    assert estimate.seconds_to_go(trainer, evaluating=2.0) == trainer.total_steps * 0.5 + 4 * 2.0
