"""Bases at full size, and a real adapter trained through each of RVC's four networks."""

import shutil

import pytest
import torch
from conftest import NETWORKS
from model_files import save

from LoraModel.defaults import shapes_alone
from LoraModel.lora import LiveWeights, LoRAConfig, extract, load_adapter, save_adapter
from LoraModel.messages import UserError
from LoraModel.models import (
    SynthesizerLoRA,
    load_base,
    read_checkpoint,
)
from LoraModel.models.model_utils import config_list
from LoraModel.models.synthesizer_lora import infer

# Full-size bases.


@pytest.fixture(scope="module")
def full_bases(full_network, tmp_path_factory):
    """`full_bases(version, f0)`: a pretrained base at 40k in RVC's own format, fp16, without a configuration."""
    folder = tmp_path_factory.mktemp("bases")

    def path_of(version, f0):
        path = folder / f"{version}_{'f0' if f0 else 'nono'}G40k.pth"
        if not path.exists():
            save(path, {"model": {key: value.half() for key, value in full_network(version, f0).state_dict().items()},
                        "iteration": 1, "optimizer": None, "learning_rate": 1e-4})
        return path

    yield path_of
    shutil.rmtree(str(folder))


@pytest.mark.parametrize("version,rate", [("v1", 32000), ("v1", 40000), ("v1", 48000), ("v2", 32000), ("v2", 40000),
                                          ("v2", 48000)])
@pytest.mark.parametrize("f0", [True, False])
def test_sample_rate_from_shapes(library, monkeypatch, tmp_path, version, rate, f0):
    config = config_list(library.config_for(version, rate))
    config[-3] = 7  # another number of speakers than RVC's 109
    with shapes_alone():
        shapes = library.build_synthesizer(config, version, f0).state_dict()
    from LoraModel.models.model_kind import rate_from_shapes
    from LoraModel.models.model_utils import _config_from_shapes

    found = _config_from_shapes(tmp_path, shapes, library, version, f0, None)
    assert found[-1] == rate
    assert rate_from_shapes({key: value.shape for key, value in shapes.items()}) == rate
    small = {key: value for key, value in shapes.items() if not key.startswith("enc_q.")}
    if (version, f0) == ("v1", False) and rate != 40000:
        # Without f0 there are no noise convolutions, and enc_q held the spectrogram's size: nothing tells the two
        # apart.
        with pytest.raises(UserError, match="could be of 32000 / 48000 Hz, its tensors fit both: say which with "
                           "--sample_rate"):
            _config_from_shapes(tmp_path, small, library, version, f0, None)
        assert _config_from_shapes(tmp_path, small, library, version, f0, rate)[-1] == rate
    else:
        assert _config_from_shapes(tmp_path, small, library, version, f0, None)[-1] == rate
    with pytest.raises(UserError, match=f"is a {version} base of {rate} Hz, and 44100 Hz was asked for"):
        _config_from_shapes(tmp_path, shapes, library, version, f0, 44100)


def test_full_base_with_a_wrong_key_names_it(library, full_bases, tmp_path):
    weights = read_checkpoint(full_bases("v2", False))["model"]
    for change, message in [
        ({"dec.conv_post.weight": torch.zeros(1, 3, 7)},
         r"dec.conv_post.weight has shape \(1, 3, 7\), .* wants \(1, 32, 7\)"),
        ({"dec.more": torch.zeros(2)}, r"has the key dec.more, which .* does not know"),
    ]:
        with pytest.raises(UserError, match=message):
            load_base(save(tmp_path / "x.pth", {"model": {**weights, **change}}), library)
    del weights["dec.conv_post.weight"]
    with pytest.raises(UserError, match="lacks the key dec.conv_post.weight"):
        load_base(save(tmp_path / "x.pth", {"model": weights}), library)


# Training a few steps through each network at full size.


def clips(version, f0, frames=12, batch=1):
    """Made-up tensors in the shapes of RVC's batches."""
    torch.manual_seed(11)
    return {
        "phone": torch.randn(batch, frames, 256 if version == "v1" else 768), "lengths": torch.tensor([frames - 2]),
        "pitch": torch.randint(1, 255, (batch, frames)) if f0 else None, "f0": torch.full((batch, frames), 200.0)
        if f0 else None, "spec": torch.rand(batch, 1025, frames),
    }


def losses(synthesizer, data, speaker):
    """The prior's loss and the decoder's, with the same noise each time."""
    sid = torch.tensor([speaker])
    posterior = synthesizer.posterior(data["spec"], data["lengths"])
    torch.manual_seed(12)
    z, g = posterior.sample(), synthesizer.speaker_vector(sid)
    prior = synthesizer.prior(data["phone"], data["pitch"], data["lengths"], z, posterior.mask, g)
    divergence = ((prior.z_p - prior.mean) ** 2 * torch.exp(-2 * prior.log_scale) / 2 + prior.log_scale).mean()
    audio = synthesizer.decode(z[:, :, :2], None if data["f0"] is None else data["f0"][:, :2], g)
    target = 0.3 * torch.sin(torch.arange(audio.shape[-1]) * 0.05)
    return divergence, (audio - target).abs().mean()


@pytest.mark.parametrize("version,f0", NETWORKS)
def test_train_save_load_apply_restore(library, full_bases, tmp_path, version, f0):
    base = load_base(full_bases(version, f0), library)
    assert (base.info.version, base.info.f0, base.info.sample_rate,
            base.info.has_posterior) == (version, f0, 40000, True)
    network, data, speaker = base.network, clips(version, f0), 3
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    synthesizer = SynthesizerLoRA(base, LoRAConfig.from_preset("balanced"), speaker)
    optimiser = torch.optim.Adam(synthesizer.trainable, lr=5e-3)
    history = []
    for _ in range(4):
        divergence, distance = losses(synthesizer, data, speaker)
        optimiser.zero_grad()
        (divergence + 45 * distance).backward()
        optimiser.step()
        history.append((divergence.item(), distance.item()))
    assert history[-1][0] < history[0][0] and history[-1][1] < history[0][1]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    unmoved = [name for name, parameter in synthesizer.injection.named_parameters() if parameter.grad is None
               or not parameter.any()]
    assert unmoved == []

    info = base.info
    path = save_adapter(tmp_path / "voice.safetensors", synthesizer.injection.tensors(), synthesizer.injection.config, {
        "name": "voice", "base_hash": info.base_hash, "base_name": info.name, "rvc_version": info.version,
        "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": speaker})
    adapter = load_adapter(path, info.base_hash, info.name)
    with torch.no_grad():  # the network with its branches, holding the numbers that the file holds
        for name, parameter in synthesizer.injection.tensors().items():
            parameter.copy_(adapter.tensors[name])

    def convert():
        torch.manual_seed(13)
        part = {key: None if value is None else value[:, :4] for key, value in data.items() if key != "lengths"}
        return infer(network, part["phone"], torch.tensor([4]), part["pitch"], part["f0"], torch.tensor([speaker]))

    hooked = convert()
    extract(network)
    plain = convert()
    close = {"rtol": 1e-3, "atol": 1e-4 * float(hooked.abs().max())}
    assert not torch.allclose(hooked, plain, **close)
    adapter.check(network)
    live = LiveWeights(network)
    live.write(adapter.deltas(network))
    torch.testing.assert_close(convert(), hooked, **close)
    live.write_products(adapter.products(network))
    torch.testing.assert_close(convert(), hooked, **close)
    live.restore()
    assert torch.equal(convert(), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
