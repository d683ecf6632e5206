"""What the demo makes is what the page shows, and its report opens where somebody sits before a screen."""

import sys

import numpy as np
import pytest
import soundfile
from voice_data import BASE, make_adapter

from LoraModel.demo import demo
from LoraModel.inference import VoiceLoader
from LoraModel.models.catalog import Catalog
from LoraModel.models.voice_file import save_model
from LoraModel.webui import app_demo


def test_the_demos_voice_is_in_the_pages_lists(tmp_path, library):
    folder, data = tmp_path / "demo_output", tmp_path / "app_data"
    folder.mkdir()
    adapter = make_adapter(folder / "adapter.safetensors", library, 1)
    voice = VoiceLoader(BASE, library)
    voice.set_adapters([(adapter, 1.0)])
    save_model(folder / "merged.pth", voice.as_model())
    place = demo.show_in_app(data, folder)
    assert place == data / "assets" / "lora" / "demo_voice.safetensors" and place.read_bytes() == adapter.read_bytes()
    catalog = Catalog(data, data / "assets" / "weights")
    assert [name for name in catalog.adapters() if "demo_voice" in name] and catalog.full_voices() == ["demo_voice.pth"]
    for name in app_demo.RECORDINGS:
        soundfile.write(str(folder / name), np.zeros(1600, np.float32), 16000)
    demo.show_in_app(data, folder)  # a second demo takes the first one's place
    assert len(list(data.rglob("demo_voice*"))) == 2
    assert sorted(path.name for path in (data / "demo").iterdir()) == sorted(app_demo.RECORDINGS)


def test_the_app_opens_with_the_demos_voice_loaded_and_its_recordings_to_play(tmp_path, library, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app

    for name in ("weight_root", "index_root", "RVC_LORA_LANG"):
        monkeypatch.setenv(name, "en")
    kept = {}

    def heard():
        return [entry["props"]["label"] for entry in app.build(tmp_path, kept).config["components"]
                if entry["type"] == "audio" and entry["props"].get("value")]

    def told():
        return "How to begin" in str(app.build(tmp_path, kept).config["components"][0]["props"])

    assert heard() == [] and app_demo.load_voice(kept["voices"]) is False  # no demo yet
    assert told()
    make_adapter(tmp_path / "assets/lora/demo_voice.safetensors", library, 1)
    (tmp_path / "demo").mkdir()
    for name in app_demo.RECORDINGS:
        soundfile.write(str(tmp_path / "demo" / name), np.zeros(1600, np.float32), 16000)
    assert heard() == [str(label) for label in app_demo.RECORDINGS.values()] and not told()
    assert app_demo.load_voice(kept["voices"]) and kept["voices"].state.adapter == "lora/demo_voice.safetensors"
    assert app_demo.load_voice(kept["voices"]) is False  # what is loaded stays


@pytest.mark.parametrize("screen, terminal, opens", [(":0", True, True), (":0", False, False), ("", True, False)])
def test_a_browser_is_opened_for_people_alone(screen, terminal, opens, monkeypatch):
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(demo.os, "name", "posix")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert demo.can_open() is opens


def test_the_reports_curves_are_those_of_the_losses_that_the_run_has():
    """A loss that was left out, such as the hold to the base's sound, has none; nor has a step without the decoder."""
    log = [{"step": 1, "total": 9.0, "kl": 1.0, "mel": 0.5, "stft": 2.0, "lr": 0.1}, {"step": 2, "kl": 1.0},
           {"step": 3, "total": 8.0, "kl": 1.0, "mel": 0.4, "stft": 2.0, "hold": 0.1}]
    assert demo.loss_curves(log) == [{"step": 1, "total": 9.0, "kl": 1.0, "mel": 0.5, "stft": 2.0},
                                     {"step": 3, "total": 8.0, "kl": 1.0, "mel": 0.4, "stft": 2.0, "hold": 0.1}]
