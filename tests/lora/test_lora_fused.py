"""Base and branch as one convolution: the same as the branch on the side, forward and backward, wherever it is
taken."""

import itertools
from unittest import mock

import pytest
import torch
from torch import nn

from LoraModel.lora import LoRAConv1d, LoRAConv2d, LoRAConvTranspose1d, fused, lora_layer
from LoraModel.lora.lora_layer import LoRALayer

CONV1D = list(itertools.product((1, 3, 4), (1, 2), (0, 1, 7), (1, 3)))
TRANSPOSED = [(4, 2, 1, 0), (3, 2, 1, 1), (5, 3, 0, 2), (1, 1, 0, 0), (16, 10, 3, 0)]


def built(kind, base, normed=True):
    """A LoRA layer on `base`, frozen, in float64, random but for the base's own start."""
    if normed:
        nn.utils.weight_norm(base)
    base.double().requires_grad_(False)
    lora = kind(base, 2, 3.0).double()
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_()
    lora.attach()
    return lora


def outputs_and_gradients(call, lora, x, weights):
    x = x.clone().requires_grad_()
    y = call(x)
    gradients = torch.autograd.grad((y * weights(y)).sum(), [x, *lora.parameters()])
    return [y.detach(), *gradients]


def compare(lora, x):
    """Fused against the base's own forward plus the branch, outputs and all gradients, with an uneven gradient coming
    in."""
    def weights(y):
        return torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)

    with mock.patch.object(lora_layer, "fused", wraps=fused.fused) as way:
        found = outputs_and_gradients(lora.base, lora, x, weights)
    assert way.called, "the way that is tested was not taken"

    def apart(x):
        for hook in lora.base._forward_pre_hooks.values():  # weight norm's
            hook(lora.base, (x,))
        return LoRALayer._adapted(lora, x)

    expected = outputs_and_gradients(apart, lora, x, weights)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel,stride,padding,dilation", CONV1D)
def test_conv1d(kernel, stride, padding, dilation):
    compare(built(LoRAConv1d, nn.Conv1d(4, 6, kernel, stride, padding, dilation)),
            torch.randn(2, 4, 17, dtype=torch.float64))


@pytest.mark.parametrize("kernel,stride,padding,output_padding", TRANSPOSED)
def test_conv_transpose1d(kernel, stride, padding, output_padding):
    base = nn.ConvTranspose1d(4, 6, kernel, stride, padding, output_padding)
    compare(built(LoRAConvTranspose1d, base), torch.randn(2, 4, 9, dtype=torch.float64))


@pytest.mark.parametrize("stride", [(1, 1), (3, 1)])
def test_conv2d(stride):
    compare(built(LoRAConv2d, nn.Conv2d(4, 6, (5, 1), stride, (2, 0))), torch.randn(2, 4, 13, 3, dtype=torch.float64))


@pytest.mark.parametrize("normed", [True, False])
def test_plain_weights_too(normed):
    compare(built(LoRAConv1d, nn.Conv1d(4, 6, 3, padding=1), normed), torch.randn(2, 4, 17, dtype=torch.float64))


def test_gradients_against_differences():
    geometry = fused.Geometry((1,), (2,), (2,), (0,), False)
    shapes = ((2, 3, 9), (4, 3, 3), (4,), (2, 3, 3), (4, 2, 1))
    x, weight, bias, a, b = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    for tensor in (x, a, b):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a, b: fused.fused(x, weight, bias, a, b, 0.7, geometry), (x, a, b))


def test_no_gradient_of_what_is_frozen():
    """A frozen branch (the discriminator's, in the generator's step) passes the input's gradient on and has none
    itself."""
    lora = built(LoRAConv1d, nn.Conv1d(4, 6, 3, padding=1))
    lora.requires_grad_(False)
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    lora.base(x).sum().backward()
    assert x.grad is not None and all(parameter.grad is None
                                      for parameter in [*lora.parameters(), *lora.base.parameters()])


def test_input_without_gradient():
    lora = built(LoRAConv1d, nn.Conv1d(4, 6, 3, padding=1))
    lora.base(torch.randn(1, 4, 8, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lora.parameters())


@pytest.fixture
def never_fused():
    with mock.patch.object(lora_layer, "fused", side_effect=AssertionError("fused where it is not the same")):
        yield


def test_a_small_delta_is_not_lost_in_16_bits(never_fused):
    """Summed in bfloat16, a delta below the weight's last bit would vanish: there the branch stays apart."""
    base = nn.Conv1d(2, 1, 1, bias=False).requires_grad_(False)
    base.weight.copy_(torch.tensor([[[1.0], [-1.0]]]))
    lora = LoRAConv1d(base, 1, 1.0)
    with torch.no_grad():
        lora.lora_A.weight.copy_(torch.tensor([[[1.0], [0.0]]]))
        lora.lora_B.weight.fill_(2.0 ** -12)
    lora.attach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert base(torch.ones(1, 2, 1)).item() == 2.0 ** -12


@pytest.mark.parametrize("change", [
    lambda base, lora: base.weight.requires_grad_(True),
    lambda base, lora: base.bias.requires_grad_(True),
    lambda base, lora: setattr(lora.dropout, "p", 0.5),
    lambda base, lora: setattr(base, "padding_mode", "reflect"),
])
def test_where_the_branch_stays_apart(change, never_fused):
    base = nn.Conv1d(4, 6, 3, padding=1).requires_grad_(False)
    lora = LoRAConv1d(base, 2, 3.0)
    change(base, lora)
    lora.attach()
    assert base(torch.randn(2, 4, 9)).shape == (2, 6, 9)


def test_dropout_does_not_matter_out_of_training():
    lora = built(LoRAConv1d, nn.Conv1d(4, 6, 3, padding=1))
    lora.dropout.p = 0.5
    lora.eval()
    compare(lora, torch.randn(2, 4, 9, dtype=torch.float64))
