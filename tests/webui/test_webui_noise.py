"""The panel's noise: of whatever is loaded, said, refused, and kept by a merged voice."""

import json

import pytest
import torch
from panel_data import BASE_NAME, LIBRARY, NOTHING, files, needs_gradio, panel, voices  # noqa: F401  (fixtures)
from voice_data import BASE, make_adapter

from LoraModel.conversion.noise import with_noise
from LoraModel.inference import VoiceLoader
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import UserError
from LoraModel.models import load_base


def test_the_noise_acts_on_whatever_is_loaded_and_a_merged_voice_keeps_it(voices, files):  # noqa: F811
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
def test_what_is_no_noise_is_refused(voices, wrong):  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    voices.set_noise(0.7)
    with pytest.raises(UserError, match="noise"):
        voices.set_noise(wrong)
    assert voices.noise == voices.state.noise == 0.7
    voices.set_noise(0)


def test_a_base_whose_noise_cannot_be_set_is_heard_without_it(voices):  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    with torch.no_grad():
        list(voices.vc.net_g.enc_p.encoder.norm_layers_2)[-1].beta.zero_()
    with pytest.raises(UserError, match="cannot be set"):
        voices.set_noise(0.5)
    assert voices.noise == 0 and voices.state.adapter == "lora/anna.safetensors"


def test_a_merged_voice_says_and_is_heard_with_what_is_asked_for(voices):  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    with pytest.raises(UserError, match="nothing to merge"):
        voices.unload() and voices.merge("nothing")
    voices.set_noise(0.5)  # the base alone can be merged with a noise
    path = voices.merge("calmer")
    assert torch.load(str(path), weights_only=True)["voice_noise"] == 0.5
    voices.set_noise(0)
    state = voices.load("weights/calmer.pth")
    assert state.heard == 0.5 and state.noise == 0
    voices.set_noise(1.0)
    assert voices.state.heard == 1.0
    again = VoiceLoader(load_base(path, LIBRARY), LIBRARY)
    plain = VoiceLoader(load_base(BASE, LIBRARY, config_json=BASE.parent / "config.json"), LIBRARY)
    torch.manual_seed(0)
    given = torch.randn(1, 40, 768), torch.randint(1, 255, (1, 40)), torch.tensor([40])
    again.set_adapters([], noise=1.0)
    scales = [loader.network.enc_p(*given)[1] for loader in (again, plain)]
    torch.testing.assert_close(scales[0], scales[1], atol=0.02, rtol=0)  # the file is of fp16


def test_a_file_of_nonsense_leaves_the_panel_usable(voices, files):  # noqa: F811
    """Finite weights and a right checksum, and a noise beyond all numbers."""
    plain = load_adapter(files / "assets/lora/anna.safetensors")
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    wild = with_noise(plain, voices.vc.net_g, 0.45)
    for name in wild.tensors:
        if name.startswith("enc_p.proj"):
            wild.tensors[name] = wild.tensors[name] * 300
    save_adapter(files / "assets/lora/wild.safetensors", wild.tensors, wild.config, wild.metadata)
    state = voices.load(BASE_NAME, "lora/wild.safetensors", 1.0)
    assert 0 <= state.heard < 1e-3 and voices.load(BASE_NAME, "lora/anna.safetensors", 1.0).heard == 1


@needs_gradio
def test_the_noise_acts_on_what_is_loaded_and_is_said(files):  # noqa: F811
    made, names = panel(files)
    slider = made.noise
    events = {event["api_name"]: event for event in names["app"].config["dependencies"] if event["api_name"]}
    assert len(events["lora_noise"]["inputs"]) == 1 and len(events["lora_noise"]["outputs"]) == 2
    assert "for voices that are chosen here" in slider.ask(0.5)[0] and made.voices.noise == 0.5  # none is loaded
    assert made.load(BASE_NAME, "lora/anna.safetensors", 1)[0].endswith("strength 1\nrandom noise 0.5 of RVC's own")
    assert slider.change(0)[0].endswith("strength 1") and made.voices.state.noise == 0
    assert slider.settle(0, 0) == [NOTHING, NOTHING, 0, NOTHING]
    said, answered, acted, _ = slider.settle(0.3, 0)  # a change that the page dropped
    assert "noise 0.3" in said and answered and acted == 0.3
    # refused, the slider goes back, and that change says nothing over the error
    said, _, acted, back = slider.settle(9, 0.3)
    assert "Error" in said and acted == back["value"] == made.voices.noise == made.page_opened()[13] == 0.3
    assert slider.change(0.3) == slider.settle(0.3, None) == [NOTHING, NOTHING, 0.3, NOTHING]
    # another page or a script set another noise: this page's slider was acted on, and does not undo that
    assert "noise 0.8" in slider.ask(0.8)[0] and slider.settle(0.3, 0.3)[:2] == [NOTHING, NOTHING]
    assert made.voices.noise == 0.8 and "0.3" in slider.ask(0.3)[0]
    assert "the base alone\nrandom noise 0.3" in made.take_off()[0]
    assert "noise" not in slider.change(0)[0]
    anna = load_adapter(files / "assets/lora/anna.safetensors")
    calm = with_noise(anna, made.voices.vc.net_g, 0.45)  # as training makes them
    save_adapter(files / "assets/lora/calm.safetensors", calm.tensors, calm.config, calm.metadata)
    assert made.load(BASE_NAME, "lora/calm.safetensors", 1)[0].endswith("strength 1\nrandom noise 0.45 of RVC's own")
    assert "Rank: balanced: dec_in 2, flow 2, resblocks 1, ups 3\n" in made._details(
        "lora/calm.safetensors")  # its noise is no rank that was trained
    assert made.change_strength(BASE_NAME, "lora/calm.safetensors", 0.5)[0].endswith("random noise 0.67 of RVC's own")


def test_a_merged_voice_tells_its_pitch_as_its_adapter_does(voices, files):  # noqa: F811
    pitch = {"median": 110.0, "low": 90.0, "high": 140.0}
    make_adapter(files / "assets/lora/deep.safetensors", LIBRARY, 8, name="deep", pitch=json.dumps(pitch))
    voices.load(BASE_NAME, "lora/deep.safetensors", 1.0)
    merged = voices.merge("deep")
    assert VoiceLoader(merged, LIBRARY).pitch.median == 110.0
    voices.load("weights/deep.pth")
    assert voices.state.base == "weights/deep.pth"
