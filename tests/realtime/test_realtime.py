"""A stream whose voice changes between two blocks: the audio of the voices, no half of one, no wait for a file."""

import threading
import time

import numpy as np
import pytest
import tiny_base
import torch
from voice_data import BASE, make_adapter

from LoraModel import RealtimeVoice, devices
from LoraModel.faults import describe_fault
from LoraModel.inference import VoiceLoader
from LoraModel.messages import UserError
from LoraModel.realtime import VoiceChanges
from LoraModel.realtime.joining import Joiner
from LoraModel.realtime.voice import shape_of

SHORT = {"block": 0.06, "context": 0.2}


@pytest.fixture
def stream(library):
    """`stream(...)`: a RealtimeVoice of short blocks on the demo's base; closed at the end."""
    made = []

    def make(**options):
        made.append(RealtimeVoice(BASE, host=library, **{**SHORT, **options}))
        return made[-1]

    yield make
    for live in made:
        live.close()


def blocks_of(sound, size):
    return [sound[start:start + size] for start in range(0, len(sound) - size + 1, size)]


def fed(live, sound):
    return [live.process(block) for block in blocks_of(sound, live.block_samples)]


# ---------------------------------------------------------------- blocks and their joints

@pytest.mark.parametrize("rate, block", [(16000, 0.25), (22050, 0.25), (44100, 0.1), (11025, 0.3), (12345, 0.3),
                                         (4001, 1.0)])
def test_a_block_is_whole_at_any_rate(rate, block):
    shape = shape_of(rate, block, 2.5, 0.05)
    assert shape.block_samples * 16000 == shape.block * 160 * rate
    assert abs(shape.block_samples / rate - block) <= 0.5 * shape.step / 100 + 1e-9


def test_every_rate_and_length_fits_the_window():
    """A rate of which only many frames are whole samples asked for more of the window than a short context leaves."""
    rates = [*range(4000, 4200), 8000, 11025, 11127, 12345, 16000, 22050, 22254, 32000, *range(44000, 44200), 48000,
             192000, 383999, 384000]
    for rate in rates:
        for block in (0.02, 0.06, 0.25, 0.7, 10):
            for context in (0.1, 0.104, 0.2, 0.4, 0.5, 1, 2.5):
                for crossfade in (0, 0.01, 0.05, 1):
                    shape = shape_of(rate, block, context, crossfade)
                    assert 1 <= shape.again < shape.lead and shape.block + shape.again <= shape.window, (
                        rate, block, context, crossfade)
                    assert shape.lead * rate % 100 == 0 and shape.context == round(context * 100)
                    assert context < 2.5 or shape.again == shape.lead - 1  # and the usual context holds all of it


@pytest.mark.parametrize("options", [{"rate": 22254, "context": 0.1}, {"rate": 11127, "context": 0.4},
                                     {"rate": 44101, "context": 0.5, "block": 0.25},
                                     {"rate": 4001, "context": 0.1, "crossfade": 0}])
def test_odd_rates_with_a_short_context_are_converted(library, options):
    with RealtimeVoice(tiny_base.shared(), host=library, **options) as live:
        silence = np.zeros(live.block_samples, dtype=np.float32)
        for _ in range(3):
            sound = live.process(silence)
            assert sound.shape == silence.shape and np.isfinite(sound).all()


@pytest.mark.parametrize("given", [{"block": 0}, {"block": 11}, {"context": 0}, {"crossfade": 2},
                                   {"crossfade": float("nan")}])
def test_lengths_that_no_stream_has_are_refused(given):
    with pytest.raises(UserError, match=next(iter(given))):
        shape_of(16000, **{"block": 0.25, "context": 2.5, "crossfade": 0.05, **given})


