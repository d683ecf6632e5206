"""What the demo makes is what the page shows, and its report opens where somebody sits before a screen."""

import sys

import pytest
from voice_data import BASE, make_adapter

from LoraModel.demo import demo
from LoraModel.inference import VoiceLoader
from LoraModel.models.voice_file import save_model
from LoraModel.webui.catalog import Catalog


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
    demo.show_in_app(data, folder)  # a second demo takes the first one's place
    assert len(list(data.rglob("demo_voice*"))) == 2


@pytest.mark.parametrize("screen, terminal, opens", [(":0", True, True), (":0", False, False), ("", True, False)])
def test_a_browser_is_opened_for_people_alone(screen, terminal, opens, monkeypatch):
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(demo.os, "name", "posix")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert demo.can_open() is opens
