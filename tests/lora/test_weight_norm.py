"""The effective weight in all three storage forms, and adapters on a live network."""

import itertools
import warnings

import pytest
import torch
from torch import nn

from LoraModel.lora import LiveWeights, weight_norm
from LoraModel.lora import functional as LF
from LoraModel.lora.lora_layer import delta_product, dense_delta, layer_class

FORMS, LAYERS, TYPES = ("plain", "old", "new"), ("conv", "transposed"), (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
if not hasattr(nn.utils.parametrizations, "weight_norm"):  # PyTorch 2.0's
    FORMS = tuple(form for form in FORMS if form != "new")
CASES = list(itertools.product(FORMS, LAYERS, TYPES))


def make(form, kind, dtype, zero_row=False):
    """A Conv1d or ConvTranspose1d with its weight stored in one of the three forms."""
    torch.manual_seed(3)
    layer = nn.Conv1d(4, 6, 5) if kind == "conv" else nn.ConvTranspose1d(4, 6, 5, 2)
    if zero_row:
        with torch.no_grad():
            layer.weight[1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "old":
            layer = nn.utils.weight_norm(layer)
        elif form == "new":
            layer = nn.utils.parametrizations.weight_norm(layer)
    if zero_row and form != "plain":
        # A row that weight norm can hold at zero: length zero, any direction.
        stored = weight_norm.stored_tensors(layer)
        g, v = stored.values()
        with torch.no_grad():
            v[1] = 1.0
            g[1] = 0.0
    return layer.to(dtype).requires_grad_(False)


def computed(layer):
    """The weight that the layer itself computes with, fp32: in the old form it is made anew by the forward hook."""
    for hook in layer._forward_pre_hooks.values():
        hook(layer, None)
    return layer.weight.detach().float()


def bits(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("form,kind,dtype", CASES)
def test_compose_is_what_the_layer_computes_with(form, kind, dtype):
    layer = make(form, kind, dtype)
    torch.testing.assert_close(weight_norm.compose(weight_norm.stored_tensors(layer)), computed(layer), rtol=0,
                               atol=TOLERANCE[dtype])


@pytest.mark.parametrize("zero_row", [False, True])
@pytest.mark.parametrize("form,kind,dtype", CASES)
def test_write_then_restore_is_bit_for_bit(form, kind, dtype, zero_row):
    layer = make(form, kind, dtype, zero_row)
    network = nn.Sequential(layer)
    before, addresses = bits(network.state_dict()), {n: p.data_ptr() for n, p in network.named_parameters()}
    weight = weight_norm.compose(weight_norm.stored_tensors(layer)).clone()
    assert not zero_row or bool((weight[1] == 0).all())
    live = LiveWeights(network)
    for _ in range(5):  # one after another, never restored in between
        delta = torch.randn_like(weight) * 0.3
        live.write({"0": delta})
        found = computed(layer)
        assert bool(torch.isfinite(found).all())
        torch.testing.assert_close(found, weight + delta, rtol=0, atol=TOLERANCE[dtype] * 3)
        assert live.touched
    live.restore()
    assert not live.touched
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {n: p.data_ptr() for n, p in network.named_parameters()} == addresses


@pytest.mark.parametrize("form,kind,dtype", CASES)
def test_a_delta_that_cancels_rows_exactly_stays_finite(form, kind, dtype):
    layer = make(form, kind, dtype)
    network, before = nn.Sequential(layer), bits(nn.Sequential(layer).state_dict())
    weight = weight_norm.compose(weight_norm.stored_tensors(layer)).clone()
    delta = torch.zeros_like(weight)
    delta[0], delta[2] = -weight[0], -weight[2]
    live = LiveWeights(network)
    live.write({"0": delta})
    found = computed(layer)
    assert bool(torch.isfinite(found).all()) and bool((found[[0, 2]] == 0).all())
    torch.testing.assert_close(found[[1, 3]], weight[[1, 3]], rtol=0, atol=TOLERANCE[dtype])
    x = torch.randn(1, 4, 12)
    assert bool(torch.isfinite(layer.float()(x)).all())
    layer.to(dtype)
    live.restore()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("form,kind", list(itertools.product(FORMS, LAYERS)))
def test_products_that_cancel_rows_exactly_stay_finite(form, kind):
    layer = make(form, kind, torch.float32)
    network, before = nn.Sequential(layer), bits(nn.Sequential(layer).state_dict())
    weight = weight_norm.compose(weight_norm.stored_tensors(layer)).clone()
    left = torch.zeros(weight.shape[0], 1)
    left[2] = -1.0
    live = LiveWeights(network)
    live.write_products({"0": (left, weight[2].reshape(1, -1))})
    found = computed(layer)
    assert bool(torch.isfinite(found).all()) and bool((found[2] == 0).all())
    torch.testing.assert_close(found[[0, 1, 3]], weight[[0, 1, 3]], rtol=0, atol=1e-6)
    live.restore()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_row_too_small_for_the_type_stays_finite(dtype):
    weight = torch.full((2, 3, 1), 1e-12)
    weight[1] = 0.5
    g, v = LF.weight_norm_decompose(weight, dtype)
    found = LF.weight_norm_compose(g, v)
    assert bool(torch.isfinite(found).all()) and not bool((v == 0).flatten(1).all(1).any())
    torch.testing.assert_close(found, weight, rtol=0, atol=3e-3)


def test_decompose_by_hand():
    # Row (3, 4): length 5. Row (0, 0): length 0 with a direction of ones, so that nothing divides by zero.
    g, v = LF.weight_norm_decompose(torch.tensor([[[3.0], [4.0]], [[0.0], [0.0]]]), torch.float32)
    assert g.tolist() == [[[5.0]], [[0.0]]] and v.tolist() == [[[3.0], [4.0]], [[1.0], [1.0]]]
    # g = 10 along (3, 4): 10 / 5 * (3, 4) = (6, 8).
    assert LF.weight_norm_compose(torch.tensor([[[10.0]]]), torch.tensor([[[3.0], [4.0]]])).tolist() == [[[6.0], [8.0]]]


def test_transposed_rows_are_input_channels():
    # RVC's weight norm of a ConvTranspose1d (in, out, kernel) sums over dim 0 = input channels; so must we.
    layer = make("old", "transposed", torch.float32)
    assert layer.weight_g.shape == (4, 1, 1)
    torch.testing.assert_close(weight_norm.compose(weight_norm.stored_tensors(layer)), computed(layer))


def test_weight_norm_over_another_dimension_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Conv1d(4, 6, 5), dim=1)
    with pytest.raises(ValueError, match="dimension other than 0"):
        weight_norm.compose(weight_norm.stored_tensors(layer))


def test_unknown_storage_is_refused():
    with pytest.raises(TypeError, match="LSTM keeps its weight in a form that is not known"):
        weight_norm.stored_tensors(nn.LSTM(2, 2))


# Adapters on a live network.


class Small(nn.Module):
    """One layer of each kind that RVC adapts, in RVC's own storage."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.conv = nn.utils.weight_norm(nn.Conv1d(4, 6, 3, padding=1))
            self.up = nn.utils.weight_norm(nn.ConvTranspose1d(6, 4, 4, 2, 1))
        self.linear, self.table = nn.Linear(4, 4), nn.Embedding(3, 4)

    def forward(self, ids):
        return self.linear(self.up(self.conv(self.table(ids).transpose(1, 2))).transpose(1, 2))


def factors(network, seed):
    torch.manual_seed(seed)
    layers = {}
    for path in ("conv", "up", "linear", "table"):
        layer = network.get_submodule(path)
        a, b, _ = layer_class(layer).shapes(layer, 2)
        layers[path] = {"lora_A.weight": torch.randn(a) * 0.3, "lora_B.weight": torch.randn(b) * 0.3}
    return layers


def test_several_adapters_blended_then_restored():
    network, ids = Small().requires_grad_(False), torch.tensor([[0, 1, 2, 1]])
    before, plain = bits(network.state_dict()), network(ids)
    addresses = {n: p.data_ptr() for n, p in network.named_parameters()}
    objects = {n: id(p) for n, p in network.named_parameters()}
    deltas = [
        {path: dense_delta(network.get_submodule(path), tensors, 2.0) for path,
         tensors in factors(network, seed).items()}
        for seed in range(3)
    ]
    live, outputs = LiveWeights(network), []
    for delta in deltas:
        live.write(delta)
        outputs.append(network(ids))
    blend = {path: 0.25 * deltas[0][path] + 0.75 * deltas[1][path] for path in deltas[0]}
    live.write(blend)
    blended = network(ids)
    live.write(deltas[0])
    assert torch.equal(network(ids), outputs[0])  # the same delta gives the same bits, whatever came before
    pristine = {path: weight_norm.compose({n: before[f"{path}.{n}"]
                                           for n in weight_norm.stored_tensors(network.get_submodule(path))})
                for path in blend}
    live.write(blend)
    assert torch.equal(network(ids), blended)
    for path, delta in blend.items():
        found = weight_norm.compose(weight_norm.stored_tensors(network.get_submodule(path)))
        torch.testing.assert_close(found, pristine[path] + delta, rtol=0, atol=2e-6)
    live.write({"linear": deltas[2]["linear"]})  # layers without a delta are put back
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items() if not n.startswith("linear.weight"))
    live.restore()
    assert torch.equal(network(ids), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {n: p.data_ptr() for n, p in network.named_parameters()} == addresses
    assert {n: id(p) for n, p in network.named_parameters()} == objects


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_products_equal_dense_deltas(dtype):
    network = Small().to(dtype).requires_grad_(False)
    before, addresses = bits(network.state_dict()), {n: p.data_ptr() for n, p in network.named_parameters()}
    layers = factors(network, 5)
    layers["table"] = {"lora_row.weight": torch.randn(1, 4)}
    live = LiveWeights(network)
    live.write({path: dense_delta(network.get_submodule(path), t, 2.0, row=1) for path, t in layers.items()})
    dense = {path: weight_norm.compose(weight_norm.stored_tensors(network.get_submodule(path))).clone()
             for path in layers}
    products = {path: delta_product(network.get_submodule(path), t, 2.0, row=1) for path, t in layers.items()}
    for _ in range(2):
        live.write_products(products)
        for path in layers:
            found = weight_norm.compose(weight_norm.stored_tensors(network.get_submodule(path)))
            torch.testing.assert_close(found, dense[path], rtol=0, atol=TOLERANCE[dtype])
    live.restore()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {n: p.data_ptr() for n, p in network.named_parameters()} == addresses


def test_a_delta_that_does_not_fit_writes_nothing():
    network = Small().requires_grad_(False)
    before, live = bits(network.state_dict()), LiveWeights(network)
    good = torch.randn(4, 4)
    with pytest.raises(ValueError, match=r"delta of conv has shape \(6, 4, 4\), the layer's weight \(6, 4, 3\)"):
        live.write({"linear": good, "conv": torch.randn(6, 4, 4)})
    with pytest.raises(ValueError, match="factors of conv"):
        live.write_products({"linear": (good, good), "conv": (torch.randn(6, 2), torch.randn(2, 11))})
    assert not live.touched and all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_subtracting_would_not_restore():
    # Why the snapshot: W + d - d is not W. If this ever fails, LiveWeights could be simpler.
    weight, delta = torch.randn(100000), torch.randn(100000) * 0.1
    assert not torch.equal(weight + delta - delta, weight)
