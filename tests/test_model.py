"""Loading bases strictly and safely."""

import argparse
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import save

from LoraModel.lora import LoRAConfig, extract
from LoraModel.messages import UserError
from LoraModel.models import (
    GeneratorLoRA,
    SynthesizerLoRA,
    load_base,
    load_base_beside_config,
    load_discriminator,
    read_checkpoint,
)
from LoraModel.models.model_utils import config_list

DEMO = Path(__file__).resolve().parents[1] / "LoraModel" / "demo" / "base"


@pytest.fixture(scope="module")
def demo_weights():
    return torch.load(str(DEMO / "f0G16k.pth"), map_location="cpu", weights_only=True)["model"]


@pytest.fixture
def demo_config():
    return config_list(json.loads((DEMO / "config.json").read_text(encoding="utf-8")))


# The demo's base, and what is wrong with a file.


def test_demo_base(library):
    base = load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json")
    info = base.info
    assert (info.name, info.version, info.f0, info.sample_rate, info.speakers,
            info.hop_length) == ("f0G16k", "v2", True, 16000, 16, 160)
    assert info.has_posterior and type(base.network).__name__ == "SynthesizerTrnMs768NSFsid"
    assert not base.network.training and not any(p.requires_grad for p in base.network.parameters())
    assert {p.dtype for p in base.network.parameters()} == {torch.float32}


def test_demo_base_as_a_small_voice(library, demo_weights, demo_config, tmp_path):
    weights = {key: value.half() for key, value in demo_weights.items() if not key.startswith("enc_q.")}
    voice = {"weight": weights, "config": demo_config, "info": "100epoch", "sr": "16k", "f0": 1, "version": "v2"}
    base = load_base(save(tmp_path / "voice.pth", voice), library)
    assert not base.info.has_posterior and not hasattr(base.network, "enc_q")
    assert base.info.config == demo_config and base.info.sample_rate == 16000
    whole = load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json")
    assert base.info.base_hash == whole.info.base_hash  # the same base, with and without its posterior
    state = whole.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in base.network.state_dict().items())


def test_hash_is_the_weights_not_the_files(library, demo_weights, tmp_path):
    def hash_of(weights, **options):
        path = save(tmp_path / "x.pth", {"model": weights, "iteration": 7}, **options)
        return load_base(path, library, config_json=DEMO / "config.json").info.base_hash

    original = load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json").info.base_hash
    full = {key: value.float() for key, value in demo_weights.items()}
    assert hash_of(full) == original
    assert hash_of(dict(reversed(list(full.items()))), _use_new_zipfile_serialization=False) == original
    assert hash_of({**full, "enc_q.pre.bias": full["enc_q.pre.bias"] + 1}) == original
    changed = full["dec.conv_post.weight"].clone()
    changed[0, 0, 0] += 0.01
    assert hash_of({**full, "dec.conv_post.weight": changed}) != original


@pytest.mark.parametrize("change,message", [
    (lambda w: w.pop("dec.ups.1.weight_v"), "lacks the key dec.ups.1.weight_v"),
    (lambda w: w.pop("enc_q.proj.bias"), "lacks the key enc_q.proj.bias"),
    (lambda w: w.update({"dec.extra.weight": torch.zeros(1)}), "has the key dec.extra.weight, which .* does not know"),
    (lambda w: w.update({"flow.flows.0.pre.bias": torch.zeros(5)}),
     r"flow.flows.0.pre.bias has shape \(5,\), .* wants \(96,\)"),
    (lambda w: w.pop("emb_g.weight"), "lacks the key emb_g.weight: it is no RVC generator"),
    (lambda w: w.update({"emb_g.weight": torch.zeros(16)}), r"emb_g.weight has shape \(16,\)"),
    (lambda w: w.update({"enc_p.emb_phone.weight": torch.zeros(96, 512)}),
     r"emb_phone.weight has shape \(96, 512\), .* wants \(96, 768\)"),
    (lambda w: w.update({"enc_p.emb_phone.bias": "a string"}), "neither 'model' nor 'weight' with tensors"),
    (lambda w: w.update({3: torch.zeros(1)}), "neither 'model' nor 'weight' with tensors"),
])
def test_strictness_names_the_key(library, demo_weights, tmp_path, change, message):
    weights = dict(demo_weights)
    change(weights)
    with pytest.raises(UserError, match=message):
        load_base(save(tmp_path / "x.pth", {"model": weights}), library, config_json=DEMO / "config.json")


