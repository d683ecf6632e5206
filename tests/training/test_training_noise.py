"""A run's adapter is heard with less of RVC's noise, and its figures are those of that sound."""

import json

import pytest
import torch
from training_data import BASE, make_experiment, one_thread, settings

from LoraModel.conversion.noise import share_of
from LoraModel.host import find_host
from LoraModel.inference import VoiceLoader
from LoraModel.lora import load_adapter
from LoraModel.lora.lora_utils import taken_off
from LoraModel.messages import UserError
from LoraModel.training import TrainConfig, prepare

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=1.0)


def trained(voice, output, **more):
    trainer = prepare(TrainConfig.from_dict(settings(voice, output, epochs=1, init_speaker=0, **more)))
    trainer.run()
    return trainer


def test_the_file_sounds_as_it_was_judged(voice, tmp_path):
    runs = {noise: trained(voice, tmp_path / str(noise), noise=noise) for noise in (0.45, 1.0)}
    less, own = (load_adapter(trainer.adapter_path) for trainer in runs.values())
    assert set(less.tensors) - set(own.tensors) == {
        f"enc_p.{layer}.lora_{factor}.weight" for layer in ("emb_phone", "proj") for factor in "AB"}
    for name, tensor in own.tensors.items():  # what is learnt does not depend on it
        assert torch.equal(less.tensors[name], tensor), name
    errors = [trainer.base_heldout for trainer in runs.values()]
    assert errors[0] == errors[1]  # the base alone has RVC's own noise
    assert runs[0.45].best != runs[1.0].best
    trainer = runs[0.45]
    assert json.loads(less.metadata["heldout"])["adapter"] == pytest.approx(trainer.best)
    assert share_of(less, trainer.model.network) == pytest.approx(0.45, rel=1e-3)
    # the file, applied to the base as a conversion does it
    loader = VoiceLoader(BASE, find_host())
    loader.set_adapters([(trainer.adapter_path, 1.0)])
    with taken_off(trainer.model.injection):
        clips = trainer.heldout.measure(loader.network)
    assert sum(clip.error for clip in clips) / len(clips) == pytest.approx(trainer.best, abs=2e-3)
    assert not trainer.model.network.enc_p._forward_hooks


@pytest.mark.parametrize("more", [
    {"lora": {"r": 1, "lora_alpha": 1, "targets": {"enc_p_io": True, "spk_row": True}}},
    {"lora": {"r": 1, "lora_alpha": 1, "targets": {"flow": True}}},
])
def test_where_the_layer_itself_is_trained_it_stays(voice, tmp_path, more):
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", epochs=1, **more)))
    own = "enc_p_io" in more["lora"]["targets"]
    assert trainer.noise == (1.0 if own else 0.45)
    assert (b"enc_p.proj" in trainer.adapter_contents()) and (
        b"enc_p_io" in trainer.adapter_contents())


def test_what_cannot_be():
    for noise in (0, -1, 4.5, "a", True, float("nan")):
        with pytest.raises(UserError, match="noise"):
            TrainConfig(noise=noise)
