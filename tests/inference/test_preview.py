"""A few seconds of a voice in its adapter's own file."""

import io

import soundfile
import torch
from voice_data import BASE, make_adapter

from LoraModel.inference import preview
from LoraModel.lora.adapter_file import read_preview
from LoraModel.lora.adapter_metadata import MAX_PREVIEW


def test_a_preview_is_the_voice_and_small_and_the_same_each_time(tmp_path, library):
    adapter = make_adapter(tmp_path / "a.safetensors", library, 1)
    previewer, sounds = preview.Previewer(library), []
    for _ in range(2):
        count = previewer.add(adapter, BASE)
        sounds.append(read_preview(adapter))
        assert count == len(sounds[-1]) <= MAX_PREVIEW
    assert sounds[0] == sounds[1]
    audio, rate = soundfile.read(io.BytesIO(sounds[0]))
    assert 2 < len(audio) / rate <= preview.SECONDS and abs(audio).max() > 0.01


def test_without_opus_flac_of_what_fits(monkeypatch):
    sound = torch.randn(5 * 40000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    monkeypatch.setattr(preview.soundfile, "available_subtypes", lambda kind: {})
    made = preview.encoded(sound, 40000)
    assert made[:4] == b"fLaC" and 20_000 < len(made) <= MAX_PREVIEW


def test_where_nothing_can_be_converted_the_file_stays_as_it_is(tmp_path, library, capsys):
    adapter = make_adapter(tmp_path / "a.safetensors", library, 1)
    before = adapter.read_bytes()
    assert preview.Previewer(library).try_to_add(adapter, tmp_path / "no_base.pth") == 0
    assert adapter.read_bytes() == before and "carries no preview" in capsys.readouterr().err
