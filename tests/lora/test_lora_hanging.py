"""A branch hangs on a layer beside what other tools have put there."""

import copy

import pytest
import torch
from torch import nn

from LoraModel.lora import LoRAConfig, extract, inject

pytestmark = pytest.mark.versions


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Module()
    network.ups = nn.ModuleList([nn.ConvTranspose1d(8, 4, 4)])
    network.emb_g = nn.Embedding(4, 6)
    return network


CONFIG = {"r": 2, "lora_alpha": 4, "targets": {"ups": True, "spk_row": True}}


def hang(network):
    injection = inject(network, LoRAConfig.from_dict(CONFIG))
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.normal_()
    return injection


def other_tool(layer, times=10.0):
    """Put a forward on the layer that multiplies what was there before; return what takes it off again."""
    before, had = layer.forward, layer.__dict__.get("forward")
    layer.forward = lambda *given: before(*given) * times

    def off():
        if had is None:
            del layer.forward
        else:
            layer.forward = had

    return off


def outputs(network):
    with torch.no_grad():
        return network.ups[0](torch.ones(1, 8, 5)), network.emb_g(torch.tensor([0, 1]))


def same(found, wanted):
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted))


def test_a_forward_that_was_there_is_called_and_comes_back(network):
    plain = outputs(network)
    offs = [other_tool(layer) for layer in (network.ups[0], network.emb_g)]
    tools = [layer.forward for layer in (network.ups[0], network.emb_g)]
    injection = hang(network)
    terms = [injection["ups.0"](torch.ones(1, 8, 5)), injection["emb_g"](torch.tensor([0, 1]))]
    assert same(outputs(network), [10 * base + term for base, term in zip(plain, terms)])
    extract(network)
    assert [layer.forward for layer in (network.ups[0], network.emb_g)] == tools
    assert same(outputs(network), [10 * base for base in plain])
    for off in offs:
        off()
    assert same(outputs(network), plain)


def test_a_forward_that_comes_later_stays_and_calls_the_branch_while_it_is_there(network):
    plain = outputs(network)
    injection = hang(network)
    adapted = outputs(network)
    off = other_tool(network.ups[0])
    assert same(outputs(network)[:1], [10 * adapted[0]])
    for _ in range(2):
        for _, layer in injection.items():
            layer.detach()
        assert same(outputs(network), [10 * plain[0], plain[1]])
        for _, layer in injection.items():
            layer.attach()
            layer.attach()
        assert same(outputs(network), [10 * adapted[0], adapted[1]])
    for _, layer in injection.items():
        layer.detach()
    off()
    assert same(outputs(network), plain)
    for _, layer in injection.items():
        layer.attach()
    assert same(outputs(network), adapted)


def test_a_tool_that_takes_every_forward_away_leaves_a_branch_that_can_be_hung_anew(network):
    plain = outputs(network)
    injection = hang(network)
    adapted = outputs(network)
    network.ups[0].__dict__.pop("forward")
    for attach in (False, True):
        for _, layer in injection.items():
            layer.attach() if attach else layer.detach()
    assert same(outputs(network), adapted)
    extract(network)
    assert same(outputs(network), plain) and "forward" not in network.ups[0].__dict__


def test_a_deep_copy_hangs_on_its_own_branch(network):
    hang(network)
    twin = copy.deepcopy(network)
    adapted = outputs(network)
    with torch.no_grad():
        for parameter in twin._rvc_lora_injection.parameters():
            parameter.zero_()
    assert same(outputs(network), adapted) and not same(outputs(twin), adapted)
    extract(twin)
    assert same(outputs(network), adapted)


def test_no_parameter_of_another_tools_module_becomes_the_branchs(network):
    wrapper = nn.Sequential(nn.ConvTranspose1d(8, 4, 4))
    network.ups[0].__dict__["forward"] = wrapper
    injection = hang(network)
    assert len(list(injection.parameters())) == 3
    assert outputs(network)[0].shape == (1, 4, 8)
