"""A folder of adapters as a model card and a page: both say what the files say, and what a stranger wrote is text."""

import base64
import html
import json

import pytest
from adapter_data import CONFIG, METADATA, tiny

from LoraModel import card
from LoraModel.conversion.peft_config import NAME, peft_config
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import UserError
from LoraModel.scripts import convert_model

SOUND = b"OggS" + bytes(100)
ATTACK = "<script>alert(1)</script> [x](javascript:1) ![y](http://z) | `"


def write(folder, name, **words):
    _, tensors = tiny(0)
    return save_adapter(folder / f"{name}.safetensors", tensors, CONFIG, {**METADATA, "name": name, **words})


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "anna", license="CC-BY-4.0", language="en", tags="calm, woman", consent="own voice",
          preview=base64.b64encode(SOUND).decode())
    write(tmp_path, "bob", license="CC-BY-4.0", notes=ATTACK, author=ATTACK)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    return tmp_path


def front_matter(text):
    """The front matter as YAML reads it: each line a key and a JSON value."""
    lines = text.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}


def test_a_card_and_a_gallery(folder, capsys):
    assert card.main([str(folder), "--title", "Our voices"]) == 0
    out, err = capsys.readouterr()
    assert "2 voices" in out and "broken.safetensors" in err
    readme = (folder / "README.md").read_text(encoding="utf-8")
    front = front_matter(readme)
    assert front["license"] == "cc-by-4.0" and front["language"] == ["en"] and front["pipeline_tag"] == "audio-to-audio"
    assert {"rvc", "lora", "calm", "woman"} <= set(front["tags"]) and front["base_model"] == [METADATA["base_name"]]
    assert "# Our voices" in readme and "| anna |" in readme and "own voice" in readme
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 1 and base64.b64encode(SOUND).decode() in page
    assert page.count("data-words=") == 2 and 'id="search"' in page
    assert "http://" not in page.replace(html.escape(ATTACK), "").replace(html.escape(ATTACK.lower()), "").replace(
        "http://www.w3.org", "")  # nothing comes from the network


def test_a_strangers_words_are_words(folder):
    card.main([str(folder)])
    page, readme = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "README.md"))
    assert "<script>alert" not in page and html.escape("<script>alert(1)</script>") in page
    assert "<script>" not in readme.replace(r"\<script\>", "") and r"\[x\]\(" not in readme
    assert r"\[x\](javascript" in readme and r"\!\[y\]" in readme


def test_files_of_the_users_own_are_kept(folder):
    (folder / "README.md").write_text("mine")
    with pytest.raises(UserError, match="was not made by this command"):
        card.main([str(folder)])
    assert (folder / "README.md").read_text() == "mine" and not (folder / "index.html").exists()
    assert card.main([str(folder), "--force"]) == 0 and card.main([str(folder)]) == 0
    with pytest.raises(UserError, match="holds no adapters"):
        (folder / "empty").mkdir()
        card.main([str(folder / "empty")])


def test_pefts_shape_on_request(folder, capsys):
    output = folder / "out" / "anna8.safetensors"
    output.parent.mkdir()
    assert convert_model.main(["adapter", str(folder / "anna.safetensors"), "--output", str(output), "--peft", "--tags",
                               "new", "--no_preview"]) == 0
    said = capsys.readouterr().out
    assert "PEFT itself cannot load this adapter" in said
    found = json.loads((output.parent / NAME).read_text(encoding="utf-8"))
    adapter = load_adapter(output)
    assert adapter.metadata["tags"] == "new" and "preview" not in adapter.metadata
    assert found == peft_config(adapter) and found["peft_type"] == "LORA"
    for path in adapter.layers():
        target = adapter.config.targets[adapter.config.target_of(path)]
        if adapter.config.target_of(path) != "spk_row":
            assert path in found["target_modules"]
            assert found["rank_pattern"].get(path, found["r"]) == target.r
            assert found["alpha_pattern"].get(path, found["lora_alpha"]) == target.lora_alpha
