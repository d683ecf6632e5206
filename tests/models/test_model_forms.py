"""Bases and voices in every form that people have them load as one and the same base, and what is wrong is named."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from model_files import DEMO, demo_config, demo_weights, folded_norm, new_norm, save, voice, without_posterior

from LoraModel.messages import UserError
from LoraModel.models import load_base, read_checkpoint
from LoraModel.models.configuration import read_config_json
from LoraModel.models.model_form import rate_of
from LoraModel.models.voice_file import small_model


@pytest.fixture(scope="module")
def weights():
    return demo_weights()


@pytest.fixture(scope="module")
def plain(library):
    return load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json")


def prefixed(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize("make", [
    lambda w: voice(w), lambda w: voice(new_norm(w), vocoder="HiFi-GAN", embedder_model="contentvec", speakers_id=1),
    lambda w: voice(prefixed(w, "module.")), lambda w: voice(prefixed(new_norm(w), "module._orig_mod.")),
    lambda w: voice(w, f0="1", version=None, info=None, sr=None),
    lambda w: voice(w, sr=np.int64(16000), loss=np.float32(0.5)),
    lambda w: {"net_g": w, "config": demo_config()}, lambda w: {"generator": w, "config": demo_config()},
    lambda w: voice(w, config=demo_config()[:-1] + ["16k"]), lambda w: voice(w, config=demo_config()[:-1] + ["16000"]),
    lambda w: voice(w, config=demo_config()[:-1] + [16000.0]),
    lambda w: voice(w, config=demo_config()[:-1] + [np.int32(16000)]),
    lambda w: voice(w, config=demo_config()[:-1]),
    lambda w: voice(w, config=demo_config()[:-3] + [109] + demo_config()[-2:]),
])
def test_every_form_is_the_same_base(library, tmp_path, weights, plain, make):
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        base = load_base(save(tmp_path / "x.pth", make(without_posterior(weights)), **options), library)
        assert base.info.base_hash == plain.info.base_hash
        assert (base.info.config, base.info.sample_rate, base.info.f0) == (plain.info.config, 16000, True)
    out = small_model(base.network, base.info, "x")
    assert list(out) == ["weight", "config", "info", "sr", "f0", "version"] and "dec.ups.0.weight_g" in out["weight"]
    assert (out["sr"], out["f0"], out["version"], out["config"][-1]) == ("16k", 1, "v2", 16000)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"net_g": w, "optimizer": {}},
                                  lambda w: {"model": prefixed(new_norm(w), "module.")}])
def test_bases_without_a_configuration(library, tmp_path, weights, plain, wrap):
    base = load_base(save(tmp_path / "x.pth", wrap(weights)), library, config_json=DEMO / "config.json")
    assert base.info.has_posterior and base.info.base_hash == plain.info.base_hash


@pytest.mark.parametrize("change",
                         [lambda w: folded_norm(w), lambda w: {name: value.bfloat16() for name, value in w.items()}])
def test_folded_norm_and_bfloat16_are_the_same_weights(library, tmp_path, weights, plain, change):
    base = load_base(save(tmp_path / "x.pth", voice(change(without_posterior(weights)))), library)
    for path in ("dec.ups.0", "dec.resblocks.0.convs1.0", "flow.flows.0.enc.in_layers.0"):
        found, wanted = (torch._weight_norm(layer.weight_v, layer.weight_g, 0) for layer in
                         (base.network.get_submodule(path), plain.network.get_submodule(path)))
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-3)


def test_a_safetensors_voice(library, tmp_path, weights, plain):
    path = tmp_path / "voice.safetensors"
    safetensors.torch.save_file(without_posterior(weights), str(path),
                                {"config": json.dumps(demo_config()), "sr": "16k", "version": "v2"})
    assert load_base(path, library).info.base_hash == plain.info.base_hash


def test_numbers_of_numpys_are_plain(tmp_path):
    found = read_checkpoint(save(tmp_path / "x.pth", {
        "model": {"a": torch.zeros(1)}, "epoch": np.int64(7), "loss": np.float64(0.5),
        "f0": np.array([[1.0, 2.0], [3.0, 4.0]]), "name": np.str_("é")}))
    assert (found["epoch"], found["loss"], found["f0"], found["name"]) == (7, 0.5, [[1.0, 2.0], [3.0, 4.0]], "é")
    assert type(found["epoch"]) is int and type(found["loss"]) is float


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(library, tmp_path, weights, bad):
    changed = dict(weights)
    changed["dec.conv_post.weight"] = torch.full_like(changed["dec.conv_post.weight"], bad)
    with pytest.raises(UserError, match="is damaged: dec.conv_post.weight holds values that are no numbers"):
        load_base(save(tmp_path / "x.pth", {"model": changed}), library, config_json=DEMO / "config.json")


@pytest.mark.parametrize("at, value, said", [
    (17, 44100, "其采样率写作 44100，而其上采样在百分之一秒内产生 160 个采样点"), (17, "fast", "其采样率写作 'fast'）"),
    (2, 100, "inter_channels 为 100，而其张量为 "), (6, 0, "n_layers 为 0）"), (9, "3", "resblock 为 '3'）"),
    (12, [], "upsample_rates 为 []）"),
    (None, [1, 2], "其配置为 2 个值，而不是 18 个值的列表"), (None, {}, "其配置为 dict 类型，而不是"),
])
def test_what_is_wrong_with_a_configuration_is_said_in_chinese(library, tmp_path, weights, at, value, said):
    config = demo_config()
    if at is not None:
        config[at] = value
    with pytest.raises(UserError) as caught:
        load_base(save(tmp_path / "x.pth", voice(without_posterior(weights), config=value if at is None else config)),
                  library)
    assert said in caught.value.zh


@pytest.mark.parametrize("rate", [44100, 24000, 22050, 40000])
def test_a_rate_that_does_not_fit_the_hop_is_refused(library, tmp_path, weights, rate):
    with pytest.raises(UserError, match=f"{rate} as the sample rate, its upsampling makes 160 samples of a hundredth "
                       f"of a second"):
        load_base(save(tmp_path / "x.pth", voice(without_posterior(weights), config=demo_config()[:-1] + [rate])),
                  library)
    contents = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    contents["data"]["sampling_rate"] = rate
    (tmp_path / "config.json").write_text(json.dumps(contents))
    with pytest.raises(UserError, match="upsampling makes 160 samples"):
        load_base(DEMO / "f0G16k.pth", library, config_json=tmp_path / "config.json")


def test_a_rate_that_is_not_the_bases_is_refused(library, tmp_path, weights):
    with pytest.raises(UserError, match="is of 16000 Hz, and 48000 Hz was asked for"):
        load_base(save(tmp_path / "x.pth", voice(without_posterior(weights))), library, 48000)


@pytest.mark.parametrize("key,value", [
    ("win_length", "x"), ("win_length", 0), ("win_length", 10**9), ("n_mel_channels", -1), ("n_mel_channels", 1.5),
    ("mel_fmin", "²"),
    ("mel_fmin", 9000), ("mel_fmax", 1e9), ("mel_fmax", []), ("max_wav_value", 0), ("hop_length", 320),
    ("filter_length", True),
])
def test_nonsense_in_a_config_json_is_named(tmp_path, key, value):
    contents = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    contents["data"][key] = value
    path = tmp_path / "config.json"
    path.write_text(json.dumps(contents))
    with pytest.raises(UserError, match=r"is no usable configuration \(.*(" + key + "|mel_fmin).*give the config.json"):
        read_config_json(path)


def test_whole_numbers_may_be_written_with_a_point(tmp_path):
    contents = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    whole = ("sampling_rate", "filter_length", "hop_length", "win_length", "n_mel_channels")
    for key in whole:
        contents["data"][key] = float(contents["data"][key])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(contents))
    assert [type(read_config_json(path)["data"][key]) for key in whole] == [int] * len(whole)


def test_a_config_json_that_is_nested_deep_or_huge(tmp_path):
    path = tmp_path / "config.json"
    for text in ("[" * 200_000, "{" + " " * 2**21 + "}"):
        path.write_text(text)
        with pytest.raises(UserError, match="cannot be read as JSON"):
            read_config_json(path)
    for text in ("[1]", "5", '{"data": [], "train": {}}'):
        path.write_text(text)
        with pytest.raises(UserError, match="it lacks 'data'"):
            read_config_json(path)


def test_rates():
    assert [rate_of(x) for x in (40000, 40000.0, "40000", "40k", "48K", " 32k ")] == [40000, 40000, 40000, 40000, 48000,
                                                                                      32000]
    assert not any(rate_of(x) for x in ("²", "1" * 5000, None, True, -1, float("inf"), float("nan"), [], "k", "infk"))
