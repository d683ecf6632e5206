"""The noise that is asked for while a voice is heard: of a base, an adapter, a blend, live, merged and by command."""

import math

import numpy as np
import pytest
import soundfile
import torch
from voice_data import BASE, adapters, go, make_adapter, speech, state, voice  # noqa: F401  (fixtures)

from LoraModel import Voice, VoiceBatch
from LoraModel.conversion.noise import with_noise
from LoraModel.inference import VoiceLoader
from LoraModel.inference import audio as audio_io
from LoraModel.inference.patched import give_voice, patch
from LoraModel.lora import LoRAConfig, load_adapter, save_adapter
from LoraModel.messages import UserError, cli
from LoraModel.models import prior_noise
from LoraModel.models.voice_file import save_model

OWN = 0.45
"""The noise of the adapter `calm`."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory, library):
    """An adapter that leaves enc_p as it is but for its noise, as training makes them."""
    path = tmp_path_factory.mktemp("calm") / "calm.safetensors"
    config = LoRAConfig(r=1, lora_alpha=1, targets={"flow": True, "ups": True, "spk_row": True})
    plain = load_adapter(make_adapter(path, library, 3, config=config))
    made = with_noise(plain, VoiceLoader(BASE, library).network, OWN)
    return save_adapter(path, made.tensors, made.config, made.metadata)


def prior(loader):
    """(mean, log_scale) of the text encoder for features of any kind."""
    torch.manual_seed(1)
    phone, pitch = torch.randn(2, 60, 768), torch.randint(1, 255, (2, 60))
    with torch.no_grad():
        return loader.network.enc_p(phone, pitch, torch.tensor([60, 60]))[:2]


def shares(loader, plain):
    """(least, most) of what the noise of every frame and channel is multiplied by."""
    moved = torch.exp(prior(loader)[1] - plain[1])
    return float(moved.min()), float(moved.max())


@pytest.mark.parametrize("strength", [0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("noise", [0.05, 0.45, 1.0, 4.0])
def test_it_is_what_was_asked_for_whatever_the_adapter_brings(voice, calm, strength, noise):  # noqa: F811
    plain = prior(voice)
    voice.set_adapters([(calm, strength)])
    assert shares(voice, plain) == pytest.approx(2 * [OWN**strength], rel=0.01)
    assert voice.heard_noise == pytest.approx(OWN**strength, rel=1e-3) and voice.noise is None
    voice.set_adapters([(calm, strength)], noise=noise)
    assert shares(voice, plain) == pytest.approx(2 * [noise], rel=0.01)
    assert torch.equal(prior(voice)[0], plain[0])  # what is spoken stays
    assert voice.heard_noise == voice.noise == noise
    assert voice.title.endswith(f"calm, noise {noise:g}" if strength else f"noise {noise:g}")


def test_of_the_base_alone_and_of_a_blend_and_it_goes_as_it_came(voice, calm, adapters):  # noqa: F811
    before, plain = state(voice), prior(voice)
    voice.set_adapters([], noise=0.3)
    assert shares(voice, plain) == pytest.approx([0.3, 0.3], rel=1e-4) and torch.equal(prior(voice)[0], plain[0])
    voice.set_adapters([])
    assert voice.noise is None and all(torch.equal(tensor, before[name]) for name, tensor in state(voice).items())
    pairs = [(calm, 0.5), (adapters[0], 0.7)]  # the second one has learnt in enc_p
    voice.set_adapters(pairs)
    blend, log_scale = state(voice), prior(voice)[1]
    voice.set_adapters(pairs, noise=0.9 * OWN**0.5)
    assert float((prior(voice)[1] - log_scale).exp().mean()) == pytest.approx(0.9, abs=0.02)
    voice.set_adapters(pairs)
    assert all(torch.equal(tensor, blend[name]) for name, tensor in state(voice).items())
    voice.unload()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(voice).items())


def test_prepared_and_exchanged_it_is_the_same_bit_for_bit(voice, calm, library):  # noqa: F811
    other = VoiceLoader(BASE, library)
    other.set_adapters([(calm, 0.8)], noise=0.7)
    for in_place in (False, True):
        blend = voice.prepare([(calm, 0.8)], noise=0.7)
        assert voice.noise is None
        voice.exchange(blend, in_place)
        assert voice.noise == 0.7
        assert all(torch.equal(tensor, state(other)[name]) for name, tensor in state(voice).items())
        voice.exchange(voice.prepare([]), in_place)
        assert voice.noise is None
    voice.morph([(calm, 1.0)], [(calm, 0.6)], 0.5, noise=0.7)
    assert all(torch.allclose(tensor, state(other)[name], atol=1e-6) for name, tensor in state(voice).items())


@pytest.mark.parametrize("noise", [0, -1, 0.04, 4.1, float("nan"), float("inf"), 10**400, True, "0.5", [0.5]])
def test_what_is_no_noise_is_refused_and_the_voice_stays(voice, calm, noise):  # noqa: F811
    voice.set_adapters([(calm, 1.0)], noise=0.6)
    before = state(voice)
    with pytest.raises(UserError, match="noise=.* (must be between 0.05 and 4|is a text|is no number)"):
        voice.set_adapters([(calm, 0.5)], noise=noise)
    assert voice.noise == 0.6 and voice.applied[0].strength == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(voice).items())


def test_a_base_that_does_not_allow_it_says_so_and_is_heard_as_before(voice, calm):  # noqa: F811
    with torch.no_grad():
        list(voice.network.enc_p.encoder.norm_layers_2)[-1].beta.zero_()
    voice.set_adapters([(calm, 1.0)])
    with pytest.raises(UserError, match="noise of this base's voices cannot be set"):
        voice.set_adapters([(calm, 1.0)], noise=0.5)
    assert voice.noise is None and len(voice.applied) == 1


def test_in_fp16(library, calm):
    loader = VoiceLoader(BASE, library)
    plain = prior(loader)
    loader.move("cpu", half=True)
    loader.set_adapters([(calm, 1.0)], noise=0.5)
    loader.network.float()  # as it was rounded
    assert float(torch.exp(prior(loader)[1] - plain[1]).mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("noise", [None, 0.7])
def test_a_merged_voice_keeps_it_tells_it_and_takes_another(voice, calm, tmp_path, library, noise):  # noqa: F811
    plain, heard = prior(voice), noise or OWN
    voice.set_adapters([(calm, 1.0)], noise=noise)
    save_model(tmp_path / "merged.pth", voice.as_model())
    merged = VoiceLoader(tmp_path / "merged.pth", library)
    assert shares(merged, plain) == pytest.approx([heard, heard], rel=0.02)  # RVC's files are of fp16
    assert merged.heard_noise == merged.info.noise == pytest.approx(heard, rel=1e-3)
    merged.set_adapters([], noise=1.0)
    assert shares(merged, plain) == pytest.approx([1, 1], rel=0.02) and merged.heard_noise == 1


def test_a_merged_base_says_so(voice):  # noqa: F811
    voice.set_adapters([], noise=0.7)
    assert voice.as_model()["info"].startswith("f0G16k, noise 0.7 ")
    voice.unload()
    assert "noise" not in voice.as_model()["info"] and prior_noise.MODEL_KEY not in voice.as_model()


@pytest.mark.parametrize("told", ["0.5", None, True, 0, -1, 1e9, float("nan"), float("inf"), [1], 10**400])
def test_what_a_strangers_file_tells_of_its_noise_may_be_anything(told):
    assert prior_noise.share_told({prior_noise.MODEL_KEY: told}) == 1.0 and prior_noise.share_told({}) == 1.0


def test_a_network_with_a_noise_is_not_the_plain_base(voice):  # noqa: F811
    assert voice.plain
    voice.set_adapters([], noise=0.3)
    assert not voice.plain
    with pytest.raises(ValueError, match="move the network before"):
        voice.move("cpu")
    with pytest.raises(UserError, match="unload it before batches"):
        VoiceBatch(voice).convert([np.zeros(16000, np.float32)], [{}])
    voice.unload()
    assert voice.plain


def test_numbers_of_numpy_are_numbers(voice, calm):  # noqa: F811
    voice.set_adapters([(calm, 1.0)], noise=np.float32(0.5))
    assert voice.noise == 0.5 and type(voice.noise) is float


def test_rvcs_own_networks_take_it(library, calm, voice):  # noqa: F811
    patch(host=library)
    give_voice(voice.network, voice)
    plain = prior(voice)
    voice.network.set_adapters([(calm, 1.0)], noise=0.8)
    assert shares(voice, plain) == pytest.approx([0.8, 0.8], rel=0.01)
    voice.network.unload_adapters()
    assert shares(voice, plain) == (1, 1)


def test_for_programs(calm, speech, tmp_path):  # noqa: F811
    plain, less = Voice(BASE, device="cpu"), Voice(BASE, device="cpu")
    plain.set_adapters(calm)
    less.set_adapters(calm, noise=0.05)
    one, two = (each.convert(speech[:16000]).audio for each in (plain, less))
    assert less.loader.noise == 0.05 and not np.array_equal(one, two)
    assert np.array_equal(two, less.convert(speech[:16000]).audio)
    less.merge(tmp_path / "less.pth")
    assert Voice(tmp_path / "less.pth").loader.info.name


def test_the_commands(calm, speech, voice, library, tmp_path, capsys):  # noqa: F811
    from LoraModel.inference import infer_lora
    from LoraModel.scripts import merge_lora

    source, out, merged = tmp_path / "in.wav", tmp_path / "out.wav", tmp_path / "merged.pth"
    soundfile.write(str(source), speech[:16000], 16000)
    both = ["--lora_weights", str(calm), "--noise", "0.2"]
    ends = ["--input", str(source), "--output", str(out), "--transpose", "0"]
    assert cli(infer_lora.main, ["--base_model", str(BASE), *both, *ends]) == 0
    voice.set_adapters([(calm, 1.0)], noise=0.2)
    heard = go(voice, audio_io.read_audio(source, 16000))
    np.testing.assert_allclose(soundfile.read(str(out))[0], heard, atol=1 / 32000)
    assert cli(merge_lora.main, ["--base_model", str(BASE), *both, "--output", str(merged)]) == 0
    alone = ["--base_model", str(BASE), "--output", str(tmp_path / "alone.pth")]
    assert cli(merge_lora.main, alone) == 2 and "nothing is to be merged" in capsys.readouterr().err
    assert cli(merge_lora.main, [*alone, "--noise", "0.5"]) == 0
    assert VoiceLoader(tmp_path / "alone.pth", library).info.noise == 0.5
    assert "calm, noise 0.2" in torch.load(str(merged), weights_only=True)["info"]
    # a full voice, too
    assert cli(infer_lora.main, ["--model", str(merged), "--noise", "0.9", *ends]) == 0
    full = VoiceLoader(merged, library)
    full.set_adapters([], noise=0.9)
    heard = go(full, audio_io.read_audio(source, 16000))
    np.testing.assert_allclose(soundfile.read(str(out))[0], heard, atol=1 / 32000)
    capsys.readouterr()
    assert cli(infer_lora.main, ["--base_model", str(BASE), "--noise", "0", *ends]) == 2
    assert "--noise" in capsys.readouterr().err


def test_the_limits_hold_the_sliders():
    assert 0 < prior_noise.LEAST <= 0.05 and 1 < prior_noise.MAX_NOISE <= prior_noise.MOST
    assert math.isclose(prior_noise.MAX_NOISE / 0.05, round(prior_noise.MAX_NOISE / 0.05))
