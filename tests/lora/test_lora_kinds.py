"""A further kind of adapter layer is one class: what a file, a network in use and a conversion ask, they ask of it."""

import copy

import pytest
import torch
from adapter_data import METADATA, Tiny, tiny
from torch import nn

from LoraModel.conversion.blend import blend
from LoraModel.conversion.budget import tensor_bytes
from LoraModel.conversion.factors import exact_of, products_of, ranks_within, resized
from LoraModel.conversion.start import Listener, set_start
from LoraModel.lora import (
    Adapter,
    LiveWeights,
    LoRAConfig,
    Target,
    extract,
    inject,
    load_adapter,
    merge,
    save_adapter,
    targets,
    unmerge,
)
from LoraModel.lora import adapter_layer as kinds
from LoraModel.lora.hanging import Hanging
from LoraModel.lora.low_rank import Factor
from LoraModel.lora.rows import can_have_rows, rows_adapted
from LoraModel.models.voice_file import half_weights


class Shift(Hanging, nn.Module):
    """The delta of a convolution's bias: (1, out)."""

    kind, KEYS, UP, FORM, PARAMETER = (nn.Conv1d, nn.ConvTranspose1d), ("lora_bias.weight",), (), "bias", "bias"

    def __init__(self, base):
        super().__init__()
        object.__setattr__(self, "base", base)
        self.lora_bias = Factor((1, len(base.bias)))

    def forward(self, x):
        return self.lora_bias.weight[0][:, None]

    @classmethod
    def make(cls, base, target, config, speaker):
        return cls(base)

    @classmethod
    def file_shapes(cls, base, r):
        return {cls.KEYS[0]: (1, len(base.bias))}

    @classmethod
    def of_file(cls, shapes):
        return set(shapes) == set(cls.KEYS)

    @classmethod
    def component_axis(cls, key):
        return None

    @classmethod
    def dense(cls, base, tensors, scaling, speaker):
        return tensors[cls.KEYS[0]][0]

    @classmethod
    def product(cls, base, tensors, scaling, speaker):
        return tensors[cls.KEYS[0]].t(), torch.ones(1, 1)

    @torch.no_grad()
    def start_as(self, voice, row):
        self.lora_bias.weight.copy_((voice.bias - self.base.bias)[None])
        return True

    def delta_weight(self):
        return self.lora_bias.weight.detach()[0]


@pytest.fixture
def shift(monkeypatch):
    """A configuration whose adapter has one, on the convolution of `Tiny`."""
    monkeypatch.setattr(kinds, "KINDS", [*kinds.KINDS, Shift])
    monkeypatch.setitem(targets.TARGETS, "flow_bias", Target(r"flow\.flows\.0\.pre", form="bias"))
    return LoRAConfig(targets={"ups": {"r": 2, "lora_alpha": 4}, "flow_bias": True, "spk_row": True})


def adapter_of(config, seed=0):
    torch.manual_seed(seed)
    network = Tiny()
    injection = inject(network, config)
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.normal_(0, 0.1)
    x = torch.randn(2, 4, 9)
    heard = network.flow.flows[0].pre(x)
    tensors = {name: tensor.detach().clone() for name, tensor in injection.tensors().items()}
    extract(network)
    return network, Adapter(tensors, config, dict(METADATA)), x, heard


