"""Voices that come and go on one base: in place, bit for bit, and never half."""

import dataclasses
import os
import shutil
import threading
import weakref

import numpy as np
import pytest
import torch
from voice_data import go, make_adapter, state, weights

from LoraModel.inference import ConvertOptions, VoiceLoader, model_loader, stand_in
from LoraModel.inference.convert import convert
from LoraModel.lora import Adapter, LoRAConfig, extract, inject, load_adapter, save_adapter
from LoraModel.lora.live import one_thread
from LoraModel.messages import UserError


@pytest.mark.parametrize("how", ["unload", "empty", "strength 0"])
def test_taking_a_voice_off_gives_back_the_base_bit_for_bit(voice, adapters, speech, how):
    before, sound = state(voice), go(voice, speech)
    voice.set_adapters([(adapters[0], 1.0), (adapters[1], 0.3)])
    assert not np.array_equal(go(voice, speech), sound)
    if how == "unload":
        voice.unload()
    elif how == "empty":
        voice.set_adapters([])
    else:
        voice.set_adapters([(adapters[0], 0.0)])
    after = state(voice)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(go(voice, speech), sound)
    assert voice.applied == []


def test_switching_replaces_no_tensor_and_no_module(voice, adapters):
    pointers = {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}
    modules = [id(module) for module in voice.network.modules()]
    voice.set_adapters([(adapters[0], 1.0)])
    voice.set_adapters([(adapters[1], 0.5)])
    assert pointers == {name: tensor.data_ptr() for name, tensor in voice.network.named_parameters()}
    assert modules == [id(module) for module in voice.network.modules()]


def test_strength_is_linear_and_voices_blend(voice, adapters):
    one, two = voice.load(adapters[0]), voice.load(adapters[1])
    base = weights(voice, one)
    deltas = [one.deltas(voice.network), two.deltas(voice.network)]
    for strengths in [(1.0, 0.0), (0.35, 0.0), (-0.5, 0.0), (2.0, 0.0), (0.6, 0.7)]:
        voice.set_adapters([(one, strengths[0]), (two, strengths[1])], any_strength=True)
        for path, found in weights(voice, one).items():
            wanted = base[path] + strengths[0] * deltas[0][path] + strengths[1] * deltas[1][path]
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_voice_is_the_same_whatever_was_applied_before(voice, adapters):
    voice.set_adapters([(adapters[0], 1.0)])
    first = state(voice)
    for _ in range(3):
        voice.set_adapters([(adapters[1], 1.7)], any_strength=True)
        voice.set_adapters([(adapters[0], 0.1), (adapters[1], 0.2)])
    voice.set_adapters([(adapters[0], 1.0)])
    assert all(torch.equal(first[name], tensor) for name, tensor in state(voice).items())


def bad_file(tmp_path, library, kind):
    path = tmp_path / "bad.safetensors"
    if kind == "other base":
        make_adapter(path, library, 3, base_hash="0" * 64, base_name="f0G48k")
    elif kind == "other rate":
        make_adapter(path, library, 3, sample_rate=48000)
    elif kind == "damaged":
        path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json")
    return path


@pytest.mark.parametrize("kind, said", [("other base", "f0G48k.*f0G16k"), ("other rate", "48000.*16000"),
                                        ("damaged", "not a usable"), ("missing", "no adapter file")])
def test_a_switch_that_fails_leaves_the_voice_applied(voice, adapters, tmp_path, library, kind, said):
    voice.set_adapters([(adapters[0], 1.0)])
    before, applied = state(voice), voice.applied
    with pytest.raises(UserError, match=said):
        voice.set_adapters([(adapters[1], 1.0), (bad_file(tmp_path, library, kind), 1.0)])
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())
    assert voice.applied == applied


def test_force_takes_an_adapter_of_another_base_but_not_of_another_rate(voice, tmp_path, library):
    voice.set_adapters([(bad_file(tmp_path, library, "other base"), 1.0)], force=True)
    assert len(voice.applied) == 1
    with pytest.raises(UserError, match="48000"):
        voice.set_adapters([(bad_file(tmp_path, library, "other rate"), 1.0)], force=True)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), "much"])
def test_a_strength_that_is_no_number_is_refused(voice, adapters, strength):
    with pytest.raises(UserError, match="strength"):
        voice.set_adapters([(adapters[0], strength)])


