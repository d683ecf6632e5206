"""What several processes of one voice must agree on: where a run begins and goes on, how good it is, when to stop."""

import json
from types import SimpleNamespace

import pytest
import standin_hosts
import torch
import torch.distributed as dist
from training_data import argv, in_two, log, make_experiment, one_thread, tiny_settings

from LoraModel.lora import load_adapter
from LoraModel.training import TrainConfig, prepare, ranks
from LoraModel.training.heldout import Score
from LoraModel.training.judge import Judged
from LoraModel.training.train_lora import main
from LoraModel.training.trainer import STOP_FILE

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)

WORKER = """
import sys
import torch.distributed as dist
from LoraModel.training.ranks import RankTrainer
from LoraModel.training.train_lora import main
from LoraModel.training.trainer import STOP_FILE

end_step = RankTrainer.end_step

def then_stop(self, *arguments):
    result = end_step(self, *arguments)
    if dist.get_rank() == 0 and self.done_steps == {stop_at}:
        (self.folder / STOP_FILE).write_text("")
    return result

RankTrainer.end_step = then_stop
sys.exit(main(sys.argv[1:]))
"""
"""Whoever stops the run does so when the gradients of a step have been summed, and before the loop asks."""


@pytest.fixture
def voice(tmp_path):
    return make_experiment(tmp_path / "logs" / "voice", clips=5, seconds=1.0)


@pytest.fixture
def trainer(voice, tmp_path, monkeypatch):
    """One process that takes itself for the first of several."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(ranks, "several", lambda: True)
    try:
        yield prepare(TrainConfig.from_dict(tiny_settings(voice, tmp_path / "out", epochs=3, save_every=3)))
    finally:
        dist.destroy_process_group()


def another_than_the_first(told):
    """torch.distributed in a process that the first one tells `told`."""
    return SimpleNamespace(get_rank=lambda: 1, broadcast_object_list=lambda box, source: box.__setitem__(0, told))


def test_a_stop_that_comes_after_the_sum_counts_at_the_next_step(trainer, monkeypatch):
    """A file that only the first process sees."""
    assert isinstance(trainer, ranks.RankTrainer)
    end_step = trainer.end_step

    def then_stop(*arguments):
        result = end_step(*arguments)
        if trainer.done_steps == 1:
            (trainer.folder / STOP_FILE).write_text("")
        return result

    monkeypatch.setattr(trainer, "end_step", then_stop)
    assert trainer.run() is False and trainer.done_steps == 2
    assert len(log(trainer.folder)) == 2 and not trainer.stop_asked


def test_a_signal_while_the_gradients_are_summed_is_not_lost(trainer, monkeypatch):
    """It comes when this process has already told the others that nobody asked it to stop."""
    sizes, all_reduce = sum(p.numel() for p in trainer.model.trainable), dist.all_reduce

    def signalled(tensor):
        all_reduce(tensor)
        trainer.stop_asked = trainer.stop_asked or tensor.shape == (sizes + 1,)

    monkeypatch.setattr(dist, "all_reduce", signalled)
    assert trainer.run() is False and trainer.done_steps == 2 and trainer.stop_asked


def test_what_the_first_process_is_told_to_do_all_do(trainer, monkeypatch):
    """This one was not asked; another one was."""
    all_reduce = dist.all_reduce

    def with_another(tensor):
        all_reduce(tensor)
        if tensor.dim() == 1:
            tensor[-1] += 1

    monkeypatch.setattr(dist, "all_reduce", with_another)
    assert trainer.run() is False and trainer.done_steps == 1
    assert not trainer.stop_asked, "a first Ctrl-C is still a first one"


def test_the_networks_of_a_run_that_one_process_began_judge_in_the_first_process_alone(trainer, monkeypatch):
    heard = Judged(0.9, 3.0, 3.1)
    state = {"every": 1, "saves": 1, "last": [None] * 4, "leak": False}
    monkeypatch.setattr(trainer, "_new_judge", lambda leak: SimpleNamespace(
        restore=lambda state: None, judge=lambda *arguments: heard))
    trainer._put_judge(state)
    assert trainer._with_judgement(Score(0.5), []) == Score(0.5, judged=heard)

    monkeypatch.setattr(ranks, "dist", another_than_the_first(heard))
    trainer.judge = None
    trainer._put_judge(state)
    assert trainer.judge is None, "the others load none"
    assert trainer._with_judgement(Score(0.5), []) == Score(0.5, judged=heard)


def test_every_process_begins_with_the_other_adapter(trainer, voice, tmp_path, monkeypatch):
    """The first one finds the base's speaker, and all put the adapter of --init on it."""
    trainer.run()
    adapter = load_adapter(trainer.adapter_path)
    again = prepare(TrainConfig.from_dict(tiny_settings(voice, tmp_path / "again", init_speaker=-1)), init=adapter)
    monkeypatch.setattr(ranks, "dist", another_than_the_first(1))
    again.choose_start()
    assert again.start_speaker == again.model.posterior_speaker == 1
    for name, parameter in again.model.injection.tensors().items():
        assert torch.equal(parameter.detach(), adapter.tensors[name].float()), name
    assert all(torch.equal(a, b) for a, b in zip(again.average, again.model.trainable))


def test_two_processes_go_on_where_the_run_lies_and_stop_at_one_step(voice, tmp_path, monkeypatch):
    """In the working folder, though there is a checkout now; and the experiment folder has another name."""
    monkeypatch.chdir(tmp_path)
    values = tiny_settings(voice, "run", epochs=1)
    assert main(argv(values, config=tmp_path / "settings.json")) == 0
    done = len(log("run"))
    root = standin_hosts.make("classic", tmp_path / "RVC")
    (tmp_path / "worker.py").write_text(WORKER.format(stop_at=done + 1))
    values.update(data_dir=str(voice.rename(voice.with_name("renamed"))), epochs=4)
    line = argv(values, "--resume", "--rvc_root", str(root), config=tmp_path / "settings.json")
    run = in_two(line, ["worker.py"], cwd=tmp_path, timeout=120)
    assert run.returncode == 0 and "stopped and saved" in run.stderr, run.stderr
    found = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (found["state"], found["steps"], found["name"]) == ("stopped", done + 2, "voice")
    assert len(log("run")) == done + 2 and not (root / "run").exists()
