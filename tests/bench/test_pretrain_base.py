"""bench/pretrain_base.py: what comes out is a base that loads, and a run that was stopped goes on exactly."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from bench import pretrain_base
from LoraModel.host import find_host
from LoraModel.messages import UserError
from LoraModel.models import load_base, load_discriminator


def run(monkeypatch, *options):
    """The command, and the run that it made."""
    kept = []
    monkeypatch.setattr(sys, "argv", ["pretrain_base.py", *options])
    monkeypatch.setattr(pretrain_base.Pretraining, "run", lambda self,
                        real=pretrain_base.Pretraining.run: kept.append(self) or real(self))
    pretrain_base.main()
    return kept[0]


def begin(args, config, folder):
    return pretrain_base.Pretraining(args, config, folder, torch.device("cpu"))


@pytest.fixture
def settings(tmp_path):
    """Arguments of a small run on two made-up voices, and its configuration."""
    args = pretrain_base.quick_voices(SimpleNamespace(version="v2", seed=3), tmp_path / "logs")
    return args, json.loads((tmp_path / "logs" / "high" / "config.json").read_text(encoding="utf-8"))


def test_base_and_discriminator_come_out_of_the_command(tmp_path, monkeypatch):
    done = run(monkeypatch, "--quick", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "figures.json"))
    base = load_base(tmp_path / "out" / "f0G16k.pth", find_host(), config_json=tmp_path / "out" / "config.json")
    load_discriminator(tmp_path / "out" / "f0D16k.pth", find_host(), "v2")
    rows = base.network.emb_g.weight
    assert torch.equal(rows, done.step.generator.emb_g.weight)
    assert {clip.speaker for clip in done.clips.clips} == {0, 1}
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["steps"] == 4 and figures["voices"] == 2 and figures["loss"] > 0


def test_a_stopped_run_goes_on_exactly(tmp_path, settings):
    """Stopped where the warm-up ends: the discriminator has learnt nothing by then, other voices are refused, the same
    ones go on."""
    args, config = settings
    args.save_every = 100
    straight = begin(args, config, tmp_path / "straight")
    fresh = [p.detach().clone() for p in straight.discriminator.parameters()]
    losses = straight.run()

    args.steps = args.warmup
    stopped = begin(args, config, tmp_path / "stopped")
    first = stopped.run()
    assert all(torch.equal(p, q) for p, q in zip(stopped.discriminator.parameters(), fresh))
    with pytest.raises(UserError, match="other voices"):
        begin(SimpleNamespace(**{**vars(args), "data": args.data[:1]}), config, tmp_path / "stopped")

    args.steps = 4
    again = begin(args, config, tmp_path / "stopped")
    assert again.steps_done == args.warmup
    assert first + again.run() == losses and len(losses) == 4
    assert any(not torch.equal(p, q) for p, q in zip(again.discriminator.parameters(), fresh))
    for network, other in ((straight.step.generator, again.step.generator),
                           (straight.discriminator, again.discriminator)):
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
