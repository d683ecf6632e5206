"""bench/recipe_words.py: the comparison worked out by hand, what the remedies change, and a whole quick run."""

import json
import math

import pytest
import torch

from bench import recipe_words
from bench.remedies import Pair, lora_training
from bench.small_discriminator import SmallDiscriminator
from bench.voices import quick_inputs
from LoraModel.messages import cli
from LoraModel.training import TrainConfig, prepare


def test_words_are_compared_sentence_by_sentence():
    voices = {"a": {"base alone": {"edits": [1, 0], "words": [10, 10]}, "one": {"edits": [2, 1], "words": [10, 10]}}}
    more = recipe_words.more_errors(voices, "one", "base alone")
    assert (more.value, more.low, more.high) == pytest.approx((0.1, 0.1, 0.1))  # one word more in each sentence
    assert recipe_words.more_errors({"a": {"base alone": {}, "one": {}}}, "one", "base alone") is None


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voice")
    base, _, (data,) = quick_inputs(folder)
    torch.manual_seed(0)
    small = folder / "small.pt"
    torch.save({"model": SmallDiscriminator().state_dict()}, str(small))
    return base, data, small


@pytest.mark.parametrize("beside, learns", [("whole", True), ("frozen", False)])
def test_the_small_discriminator_learns_only_where_it_should(voice, tmp_path, beside, learns):
    base, data, small = voice
    trainer = prepare(TrainConfig(base_model=str(base), data_dir=str(data), output_dir=str(tmp_path), preset="clear",
                                  epochs=1, batch_size=2, c_hold=10.0))
    lora_training(trainer, {"beside": beside, "variance": 1.0, "adversarial": 0.25}, small, 1, beside)
    losses = trainer.step([0, 1])
    assert {"mel", "stft", "fm", "hold", "variance", "kl"} < set(losses) and ("gen" in losses) == learns
    assert all(math.isfinite(value) for value in losses.values())
    pair = trainer.objective._pair.small.state_dict()
    same = all(torch.equal(value, pair[name]) for name, value in Pair(small).small.state_dict().items())
    assert same != learns
    names = ("mel", "stft", "fm", "gen", "variance", "hold", "kl")
    weights = dict(zip(names, (45.0, 5.0, 0.25, 0.25, 1.0, 10.0, 1.0)))
    assert losses["total"] == pytest.approx(sum(weights[name] * losses[name] for name in names if name in losses),
                                            rel=1e-4)


def test_a_quick_run(tmp_path, capsys):
    options = ["--quick", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "all.json")]
    assert cli(recipe_words.main, options) == 0
    recipes = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["voices"]["tones"]
    assert list(recipes) == ["base alone", "clear", "hold"]
    assert recipes["clear"]["steps"] == 1 and recipes["clear"]["heldout_mel"] != recipes["hold"]["heldout_mel"]
    assert all(math.isfinite(recipes["hold"][key]) for key in ("global_variance", "frame_contrast", "seconds"))
    assert "base alone" in capsys.readouterr().out
