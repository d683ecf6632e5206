"""bench/step_table.py: gradient checkpointing changes no loss, and a whole quick run."""

import json
import math

import pytest
import torch

from bench import step_table
from bench.step_table import Again, prepared


def test_checkpointing_computes_the_same_again(tmp_path):
    losses = []
    for recipe in ({}, {"checkpoint": True}):
        trainer = prepared(tmp_path, recipe, True)
        wrapped = [isinstance(block, Again) for block in trainer.model.network.dec.resblocks]
        assert wrapped == [bool(recipe)] * len(wrapped)
        torch.manual_seed(0)
        losses.append(trainer.step([0, 1]))
        grown = [parameter.grad for parameter in trainer.model.trainable]
        assert all(grad is not None for grad in grown)
    assert losses[0]["mel"] == pytest.approx(losses[1]["mel"], rel=1e-5)
    assert losses[0]["grad_norm"] == pytest.approx(losses[1]["grad_norm"], rel=1e-4)


def test_a_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step_table, "peak_in_process", lambda folder, name, args: 2 if name == "bf16" else 4)
    out = tmp_path / "all.json"
    (tmp_path / "recipes.json").write_text('{"as it is": {}, "bf16": {"precision": "bf16"}, '
                                           '"one": {"batch_size": 1}}', encoding="utf-8")
    assert step_table.main(["--quick", "--recipes", str(tmp_path / "recipes.json"), "--json", str(out)]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))["recipes"]
    assert figures["as it is"]["ratio_step"] == figures["as it is"]["ratio_memory"] == 1
    assert figures["bf16"]["ratio_memory"] == 0.5 and figures["bf16"]["ratio_step"] > 0
    assert figures["one"]["ratio_clip"] == pytest.approx(2 * figures["one"]["ratio_step"], rel=1e-3)
    assert all(math.isfinite(value) for row in figures.values() for value in row.values())
    assert "ratio_clip" in capsys.readouterr().out
