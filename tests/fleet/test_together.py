"""Several voices in one batch: each comes to what it comes to alone."""

import time

import pytest
import torch
from fleet_data import SETTINGS, done_once, make_place, session_of, states
from training_data import log, one_thread

from LoraModel.fleet.manifest import Voice
from LoraModel.fleet.together import Member, fits, joint_step
from LoraModel.fleet.work import Job, trainer_of

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
NAMES = ("anna", "ben", "carla")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Voices of different lengths and numbers of clips."""
    return make_place(tmp_path_factory.mktemp("place"))


def job(place, name, **settings):
    return Job(name, 1, str(place / "logs" / name), settings, str(place / "logs" / name))


OWN = {"anna": {"lr": 1e-3, "c_hold": 1e-9}, "ben": {"lr": 2e-3, "seed": 7, "batch_size": 3, "c_stft": 0.5},
       "carla": {"decoder_every": 2, "epochs": 2, "c_hold": 5.0}}
"""What the voices of the batch have of their own: rates, seeds, sizes, clocks. (This tiny base comes so near silence
that the steep log of its spectrum lets rounding tell: anna learns slowly, ben hardly hears the STFT loss.)"""


def test_the_same_losses_as_alone(place, tmp_path):
    alone = {}
    for name in NAMES:
        _, base, work = session_of(place, tmp_path / f"alone_{name}")
        trainer = trainer_of(work, job(place, name, **OWN[name]), base)
        assert trainer.run()
        alone[name] = trainer.folder
    _, base, work = session_of(place, tmp_path / "both")
    before = {key: value.clone() for key, value in base.network.state_dict().items()}
    members = [Member(lambda name=name: trainer_of(work, job(place, name, **OWN[name]), base), torch.device("cpu"))
               for name in NAMES]
    going = [member for member in members if member.go_on()]
    assert len(going) == 3 and all(fits(member.trainer) for member in members)
    while going:
        outcome = joint_step(going)
        going = [member for member, values in zip(going, outcome) if member.go_on(values)]
    assert all(member.finished for member in members)
    assert all(torch.equal(value, base.network.state_dict()[key]) for key, value in before.items())
    for name, member in zip(NAMES, members):
        mine, wanted = log(member.trainer.folder), log(alone[name])
        assert len(mine) == len(wanted) > 3
        for line, other in zip(mine, wanted):
            assert set(line) == set(other) and line["step"] == other["step"]
            for key in set(other) - {"grad_norm"}:  # no loss, and steep where a spectrum is nearly silent
                assert line[key] == pytest.approx(other[key], rel=1e-4, abs=1e-4), (name, other["step"], key)


def test_a_worker_with_two_places_for_three_voices(place, tmp_path):
    """One that is done leaves the batch and the next takes its place; one that cannot share is trained by itself."""
    session, base, work = session_of(place, tmp_path / "out")
    voices = [Voice(name, str(place / "logs" / name), own, True) for name, own in OWN.items()]
    dropout = {"lora": {**SETTINGS["lora"], "lora_dropout": 0.1}, "epochs": 1}
    voices.append(Voice("apart", str(place / "logs" / "ben"), dropout, True))
    voices.append(Voice("wrong", str(place / "logs" / "ben"), {"speaker": 99}, True))
    session.ledger.add(voices)
    engine = session.local(base, work, workers=1, together=2)
    engine.run(lambda: None)
    found = states(tmp_path / "out")
    assert found == {**dict.fromkeys((*NAMES, "apart"), "done"), "wrong": "failed"} and done_once(tmp_path / "out")


def limited(seconds):
    """A `watch` that ends a run which hangs."""
    end = time.monotonic() + seconds

    def watch():
        assert time.monotonic() < end, "the run does not end"

    return watch


def test_what_the_parent_says_during_a_step_is_not_lost(place, tmp_path):
    """The end, and a further voice: both come while the longest voice of the batch is under way."""
    session, base, work = session_of(place, tmp_path / "out")
    lengths = {"anna": 1, "ben": 12, "carla": 1}
    session.ledger.add([Voice(name, str(place / "logs" / name), {"epochs": epochs}, True)
                        for name, epochs in lengths.items()])
    session.local(base, work, workers=1, together=2).run(limited(120))
    entries = session.ledger.entries()
    assert {entry.name: (entry.state, entry.attempt) for entry in entries} == dict.fromkeys(NAMES, ("done", 1))


def test_a_batch_that_is_stopped_saves_and_ends(place, tmp_path):
    session, base, work = session_of(place, tmp_path / "out")
    session.ledger.add([Voice(name, str(place / "logs" / name), {"epochs": 200}, True) for name in NAMES])
    engine, watch = session.local(base, work, workers=1, together=2), limited(120)

    def stop_amid_it():
        watch()
        if any(entry.step for entry in session.ledger.entries()):
            engine.stop()

    engine.run(stop_amid_it)
    assert states(tmp_path / "out") == dict.fromkeys(NAMES, "waiting")
    assert (tmp_path / "out/voices/anna/state.pt").is_file() and (tmp_path / "out/voices/ben/state.pt").is_file()


def test_one_whose_loss_is_no_number_leaves_the_others(place, tmp_path):
    _, base, work = session_of(place, tmp_path / "out")
    members = [Member(lambda name=name: trainer_of(work, job(place, name), base), torch.device("cpu"))
               for name in NAMES[:2]]
    for member in members:
        assert member.go_on()
    with torch.no_grad():
        members[0].trainer.model.trainable[0].fill_(float("nan"))
    first, second = joint_step(members)
    assert "not finite" in str(first) and second["total"] > 0
    for parameter in members[1].trainer.model.trainable:
        assert torch.isfinite(parameter).all()
    for member in members:
        member.close()
