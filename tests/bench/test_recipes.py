"""bench/recipes.py: the comparison worked out by hand, and a whole quick run."""

import json
import math
import sys

import pytest

from bench import recipes, remedies
from bench.voices import quick_inputs
from LoraModel.training import Trainer


def arm(errors, seconds, base=(1.0, 1.0)):
    return {"base_errors": list(base), "errors": list(errors), "seconds_step": seconds}


def test_each_recipe_is_set_beside_the_first():
    voices = {"a": {"first": arm((0.5, 0.5), 2.0), "other": arm((0.6, 0.6), 3.0)},
              "b": {"first": arm((0.8, 0.8), 1.0), "other": arm((0.6, 0.6), 0.5)}}
    found = recipes.compare(voices)
    assert found["first"]["quality_ratio"] == found["first"]["ratio_step"] == 1
    assert found["other"]["quality_ratio"] == pytest.approx((0.8 + 2.0) / 2)
    assert found["other"]["quality_ratio_low"] == pytest.approx(1.4) == found["other"]["quality_ratio_high"]
    assert (found["other"]["ratio_step_low"], found["other"]["ratio_step"],
            found["other"]["ratio_step_high"]) == (0.5, 1.0, 1.5)


def test_a_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipes.py", "--quick", "--no_judges", "--out", str(tmp_path), "--json",
                                      str(tmp_path / "all.json")])
    recipes.main()
    figures = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert set(figures["recipes"]) == {"default", "adversarial"} == set(figures["voices"]["tones"])
    default, adversarial = (figures["voices"]["tones"][name] for name in ("default", "adversarial"))
    assert default["base_errors"] == adversarial["base_errors"] and default["errors"] != adversarial["errors"]
    assert all(arm["steps"] == 1 and arm["seconds_step"] > 0 and all(map(math.isfinite, arm["errors"]))
               for arm in (default, adversarial))
    assert "adversarial" in capsys.readouterr().out
    monkeypatch.setattr(recipes, "measure_voice", None)  # what is done is not done again
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--json", str(tmp_path / "again.json")])
    recipes.main()


def test_until_its_share_of_the_steps_the_prior_learns_alone(tmp_path, monkeypatch):
    learnt = _decoders_at_work(tmp_path, monkeypatch, {"prior_first": 0.5})
    assert learnt == [False, False, True, True]


def test_a_share_of_the_steps_takes_what_a_conversion_finds(tmp_path, monkeypatch):
    given = []
    own = remedies.Remedies._of_prior

    def of_prior(self, batch):
        z = own(self, batch)
        assert z.shape == batch.mean.shape and z.requires_grad  # the flow learns from the sound
        given.append(self._due)
        return z

    monkeypatch.setattr(remedies.Remedies, "_of_prior", of_prior)
    assert _decoders_at_work(tmp_path, monkeypatch, {"path": 0.5}) == [True] * 4
    assert len(given) == 2


def _decoders_at_work(folder, monkeypatch, recipe):
    """Whether the decoder learns at each of four steps by a recipe."""
    seen = []
    own = Trainer.end_step

    def end_step(self, drawn, whole, values):
        seen.append(drawn.decoder)
        return own(self, drawn, whole, values)

    monkeypatch.setattr(Trainer, "end_step", end_step)
    file = folder / "recipes.json"
    base, _, data = quick_inputs(folder)
    file.write_text(json.dumps({"one": {"batch_size": 1, "valid_fraction": 0.5, "epochs": 2, **recipe}}),
                    encoding="utf-8")
    recipes.main(["--base", str(base), "--data", str(data[0]), "--recipes", str(file), "--points", "1", "--no_judges",
                  "--out", str(folder / "out")])
    return seen
