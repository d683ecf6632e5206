"""Less noise for a voice: log_scale of the prior moves by the same number in every frame, and nothing else moves."""

import json
import math

import pytest
import torch
from adapter_data import METADATA, saved
from training_data import BASE, one_thread

from LoraModel.conversion.blend import blend
from LoraModel.conversion.factors import resized
from LoraModel.conversion.inspect import changes, describe_adapter
from LoraModel.conversion.noise import share_of, with_noise
from LoraModel.host import find_host
from LoraModel.inference import VoiceLoader
from LoraModel.lora import Adapter, LoRAConfig, extract, inject, load_adapter, save_adapter
from LoraModel.messages import UserError, cli
from LoraModel.models import load_base_beside_config
from LoraModel.models.prior_noise import noise_layers
from LoraModel.scripts import convert_model
from LoraModel.training.start import check_start

threads = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def base():
    return load_base_beside_config(BASE, find_host())


def made(base, **targets):
    """An adapter of random values for the demo's base."""
    config = LoRAConfig(r=1, lora_alpha=1, targets=targets or {"flow": True, "spk_row": True})
    torch.manual_seed(0)
    injection = inject(base.network, config)
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.normal_(0, 0.02)
    tensors = {name: tensor.detach().clone() for name, tensor in injection.tensors().items()}
    extract(base.network)
    info = base.info
    own = {"base_hash": info.base_hash, "base_name": info.name, "sample_rate": info.sample_rate}
    return Adapter(tensors, config, {key: str(value) for key, value in {**METADATA, **own, "notes": "mine"}.items()})


def statistics(network):
    """(mean, log_scale) of the prior for features of any kind."""
    torch.manual_seed(1)
    phone, pitch = torch.randn(2, 60, 768), torch.randint(1, 255, (2, 60))
    with torch.no_grad():
        return network.enc_p(phone, pitch, torch.tensor([60, 60]))[:2]


@pytest.mark.parametrize("bits, exact", [(16, 0.004), (8, 0.05)])
def test_the_scale_of_the_prior_moves_and_its_mean_stays(base, tmp_path, bits, exact):
    less = with_noise(made(base), base.network, 0.5)
    assert less.metadata["notes"] == "mine"
    file = save_adapter(tmp_path / "a.safetensors", less.tensors, less.config, less.metadata, bits)
    loader = VoiceLoader(base, find_host())
    mean, scale = statistics(loader.network)
    for strength in (1.0, 0.5, 1.5):
        loader.set_adapters([(file, strength)])
        now_mean, now_scale = statistics(loader.network)
        assert torch.equal(now_mean, mean)
        moved = (now_scale - scale) / strength
        assert float(moved.mean()) == pytest.approx(math.log(0.5), rel=4 * exact)
        assert float(moved.std()) < exact
        loader.unload()
    assert all(torch.equal(a, b) for a, b in zip(statistics(loader.network), (mean, scale)))


def test_it_is_set_anew_and_taken_back(base):
    plain = made(base)
    assert share_of(plain, base.network) == 1.0
    less = with_noise(plain, base.network, 0.45)
    assert share_of(less, base.network) == pytest.approx(0.45)
    again = with_noise(less, base.network, 0.8)
    assert share_of(again, base.network) == pytest.approx(0.8)
    assert {name: tensor.shape for name, tensor in again.tensors.items()} == {
        name: tensor.shape for name, tensor in less.tensors.items()}  # of rank 1 still
    assert again.config.targets["enc_p_io"].r == 1
    back = with_noise(again, base.network, 1.0)
    assert set(back.tensors) == set(plain.tensors) and share_of(back, base.network) == 1.0
    for path, delta in plain.deltas(base.network).items():
        torch.testing.assert_close(back.deltas(base.network)[path], delta, atol=1e-6, rtol=1e-5)


