"""The panel's noise: of whatever is loaded, said, refused, and kept by a merged voice."""

import json

import pytest
import torch
from panel_data import BASE_NAME, LIBRARY, NOTHING, Converter, furnish, needs_gradio, panel
from voice_data import BASE, make_adapter

from LoraModel.conversion.noise import with_noise
from LoraModel.inference import VoiceLoader
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.models.catalog import Catalog
from LoraModel.webui.panel.voices import Voices


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("panel")
    furnish(root)
    return root


@pytest.fixture
def voices(files):
    return Voices(Converter(), LIBRARY, Catalog(files))


def test_the_noise_acts_on_whatever_is_loaded_and_a_merged_voice_keeps_it(voices, files):
    assert voices.set_noise(0.5) is None and voices.noise == 0.5  # for what will be loaded
    voice = VoiceLoader(load_base(BASE, LIBRARY, config_json=BASE.parent / "config.json"), LIBRARY)

    def heard(adapter, strength, noise):
        voice.set_adapters([(files / "assets" / adapter, strength)] if adapter else [], noise=noise)
        return all(torch.equal(tensor, voice.network.state_dict()[name])
                   for name, tensor in voices.vc.net_g.state_dict().items())

    state = voices.load(BASE_NAME, "lora/anna.safetensors", 0.8)
    assert state.noise == 0.5 and heard("lora/anna.safetensors", 0.8, 0.5)
    state = voices.load(BASE_NAME, "lora/mine/bert.safetensors", 1.0)  # it stays
    assert state.noise == 0.5 and heard("lora/mine/bert.safetensors", 1.0, 0.5)
    assert voices.set_noise(1.5).noise == 1.5 and heard("lora/mine/bert.safetensors", 1.0, 1.5)
    path = voices.merge("loud")
    assert "noise 1.5" in torch.load(str(path), weights_only=True)["info"]
    path.unlink()
    voices.unload()
    assert heard("", 1.0, 1.5)
    assert voices.set_noise(0).noise == 0 and heard("", 1.0, None) and voices.state.heard == 1


@pytest.mark.parametrize("wrong", [-0.1, 0.01, 1.6, float("nan"), None, "much", [1], {}])
def test_what_is_no_noise_is_refused(voices, wrong):
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    voices.set_noise(0.7)
    with pytest.raises(UserError, match="noise"):
        voices.set_noise(wrong)
    assert voices.noise == voices.state.noise == 0.7
    voices.set_noise(0)


def test_a_base_whose_noise_cannot_be_set_is_heard_without_it(voices):
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    with torch.no_grad():
        list(voices.vc.net_g.enc_p.encoder.norm_layers_2)[-1].beta.zero_()
    with pytest.raises(UserError, match="cannot be set"):
        voices.set_noise(0.5)
    assert voices.noise == 0 and voices.state.adapter == "lora/anna.safetensors"


@needs_gradio
def test_the_noise_acts_on_what_is_loaded_and_is_said(files):
    made, names = panel(files)
    events = {event["api_name"]: event for event in names["app"].config["dependencies"] if event["api_name"]}
    assert len(events["lora_noise"]["inputs"]) == 1 and len(events["lora_noise"]["outputs"]) == 2
    assert made.noise.change(0.5)[0] == NOTHING and made.voices.noise == 0.5  # nothing of ours is loaded
    assert made.load(BASE_NAME, "lora/anna.safetensors", 1)[0].endswith("strength 1\nnoise 0.5 of RVC's own")
    assert made.noise.change(0)[0].endswith("strength 1") and made.voices.state.noise == 0
    assert made.noise.settle(0) == [NOTHING, NOTHING]
    assert "noise 0.3" in made.noise.settle(0.3)[0]  # a change that the page dropped
    assert "Error" in made.noise.settle(9)[0] and made.noise.settle(9) == [NOTHING, NOTHING]
    assert made.voices.noise == made.page_opened()[16] == 0.3
    assert "the base alone\nnoise 0.3" in made.take_off()[0]
    assert "noise" not in made.noise.change(0)[0]
    anna = load_adapter(files / "assets/lora/anna.safetensors")
    calm = with_noise(anna, made.voices.vc.net_g, 0.45)  # as training makes them
    save_adapter(files / "assets/lora/calm.safetensors", calm.tensors, calm.config, calm.metadata)
    assert made.load(BASE_NAME, "lora/calm.safetensors", 1)[0].endswith("strength 1\nnoise 0.45 of RVC's own")
    assert "Rank: balanced: dec_in 2, flow 2, resblocks 1, ups 3\n" in made._details(
        "lora/calm.safetensors")  # its noise is no rank that was trained
    assert made.change_strength(BASE_NAME, "lora/calm.safetensors", 0.5)[0].endswith("noise 0.67 of RVC's own")


def test_a_merged_voice_tells_its_pitch_as_its_adapter_does(voices, files):
    pitch = {"median": 110.0, "low": 90.0, "high": 140.0}
    make_adapter(files / "assets/lora/deep.safetensors", LIBRARY, 8, name="deep", pitch=json.dumps(pitch))
    voices.load(BASE_NAME, "lora/deep.safetensors", 1.0)
    merged = voices.merge("deep")
    assert VoiceLoader(merged, LIBRARY).pitch.median == 110.0
    voices.load("weights/deep.pth")
    assert voices.state.base == "weights/deep.pth"
