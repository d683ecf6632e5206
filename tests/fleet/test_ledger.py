"""The state file: transactions, order, attempts, and kill -9 at any moment."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time

import pytest
from fleet_data import states

from LoraModel.fleet.ledger import Ledger
from LoraModel.fleet.manifest import Refused, Voice
from LoraModel.messages import UserError

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def ledger_of(folder, count=3, experiment=True):
    ledger = Ledger(folder)
    ledger.add([Voice(f"v{number:03d}", str(folder / "x"), {"epochs": number + 1}, experiment)
                for number in range(count)])
    return ledger


def test_a_voice_from_waiting_to_done(tmp_path):
    ledger = ledger_of(tmp_path, 2, experiment=False)
    assert ledger.claim("w", to_prepare=False) is None
    first = ledger.claim("w", to_prepare=True)
    assert (first.name, first.attempt, first.settings) == ("v000", 1, {"epochs": 1})
    assert states(tmp_path) == {"v000": "preparing", "v001": "waiting"}
    assert ledger.prepared("v000", 1, "/data", 2.0)
    second = ledger.claim("w", to_prepare=False)
    assert (second.name, second.attempt, second.data_dir) == ("v000", 2, "/data")
    ledger.progress([{"name": "v000", "attempt": 2, "step": 3, "steps": 9, "seconds_left": 4.0}])
    entry = ledger.entries()[0]
    assert (entry.step, entry.steps, entry.seconds_left, entry.seconds) == (3, 9, 4.0, 2.0)
    assert ledger.done("v000", 2, {"steps": 9, "heldout": 0.5}, 3.0)
    entry = ledger.entries()[0]
    assert (entry.state, entry.seconds, entry.figures["heldout"]) == ("done", 5.0, 0.5)


def test_what_a_given_up_attempt_says_later_changes_nothing(tmp_path):
    ledger = ledger_of(tmp_path, 1)
    ledger.claim("old", False)
    assert ledger.lost("v000", 1, 2, UserError("gone"))
    ledger.claim("new", False)
    assert not ledger.done("v000", 1, {"steps": 1}, 1.0) and not ledger.failed("v000", 1, UserError("x"))
    assert states(tmp_path) == {"v000": "training"}
    assert ledger.done("v000", 2, {"steps": 2}, 1.0) and not ledger.done("v000", 2, {"steps": 3}, 1.0)
    assert ledger.entries()[0].figures == {"steps": 2}


def test_lost_too_often(tmp_path):
    ledger = ledger_of(tmp_path, 1)
    for attempt in (1, 2, 3):
        assert ledger.claim("w", False).attempt == attempt
        ledger.lost("v000", attempt, 2, UserError("gone {n}", n=attempt))
    assert states(tmp_path) == {"v000": "failed"} and ledger.entries()[0].why == "gone 3"
    assert ledger.again("v000") and ledger.entries()[0].lost == 0


def test_order_pause_remove_and_add(tmp_path):
    ledger = ledger_of(tmp_path, 4)
    ledger.move("v003", -2)
    assert [entry.name for entry in ledger.entries()] == ["v000", "v003", "v001", "v002"]
    ledger.move("v000", 9)
    assert [entry.name for entry in ledger.entries()] == ["v003", "v001", "v002", "v000"]
    ledger.pause(True)
    assert ledger.claim("w", False) is None and ledger.paused
    ledger.pause(False)
    assert ledger.claim("w", False).name == "v003"
    assert not ledger.remove("v003") and ledger.remove("v001")
    ledger.add([Voice("v002", "/y", {"epochs": 99}), Voice("new", "/z")], [Refused("bad", UserError("no {x}", x=1))])
    found = {entry.name: entry for entry in ledger.entries()}
    assert found["v002"].settings == {"epochs": 99} and found["v002"].data_dir is None
    assert found["bad"].state == "failed" and found["bad"].why == "no 1"
    assert list(found) == ["v003", "v002", "v000", "new", "bad"]
    ledger.keep_only(["v003", "new"])
    assert list(states(tmp_path)) == ["v003", "new"]


def test_a_reason_in_every_language_and_out_of_an_older_file(tmp_path, monkeypatch):
    ledger = ledger_of(tmp_path, 1)
    ledger.add([], [Refused("bad", UserError("there is no voice {name} in {weights_name}/: refresh the list and "
                                             "choose one", name="x", weights_name="w"))])
    entry = ledger.entries()[1]
    assert entry.why == entry.why_in_english == "there is no voice x in w/: refresh the list and choose one"
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    assert ledger.entries()[1].why == "w/ 中没有音色 x：请刷新列表后重新选择"
    with sqlite3.connect(str(tmp_path / "fleet.sqlite")) as db:  # as version 1 left it
        for column in ("why_en", "why_zh"):
            db.execute(f"ALTER TABLE voices ADD COLUMN {column} TEXT")
        db.execute("UPDATE voices SET why_en = 'gone', why_zh = '没了' WHERE name = 'bad'")
        db.execute("UPDATE run SET value = '1' WHERE key = 'version'")
        db.execute("CREATE TABLE moved AS SELECT name, place, state, recordings, settings, data_dir, attempt, lost, "
                   "step, steps, seconds, seconds_left, worker, why_en, why_zh, figures, changed FROM voices")
        db.execute("DROP TABLE voices")
        db.execute("ALTER TABLE moved RENAME TO voices")
    for _ in range(2):  # taken over once
        old = Ledger(tmp_path).entries()[1]
        assert (old.name, old.why, old.why_in_english) == ("bad", "没了", "gone")
    Ledger(tmp_path).again("bad")
    assert Ledger(tmp_path).entries()[1].reason is None


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "fleet.sqlite").write_bytes(b"no database, but long enough to be looked at " * 50)
    with pytest.raises(UserError, match="is damaged, or not of this program"):
        Ledger(tmp_path)
    (tmp_path / "fleet.sqlite").unlink()
    with sqlite3.connect(str(tmp_path / "fleet.sqlite")) as db:
        db.execute("CREATE TABLE voices (name TEXT)")
        db.execute("CREATE TRIGGER t AFTER INSERT ON voices BEGIN DELETE FROM voices; END")
    with pytest.raises(UserError, match="is damaged, or not of this program"):
        Ledger(tmp_path)


def work_off(folder, started):
    """Claims and ends voices until there are none."""
    ledger = Ledger(folder)
    ledger.recover()
    started.send(1)
    while True:
        entry = ledger.claim("w", False)
        if entry is None:
            return
        ledger.progress([{"name": entry.name, "attempt": entry.attempt, "step": 1, "steps": 2}])
        ledger.done(entry.name, entry.attempt, {"steps": 2}, 0.1)


@POSIX
def test_killed_at_any_moment(tmp_path):
    """kill -9 again and again amid transactions: the file stays whole, no voice is lost, none is done twice."""
    count = 150
    ledger_of(tmp_path, count)
    moments, fork = random.Random(3), multiprocessing.get_context("fork")
    kills = 0
    for _ in range(60):
        here, there = fork.Pipe()
        run = fork.Process(target=work_off, args=(tmp_path, there))
        run.start()
        there.close()
        here.recv()  # it is at work
        if kills < 12:
            time.sleep(moments.uniform(0, 0.05))
            os.kill(run.pid, signal.SIGKILL)
        run.join()
        kills += run.exitcode == -signal.SIGKILL
        if run.exitcode == 0:
            break
    with sqlite3.connect(str(tmp_path / "fleet.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    events = Ledger(tmp_path).events()
    done = [event["name"] for event in events if event["what"] == "done"]
    assert sorted(done) == sorted(set(done)) == [f"v{number:03d}" for number in range(count)]
    assert kills >= 3
