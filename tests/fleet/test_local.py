"""The engine of one machine: memory and disk are looked at before a worker is started, and the base is shared."""

import os
from collections import namedtuple

import pytest
from fleet_data import done_once, make_place, session_of, states
from training_data import log, one_thread

from LoraModel.fleet import local, memory
from LoraModel.fleet.manifest import Voice
from LoraModel.fleet.worker import portable, rebuilt
from LoraModel.host import find_host

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)
NAMES = ("anna", "ben")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), NAMES)


def engine_of(place, output, **more):
    session, base, work = session_of(place, output, epochs=2)
    session.ledger.add([Voice(name, str(place / "logs" / name), {}, True) for name in NAMES])
    return session, local.Local(session.ledger, work, base, **more)


def most_at_once(engine):
    """Run it; how many voices were trained at a time."""
    most = [0]

    def watch():
        most[0] = max(most[0], sum(not one.prepares for one in engine._processes))

    engine.run(watch)
    return most[0]


def test_as_many_workers_as_memory_bears(place, tmp_path, monkeypatch, capsys):
    """Where there is room for two, two; where not, one after the other, and that is said."""
    session, engine = engine_of(place, tmp_path / "two", workers=2)
    monkeypatch.setattr(local, "free_memory", lambda: 10 * engine.need)
    assert most_at_once(engine) == 2 and engine.measured > 2**20
    monkeypatch.setattr(local, "free_memory", lambda: 1000)
    session, engine = engine_of(place, tmp_path / "one", workers=2)
    assert most_at_once(engine) == 1 and states(tmp_path / "one") == dict.fromkeys(NAMES, "done")
    assert "memory for 1 workers" in capsys.readouterr().err


def test_a_step_is_tried_for_the_first_voice_alone(place, tmp_path):
    """The others are told what its steps took, and find imported what each would import anew."""
    _, engine = engine_of(place, tmp_path / "out", workers=1)
    given = []
    send = engine._send
    engine._send = lambda one, message: (given.append(message), send(one, message))
    engine.run(lambda: None)
    jobs = {message[1].name: message[1].step_seconds for message in given if message[0] == "job"}
    done = {entry.name: entry.figures for entry in engine.ledger.entries()}
    assert jobs == {"anna": None, "ben": done["anna"]["train_seconds"] / done["anna"]["steps"]} and jobs["ben"] > 0


def test_what_the_system_tells_of_memory():
    free = memory.free_memory()
    assert free is None or free > 2**20
    own = memory.own_memory(os.getpid())
    assert own is None or own > 2**20
    assert memory.guess(4 * 36_000_000) < 6 * 2**30


def test_no_room_on_the_disk(place, tmp_path, monkeypatch):
    """The voices for which there is none have failed, in a line, and the others go on."""
    _, engine = engine_of(place, tmp_path / "out", workers=1)
    usage = namedtuple("usage", "total used free")
    frees, here = iter([10**12]), os.getpid()  # a worker, which is forked, has all the room that it wants
    monkeypatch.setattr(local.shutil, "disk_usage",
                        lambda _path: usage(0, 0, next(frees, 1000) if os.getpid() == here else 10**12))
    engine.run(lambda: None)
    found = {entry.name: entry for entry in engine.ledger.entries()}
    assert found["anna"].state == "done" and found["ben"].state == "failed" and "MB free" in found["ben"].why


def test_a_base_that_is_deleted_in_the_middle(place, tmp_path):
    """The run has it in memory."""
    copy = make_place(tmp_path / "copy", NAMES)
    session, engine = engine_of(copy, tmp_path / "out", workers=1)
    (copy / "base.pth").unlink()
    engine.run(lambda: None)
    assert states(tmp_path / "out") == dict.fromkeys(NAMES, "done")


def test_a_base_in_shared_memory(place, tmp_path):
    """What a worker that is not forked builds: the same network around the same tensors, none of them copied."""
    _, base, _ = session_of(place, tmp_path / "out")
    other = rebuilt(portable(base), find_host())
    mine, theirs = base.network.state_dict(), other.network.state_dict()
    assert list(mine) == list(theirs)
    for key, value in mine.items():
        assert theirs[key].data_ptr() == value.data_ptr() and value.is_shared()
    assert not other.network.training and not any(p.requires_grad for p in other.network.parameters())


def test_workers_that_are_not_forked(place, tmp_path):
    """As on Windows: the same losses, by one worker that is handed one voice after the other."""
    _, forked = engine_of(place, tmp_path / "forked", workers=1)
    forked.run(lambda: None)
    _, spawned = engine_of(place, tmp_path / "spawned", workers=1, forks=False)
    spawned.run(lambda: None)
    assert states(tmp_path / "spawned") == dict.fromkeys(NAMES, "done") and done_once(tmp_path / "spawned")
    for name in NAMES:
        assert log(tmp_path / "spawned" / "voices" / name) == log(tmp_path / "forked" / "voices" / name)