@pytest.mark.parametrize("change,message", [
    (lambda c: c[:17], "has 17 values instead of a list of 18"), (lambda c: 5, "has a int instead of a list of 18"),
    (lambda c: c[:17] + ["44k"], "names '44k' as the sample rate"), (lambda c: c[:17] + [None], "names None"),
    (lambda c: [None] * 17 + [40000], "no network can be built from its configuration"),
    (lambda c: c[:4] + [0] + c[5:], "no network can be built|wants"),
])
def test_a_voices_own_configuration_is_checked(library, demo_weights, demo_config, tmp_path, change, message):
    path = save(tmp_path / "x.pth", {"weight": demo_weights, "config": change(demo_config)})
    with pytest.raises(UserError, match=message):
        load_base(path, library)


@pytest.mark.parametrize("text,message", [
    (None, "cannot be read as JSON"), ("{", "cannot be read as JSON"), ("{}", "is no RVC configuration.*'data'"),
    ("[]", "is no RVC configuration"),
])
def test_a_configuration_of_the_users_is_checked(library, tmp_path, text, message):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_base(DEMO / "f0G16k.pth", library, config_json=path)


def test_a_base_that_fits_none_of_rvcs_configurations_names_a_key(library):
    with pytest.raises(UserError, match=r"fits none of RVC's own configurations \(its shapes are those of a v2 base "
                                         r"of 16000 Hz.*give the config.json"):
        load_base(DEMO / "f0G16k.pth", library)


def test_discriminators(library, tmp_path, demo_weights):
    network = library.build_discriminator("v2")
    path = save(tmp_path / "f0D40k.pth", {"model": network.state_dict()})
    loaded = load_discriminator(path, library, "v2")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(UserError, match="it is no RVC generator .a discriminator, f0D….pth, goes to --base_d"):
        load_base(path, library)
    with pytest.raises(UserError, match="has the key discriminators.*does not know|wants"):
        load_discriminator(path, library, "v1")
    with pytest.raises(UserError, match="is a generator, not a discriminator"):
        load_discriminator(DEMO / "f0G16k.pth", library, "v2")
    with pytest.raises(UserError, match="it has no 'model' with tensors"):
        load_discriminator(save(tmp_path / "x.pth", {"weight": demo_weights}), library, "v2")


# Unsafe and damaged files.


class System:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo ran > '{self.marker}'",)


class Eval:
    def __reduce__(self):
        return eval, ("1 + 1",)


