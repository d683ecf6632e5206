"""bench/pretrain_small.py: a base that loads comes out, a stopped run goes on, and changed features keep their time."""

import json

import numpy as np
import pytest
import torch
from voice_data import SOURCE

from bench import pretrain_small, small_corpus
from bench.small_discriminator import SmallDiscriminator
from LoraModel.host import find_host
from LoraModel.inference import audio as audio_io
from LoraModel.inference import content_encoder
from LoraModel.messages import UserError, cli
from LoraModel.models import load_base


def test_a_run_gives_a_base_and_goes_on(tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--quick", "--out", str(out), "--synthetic_rows", "2", "3", "--json", str(tmp_path / "figures.json")]
    assert cli(pretrain_small.main, options) == 0
    first = json.loads((tmp_path / "figures.json").read_text())
    assert first["steps"] >= 1 and all(np.isfinite(value) for value in first.values())
    table = load_base(out / "f0G16k.pth", find_host(), config_json=out / "config.json").network.emb_g.weight
    assert torch.allclose(table[0], (table[2] + table[3]) / 2, atol=1e-3) and torch.equal(table[0], table[9])

    assert cli(pretrain_small.main, options) == 0  # its time is used: nothing further is done
    assert json.loads((tmp_path / "figures.json").read_text())["steps"] == first["steps"]
    assert "0 steps in this call" in capsys.readouterr().out


def test_other_voices_are_refused(tmp_path):
    voices = pretrain_small.made_up_voices(tmp_path / "voices")
    assert [row for row, _ in small_corpus.voices_of(voices)] == [0, 1]
    (voices / "nobody").mkdir()
    with pytest.raises(UserError, match="nobody"):
        small_corpus.voices_of(voices)


def test_changed_features_are_the_same_words_at_the_same_time():
    speech = torch.from_numpy(audio_io.read_audio(SOURCE, 16000)[:64000 // 320 * 320])
    weights, rng = content_encoder.weights(), np.random.default_rng(3)
    plain = small_corpus.encoded(speech, weights, rng, False).float()
    assert torch.allclose(plain, content_encoder.encode(speech[None])[0, : len(plain)], atol=0.6)

    def alike(other, shift):
        a, b = plain[20 + shift:160 + shift], other[20:160]
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    for _ in range(3):
        changed = small_corpus.encoded(speech, weights, rng, True).float()
        assert alike(changed, 0) > 0.5 and alike(changed, 0) > max(alike(changed, -10), alike(changed, 10)) + 0.2


def test_what_the_discriminator_hears_reaches_the_audio():
    audio = torch.randn(2, 1, 5120, requires_grad=True)
    scores = SmallDiscriminator()(audio)
    assert len(scores) == 9 and all(len(features) in (4, 5) for _, features in scores)
    sum(score.mean() for score, _ in scores).backward()
    assert audio.grad.abs().sum() > 0