def test_a_layer_that_was_trained_keeps_what_it_learnt(base):
    own = made(base, enc_p_io=True, flow=True)
    less = with_noise(own, base.network, 0.5 * share_of(own, base.network))
    less.check(base.network)
    assert less.config.targets["enc_p_io"].r == 2  # both layers of the target
    before, after = own.deltas(base.network), less.deltas(base.network)
    torch.testing.assert_close(after["enc_p.emb_phone"], before["enc_p.emb_phone"], atol=1e-6, rtol=1e-5)
    half = len(after["enc_p.proj"]) // 2
    torch.testing.assert_close(after["enc_p.proj"][:half], before["enc_p.proj"][:half], atol=1e-5, rtol=1e-4)
    with_noise(less, base.network, share_of(own, base.network)).check(base.network)


def test_blends_and_starts(base):
    plain, less = made(base), with_noise(made(base), base.network, 0.25)
    both = blend([(plain, 0.5), (less, 0.5)], "both")
    both.check(base.network)
    assert share_of(both, base.network) == pytest.approx(0.5)  # half of the way, in octaves

    class Model:
        injection = inject(base.network, plain.config)

    extract(base.network)
    check_start(plain, Model, base.info)
    check_start(less, Model, base.info)  # what sets the noise is of the run's own
    own = with_noise(made(base, enc_p_io=True, flow=True, spk_row=True), base.network, 0.5)
    assert noise_layers(less) == {"enc_p.proj", "enc_p.emb_phone"} and not noise_layers(own)
    with pytest.raises(UserError, match="which this run does not train"):
        check_start(own, Model, base.info)


def test_what_others_lose_and_change_is_told_without_it(base):
    plain = made(base, flow={"r": 3, "lora_alpha": 3})
    less = with_noise(plain, base.network, 0.45)
    one, two = resized(plain, {"flow": 1}), resized(less, {"flow": 1})
    assert two.error == pytest.approx(one.error, rel=1e-4) and two.worst[0] == one.worst[0]
    assert share_of(two.adapter, base.network) == pytest.approx(0.45, rel=1e-4)
    assert changes(less).keys() == changes(plain).keys() == {"flow"}


def test_a_base_that_does_not_allow_it(base):
    norm = list(base.network.enc_p.encoder.norm_layers_2)[-1]
    kept = norm.beta.detach().clone()
    try:
        with torch.no_grad():
            norm.beta.zero_()
        with pytest.raises(UserError, match="cannot be set"):
            with_noise(made(base), base.network, 0.5)
    finally:
        with torch.no_grad():
            norm.beta.copy_(kept)


def test_the_command(base, tmp_path, capsys):
    adapter = made(base)
    file = save_adapter(tmp_path / "a.safetensors", adapter.tensors, adapter.config, adapter.metadata)
    out = tmp_path / "b.safetensors"

    def command(*arguments):
        return cli(convert_model.main, ["noise", *map(str, arguments), "--base_model", str(BASE)])

    assert command(file, "--output", out) == 0
    assert "noise: 100% of RVC's before, 45% now" in capsys.readouterr().out
    assert share_of(load_adapter(out), base.network) == pytest.approx(0.45, rel=1e-3)
    assert command(file, "--output", out) == 2 and "exists" in capsys.readouterr().err
    assert command(out, "--noise", "1", "--output", tmp_path / "back.safetensors") == 0
    back = load_adapter(tmp_path / "back.safetensors")
    assert set(back.tensors) == set(adapter.tensors)
    for noise in ("0", "nan", "5"):
        assert command(file, "--noise", noise, "--output", tmp_path / "c.safetensors") == 2
    foreign, _ = saved(tmp_path)
    assert command(foreign, "--output", tmp_path / "c.safetensors") == 2
    assert "was trained on base" in capsys.readouterr().err
    assert not (tmp_path / "c.safetensors").exists()
    assert "noise that the voice is heard with" in describe_adapter(out)[-1]
    assert json.loads(back.metadata["lora_config"])["targets"].keys() == {"flow", "spk_row"}