def test_a_joint_finds_where_the_sound_fits():
    """Pieces of one tone that each begin up to 10 ms too early come out as one tone, with no step at the joints."""
    rate, block, fade, search = 16000, 1600, 640, 160
    tone = np.sin(2 * np.pi * 133.0 * np.arange(20 * block) / rate).astype(np.float32)
    joiner, out, at = Joiner(block, fade, search), [], 0
    for index in range(10):
        early = [0, 37, 120, 160, 3][index % 5]
        at_piece = max(at - early, 0)
        out.append(joiner.join(tone[at_piece:at_piece + joiner.needed]))
        at += block
    sound = np.concatenate(out)[block:]
    steps = np.abs(np.diff(sound))
    assert steps.max() <= 1.05 * np.abs(np.diff(tone)).max()
    assert np.abs(sound).max() <= 1.01


def test_without_a_crossfade_blocks_are_laid_end_to_end():
    joiner = Joiner(4, 0, 2)
    assert np.array_equal(joiner.join(np.arange(6.0)), np.arange(4.0))


@pytest.mark.parametrize("rate", [16000, 22050, 48000, 22254])
def test_the_window_holds_the_sound_at_16_khz(stream, rate):
    """At any rate, block by block, as if it had been resampled whole (the last 10 ms are resampled again with the next
    block)."""
    live = stream(rate=rate)
    time_at = np.arange(int(0.9 * rate)) / rate
    sound = (0.5 * np.sin(2 * np.pi * 300 * time_at)).astype(np.float32)
    pieces = blocks_of(sound, live.block_samples)
    for piece in pieces:
        live._hear(piece)
    end = len(pieces) * live.block_samples / rate
    at = end - np.arange(len(live._window), 0, -1) / 16000
    expected = 0.5 * np.sin(2 * np.pi * 300 * at)
    known = (at > 0.02) & (at < end - 0.011)
    assert known.sum() > 2000 and np.abs(live._window - expected)[known].max() < 5e-3


@pytest.mark.parametrize("wrong", [np.zeros(10), np.zeros((2, 960)), np.full(960, np.nan)])
def test_a_block_of_another_shape_or_without_numbers_is_refused(stream, wrong):
    with pytest.raises(UserError, match="block"):
        stream().process(wrong)


@pytest.mark.parametrize("kind", ["int16", "int32"])
def test_a_block_of_whole_numbers_is_heard_as_its_sound(stream, speech, kind):
    whole, floats = stream(), stream()
    full = 2.0 ** (8 * np.dtype(kind).itemsize - 1)
    sound = fed(whole, (speech[:6000] * full).astype(kind))
    np.testing.assert_allclose(np.concatenate(sound), np.concatenate(fed(floats, speech[:6000])), atol=0.02)


@pytest.mark.parametrize("kind", ["int64", "uint16", "bool", "complex64", "object"])
def test_a_block_of_another_type_is_refused_by_its_name(stream, kind):
    live = stream()
    with pytest.raises(UserError, match=f"the block holds samples of the type {kind}: give float32"):
        live.process(np.zeros(live.block_samples, dtype=kind))


# ---------------------------------------------------------------- what is heard

def test_the_stream_is_the_voice_that_set_adapters_makes(stream, adapters, speech, library):
    """Prepared and exchanged, or written in place: the same sound, bit for bit; another one than the plain base's."""
    live, plain = stream(), stream()
    live.use({adapters[0]: 0.7, adapters[1]: 0.3}).result()
    sound, other = np.concatenate(fed(live, speech[:8000])), np.concatenate(fed(plain, speech[:8000]))
    plain.reset()
    plain.voice.set_adapters([(adapters[0], 0.7), (adapters[1], 0.3)])
    assert np.array_equal(sound, np.concatenate(fed(plain, speech[:8000])))
    assert np.abs(sound - other).max() > 1e-3 and np.isfinite(sound).all()


def test_a_change_of_voice_is_heard_from_the_next_block_and_the_base_comes_back(stream, adapters, speech):
    live, plain, one = stream(crossfade=0), stream(crossfade=0), stream(crossfade=0)
    one.use({adapters[0]: 1.0}).result()
    base, changed = fed(plain, speech[:9600]), fed(one, speech[:9600])
    heard = []
    for index, block in enumerate(blocks_of(speech[:9600], live.block_samples)):
        if index in (3, 6):
            assert live.use({adapters[0]: 1.0} if index == 3 else {}).result() is True
        heard.append(live.process(block))
    for index, sound in enumerate(heard):
        assert np.array_equal(sound, (changed if 3 <= index < 6 else base)[index])