class Own:
    pass


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("make,kind", [
    (System, r"(posix|nt)\.system"), (lambda _: Eval(), r"(builtins\.)?eval"),
    (lambda _: argparse.Namespace(a=1), r"argparse\.Namespace"),
    (lambda _: np.array([None]), r"numpy\.dtype"), (lambda _: np.datetime64("2026-01-02"), r"numpy\.dtype"),
    (lambda _: Own(), r"test_model\.Own"), (lambda _: torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
    (lambda _: Path("a"), r"pathlib\S*Path"), (lambda _: os.getcwd, r"(posix|nt)\.getcwd"),
])
def test_unsafe_files_are_refused_named_and_nothing_runs(library, demo_weights, tmp_path, make, kind, zipped):
    marker = tmp_path / "ran"
    weights = {"emb_g.weight": demo_weights["emb_g.weight"]}
    path = save(tmp_path / "x.pth", {"model": weights, "extra": make(str(marker))},
                _use_new_zipfile_serialization=zipped)
    for read in (read_checkpoint, lambda p: load_base(p, library), lambda p: load_discriminator(p, library, "v2")):
        with pytest.raises(UserError, match=rf"is unsafe: it holds an object of type {kind}, .*It was not loaded"):
            read(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused_named_and_nothing_runs(tmp_path, protocol):
    marker, path = tmp_path / "ran", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"model": System(str(marker))}, protocol))
    with pytest.raises(UserError, match=r"is unsafe: it holds an object of type (posix|nt)\.system"):
        read_checkpoint(path)
    path.write_bytes(b"(S'echo'\nios\nsystem\n.")
    with pytest.raises(UserError, match=r"type os\.system"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("data", [
    b"", b"hello world" * 99, bytes(5000), b"<!DOCTYPE html><html>" * 9, b'{"a": 1}', b"\x89PNG\r\n\x1a\n" + bytes(100),
    pickle.dumps({"a": 1}, 2),
])
def test_files_that_are_no_models_are_called_damaged_not_unsafe(tmp_path, data):
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is no RVC model or is damaged .*download it again") as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)  # torch's own advice to switch the check off is not passed on


def test_truncated_and_missing_files(tmp_path):
    data = (DEMO / "f0G16k.pth").read_bytes()
    path = tmp_path / "x.pth"
    for length in (10, 1000, 100_000, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="is no RVC model or is damaged"):
            read_checkpoint(path)
    with pytest.raises(UserError, match="there is no file .*check the path"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UserError, match="it holds a list"):
        read_checkpoint(save(path, [1, 2]))


def test_plain_types_beside_the_weights_are_welcome(tmp_path):
    path = save(tmp_path / "x.pth",
                {"model": {"a": torch.zeros(1)}, "iteration": 3, "optimizer": {"state": {}, "lr": 1e-4}, "info": "é",
                 "sizes": torch.Size([1]), "type": torch.float16})
    assert read_checkpoint(path)["info"] == "é"


def test_posterior_does_not_follow_the_trained_row(library):
    base = load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json")
    synthesizer = SynthesizerLoRA(base, LoRAConfig(targets={"spk_row": True}), 2)
    spec, lengths = torch.rand(1, 513, 8), torch.tensor([8])
    first = synthesizer.posterior(spec, lengths)
    with torch.no_grad():
        synthesizer.injection["emb_g"].lora_row.weight.fill_(3.0)
    second = synthesizer.posterior(spec, lengths)
    assert torch.equal(first.mean, second.mean) and torch.equal(first.log_scale, second.log_scale)
    vector = synthesizer.speaker_vector(torch.tensor([2]))[0, :, 0]
    torch.testing.assert_close(vector, base.network.emb_g.weight[2] + 3.0)
    with pytest.raises(UserError, match="speaker 16 is not among the base's 16: choose 0 to 15"):
        SynthesizerLoRA(base, LoRAConfig.from_preset(), 16)


def test_generator_alone(library):
    base = load_base(DEMO / "f0G16k.pth", library, config_json=DEMO / "config.json")
    z, f0, g = torch.randn(1, 96, 5), torch.full((1, 5), 150.0), torch.randn(1, 64, 1)

    def run(generator):
        torch.manual_seed(1)
        return generator(z, f0, g)

    plain = run(GeneratorLoRA(base.network.dec))
    lora = GeneratorLoRA(base.network.dec, LoRAConfig.from_preset("balanced"))
    assert plain.shape == (1, 1, 800) and torch.equal(run(lora), plain)
    # the prior's targets are left out
    assert {name.split(".")[0] for name in lora.injection.names} == {"ups", "resblocks"}
    with torch.no_grad():
        for parameter in lora.injection.parameters():
            parameter.normal_(0, 0.1)
    assert not torch.allclose(run(lora), plain)
    extract(base.network.dec)
    assert torch.equal(run(GeneratorLoRA(base.network.dec)), plain)


def test_the_configuration_beside_a_base(tmp_path, library):
    """BASE.json goes before config.json, neither before what RVC itself knows; where it does not fit either, both
    reasons are told."""
    shutil.copy(str(DEMO / "f0G16k.pth"), str(tmp_path / "mine.pth"))
    (tmp_path / "config.json").write_text(json.dumps({"data": {}, "train": {}, "model": {}}))
    with pytest.raises(UserError,
                       match=r"fits none of RVC's own configurations.*config\.json beside it does not fit either"):
        load_base_beside_config(tmp_path / "mine.pth", library)
    shutil.copy(str(DEMO / "config.json"), str(tmp_path / "mine.json"))
    assert load_base_beside_config(tmp_path / "mine.pth", library).info.sample_rate == 16000
