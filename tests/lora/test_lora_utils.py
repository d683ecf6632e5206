"""Injecting into RVC's four networks at full size: nothing changes until something is trained."""

import pytest
import torch
from conftest import NETWORKS
from torch import nn

from LoraModel.defaults import usual_defaults
from LoraModel.lora import (
    LoRAConfig,
    count_parameters,
    extract,
    freeze,
    inject,
    injection_of,
    mark_only_lora_as_trainable,
    merge,
    unfreeze,
    unmerge,
)
from LoraModel.messages import UserError
from LoraModel.models.targets import PRESETS, TARGETS

EVERYTHING = LoRAConfig(r=2, targets={name: True for name in TARGETS if name not in ("spk", "disc")})


def infer(network, version, f0, frames=12):
    """The host's own inference path on made-up features, with the same noise each time."""
    torch.manual_seed(7)
    phone, lengths, sid = torch.randn(1, frames,
                                      256 if version == "v1" else 768), torch.tensor([frames]), torch.tensor([0])
    if f0:
        arguments = (phone, lengths, torch.full((1, frames), 100), torch.full((1, frames), 220.0), sid)
    else:
        arguments = (phone, lengths, sid)
    torch.manual_seed(8)
    with torch.no_grad(), usual_defaults():
        return network.infer(*arguments)[0]


