"""bench/words.py: what is converted and compared, on a listener that hears what it is told to."""

import json

import numpy as np
import pytest
from training_data import BASE

from bench import words
from LoraModel.host import find_host
from LoraModel.inference.audio import audio_files, read_audio
from LoraModel.lora import LoRAConfig, extract, inject, save_adapter
from LoraModel.messages import cli
from LoraModel.models import load_base_beside_config

RECORDINGS = BASE.parents[1] / "recordings"


def test_sentences_are_joined_with_pauses():
    found = words.joined([np.ones(3), 2 * np.ones(2), np.ones(1)], 2)
    assert [len(part) for part in found] == [5 + words.PAUSE, 1] and not found[0][3:-2].any()


def test_a_difference_is_paired():
    found = words.difference([2, 1], [1, 0], [10, 10], "more")  # one word more in each sentence
    assert [found[key] for key in ("more", "more_low", "more_high")] == pytest.approx([0.1, 0.1, 0.1])


class Listener:
    """Hears the first three words of each text; of what was converted the first two."""

    heard = 0

    def __init__(self, folder):
        pass

    def hear(self, audio, sr, language=None):
        Listener.heard += 1
        return ("one two" if Listener.heard > self.real else "one two three"), "en"


def test_adapters_at_shares_of_noise(tmp_path, monkeypatch, capsys):
    base = load_base_beside_config(BASE, find_host())
    injection = inject(base.network, LoRAConfig(r=1, lora_alpha=1, targets={"flow": True}))
    tensors = {name: tensor.detach().clone() for name, tensor in injection.tensors().items()}
    extract(base.network)
    info = base.info
    file = save_adapter(tmp_path / "a.safetensors", tensors, injection.config, {
        "name": "a", "base_hash": info.base_hash, "base_name": info.name, "rvc_version": "v2", "sample_rate": 16000,
        "f0": 1, "speaker": 0})
    sound = read_audio(audio_files(RECORDINGS / "source")[0], 16000)[:16000]
    person = tmp_path / "person"
    person.mkdir()
    words.soundfile.write(str(person / "one.wav"), sound, 16000)
    (person / "one.txt").write_text("one two three", encoding="utf-8")
    texts = tmp_path / "sentences.txt"
    texts.write_text("one two three\nfour two three", encoding="utf-8")
    monkeypatch.setattr(words, "SENTENCES", texts)
    monkeypatch.setattr(words, "spoken", lambda voice, texts, folder: [sound] * len(texts))
    monkeypatch.setattr(words, "Listener", Listener)
    Listener.heard, Listener.real = 0, 5 + 2 + 5  # source, target, base
    out = tmp_path / "all.json"
    assert cli(words.main, ["--asr", "x", "--adapters", str(file), "--noise", "1", "0.45", "--each", "--person",
                            str(person), "--no_judges", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["sentences"] == 5  # two by each of two voices, and the person's
    # of the five three-word texts two begin with another word than the one that is heard
    assert found["source"]["word_error"] == pytest.approx(2 / 15, abs=1e-4) == found["base"]["word_error"]
    for name in ("adapter 1, noise 1", "adapter 1, noise 0.45"):
        assert found[name]["word_error"] == pytest.approx(7 / 15, abs=1e-4)
        assert found[name]["more"] == pytest.approx(1 / 3, abs=1e-4)
        assert found[name]["than_first"] == 0
    assert "all adapters" not in found  # of shares there is no mean
    assert found["adapter 1, noise 1"]["hnr_db"] != found["adapter 1, noise 0.45"]["hnr_db"]
    assert "word_error" in capsys.readouterr().out
    Listener.heard, Listener.real = 0, 5 + 2 + 2 * 5  # the base is converted twice
    assert cli(words.main, ["--asr", "x", "--adapters", str(file), str(file), "--each", "--person", str(person),
                            "--conversions", "2", "--no_judges", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert Listener.heard == 5 + 2 + 3 * 2 * 5
    assert found["all adapters"]["word_error"] == found["adapter 2"]["word_error"] == pytest.approx(7 / 15, abs=1e-4)
    assert found["all adapters"]["more"] == pytest.approx(1 / 3, abs=1e-4)


def test_conversions_and_trainings_count_by_their_mean():
    assert words.means([[1, 0, 4], [3, 0, 0]]) == [2, 0, 2]
    row = words.words_row(words.means([[1, 0], [2, 1]]), [10.0, 10.0])
    assert row["word_error"] == pytest.approx(0.1)
