"""What the panel's tests share: a furnished assets/ folder, a converter with RVC's attributes, and what has to be
refused."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from voice_data import BASE, make_adapter

from LoraModel.host import Host
from LoraModel.models import load_base
from LoraModel.models.catalog import Catalog
from LoraModel.models.voice_file import small_model
from LoraModel.webui.panel.voices import Voices

LIBRARY = Host("library")
BASE_NAME = "pretrained_v2/f0G16k.pth"
NOTHING = {"__type__": "update"}
"""What an event answers for a component that stays as it is."""
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None,
                                  reason="gradio is not installed here; run.py's .venv has it")
REFUSED = [
    (BASE_NAME, "lora/other.safetensors", "trained on the base other .*the chosen base is f0G16k .*: choose the "
     "adapter's own", "训练自底模 other"),
    (BASE_NAME, "lora/damaged.safetensors", "not a usable RVC-LoRA adapter .*checksum",
     "不是可用的 RVC-LoRA 适配器（校验和与内容不符）"),
    (BASE_NAME, "lora/fast.safetensors", "is for 24000 Hz, the base f0G16k gives 16000 Hz", "采样率为 24000 Hz"),
    ("weights/other.pth", "lora/anna.safetensors", "trained on the base f0G16k .*the chosen base is other",
     "训练自底模 f0G16k"),
]
"""(base, adapter, what is said in English, in Chinese)"""


def furnish(root):
    """assets/ with the demo's base, another base, full voices, adapters of each, one of another rate and a damaged
    one."""
    bases, loras, weights = root / "assets/pretrained_v2", root / "assets/lora", root / "assets/weights"
    for folder in (bases, loras / "mine", weights):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(str(BASE), str(bases))
    shutil.copy(str(BASE.parent / "config.json"), str(bases))
    base = load_base(BASE, LIBRARY, config_json=BASE.parent / "config.json")
    torch.save(small_model(base.network, base.info, "a voice"), str(weights / "lisa.pth"))
    with torch.no_grad():
        base.network.dec.conv_pre.bias += 1
    torch.save(small_model(base.network, base.info, "another voice"), str(weights / "other.pth"))
    config = list(base.info.config)
    # upsampling by 240, a hundredth of a second at 24 kHz
    config[12], config[14], config[-1] = [10, 6, 2, 2], [20, 12, 4, 4], 24000
    fast = LIBRARY.build_synthesizer(config, "v2", True)
    torch.save({**small_model(fast, base.info, "of 24 kHz"), "config": config, "sr": "24k"}, str(weights / "fast.pth"))
    make_adapter(loras / "anna.safetensors", LIBRARY, 1, name="anna", speaker=3, epochs=40, steps=480,
                 preset="balanced",
                 heldout=json.dumps({"base": 0.861, "adapter": 0.524}), created="2026-11-22T21:14:05+00:00")
    make_adapter(loras / "mine" / "bert.safetensors", LIBRARY, 2, name="bert")
    make_adapter(weights / "lisa_last.safetensors", LIBRARY, 3, base=weights / "lisa.pth")
    make_adapter(loras / "fast.safetensors", LIBRARY, 4, base=weights / "fast.pth")
    make_adapter(loras / "other.safetensors", LIBRARY, 5, base=weights / "other.pth")
    make_adapter(loras / "homeless.safetensors", LIBRARY, 6, base_name="f0Gone", base_hash="0" * 64)
    data = bytearray((loras / "anna.safetensors").read_bytes())
    data[-300] ^= 255
    (loras / "damaged.safetensors").write_bytes(data)


class Converter:
    """RVC's `VC`, as much as the panel touches."""

    def __init__(self, half=False):
        self.config = SimpleNamespace(device="cpu", is_half=half)
        self.net_g = self.tgt_sr = self.if_f0 = self.version = self.n_spk = None
        self.cpt = self.pipeline = self.hubert_model = None


class Pipeline:
    """Where `Converter` comes from stands a `Pipeline`, as beside RVC's `VC`."""

    def __init__(self, rate, config):
        self.rate = rate


def panel(files, language="en_US", **more):
    """The panel in a page of its own with RVC's components around it -> (panel, the script's names)."""
    import gradio as gr

    from LoraModel.webui.panel import inference_panel

    names = {"vc": Converter(), "i18n": SimpleNamespace(language=language), "rvc_lora_host": LIBRARY,
             "rvc_lora_root": files, **more}
    with gr.Blocks() as app:
        names["app"], names["sid0"], names["spk_item"] = app, gr.Dropdown(choices=[]), gr.Slider(0, 9)
        names["clean_button"], names["refresh_button"] = gr.Button(), gr.Button()
        inference_panel.build(names)
        for name in ("file_index1", "file_index2", "file_index3", "file_index4"):
            names[name] = gr.Textbox()
        names["protect0"], names["protect1"] = gr.Slider(0, 1), gr.Slider(0, 1)
        inference_panel.attach(names)
    return names[inference_panel.PANEL], names


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A furnished assets/ folder."""
    root = tmp_path_factory.mktemp("panel")
    furnish(root)
    return root


@pytest.fixture
def voices(files):
    """The panel's voices on it, without a page."""
    return Voices(Converter(), LIBRARY, Catalog(files))