def trained(injection, seed=5, size=0.05):
    """Random factors, as if trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return injection


def branches(network):
    """How many of its layers a branch hangs on."""
    return sum("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize("version,f0", NETWORKS)
def test_full_network_fresh_adapter_merge_and_extract(full_network, version, f0):
    network = full_network(version, f0)
    keys, hung = list(network.state_dict()), branches(network)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    addresses = {name: parameter.data_ptr() for name, parameter in network.named_parameters()}
    plain = infer(network, version, f0)
    assert torch.equal(infer(network, version, f0), plain)  # the comparison itself is fair

    injection = inject(network, EVERYTHING)
    assert torch.equal(infer(network, version, f0), plain)
    assert list(network.state_dict()) == keys and branches(network) == hung + len(injection.names)

    trained(injection)
    hooked = infer(network, version, f0)
    assert not torch.allclose(hooked, plain, rtol=1e-2)
    merge(network)
    merge(network)
    assert branches(network) == hung and list(network.state_dict()) == keys
    # Every adapted layer is called as a module by the host, or the two would differ.
    torch.testing.assert_close(infer(network, version, f0), hooked, rtol=1e-3, atol=1e-4 * float(hooked.abs().max()))
    unmerge(network)
    unmerge(network)
    assert torch.equal(infer(network, version, f0), hooked)

    merge(network)
    assert extract(network) is injection
    assert branches(network) == hung and torch.equal(infer(network, version, f0), plain)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert {name: parameter.data_ptr() for name, parameter in network.named_parameters()} == addresses


@pytest.mark.parametrize("version,f0", NETWORKS)
def test_every_preset_matches_every_network(full_network, version, f0):
    network = full_network(version, f0)
    for preset in PRESETS:
        injection = inject(network, LoRAConfig.from_preset(preset))
        assert len(injection.names) == len(set(injection.names)) > 70
        extract(network)


UNIT = {"ups": (7488, 4), "resblocks": (69120, 72), "dec_in": (2624, 2), "enc_p_attn": (9216, 24),
        "enc_p_ffn": (23040, 12), "enc_p_io": (1536, 2), "flow": (30208, 36), "spk": (365, 1)}


@pytest.mark.parametrize("target", sorted(UNIT))
def test_parameters_for_each_unit_of_rank_at_v2_40k(full_network, target):
    network = full_network("v2", True)
    injection = inject(network, LoRAConfig(r=1, lora_alpha=1, targets={target: True}))
    assert (count_parameters(network).adapter, len(injection.names)) == UNIT[target]
    extract(network)


def test_parameters_of_one_layer_by_hand(full_network):
    # ups.0 at v2 40k: ConvTranspose1d(512, 256, 16): A (3, 512, 1) + B (3, 256, 16) = 1536 + 12288 = 13824.
    # ffn_layers.0.conv_1: Conv1d(192, 768, 3): A (1, 192, 3) + B (768, 1, 1) = 576 + 768 = 1344. emb_g: one row of 256.
    network = full_network("v2", True)
    injection = inject(network, LoRAConfig.from_preset("balanced"))
    count = {name: sum(p.numel() for p in layer.parameters()) for name, layer in injection.items()}
    assert (count["dec.ups.0"], count["enc_p.encoder.ffn_layers.0.conv_1"], count["emb_g"]) == (13824, 1344, 256)
    total = count_parameters(network)
    assert (total.base, total.adapter) == (36458818, 163520) and total.percent == pytest.approx(0.4485, abs=1e-3)
    extract(network)
    assert count_parameters(network).adapter == 0


def test_only_lora_is_trainable_and_gets_gradients(full_network):
    network = full_network("v2", False)
    injection = trained(inject(network, EVERYTHING))
    trainable = mark_only_lora_as_trainable(network)
    assert {id(p) for p in trainable} == {id(p) for p in injection.parameters()}
    assert not any(p.requires_grad for p in network.parameters())
    z, g = torch.randn(1, 192, 6), network.emb_g(torch.tensor([0])).unsqueeze(-1)
    mean, log_scale, mask = network.enc_p(torch.randn(1, 6, 768), None, torch.tensor([6]))
    (network.dec(z, g=g).sum() + network.flow(z, mask, g=g).sum() + mean.sum() + log_scale.sum()).backward()
    assert all(p.grad is None for p in network.parameters())
    assert [name for name, p in injection.named_parameters() if p.grad is None
            or not bool(p.grad.abs().sum() > 0)] == []
    extract(network)


def test_tensors_name_what_is_there(full_network):
    network = full_network("v2", True)
    injection = inject(network, LoRAConfig.from_preset("balanced"))
    tensors = injection.tensors()
    assert [id(t) for t in tensors.values()] == [id(p) for p in injection.parameters()]
    assert tensors["dec.ups.0.lora_B.weight"].shape == (3, 256,
                                                        16) and tensors["emb_g.lora_row.weight"].shape == (1, 256)
    assert injection["dec.ups.0"].lora_B.weight is tensors["dec.ups.0.lora_B.weight"]
    assert sum(p.numel() for name, p in tensors.items() if name.startswith("dec.ups.")) == 3 * 7488
    assert injection_of(network) is injection
    extract(network)


def test_speaker_row_of_another_speaker(full_network):
    network = full_network("v2", False)
    plain = infer(network, "v2", False)
    injection = inject(network, LoRAConfig(targets={"spk_row": True}), speaker=5)
    trained(injection, size=10.0)
    assert torch.equal(infer(network, "v2", False), plain)  # speaker 0 does not see speaker 5's row
    merge(network)
    before = network.emb_g.weight.clone()
    extract(network)
    changed = (network.emb_g.weight != before).any(1).nonzero().flatten().tolist()
    assert changed == [5]


def test_injecting_twice_or_into_nothing_is_refused(full_network):
    network = full_network("v2", True)
    inject(network, LoRAConfig.from_preset("fast"))
    with pytest.raises(UserError, match=r"has LoRA injected already: call extract\(network\) first"):
        inject(network, LoRAConfig.from_preset("fast"))
    extract(network)
    for call in (extract, merge, unmerge, mark_only_lora_as_trainable, injection_of):
        with pytest.raises(UserError, match="no LoRA injected: call inject"):
            call(network)
    with pytest.raises(UserError, match="target 'ups' matches no layer of Linear: switch it off"):
        inject(nn.Linear(2, 2), LoRAConfig(targets={"ups": True}))
    with pytest.raises(UserError, match="target 'disc' matches no layer of SynthesizerTrnMs768NSFsid"):
        inject(network, LoRAConfig(targets={"ups": True, "disc": True}))
    odd = nn.Module()
    odd.emb_g = nn.LayerNorm(3)
    with pytest.raises(UserError, match="target spk names emb_g, a LayerNorm, for which there is no LoRA layer"):
        inject(odd, LoRAConfig(targets={"spk": True}))
    assert branches(network) == 0 and "forward" not in vars(odd.emb_g)


def test_refused_targets_leave_no_branch(full_network):
    network = full_network("v2", True)
    with pytest.raises(UserError, match="speaker 109 is not in the base's table"):
        inject(network, LoRAConfig(targets={"ups": True, "spk_row": True}), speaker=109)
    assert branches(network) == 0
    inject(network, LoRAConfig.from_preset("fast"))  # and the network can still be used
    extract(network)


def test_discriminator_target(library):
    network = library.build_discriminator("v2")
    x = torch.randn(1, 1, 4000)
    torch.manual_seed(0)
    plain = network(x, x)[0]
    injection = inject(network, LoRAConfig(r=1, lora_alpha=1, targets={"disc": True}))
    assert all(torch.equal(a, b) for a, b in zip(network(x, x)[0], plain))
    assert len(injection.names) == 46  # v2: six convolutions in the scale's, five in each of eight periods'
    extract(network)


def test_freeze_and_unfreeze():
    layer = nn.Linear(2, 2)
    freeze(layer)
    assert not any(p.requires_grad for p in layer.parameters())
    unfreeze(layer)
    assert all(p.requires_grad for p in layer.parameters())
