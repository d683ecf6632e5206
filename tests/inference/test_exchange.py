"""Blends prepared beside the network and exchanged with what is in use: the same weights bit for bit, and nothing in
between."""

import threading

import pytest
import torch
from voice_data import BASE, make_adapter, state

from LoraModel.inference import VoiceLoader
from LoraModel.lora import live
from LoraModel.messages import UserError
from LoraModel.realtime.synthesis import light


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def loaded(library):
    return VoiceLoader(BASE, library)


@pytest.fixture
def voice(loaded):
    yield loaded
    loaded.unload()


@pytest.fixture(scope="module")
def blends(loaded, adapters):
    """Each voice's adapters, what `set_adapters` makes of them, and them prepared; the plain base too."""
    one, two = (loaded.load(path) for path in adapters)
    found = []
    for wanted in ([(one, 1.0)], [(two, 0.5)], [(one, 0.3), (two, 0.7)], []):
        loaded.set_adapters(wanted)
        found.append((wanted, state(loaded)))
    loaded.unload()
    return [(wanted, expected, loaded.prepare(wanted)) for wanted, expected in found]


@pytest.mark.parametrize("in_place", [False, True])
def test_an_exchange_gives_what_set_adapters_gives_bit_for_bit(voice, blends, in_place):
    for index in (0, 1, 2, 3, 0, 2, 1, 3):
        wanted, expected, blend = blends[index]
        voice.exchange(blend, in_place)
        assert same(state(voice), expected)
        assert voice.applied == wanted


def test_preparing_changes_nothing_that_is_heard(voice, adapters):
    before = state(voice)
    voice.prepare([(adapters[0], 1.0)])
    assert same(state(voice), before) and voice.applied == []
    voice.set_adapters([(adapters[1], 1.0)])
    before = state(voice)
    voice.prepare([(adapters[0], 1.0)])
    assert same(state(voice), before)


def test_in_place_no_tensor_moves(voice, blends):
    pointers = {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}
    for _, _, blend in blends:
        voice.exchange(blend, in_place=True)
        assert pointers == {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}


def test_every_way_to_change_follows_every_other(voice, blends):
    """Pointers, copies, writes and `unload` in any order: what was exchanged is never written into."""
    plain = blends[3][1]
    generator = torch.Generator().manual_seed(0)
    for index in torch.randint(0, 12, (24,), generator=generator).tolist():
        wanted, expected, blend = blends[index % 3]
        if index < 3:
            voice.exchange(blend)
        elif index < 6:
            voice.exchange(blend, in_place=True)
        elif index < 9:
            voice.set_adapters(wanted)
        else:
            voice.unload()
            expected = plain
        assert same(state(voice), expected)
    for _, expected, blend in blends:
        voice.exchange(blend)
        assert same(state(voice), expected)
    voice.unload()
    assert same(state(voice), plain)


def test_a_spare_blends_memory_is_taken(voice, adapters, blends):
    spare = voice.prepare([(adapters[0], 0.9)])
    memory = {tensor.data_ptr() for tensor in spare.weights.tensors.values()}
    fresh = voice.prepare([(adapters[1], 0.5)], spare=spare)
    assert {tensor.data_ptr() for tensor in fresh.weights.tensors.values()} == memory
    voice.exchange(fresh)
    assert same(state(voice), blends[1][1])


def test_without_weight_norm_and_in_fp16_too(library, adapters):
    for half in (False, True):
        voice = light(VoiceLoader(BASE, library))
        voice.move("cpu", half)
        plain = state(voice)
        voice.set_adapters([(adapters[0], 0.8)])
        expected = state(voice)
        voice.unload()
        blend = voice.prepare([(adapters[0], 0.8)])
        for in_place in (False, True):
            voice.exchange(blend, in_place)
            assert same(state(voice), expected)
        voice.unload()
        assert same(state(voice), plain)


def test_where_pytorch_cannot_copy_in_one_call_it_copies_one_by_one(voice, blends, monkeypatch):
    monkeypatch.delattr(live.torch, "_foreach_copy_", raising=False)
    voice.exchange(blends[2][2], in_place=True)
    assert same(state(voice), blends[2][1])


def test_a_blend_that_cannot_be_made_changes_nothing(voice, adapters, blends, tmp_path, library):
    voice.exchange(blends[0][2])
    other = make_adapter(tmp_path / "other.safetensors", library, 3, base_hash="0" * 64)
    for wanted, said in (([(adapters[0], 1.0), (other, 1.0)], "base"),
                         ([(tmp_path / "none.safetensors", 1.0)], "no adapter file")):
        with pytest.raises(UserError, match=said):
            voice.prepare(wanted)
        assert same(state(voice), blends[0][1]) and voice.applied == blends[0][0]


def test_preparing_waits_for_no_conversion(voice, adapters):
    with voice.lock:  # a conversion
        thread = threading.Thread(target=voice.prepare, args=([(adapters[0], 1.0)],))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()


def test_a_switch_without_memory_leaves_the_exchanged_voice(voice, blends, monkeypatch):
    _, expected, blend = blends[0]
    voice.exchange(blend)

    def addmm(*_arguments, **_more):
        raise MemoryError

    monkeypatch.setattr(torch, "addmm", addmm)
    with pytest.raises(MemoryError):
        voice.set_adapters(blends[1][0])
    assert same(state(voice), expected) and voice.applied == blends[0][0]
    monkeypatch.undo()
    voice.set_adapters(blends[1][0])
    assert same(state(voice), blends[1][1])


def test_a_snapshot_that_was_taken_by_halves_is_completed(adapters, library, monkeypatch):
    """No memory for a layer's composed weight after its snapshot: the next try makes what is missing."""
    fresh, real = VoiceLoader(BASE, library), live.weight_norm.compose

    def compose(stored):
        raise MemoryError

    monkeypatch.setattr(live.weight_norm, "compose", compose)
    with pytest.raises(MemoryError):
        fresh.set_adapters([(adapters[0], 1.0)])
    monkeypatch.setattr(live.weight_norm, "compose", real)
    fresh.exchange(fresh.prepare([(adapters[0], 1.0)]))
    fresh.set_adapters([(adapters[0], 1.0)])
    assert fresh.applied
