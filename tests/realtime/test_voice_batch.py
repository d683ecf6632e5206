"""Rows of one batch with adapters of their own: each hears what it would hear alone."""

import numpy as np
import pytest
import torch
from torch import nn
from voice_data import BASE

from LoraModel import RealtimeVoice, VoiceBatch
from LoraModel.lora.rows import rows_adapted
from LoraModel.messages import UserError

LAYERS = [
    (nn.Linear(6, 5), (6, 9), "linear"), (nn.Conv1d(4, 6, 3, padding=1), (4, 11), "conv"),
    (nn.Conv1d(4, 6, 7, padding=9, dilation=3), (4, 20), "conv"),
    (nn.Conv1d(4, 6, 1), (4, 5), "conv"), (nn.Conv1d(4, 6, 5, padding=0), (4, 9), "conv"),
    (nn.ConvTranspose1d(4, 6, 16, stride=10, padding=3), (4, 7), "conv"),
    (nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, output_padding=1), (4, 7), "conv"),
    (nn.Embedding(7, 5), (), "ids")]


@pytest.mark.parametrize("layer, size, kind", LAYERS,
                         ids=[f"{type(one[0]).__name__}{index}" for index, one in enumerate(LAYERS)])
@torch.no_grad()
def test_a_rows_branch_is_the_layer_with_that_rows_weight(layer, size, kind):
    x = torch.randint(0, 7, (3, 2)) if kind == "ids" else torch.randn(3, size[1],
                                                                      size[0]) if kind == "linear" else torch.randn(
                                                                          3, *size)
    network, weight = nn.Sequential(layer), layer.weight.clone()
    rows, columns = weight.shape[0], weight[0].numel()
    products = [{"0": (torch.randn(rows, rank), torch.randn(rank, columns))} for rank in (2, 5)] + [{}]
    with rows_adapted(network, products):
        together = network(x)
    for row, product in enumerate(products):
        left, right = product.get("0", (torch.zeros(rows, 1), torch.zeros(1, columns)))
        layer.weight.copy_(weight + (left @ right).view_as(weight))
        torch.testing.assert_close(together[row:row + 1], network(x[row:row + 1]), rtol=1e-4, atol=1e-4)
        layer.weight.copy_(weight)
    with rows_adapted(network, products), pytest.raises(ValueError, match="rows"):
        network(x[:2])
    assert not layer._forward_hooks


def test_a_layer_that_cannot_have_it_is_refused_and_nothing_stays_on_the_network():
    network = nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3, groups=2))
    products = {"0": (torch.zeros(4, 1), torch.zeros(1, 12)), "1": (torch.zeros(4, 1), torch.zeros(1, 6))}
    with pytest.raises(ValueError, match="groups=2"), rows_adapted(network, [products]):
        pass
    assert not network[0]._forward_hooks


@pytest.fixture(scope="module")
def batch(library):
    return VoiceBatch(BASE, host=library)


def test_each_row_is_what_it_is_alone_and_what_the_applied_voice_is(batch, adapters, speech, library):
    voices = [{adapters[0]: 1.0}, {adapters[1]: 0.7}, {}, {adapters[0]: 0.4, adapters[1]: 0.6}]
    content = [np.random.default_rng(row).normal(0, 0.3, (40, 768)).astype(np.float32) for row in range(4)]
    f0 = [np.where(np.arange(40) % 9 < 7, 120.0 + 30 * row, 0.0) for row in range(4)]
    together = batch.generate(content, f0, voices, 26, 12)
    assert together.shape == (4, 12 * batch.voice.info.hop_length)
    for row in range(4):
        alone = batch.generate(content[row:row + 1], f0[row:row + 1], voices[row:row + 1], 26, 12)
        assert np.abs(alone[0] - together[row]).max() < 1e-4
    with RealtimeVoice(BASE, host=library) as live:
        for row in (0, 3):
            live.voice.set_adapters(list(voices[row].items()))
            live._synthesis._f0 = f0[row]
            applied = live._synthesis._generate(content[row], f0[row], 26, 12)
            assert np.abs(applied - together[row]).max() < 1e-4
        assert np.abs(together[0] - together[2]).max() > 1e-2


def test_recordings_of_any_lengths_come_out_as_they_would_alone(batch, adapters, speech):
    recordings = [speech[:9000], speech[3000:13000], speech[:12000]]
    voices = [{adapters[0]: 1.0}, {adapters[1]: 1.0}, {}]
    together = batch.convert(recordings, voices, [0, 2, -3])
    for index, sound in enumerate(recordings):
        assert len(together[index]) == len(sound)
        alone = batch.convert([sound], [voices[index]], [[0, 2, -3][index]])[0]
        assert np.abs(alone - together[index]).max() < 1e-4


def test_what_cannot_be_converted_is_refused_before_anything_is(batch, adapters, speech, tmp_path):
    with pytest.raises(UserError, match="shorter"):
        batch.convert([speech[:8000], speech[:100]], [{}, {}])
    with pytest.raises(UserError, match="no adapter file"):
        batch.convert([speech[:8000]], [{tmp_path / "none.safetensors": 1.0}])
    for voices, transpose, said in (([], (), "1 recordings, 0 voices and 1 transpositions"), ([{}, {}], (), "2 voices"),
                                    ([{}], [None], "transpose=None is no number"), ([{}], ["3"], "is a text")):
        with pytest.raises(UserError, match=said):
            batch.convert([speech[:8000]], voices, transpose)
    with pytest.raises(UserError, match="shape"):
        batch.convert([speech[:8000].reshape(2, -1)], [{}])
    batch.voice.set_adapters([(adapters[0], 1.0)])
    try:
        with pytest.raises(UserError, match="unload"):
            batch.convert([speech[:8000]], [{}])
    finally:
        batch.voice.unload()


def test_a_voice_in_memory_stays_its_own(library, adapters, monkeypatch):
    """Adapters are told apart by their ids: one that is let go must not lend its id to the next."""
    from LoraModel import load_adapter

    batch = VoiceBatch(BASE, host=library)
    batch.voice._products.clear()
    for number in range(6):
        adapter = load_adapter(adapters[number % 2])
        made = batch.products({adapter: 1.0})
        wanted = batch.voice.factors([(adapter, 1.0)])
        assert all(torch.equal(made[path][1], wanted[path][1]) for path in wanted)
        batch.voice._products.clear()
        del adapter
    with pytest.raises(UserError, match="seed"):
        VoiceBatch(BASE, host=library, seed=2**80)
