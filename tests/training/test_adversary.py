"""The discriminator in training: what learns, what only judges, and what a step takes of it."""

import pytest
import torch

from LoraModel.lora import extract
from LoraModel.training.adversary import Adversary
from LoraModel.training.device import grad_scaler

SCALER = grad_scaler(False)


@pytest.fixture(scope="module")
def network(library):
    torch.manual_seed(0)
    return library.build_discriminator("v2")


@pytest.fixture
def adversary(library, network):
    """`adversary(settings)`, once a test, on the same frozen network."""
    yield lambda **settings: Adversary(network, library, 1e-3, (0.8, 0.99), torch.device("cpu"), **settings)
    extract(network)
    for part in network.discriminators:
        part._forward_pre_hooks.clear()


@pytest.fixture
def clips():
    torch.manual_seed(1)
    return torch.randn(1, 1, 2048), torch.randn(1, 1, 2048, requires_grad=True)


def update(adversary, clips, step=0):
    return adversary.update(*clips, step, SCALER, torch.autocast("cpu", enabled=False))


def heard(adversary):
    """What its sub-discriminators are given, by their index, from now on."""
    calls = []
    for index, part in enumerate(adversary.network.discriminators):
        part.register_forward_pre_hook(lambda _module, inputs, index=index: calls.append((index, inputs[0])))
    return calls


def changed(adversary, before):
    """Names of the tensors that learnt."""
    return {name for name, tensor in adversary.injection.tensors().items() if not torch.equal(tensor, before[name])}


def copies(adversary):
    return {name: tensor.detach().clone() for name, tensor in adversary.injection.tensors().items()}


def test_real_clips_pass_once_a_step_and_no_gradient_is_left(adversary, clips):
    adversary = adversary()
    calls, (real, made) = heard(adversary), clips
    loss = update(adversary, clips)
    losses = adversary.generator_losses(made)
    parts = len(adversary.network.discriminators)
    assert sum(torch.equal(audio, real) for _, audio in calls) == parts and len(calls) == 3 * parts
    (losses["gen"] + losses["fm"]).backward()
    assert made.grad is not None and bool(made.grad.abs().max() > 0) and torch.isfinite(loss)
    assert all(p.grad is None for p in adversary.network.parameters())


def test_losses_are_those_of_rvc(adversary, clips, library):
    """On a fresh branch, which adds nothing, against the host's own forward and losses."""
    adversary, (real, made) = adversary(), clips
    losses = library.module("losses")
    scores_real, scores_made, features_real, features_made = adversary.network(real, made)
    expected = losses.discriminator_loss(scores_real, scores_made)[0]
    torch.testing.assert_close(update(adversary, clips), expected.detach())
    with torch.no_grad():
        torch.testing.assert_close(adversary.generator_losses(made)["fm"],
                                   losses.feature_loss(features_real, adversary.network(real, made)[3]))


def test_a_few_parts_drawn_at_random_stand_for_all(adversary, clips):
    adversary = adversary(parts=3)
    calls, drawn, found = heard(adversary), set(), []
    for step in range(6):
        calls.clear()
        before = copies(adversary)
        found.append(update(adversary, clips, step).item())
        adversary.generator_losses(clips[1])
        taken = {index for index, _ in calls}
        assert len(taken) == 3 and len(calls) == 9
        learnt = changed(adversary, before)
        assert {int(name.split(".")[1]) for name in learnt} == taken
        drawn.add(tuple(sorted(taken)))
    chance = len(adversary.network.discriminators) / 2  # a score of 1/2 for each clip: 1/4 real, 1/4 made
    assert len(drawn) > 3 and 0.3 * chance < sum(found) / len(found) < 3 * chance


def test_it_only_judges_on_the_steps_between(adversary, clips):
    adversary, made = adversary(every=3), clips[1]
    learnt = []
    for step in range(4):
        before = copies(adversary)
        loss = update(adversary, clips, step)
        losses = adversary.generator_losses(made)
        assert (loss is None) == (step % 3 != 0) and losses["fm"].requires_grad
        learnt.append(bool(changed(adversary, before)))
    assert learnt == [True, False, False, True]


def test_lower_layers_stay_frozen(adversary, clips):
    adversary = adversary(frozen_layers=3)
    before = copies(adversary)
    for step in range(2):
        update(adversary, clips, step)
    layers = {int(name.split(".")[3]) for name in changed(adversary, before)}
    assert min(layers) == 3 and len(layers) > 1
    assert all(p.grad is None or int(name.split(".")[3]) >= 3 for name, p in adversary.injection.tensors().items())