def test_a_changed_file_is_read_again(voice, tmp_path, library, adapters):
    path = tmp_path / "voice.safetensors"
    shutil.copy(adapters[0], path)
    first = voice.load(path)
    assert voice.load(path) is first
    make_adapter(path, library, 9)
    os.utime(path, ns=(1, 1))
    assert voice.load(path) is not first


def test_a_switch_waits_for_the_conversion_under_way(voice, adapters):
    order = []
    with voice.lock:
        thread = threading.Thread(target=lambda: (voice.set_adapters([(adapters[0], 1.0)]), order.append("switched")))
        thread.start()
        thread.join(0.5)
        order.append("converted")
    thread.join()
    assert order == ["converted", "switched"]


def test_a_network_in_fp16_gets_its_base_back_too(voice, adapters):
    voice.move("cpu", half=True)
    before = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])
    assert any(not torch.equal(before[name], tensor) for name, tensor in state(voice).items())
    assert all(tensor.dtype == torch.float16 for tensor in voice.network.parameters())
    with pytest.raises(ValueError, match="before"):
        voice.move("cpu")
    voice.unload()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())


def test_the_pristine_copy_outlives_an_unload_and_gives_the_same_voice_again(voice, adapters):
    before = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])
    first = state(voice)
    for _ in range(2):
        voice.unload()
        assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())
        voice.set_adapters([(adapters[0], 1.0)])
        assert all(torch.equal(first[name], tensor) for name, tensor in state(voice).items())


def test_a_switch_leaves_the_number_of_threads_as_it_was(voice, adapters):
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        voice.set_adapters([(adapters[0], 1.0)])
        voice.unload()
        with pytest.raises(UserError):
            voice.set_adapters([(adapters[0], float("nan"))])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(former)


@pytest.mark.parametrize("fails_at", [1, 40, 100])
def test_a_switch_that_runs_out_of_memory_in_the_middle_leaves_the_voice_applied(voice, adapters, monkeypatch,
                                                                                 fails_at):
    voice.set_adapters([(adapters[0], 1.0)])
    before, applied, real, calls = state(voice), voice.applied, torch.addmm, []

    def addmm(*arguments, **more):
        calls.append(1)
        if len(calls) == fails_at:
            raise MemoryError
        return real(*arguments, **more)

    monkeypatch.setattr(torch, "addmm", addmm)
    with pytest.raises(MemoryError):
        voice.set_adapters([(adapters[1], 1.0)])
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items()) and voice.applied == applied


def test_without_memory_for_either_voice_the_plain_base_stays(voice, adapters, monkeypatch):
    plain = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])

    def addmm(*_arguments, **_more):
        raise MemoryError

    monkeypatch.setattr(torch, "addmm", addmm)
    with pytest.raises(MemoryError):
        voice.set_adapters([(adapters[1], 1.0)])
    assert all(torch.equal(plain[name], tensor) for name, tensor in state(voice).items()) and voice.applied == []


def test_overlapping_switches_leave_the_number_of_threads_as_it_was():
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        inside, leave = threading.Event(), threading.Event()

        def other():
            with one_thread():
                inside.set()
                leave.wait(20)

        with one_thread():
            thread = threading.Thread(target=other)
            thread.start()
            assert inside.wait(20)
        leave.set()
        thread.join()
        found = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert torch.get_num_threads() == 2 and found == [2]
    finally:
        torch.set_num_threads(former)


def test_a_thread_that_starts_during_a_switch_does_not_take_its_one_thread_for_the_process(monkeypatch):
    """It finds 1 then, and a change of its own, later and alone, must not leave 1 to all threads that come after."""
    def threads():
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found

    former, started, switch = torch.get_num_threads(), threading.Event(), threading.Event()

    def other():
        torch.zeros(3).add_(torch.get_num_threads())
        started.set()
        switch.wait(20)
        with one_thread():
            pass

    try:
        torch.set_num_threads(3)
        thread = threading.Thread(target=other)
        with one_thread():
            thread.start()
            assert started.wait(20)
        assert threads() == [3]
        switch.set()
        thread.join()
        assert threads() == [3] and torch.get_num_threads() == 3
        torch.set_num_threads(1)  # one that was asked for stays
        with one_thread():
            pass
        assert threads() == [1] and torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(former)


