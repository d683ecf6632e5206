"""The speaker's row of a voice, of a blend and of a merged model: RVC converts with row 0."""

import numpy as np
import pytest
import torch
from voice_data import BASE, go, make_adapter

from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.lora import load_adapter
from LoraModel.models.voice_file import save_model, small_model


@pytest.fixture(scope="module")
def rows(tmp_path_factory, library):
    """Two voices, trained on rows 3 and 5 of the table."""
    folder = tmp_path_factory.mktemp("rows")
    return [make_adapter(folder / f"{row}.safetensors", library, row, speaker=row) for row in (3, 5)]


def trained_row(path, base_table):
    """What training saw: the base's row and the adapter's delta of it."""
    adapter = load_adapter(path)
    return base_table[adapter.speaker] + adapter.tensors["emb_g.lora_row.weight"][0].float()


def test_a_voice_is_in_row_0_and_in_its_own(voice, rows):
    table = voice.network.emb_g.weight.detach().clone()
    voice.set_adapters([(rows[0], 1.0)])
    now = voice.network.emb_g.weight.detach()
    wanted = trained_row(rows[0], table)
    assert voice.speaker == 3
    torch.testing.assert_close(now[0], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(now[3], wanted, rtol=0, atol=1e-6)
    others = [row for row in range(len(table)) if row not in (0, 3)]
    assert torch.equal(now[others], table[others])
    voice.unload()
    assert torch.equal(voice.network.emb_g.weight, table)


def test_rows_of_a_blend_weigh_as_its_strengths(voice, rows):
    table = voice.network.emb_g.weight.detach().clone()
    voice.set_adapters([(rows[0], 0.001), (rows[1], 1.0)])
    wanted = table[0] + 0.001 * (trained_row(rows[0], table) - table[0]) + (trained_row(rows[1], table) - table[0])
    for row in (0, 3, 5):
        torch.testing.assert_close(voice.network.emb_g.weight[row].detach(), wanted, rtol=0, atol=1e-6)
    far, near = (float((wanted - trained_row(path, table)).norm()) for path in rows)
    assert near < 0.05 * far  # nearly the second voice's alone


def test_a_merged_voice_sounds_as_the_voice_did_with_row_0(voice, rows, library, speech, tmp_path):
    voice.set_adapters([(rows[0], 1.0)])
    live = go(voice, speech)
    save_model(tmp_path / "merged.pth", small_model(voice.network, voice.info, "row 3"))
    merged = VoiceLoader(tmp_path / "merged.pth", library)
    assert merged.speaker == 0
    assert float(np.abs(go(merged, speech) - live).mean()) < 0.002
    voice.unload()
    assert float(np.abs(go(voice, speech, ConvertOptions()) - live).mean()) > 0.01


def test_base_is_not_named_by_its_rows(voice):
    assert voice.info.path.name == BASE.name and voice.speaker == 0