def test_it_is_saved_loaded_applied_and_undone_bit_for_bit(shift, tmp_path):
    network, adapter, x, heard = adapter_of(shift)
    name = "flow.flows.0.pre.lora_bias.weight"
    for bits in (16, 8):
        read = load_adapter(save_adapter(tmp_path / "a.safetensors", adapter.tensors, shift, METADATA, bits))
        read.check(network)
        assert torch.equal(read.tensors[name].float(), adapter.tensors[name].half().float())
    before = copy.deepcopy(network.state_dict())
    live = LiveWeights(network, keep=True)
    for write in (lambda: live.write(adapter.deltas(network)), lambda: live.write_products(adapter.products(network)),
                  lambda: live.exchange(live.make(adapter.products(network)))):
        write()
        torch.testing.assert_close(network.flow.flows[0].pre(x), heard)
        half = half_weights(network, ["flow.flows.0.pre.bias", "dec.ups.0"])
        assert set(half) == set(before) and torch.equal(half["flow.flows.0.pre.bias"],
                                                        network.flow.flows[0].pre.bias.half())
        live.restore()
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    injection = inject(network, shift)
    with torch.no_grad():
        for key, parameter in injection.tensors().items():
            parameter.copy_(adapter.tensors[key])
    merge(network)
    torch.testing.assert_close(network.flow.flows[0].pre(x), heard)
    unmerge(network)
    extract(network)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_it_stays_when_ranks_change_and_is_added_up_in_a_blend(shift):
    network, adapter, *_ = adapter_of(shift)
    other = adapter_of(shift, 1)[1]
    name = "flow.flows.0.pre.lora_bias.weight"
    assert list(exact_of(adapter)) == [name] and list(products_of(adapter)) == ["dec.ups.0"]
    smaller = resized(adapter, {"ups": 1}).adapter
    smaller.check(network)
    assert torch.equal(smaller.tensors[name], adapter.tensors[name]) and ranks_within(adapter, 10**6, 8) == {"ups": 2}
    both = blend([(adapter, 1.0), (other, -0.5)], "both")
    both.check(network)
    for path, delta in both.deltas(network).items():
        torch.testing.assert_close(delta, adapter.deltas(network)[path] - 0.5 * other.deltas(network)[path])
    shapes = {key: tuple(tensor.shape) for key, tensor in adapter.tensors.items()}
    assert tensor_bytes({name: shapes[name]}, 8) == tensor_bytes({name: shapes[name]}, 16)


def test_a_full_voice_gives_it_exactly(shift):
    network, voice = Tiny(), Tiny()
    injection = inject(network, shift)
    with Listener(voice, injection.names) as listener:
        voice.flow.flows[0].pre(torch.randn(1, 4, 9))
        voice.dec.ups[0](torch.randn(1, 8, 9))
        voice.emb_g(torch.tensor([1]))
    kept = set_start(injection, voice, 2, listener)
    assert kept["flow.flows.0.pre"] == kept["emb_g"] == 1 and 0 < kept["dec.ups.0"] <= 1
    merge(network)
    torch.testing.assert_close(network.flow.flows[0].pre.bias, voice.flow.flows[0].pre.bias)
    torch.testing.assert_close(network.emb_g.weight[0], voice.emb_g.weight[2])


def test_a_batch_of_several_voices_says_where_it_cannot_have_it(shift):
    network, adapter, *_ = adapter_of(shift)
    injection = inject(network, shift)
    assert [can_have_rows(layer) for _, layer in injection.items()] == [True, False, True]
    extract(network)
    with pytest.raises(ValueError, match=r"adapters of their own on flow\.flows\.0\.pre\.bias"):
        with rows_adapted(network, [adapter.products(network), {}]):
            pass


def test_which_kind_a_files_tensors_are_of():
    """A transposed convolution by its B, whose kernel is longer than 1; nothing else is looked at."""
    for shapes, name in (({"lora_A.weight": (2, 8, 1), "lora_B.weight": (2, 4, 4)}, "LoRAConvTranspose1d"),
                         ({"lora_A.weight": (2, 8, 3), "lora_B.weight": (4, 2, 1)}, "LoRAConv2d"),  # as any other
                         ({"lora_row.weight": (1, 4)}, "SpeakerRow")):
        assert kinds.kind_in_file(shapes).__name__ == name
    assert kinds.kind_in_file({"lora_C.weight": (2, 2)}) is None
    _, tensors = tiny()
    axes = kinds.component_axes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert axes == {"dec.ups.0.lora_A.weight": 0, "dec.ups.0.lora_B.weight": 0, "flow.flows.0.pre.lora_A.weight": 0,
                    "flow.flows.0.pre.lora_B.weight": 1, "emb_g.lora_row.weight": None}
