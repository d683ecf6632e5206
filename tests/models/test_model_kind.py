"""What a file is, told by its tensors: names of files say nothing."""

import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from model_files import (
    DEMO,
    demo_config,
    demo_weights,
    discriminator,
    folded_norm,
    new_norm,
    save,
    voice,
    without_posterior,
)

from LoraModel.models import load_base
from LoraModel.models.model_kind import model_kind


@pytest.fixture(scope="module")
def weights():
    return demo_weights()


@pytest.fixture(scope="module")
def small(weights):
    return without_posterior(weights)


def test_the_demos_base(library):
    found = model_kind(DEMO / "f0G16k.pth")
    assert (found.kind, found.version, found.f0, found.sample_rate, found.speakers,
            found.problem) == ("base", "v2", True, 16000, 16, None)
    assert found.is_generator and found.vocoder == "HiFi-GAN"
    assert found.tensors_hash() == load_base(DEMO / "f0G16k.pth", library,
                                             config_json=DEMO / "config.json").info.base_hash


@pytest.mark.parametrize("name,parts", [
    ("D_RIN_E3.pth", 9), ("D-f040k-TITAN-Medium.pth", 9), ("D_KLM43_48k.pth", 9), ("D_Snowie_RuPretrain_EnP.pth", 9),
    ("f0Ov2Super40kD.pth", 9), ("f0G40k.pth", 6),
])
def test_discriminators_whatever_they_are_called(tmp_path, name, parts):
    found = model_kind(save(tmp_path / name, {"model": discriminator(parts), "iteration": 1, "optimizer": None,
                                              "learning_rate": 1e-4}))
    assert (found.kind, found.version, found.is_generator) == ("discriminator", {6: "v1", 9: "v2"}[parts], False)


@pytest.mark.parametrize("name", ["D_mine.pth", "f0D40k.pth", "voice_D.pth", "noname"])
def test_generators_whatever_they_are_called(tmp_path, weights, name):
    assert model_kind(save(tmp_path / name, {"model": weights})).kind == "base"


@pytest.mark.parametrize("make,kind", [
    (lambda w: voice(without_posterior(w)), "voice"),
    (lambda w: voice({"module." + name: value for name, value in without_posterior(w).items()}), "voice"),
    (lambda w: {"model": {"_orig_mod.module." + name: value for name, value in w.items()}}, "base"),
    (lambda w: {"model": new_norm(w), "optimizer": {}, "iteration": 3}, "base"),
    (lambda w: voice(folded_norm(without_posterior(w))), "voice"),
    (lambda w: {"net_g": w, "optimizer": {}}, "base"),
    (lambda w: {"generator": w, "discriminator": discriminator(9)}, "base"),
    (lambda w: {"discriminator": discriminator(9), "generator": w}, "base"),
    (lambda w: w, "base"),
    (lambda w: voice(without_posterior(w), sr=np.int64(16000), loss=np.float64(0.5), f0_stats=np.array([1.0, 2.0])),
     "voice"),
])
def test_every_form_of_a_generator(tmp_path, weights, make, kind):
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        found = model_kind(save(tmp_path / "x.pth", make(weights), **options))
        assert (found.kind, found.version, found.f0, found.sample_rate,
                found.problem) == (kind, "v2", True, 16000, None)


def test_safetensors(tmp_path, small, adapters):
    path = tmp_path / "voice.safetensors"
    safetensors.torch.save_file({name: value.contiguous() for name, value in small.items()}, str(path),
                                {"config": json.dumps(demo_config())})
    assert (model_kind(path).kind, model_kind(path).sample_rate) == ("voice", 16000)
    found = model_kind(adapters[0])
    assert (found.kind, found.version, found.f0, found.sample_rate) == ("adapter", "v2", True, 16000)
    assert found.base_hash == model_kind(DEMO / "f0G16k.pth").tensors_hash()
    safetensors.torch.save_file({"lora_unet_down_blocks.lora_down.weight": torch.zeros(2, 2)}, str(path))
    assert model_kind(path).kind == "other" and "LoRA file of another program" in str(model_kind(path).problem)


@pytest.mark.parametrize("rename,vocoder", [
    ((("dec.ups", "dec.upsample_blocks"), ("dec.resblocks", "dec.upsample_conv_blocks")), "RefineGAN"),
    ((("dec.ups", "dec.upsamples"), ("dec.resblocks", "dec.mrfs")), "MRF HiFi-GAN"),
])
def test_another_vocoder_is_named(tmp_path, small, rename, vocoder):
    named = {}
    for name, value in small.items():
        for old, new in rename:
            name = name.replace(old, new)
        named[name] = value
    found = model_kind(save(tmp_path / "x.pth", voice(named)))
    assert (found.kind, found.vocoder) == ("other", vocoder) and f"was trained with {vocoder}" in str(found.problem)


@pytest.mark.parametrize("contents,said", [
    ({"state": {}, "param_groups": []}, "the state of an optimizer"),
    ({"optimizer": {}, "iteration": 3}, "the state of an optimizer"),
    ({"w2v_encoder.proj.weight": torch.zeros(2)}, "HuBERT"), ({"unet.encoder.bn.weight": torch.zeros(2)}, "RMVPE"),
    ({"model": {"a": torch.zeros(1)}}, "no model of RVC's"), ({"a": 1}, "no model of RVC's"),
    ([1, 2], "no model of RVC's"),
])
def test_other_files_are_named(tmp_path, contents, said):
    found = model_kind(save(tmp_path / "x.pth", contents))
    assert found.kind == "other" and said in str(found.problem)


def test_nothing_is_raised(tmp_path):
    assert "there is no file" in str(model_kind(tmp_path / "none.pth").problem)
    assert "there is no file" in str(model_kind(tmp_path).problem)
    for name in ("x" * 5000, "a\0b"):
        assert model_kind(tmp_path / name).kind == "other"
    (tmp_path / "x.pth").write_bytes(os.urandom(5000))
    assert "no RVC model or is damaged" in str(model_kind(tmp_path / "x.pth").problem)