def test_another_noise_is_another_voice_and_is_heard_as_set_adapters_makes_it(stream, adapters, speech):
    live, plain = stream(), stream()
    live.use({adapters[0]: 1.0}).result()
    own = np.concatenate(fed(live, speech[:8000]))
    live.reset()
    live.use({adapters[0]: 1.0}, noise=0.1).result()
    less = np.concatenate(fed(live, speech[:8000]))
    plain.voice.set_adapters([(adapters[0], 1.0)], noise=0.1)
    assert np.array_equal(less, np.concatenate(fed(plain, speech[:8000]))) and not np.array_equal(less, own)
    live.prepare({adapters[0]: 1.0}, noise=0.2)
    live.reset()
    assert live.use({adapters[0]: 1.0}).result() is True  # kept from before
    assert np.array_equal(own, np.concatenate(fed(live, speech[:8000])))
    for wrong in (0, 9, float("nan"), "0.5", [0.5]):
        with pytest.raises(UserError, match="noise"):
            live.use({adapters[0]: 1.0}, noise=wrong)


def test_a_voice_asked_for_again_is_there_at_once(stream, adapters, monkeypatch):
    live = stream()
    live.use({adapters[0]: 1.0}).result()
    live.use({adapters[1]: 1.0}).result()
    monkeypatch.setattr(live.voice, "prepare", lambda *_: pytest.fail("prepared anew"))
    for index in (0, 1, 0):
        answer = live.use({adapters[index]: 1.0})
        assert answer.done() and answer.result() is True
        live.process(np.zeros(live.block_samples))
        assert live.applied[0].adapter is live.voice.load(adapters[index])


def test_a_file_that_has_changed_is_another_voice(stream, tmp_path, library):
    live, path = stream(), tmp_path / "voice.safetensors"
    make_adapter(path, library, 1)
    live.use({path: 1.0}).result()
    live.process(np.zeros(live.block_samples))
    first = live.applied[0].adapter
    make_adapter(path, library, 2, notes="another")
    live.use({path: 1.0}).result()
    live.process(np.zeros(live.block_samples))
    assert live.applied[0].adapter is not first


def test_what_cannot_be_used_is_told_and_the_voice_stays(stream, adapters, tmp_path):
    live = stream()
    live.use({adapters[0]: 1.0}).result()
    live.process(np.zeros(live.block_samples))
    with pytest.raises(UserError, match="no adapter file"):
        live.use({tmp_path / "none.safetensors": 1.0}).result()
    with pytest.raises(UserError, match="strength"):
        live.use({adapters[1]: 7.0})
    live.process(np.zeros(live.block_samples))
    assert [one.strength for one in live.applied] == [1.0]
    assert live.use({adapters[1]: 0.5}).result() is True  # the thread goes on


def test_of_many_requests_the_last_counts(stream, adapters):
    live = stream()
    with live.voice._preparing:  # the thread has begun one of them at most
        answers = [live.use({adapters[0]: strength / 100}) for strength in range(1, 30)]
    assert answers[-1].result() is True
    assert all(answer.result() is False for answer in answers[1:-1])
    live.process(np.zeros(live.block_samples))
    assert [one.strength for one in live.applied] == [0.29]


def test_use_returns_at_once_while_a_block_is_converted(stream, adapters):
    live = stream()
    live.use({adapters[0]: 1.0}).result()
    with live.voice.lock:  # as `process` holds it
        answers = []
        thread = threading.Thread(target=lambda: answers.append(live.use({adapters[1]: 1.0})))
        thread.start()
        thread.join(30)
        assert answers and answers[0].result(60) is True


def test_memory_for_prepared_voices_is_limited(voice, adapters):
    size = voice.prepare([(adapters[0], 1.0)]).weights.bytes
    changes = VoiceChanges(voice, room=3 * size)
    for index in range(8):
        changes.use({adapters[0]: 0.1 + index / 10}).result()
        changes.take()
        assert len(changes._kept) <= 3 and changes.applied[0].strength == pytest.approx(0.1 + index / 10)
        weight = voice.network.get_submodule(next(iter(changes._shown.weights.tensors))[0])
        assert any(tensor.data_ptr() in {p.data_ptr() for p in weight.parameters()}
                   for tensor in changes._shown.weights.tensors.values())
    changes.close()