def test_a_switch_while_features_are_made_takes_speaker_and_weights_together(voice, adapters, tmp_path, library,
                                                                             speech):
    other = make_adapter(tmp_path / "third.safetensors", library, 3, speaker=3)
    options, short = ConvertOptions(), speech[:8000]
    voice.set_adapters([(other, 1.0)])
    wanted = go(voice, short)
    voice.set_adapters([(adapters[0], 1.0)])

    def switching(audio):
        thread = threading.Thread(target=lambda: voice.set_adapters([(other, 1.0)]))
        thread.start()
        thread.join()
        return stand_in.content_features(audio)

    assert np.array_equal(convert(voice, short, options, switching, stand_in.pitch, stand_in.coarse_pitch), wanted)


@pytest.mark.parametrize("how", ["files", "adapters"])
def test_a_thousand_voices_take_no_more_memory_than_the_last_few(voice, adapters, tmp_path, monkeypatch, how):
    """Small ones, whose check is what costs time: the limit is on bytes, whatever their number."""
    limit = 2**20
    monkeypatch.setattr(model_loader, "KEPT_BYTES", limit)
    small = VoiceLoader(voice.base, voice.host)
    path = make_small(tmp_path / "0.safetensors", small)
    size = sum(tensor.numel() * 4 for tensor in load_adapter(path).tensors.values())
    seen = []
    for index in range(1000):
        if how == "files":
            os.link(str(path), str(tmp_path / f"{index + 1}.safetensors"))
            loaded = small.load(tmp_path / f"{index + 1}.safetensors")
        else:
            loaded = load_adapter(path) if index % 50 == 0 else dataclasses.replace(
                loaded, tensors={name: tensor.clone() for name, tensor in loaded.tensors.items()})
        if index % 100 == 0:
            small.set_adapters([(loaded, 1.0)])
        elif how == "adapters":
            small._factors(loaded)
        seen.append(weakref.ref(loaded))
    kept = [one for one in seen if one() is not None]
    assert len(seen) == 1000 and 1 < len(kept) <= 2 * limit / size + 1
    assert small._files.weight <= limit and small._products.weight <= limit
    assert all(one() is not None for one in seen[-5:])  # the last ones are at hand


def make_small(path, voice):
    """An adapter of one layer kind alone."""
    injection = inject(voice.network, LoRAConfig(r=1, lora_alpha=1, targets={"enc_p_io": True}))
    tensors = {name: tensor.detach().clone() for name, tensor in injection.tensors().items()}
    extract(voice.network)
    info = voice.info
    return save_adapter(path, tensors, injection.config, {
        "name": "small", "base_hash": info.base_hash, "base_name": info.name, "rvc_version": info.version,
        "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": 0})


def test_an_adapter_is_checked_once_however_often_it_is_applied(voice, adapters, monkeypatch):
    checked, real = [], Adapter.check
    monkeypatch.setattr(Adapter, "check", lambda self, network: (checked.append(self.name), real(self, network)))
    held = voice.load(adapters[0])
    for source in (held, adapters[0], held, adapters[1], adapters[0]):
        voice.set_adapters([(source, 1.0)])
    assert checked == ["one", "two"]


def test_a_blend_of_strengths_0_is_the_base_bit_for_bit(voice, adapters):
    before = state(voice)
    voice.set_adapters([(adapters[0], 1.0)])
    voice.set_adapters([(adapters[0], 0.0), (adapters[1], 0)])
    assert all(torch.equal(before[name], tensor) for name, tensor in state(voice).items())
    assert voice.applied == [] and voice.speaker == 0


def test_an_adapter_without_a_speakers_row_speaks_with_the_row_it_was_trained_on(voice, tmp_path):
    plain = voice.network.emb_g.weight.clone()
    voice.set_adapters([(make_small(tmp_path / "zero.safetensors", voice), 1.0)])
    assert torch.equal(voice.network.emb_g.weight, plain)
    adapter = load_adapter(tmp_path / "zero.safetensors")
    third = dataclasses.replace(adapter, metadata={**adapter.metadata, "speaker": "3"})
    voice.set_adapters([(third, 1.0)])
    assert torch.equal(voice.network.emb_g.weight[0], plain[3])
    assert torch.equal(voice.network.emb_g.weight[1:], plain[1:])
    voice.set_adapters([(third, 0.5)])
    torch.testing.assert_close(voice.network.emb_g.weight[0], (plain[0] + plain[3]) / 2)
    for speaker in ("-1", "99"):
        with pytest.raises(UserError, match=f"speaker {speaker}"):
            voice.set_adapters([(dataclasses.replace(adapter, metadata={**adapter.metadata, "speaker": speaker}), 1.0)])
