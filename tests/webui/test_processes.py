"""Processes that the page started: which still run, also where the system does not say when one began."""

import os
import sys

import pytest

from LoraModel.webui.runs import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize("record", [{"pid": 999999}, {"pid": 999999, "began": None}, {"pid": 999999, "began": 1},
                                    {"began": None}, {"pid": None, "began": None}])
def test_a_record_without_a_beginning_is_of_no_process(record):
    assert not processes.alive(record)
    assert not processes.alive({**record, "pid": os.getpid()})  # the id is another one's by now
    assert processes.wait(record, 0)


def test_whose_beginning_the_system_does_not_say_runs_while_it_is_our_child(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "began", lambda pid: None)
    record = processes.spawn(SLEEP, tmp_path, dict(os.environ), tmp_path / "log")
    assert record["began"] is None and processes.alive(record) and not processes.wait(record, 0)
    processes.terminate(record)
    assert processes.wait(record, 10) and not processes.alive(record)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only where there is /proc")
def test_a_system_without_an_id_of_its_boot(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "BOOT", tmp_path / "none")
    assert processes.began(os.getpid()) and processes.began(os.getpid()) != processes.began(os.getppid())
    assert processes.alive({"pid": os.getpid(), "began": processes.began(os.getpid())})
    assert processes.began(999999999) is None


def test_a_system_that_tells_nothing_of_processes(monkeypatch):
    """Neither /proc nor ps."""
    monkeypatch.setattr(processes.os, "name", "posix")
    monkeypatch.setattr(processes.os.path, "exists", lambda path: False)
    monkeypatch.setenv("PATH", "")
    assert processes.began(os.getpid()) is None
