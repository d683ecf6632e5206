"""LoRA layers against numbers worked out by hand, and against the same layer with a dense delta in its weight."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from LoraModel.lora import LoRAConv1d, LoRAConv2d, LoRAConvTranspose1d, LoRAEmbedding, LoRALinear, SpeakerRow
from LoraModel.lora import functional as LF
from LoraModel.lora.lora_layer import dense_delta, layer_class
from LoraModel.messages import UserError


def filled(lora, a, b):
    """Put numbers into both factors."""
    with torch.no_grad():
        lora.lora_A.weight.copy_(torch.tensor(a))
        lora.lora_B.weight.copy_(torch.tensor(b))
    return lora


def randomised(lora):
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_()
    return lora


# Numbers worked out by hand. The base's own weight plays no part: `lora(x)` is the low-rank term alone.


def test_linear_by_hand():
    # B A = [[1], [2]] [[3, -1]] = [[3, -1], [6, -2]]; scale = alpha / r = 2.
    # x = (10, 4): A x = 30 - 4 = 26; B (A x) = (26, 52); times 2 = (52, 104).
    lora = filled(LoRALinear(nn.Linear(2, 2), 1, 2.0), [[3.0, -1.0]], [[1.0], [2.0]])
    assert lora.delta_weight().tolist() == [[6.0, -2.0], [12.0, -4.0]]
    assert lora(torch.tensor([[10.0, 4.0]])).tolist() == [[52.0, 104.0]]


def test_linear_of_rank_two_and_rslora_by_hand():
    # B A = [[1, 1], [0, 2]] [[1, 2, 0], [0, 1, 4]] = [[1, 3, 4], [0, 2, 8]]; x = (1, 1, 1): (8, 10).
    # alpha 4: LoRA scales by 4 / 2 = 2, rsLoRA by 4 / sqrt(2) = 2.8284271247.
    a, b, x = [[1.0, 2.0, 0.0], [0.0, 1.0, 4.0]], [[1.0, 1.0], [0.0, 2.0]], torch.ones(1, 3)
    assert filled(LoRALinear(nn.Linear(3, 2), 2, 4.0), a, b)(x).tolist() == [[16.0, 20.0]]
    rs = filled(LoRALinear(nn.Linear(3, 2), 2, 4.0, use_rslora=True), a, b)
    assert rs(x)[0].tolist() == pytest.approx([22.627417, 28.284271])


def test_conv1d_stride_dilation_padding_by_hand():
    # A = (1, 2, 3), B = (1, -1), scale 1: delta = [[1, 2, 3]], [[-1, -2, -3]] for the two outputs.
    # x = 1 2 3 4 5, padding 2: 0 0 1 2 3 4 5 0 0; dilation 2: taps at t, t+2, t+4; stride 2: t = 0, 2, 4.
    #   t=0: 1*0 + 2*1 + 3*3 = 11;  t=2: 1*1 + 2*3 + 3*5 = 22;  t=4: 1*3 + 2*5 + 3*0 = 13
    base = nn.Conv1d(1, 2, 3, stride=2, padding=2, dilation=2)
    lora = filled(LoRAConv1d(base, 1, 1.0), [[[1.0, 2.0, 3.0]]], [[[1.0]], [[-1.0]]])
    assert lora(torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])).tolist() == [[[11.0, 22.0, 13.0], [-11.0, -22.0, -13.0]]]
    assert lora.delta_weight().tolist() == [[[1.0, 2.0, 3.0]], [[-1.0, -2.0, -3.0]]]


def test_conv1d_groups_by_hand():
    # Two groups of one input channel; A (1, 1, 2) = (1, 10) is shared, B = (1, 2, 3, 4) for the four outputs.
    # Channel 0 = 1 2 3: A gives 1+20, 2+30 = 21 32 -> outputs 0 and 1: 21 32 and 42 64.
    # Channel 1 = 0 1 0: A gives 0+10, 1+0 = 10 1 -> outputs 2 and 3: 30 3 and 40 4.
    lora = filled(LoRAConv1d(nn.Conv1d(2, 4, 2, groups=2), 1, 1.0), [[[1.0, 10.0]]],
                  [[[1.0]], [[2.0]], [[3.0]], [[4.0]]])
    x = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]])
    assert lora(x).tolist() == [[[21.0, 32.0], [42.0, 64.0], [30.0, 3.0], [40.0, 4.0]]]
    assert lora(x[0]).tolist() == lora(x)[0].tolist()  # one example without its batch dimension


def test_conv_transpose1d_stride_padding_output_padding_by_hand():
    # A (1, 2, 1) = (1, 2): low = channel 0 + 2 * channel 1. x = (1 2), (0 3): low = 1 8.
    # B (1, 1, 3) = (1, 10, 100), stride 2: frame i spreads to 2i, 2i+1, 2i+2:
    #   1 10 100 . .  plus  . . 8 80 800  =  1 10 108 80 800
    # padding 1 cuts one at each end: 10 108 80; output_padding 1 gives the right one back: 10 108 80 800.
    # scale = 3 / 1: 30 324 240 2400. Delta (2, 1, 3): 3 * (1 10 100) and 3 * (2 20 200).
    base = nn.ConvTranspose1d(2, 1, 3, stride=2, padding=1, output_padding=1)
    lora = filled(LoRAConvTranspose1d(base, 1, 3.0), [[[1.0], [2.0]]], [[[1.0, 10.0, 100.0]]])
    assert lora(torch.tensor([[[1.0, 2.0], [0.0, 3.0]]])).tolist() == [[[30.0, 324.0, 240.0, 2400.0]]]
    assert lora.delta_weight().tolist() == [[[3.0, 30.0, 300.0]], [[6.0, 60.0, 600.0]]]


def test_conv_transpose1d_groups_and_dilation_by_hand():
    # Two groups of one input channel, one output each; A = (1, 2) by input channel, B (1, 1, 2) = (1, 10), dilation 2:
    # a frame i spreads to i and i + 2.
    #   group 0: low = 1 * (1 2) = 1 2:  1 2 . .  plus  . . 10 20 = 1 2 10 20
    #   group 1: low = 2 * (3 0) = 6 0:  6 0 60 0
    base = nn.ConvTranspose1d(2, 2, 2, groups=2, dilation=2)
    lora = filled(LoRAConvTranspose1d(base, 1, 1.0), [[[1.0], [2.0]]], [[[1.0, 10.0]]])
    assert lora(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])).tolist() == [[[1.0, 2.0, 10.0, 20.0], [6.0, 0.0, 60.0, 0.0]]]


def test_embedding_by_hand():
    # Rows of the delta are (B A)^T: row i = A[i] * (1, -2), times scale 2: row 0 = (2, -4), row 1 = (6, -12), row 2 =
    # (10, -20).
    lora = filled(LoRAEmbedding(nn.Embedding(3, 2), 1, 2.0), [[1.0, 3.0, 5.0]], [[1.0], [-2.0]])
    assert lora.delta_weight().tolist() == [[2.0, -4.0], [6.0, -12.0], [10.0, -20.0]]
    assert lora(torch.tensor([2, 0])).tolist() == [[10.0, -20.0], [2.0, -4.0]]


def test_conv2d_by_hand():
    # The shape of RVC's period discriminators: kernel (2, 1), stride (2, 1). A = (1, 10), B = 5, scale 1.
    # Columns 1 3 5 7 and 2 4 6 8 over four rows: 5 * (1 + 30) = 155, 5 * (5 + 70) = 375; 5 * (2 + 40) = 210, 5 * (6 +
    # 80) = 430.
    lora = filled(LoRAConv2d(nn.Conv2d(1, 1, (2, 1), (2, 1)), 1, 1.0), [[[[1.0], [10.0]]]], [[[[5.0]]]])
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]]])
    assert lora(x).tolist() == [[[[155.0, 210.0], [375.0, 430.0]]]]


def test_speaker_row_by_hand():
    layer = SpeakerRow(nn.Embedding(3, 2), row=1)
    with torch.no_grad():
        layer.lora_row.weight.copy_(torch.tensor([[7.0, -8.0]]))
    assert layer(torch.tensor([0, 1, 2, 1])).tolist() == [[0.0, 0.0], [7.0, -8.0], [0.0, 0.0], [7.0, -8.0]]
    assert layer.delta_weight().tolist() == [[0.0, 0.0], [7.0, -8.0], [0.0, 0.0]]


# The branch equals the layer with the delta in its weight.


def same_as_dense(base, lora, x, tolerance=2e-4):
    """`base(x)` with the branch on it, against a copy of the base whose weight holds the delta; and the gradients."""
    dense = copy.deepcopy(base)
    with torch.no_grad():
        dense.weight += lora.delta_weight()
    base.requires_grad_(False)
    lora.attach()
    found = base(x)
    torch.testing.assert_close(found, dense(x), rtol=tolerance, atol=tolerance)
    found.sum().backward()
    assert all(parameter.grad is None for parameter in base.parameters())
    assert all(parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in lora.parameters())
    lora.detach()
    assert "forward" not in vars(base)


CONV = [
    (kernel, stride, padding, dilation, groups, mode)
    for kernel, stride, padding, dilation, groups, mode in itertools.product(
        (1, 3, 4), (1, 2), (0, 2, "same", "valid"), (1, 3), (1, 2), ("zeros", "reflect", "replicate", "circular")
    )
    if not (padding == "same" and stride > 1)  # PyTorch refuses it
]


@pytest.mark.parametrize("kernel,stride,padding,dilation,groups,mode", CONV)
def test_conv1d_branch_equals_dense(kernel, stride, padding, dilation, groups, mode):
    base = nn.Conv1d(4, 6, kernel, stride, padding, dilation, groups, padding_mode=mode)
    same_as_dense(base, randomised(LoRAConv1d(base, 2, 3.0)), torch.randn(2, 4, 17))


TRANSPOSED = [
    (kernel, stride, padding, output_padding, dilation, groups)
    for kernel, stride, padding, output_padding, dilation, groups in itertools.product(
        (1, 3, 4, 16), (1, 2, 5), (0, 1), (0, 1), (1, 3), (1, 2)
    )
    if output_padding < max(stride, dilation)  # PyTorch refuses the rest
]


@pytest.mark.parametrize("kernel,stride,padding,output_padding,dilation,groups", TRANSPOSED)
def test_conv_transpose1d_branch_equals_dense(kernel, stride, padding, output_padding, dilation, groups):
    base = nn.ConvTranspose1d(4, 6, kernel, stride, padding, output_padding, groups, dilation=dilation)
    same_as_dense(base, randomised(LoRAConvTranspose1d(base, 2, 3.0)), torch.randn(2, 4, 7))


@pytest.mark.parametrize("groups,padding", [(1, (2, 0)), (2, (1, 1)), (1, "same"), (2, "same")])
def test_conv2d_branch_equals_dense(groups, padding):
    stride = 1 if padding == "same" else (3, 1)
    base = nn.Conv2d(4, 6, (5, 1), stride, padding, groups=groups)
    same_as_dense(base, randomised(LoRAConv2d(base, 2, 3.0)), torch.randn(2, 4, 11, 3))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 5, 3)])
def test_linear_branch_equals_dense(shape):
    base = nn.Linear(3, 4)
    same_as_dense(base, randomised(LoRALinear(base, 2, 3.0)), torch.randn(shape))


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_embedding_branch_equals_dense(padding_idx):
    base = nn.Embedding(5, 3, padding_idx=padding_idx)
    same_as_dense(base, randomised(LoRAEmbedding(base, 2, 3.0)), torch.tensor([[0, 1, 4], [2, 2, 3]]))


def test_speaker_row_equals_dense():
    base = nn.Embedding(5, 3)
    same_as_dense(base, randomised(SpeakerRow(base, 4)), torch.tensor([[0, 1, 4], [2, 4, 3]]))


def test_the_deltas_gradient_is_the_branchs():
    # The branch trains what is merged: both give A and B the same gradients.
    base = nn.ConvTranspose1d(4, 6, 4, 2, 1, groups=2)
    lora, x = randomised(LoRAConvTranspose1d(base, 2, 2.0)), torch.randn(2, 4, 5)
    weights = torch.randn(2, 6, 10)
    (lora(x) * weights).sum().backward()
    a, b = (lora.lora_A.weight.detach().clone().requires_grad_(), lora.lora_B.weight.detach().clone().requires_grad_())
    delta = LF.conv_transpose_delta(a, b) * lora.scaling
    (F.conv_transpose1d(x, delta, None, 2, 1, 0, 2) * weights).sum().backward()
    torch.testing.assert_close(lora.lora_A.weight.grad, a.grad)
    torch.testing.assert_close(lora.lora_B.weight.grad, b.grad)


# A fresh layer, dropout, refusals.

KINDS = [
    (lambda: nn.Linear(8, 6), lambda: torch.randn(2, 8)),
    (lambda: nn.Conv1d(4, 6, 3, padding=2, dilation=2), lambda: torch.randn(2, 4, 9)),
    (lambda: nn.utils.weight_norm(nn.Conv1d(4, 6, 3)), lambda: torch.randn(2, 4, 9)),
    (lambda: nn.Conv1d(4, 6, 3, groups=2, padding="same", padding_mode="reflect"), lambda: torch.randn(2, 4, 9)),
    (lambda: nn.Conv2d(4, 6, (3, 1), (2, 1)), lambda: torch.randn(2, 4, 9, 2)),
    (lambda: nn.ConvTranspose1d(4, 6, 4, 2, 1), lambda: torch.randn(2, 4, 9)),
    (lambda: nn.utils.weight_norm(nn.ConvTranspose1d(4, 6, 4, 2, 1)), lambda: torch.randn(2, 4, 9)),
    (lambda: nn.Embedding(7, 4), lambda: torch.tensor([[0, 6], [3, 3]])),
]


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_fresh_layer_changes_no_bit(kind):
    base, x = KINDS[kind][0](), KINDS[kind][1]()
    plain, keys = base(x), list(base.state_dict())
    lora = layer_class(base)(base, 2, 4.0)
    lora.attach()
    assert torch.equal(base(x), plain)
    assert list(base.state_dict()) == keys
    randomised(lora)
    assert not torch.equal(base(x), plain)  # the branch does hang there
    lora.detach()
    assert torch.equal(base(x), plain) and "forward" not in vars(base)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_product_of_matrices_becomes_the_delta(kind):
    base = KINDS[kind][0]()
    cls = layer_class(base)
    lora = cls(base, 2, 6.0)
    matrix = lora.delta_weight().flatten(1)
    left, right = torch.randn(matrix.shape[0], 2), torch.randn(2, matrix.shape[1])
    lora.set_product(left, right)
    assert torch.allclose(lora.delta_weight().flatten(1), left @ right, atol=1e-5)
    again = cls.product(base, dict(lora.named_parameters()), lora.scaling, 0)
    assert torch.allclose(again[0] @ again[1], left @ right, atol=1e-5)
    assert lora.INPUT_ROWS is (matrix.shape[0] == lora.lora_A.weight.shape[1])  # A has the inputs, a column each


def test_fresh_speaker_row_changes_no_bit():
    base, ids = nn.Embedding(7, 4), torch.arange(7)
    plain = base(ids)
    SpeakerRow(base, 3).attach()
    assert torch.equal(base(ids), plain)


def test_attaching_twice_hangs_one_branch():
    base = nn.Linear(3, 3)
    lora = randomised(LoRALinear(base, 1, 1.0))
    lora.attach()
    once = base(torch.ones(1, 3))
    lora.attach()
    assert torch.equal(base(torch.ones(1, 3)), once)


def test_deep_copy_has_its_own_branch():
    network = nn.Sequential(nn.Linear(3, 3))
    lora = randomised(LoRALinear(network[0], 1, 1.0))
    lora.attach()
    network.keep = lora  # any reference of the network's own
    twin, x = copy.deepcopy(network), torch.ones(1, 3)
    before = twin[0](x)
    with torch.no_grad():
        lora.lora_B.weight.zero_()
    assert torch.equal(twin[0](x), before)


def test_dropout_drops_in_training_only():
    lora = randomised(LoRALinear(nn.Linear(64, 4), 2, 2.0, lora_dropout=0.5))
    x = torch.ones(1, 64)
    lora.eval()
    exact = F.linear(x, lora.delta_weight())
    torch.testing.assert_close(lora(x), exact)
    lora.train()
    assert not torch.allclose(lora(x), exact)
    # Inverted dropout keeps the mean: over 4000 draws it comes near the exact value.
    torch.testing.assert_close(lora(x.expand(4000, -1)).mean(0, keepdim=True), exact, rtol=0.1, atol=1.0)


def test_half_precision_output_keeps_its_type():
    base = nn.Linear(3, 3)
    lora = randomised(LoRALinear(base, 1, 1.0))
    lora.attach()
    with torch.autocast("cpu", torch.bfloat16):
        assert base(torch.ones(1, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("base,side", [
    (nn.Linear(3, 5), 3), (nn.Conv1d(2, 9, 3), 6), (nn.Conv1d(4, 8, 3, groups=4), 3),
    (nn.ConvTranspose1d(9, 2, 3), 6), (nn.ConvTranspose1d(4, 16, 5), 4), (nn.Embedding(4, 7), 4),
    (nn.Conv2d(1, 32, (5, 1)), 5),
])
def test_rank_above_the_smaller_side_is_that_side(base, side):
    highest, above = layer_class(base)(base, side, 1.0), layer_class(base)(base, side + 1, side + 1.0)
    assert (highest.r, above.r, above.scaling) == (side, side, 1.0)
    assert [tensor.shape for tensor in above.parameters()] == [tensor.shape for tensor in highest.parameters()]
    with pytest.raises(UserError, match="rank 0 is below 1"):
        layer_class(base)(base, 0, 1.0)


def test_highest_rank_reaches_every_matrix():
    # At the rank of the smaller side the factors can hold any delta: least squares finds B for a random A.
    base = nn.Conv1d(2, 4, 3)
    lora = randomised(LoRAConv1d(base, 4, 4.0))
    target = torch.randn(4, 6)
    b = target @ torch.linalg.pinv(lora.lora_A.weight.detach().flatten(1))
    full = LF.conv_delta(torch.eye(6).reshape(6, 2, 3), target.unsqueeze(-1))
    torch.testing.assert_close(full, target.reshape(4, 2, 3))
    assert torch.linalg.matrix_rank(LF.conv_delta(lora.lora_A.weight.detach(), b.unsqueeze(-1)).flatten(1)) == 4


def test_what_has_no_lora_layer():
    assert layer_class(nn.LayerNorm(3)) is None
    assert layer_class(nn.ConvTranspose2d(1, 1, 1)) is None
    with pytest.raises(UserError, match="max_norm.*leave it out"):
        LoRAEmbedding(nn.Embedding(3, 3, max_norm=1.0), 1, 1.0)
    with pytest.raises(UserError, match="speaker 3 .*choose 0 to 2"):
        SpeakerRow(nn.Embedding(3, 3), 3)
    with pytest.raises(UserError, match="speaker -1 "):
        SpeakerRow(nn.Embedding(3, 3), -1)


def test_dense_delta_of_stored_half_precision_is_in_fp32():
    base = nn.Conv1d(2, 3, 1)
    delta = dense_delta(base, {"lora_A.weight": torch.ones(1, 2, 1).half(),
                               "lora_B.weight": torch.full((3, 1, 1), 0.5).half()}, 4.0)
    assert delta.dtype == torch.float32 and delta.shape == base.weight.shape and bool((delta == 2.0).all())
    row = dense_delta(nn.Embedding(3, 2), {"lora_row.weight": torch.tensor([[1.0, 2.0]]).half()}, 99.0, row=2)
    assert row.tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]]