def test_after_close_nothing_is_prepared(stream, adapters):
    live = stream()
    live.use({adapters[0]: 1.0}).result()
    live.close()
    with pytest.raises(RuntimeError, match="closed"):
        live.use({})
    assert not any(thread.name == "rvc-lora-voices" and thread is live._changes._thread
                   for thread in threading.enumerate())


def test_ten_threads_change_and_convert_and_every_block_is_one_blend(library, adapters, seconds=4.0):
    """Each block that is heard, of any of the streams on one base, equals what one of the blends gives from its
    beginning to its end."""
    voice = VoiceLoader(BASE, library)
    wanted = [{adapters[0]: 1.0}, {adapters[1]: 0.8}, {adapters[0]: 0.5, adapters[1]: 0.5}, {}]
    block = np.random.default_rng(0).normal(0, 0.1, 320).astype(np.float32)
    options = {"block": 0.02, "context": 0.1, "crossfade": 0, "host": library}

    def stream():
        return RealtimeVoice(voice, **options)

    def first_block(live):
        live.reset()
        return live.process(block)

    with stream() as live:
        references = []
        for blend in wanted:
            live.use(blend).result()
            references.append(first_block(live))
    assert min(np.abs(a - b).max() for i, a in enumerate(references) for b in references[:i]) > 1e-4
    stop, wrong, heard = time.monotonic() + seconds, [], [0, 0, 0, 0]

    def convert(seed):
        torch.set_num_threads(1)
        with stream() as own:
            while time.monotonic() < stop:
                sound = first_block(own)
                found = [index for index, reference in enumerate(references) if np.array_equal(sound, reference)]
                if len(found) != 1:
                    wrong.append(sound)
                else:
                    heard[found[0]] += 1

    def change(seed):
        generator = np.random.default_rng(seed)
        torch.set_num_threads(1)
        with stream() as own:
            while time.monotonic() < stop:
                blend = wanted[generator.integers(4)]
                if seed % 2:
                    voice.set_adapters(list(blend.items()))
                else:
                    own.use(blend).result()
                    own._changes.take()
                time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(seed,)) for seed, work in enumerate([convert] * 5 + [change] * 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and sum(count > 0 for count in heard) >= 3, (len(wrong), heard)


# ---------------------------------------------------------------- devices

@pytest.mark.parametrize("here, best", [({"cuda", "mps", "xpu"}, "cuda"), ({"mps", "xpu"}, "mps"), ({"xpu"}, "xpu"),
                                        (set(), "cpu")])
def test_auto_takes_the_best_device_that_is_here(monkeypatch, here, best):
    class Found:
        def __init__(self, kind):
            self.kind = kind

        def is_available(self):
            return self.kind in here

        device_count = staticmethod(lambda: 1)

    monkeypatch.setattr(torch, "cuda", Found("cuda"))
    monkeypatch.setattr(torch.backends, "mps", Found("mps"), raising=False)
    monkeypatch.setattr(torch, "xpu", Found("xpu"), raising=False)
    monkeypatch.setattr(torch, "zeros", lambda *_, device: None)
    assert devices.check_device("auto") == devices.best_device() == best


@pytest.mark.parametrize("said, device", [
    ("The operator 'aten::unfold_backward' is not currently implemented for the MPS device. If you want this op to be "
     "added …", "MPS"),
    ("Could not run 'aten::_fft_r2c' with arguments from the 'XPU' backend. This could be because the operator doesn't "
     "exist …", "XPU")])
def test_an_operator_that_a_device_lacks_is_told_in_words(said, device):
    words = describe_fault(NotImplementedError(said))
    assert device in str(words) and "aten::" in str(words) and "--device cpu" in str(words)
    assert describe_fault(NotImplementedError("to be done")) is None
