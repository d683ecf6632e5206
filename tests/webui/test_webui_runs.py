"""Runs of the page: the real trainer on the demo's base in processes of its own, found again, stopped, resumed,
crashed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from page_runs import BUSY, make_root, until
from page_runs import settings as short
from voice_data import make_adapter

from LoraModel.host import Host
from LoraModel.lora.adapter_file import load_adapter
from LoraModel.messages import UserError, tr_in
from LoraModel.training import publishing
from LoraModel.webui.folders import Folders
from LoraModel.webui.runs import processes, run_log, worker
from LoraModel.webui.runs.runs import Runs
from LoraModel.webui.tab import curves


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("page"))


@pytest.fixture
def runs(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tmp_path / "根 目录"
    shutil.copytree(str(prepared), str(root))
    made = Runs(Folders(root, False), "en")
    yield made
    for name in made.going_on():
        os.kill(made._read(made.folders.run(name), "process.json")["pid"], signal.SIGKILL)


def settings(**changed):
    """Of a run that no machine is through with before the test stops it."""
    return short(**{"epochs": 500, **changed})


def test_a_run_from_start_to_done(runs):
    status = runs.start(settings())
    assert status.state == "starting" and status.active
    with pytest.raises(UserError, match="being trained already"):
        runs.start(settings())
    with pytest.raises(UserError, match="being trained already"):
        runs.resume("voice")
    with pytest.raises(UserError, match="same device"):
        shutil.copytree(str(runs.folders.logs / "voice"), str(runs.folders.logs / "other"),
                        ignore=shutil.ignore_patterns("lora"))
        runs.start(settings(name="other"))

    status = until(runs, lambda s: s.sample_step > 0 and s.adapter and s.best is not None and s.seconds_left)
    assert status.state == "running" and status.total_steps == 1000 and status.seconds_left > 0
    assert {"mel", "kl"} <= set(status.losses) and 0 < status.best < 5 and 0 < status.base < 5
    assert all(Path(path).is_file() for path in status.samples) and status.samples
    assert any("held-out" in line for line in status.log)
    again = Runs(runs.folders, "en")  # as after a restart of the WebUI
    assert again.going_on() == ["voice"] and again.status("voice").state in ("running", "starting")

    stopped = again.stop("voice", BUSY)
    assert stopped.state == "stopped" and stopped.resumable and 0 < stopped.step < 1000
    assert not runs.going_on()
    assert load_adapter(Path(stopped.adapter)).name == "voice"
    assert Path(stopped.adapter).read_bytes() == (runs.folders.run("voice") / "voice.safetensors").read_bytes()
    with pytest.raises(UserError, match="not being trained"):
        runs.stop("voice")
    with pytest.raises(UserError, match="press Resume"):
        runs.start(settings())

    steps = stopped.step + 2 + stopped.step % 2
    resumed = runs.resume("voice", epochs=steps // 2)
    assert resumed.active
    done = until(runs, lambda s: not s.active)
    assert done.state == "done" and done.step == done.total_steps == steps
    heldout = [step for step, _ in runs.curves("voice").heldout]
    assert heldout == list(range(2, steps + 1, 2)) and [step for step,
                                                        _ in runs.curves("voice").losses["mel"]] == list(
                                                            range(1, steps + 1))
    with pytest.raises(UserError, match="choose more epochs"):
        runs.resume("voice")
    picture = curves.charts(runs.curves("voice"), done.base, tr_in("en"))
    assert picture.count("<svg") == 2 and "held-out" in picture

    runs.start(settings(epochs=1), anew=True)
    anew = until(runs, lambda s: not s.active)
    assert anew.state == "done" and anew.step == 2
    assert (runs.folders.logs / "voice/lora.1/state.pt").is_file()


def test_the_states_of_a_run_follow_each_other_without_a_gap(runs):
    """A process that this test plays: after its last step it stays a while before it is gone."""
    folder, process = runs.folders.run("voice"), {"pid": os.getpid(), "began": processes.began(os.getpid()),
                                                  "started": 5.0, "stopping": False}
    folder.mkdir()

    def state(**written):
        for name, value in written.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        return runs.status("voice").state

    assert state(process={**process, "run_before": 0}) == "starting"
    assert state(run={"state": "running"}) == state(run={"state": "done"}) == "running"
    gone = {**process, "began": "another"}
    assert state(process=gone) == "broken"  # it did not say that it ended
    assert state(exit={"code": 0, "started": 5.0}) == "done"

    before = (folder / "run.json").stat().st_mtime_ns  # resumed at once: what lies there is of the run before
    assert state(process={**process, "started": 6.0, "run_before": before}) == "starting"
    os.utime(str(folder / "run.json"), ns=(before, before + 1))
    assert state() == "running"
    assert state(process={**gone, "started": 6.0, "run_before": before}) == "broken"  # exit.json is the first process's
    assert state(exit={"code": 130, "started": 6.0}) == "stopped"
    now = (folder / "run.json").stat().st_mtime_ns
    # before it could say a word
    assert state(process={**gone, "started": 7.0, "run_before": now, "stopping": True}) == "stopped"


def test_two_starts_at_once_make_one_run(runs):
    results = []

    def start(which):
        try:
            results.append(which.start(settings()).state)
        except UserError as error:
            results.append(str(error))

    threads = [threading.Thread(target=start, args=(Runs(runs.folders, "en"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("starting") == 1
    assert sum("being trained already" in text for text in results) == 3
    stopped = runs.stop("voice", BUSY)  # before the first step: nothing to save, and no harm
    assert stopped.state == "stopped"


def test_a_crash_shows_the_last_lines_and_resumes(runs):
    runs.start(settings())
    until(runs, lambda s: s.step >= 3 and (runs.folders.run("voice") / "state.pt").is_file())
    os.kill(runs._read(runs.folders.run("voice"), "process.json")["pid"], signal.SIGKILL)
    broken = until(runs, lambda s: not s.active)
    assert broken.state == "broken" and broken.resumable and broken.log
    shown = curves.progress(broken, tr_in("en"))
    assert "ended unexpectedly" in shown and "Resume" in shown
    assert "意外终止" in curves.progress(broken, tr_in("zh_CN"))
    runs.resume("voice")
    until(runs, lambda s: s.step > broken.step)


def test_what_the_trainer_refuses_is_shown(runs):
    (runs.folders.logs / "voice/filelist.txt").write_text("no line of RVC's\n")
    runs.start(settings())
    failed = until(runs, lambda s: not s.active)
    assert failed.state == "failed" and "error:" in failed.log[-1] and not failed.resumable
    assert failed.log[-1][:60] in curves.progress(failed, tr_in("en")).replace("&#x27;", "'")


def test_an_adapter_of_the_users_is_never_replaced(runs, tmp_path):
    target = runs.folders.adapter("voice")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match="not of this experiment"):
        runs.start(settings())
    own, record = tmp_path / "own", tmp_path / "record"
    own.write_bytes(b"trained")
    worker.Publisher(own, target, record).look()
    assert target.read_bytes() == b"mine"
    target.unlink()
    publisher = worker.Publisher(own, target, record)
    publisher.look()
    own.write_bytes(b"trained better")
    publisher.look()
    assert target.read_bytes() == b"trained better"


def test_a_run_is_whole_where_its_adapter_cannot_be_put_into_the_list(tmp_path, monkeypatch, capsys):
    own = tmp_path / "own"
    own.write_bytes(b"trained")

    def refuse(*_given):
        raise PermissionError(13, "Access is denied", "list")

    monkeypatch.setattr(publishing, "atomic_write", refuse)
    with worker.Publisher(own, tmp_path / "list" / "own", tmp_path / "record"):
        pass
    said = capsys.readouterr().err
    assert "could not be put into the list" in said and str(own) in said


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "../x", "C:x", "con", "NUL.txt", "a.", "mute", ".hidden",
                                  "x\0y", "a" * 201, "a|b"])
def test_no_name_leads_outside(tmp_path, name):
    with pytest.raises(UserError):
        Folders(tmp_path).experiment(name)


@pytest.mark.parametrize("name", ["voice", "声音 1", "a-b_c.2"])
def test_names_that_are_fine(tmp_path, name):
    assert Folders(tmp_path).experiment(name) == tmp_path / "logs" / name


def test_recordings_are_a_folder_however_it_was_pasted(tmp_path):
    folders, folder = Folders(tmp_path), tmp_path / "my recordings"
    folder.mkdir()
    (folder / "one.wav").touch()
    for text in (str(folder), f'"{folder}"', f"\u202a{folder}", f"\ufeff\u201c{folder}\u201d", f"'{folder}' ",
                 "my recordings"):
        assert folders.recordings(text) == folder
    with pytest.raises(UserError, match="is a file, and the folder that holds the recordings of the voice is wanted: "
                       "give .*my recordings"):
        folders.recordings(str(folder / "one.wav"))
    for bad in (str(tmp_path / "nowhere"), "", None, [str(folder)], {}, 3, True, "\ud800", "x" * 5000, "~nosuchuser/x",
                "a\0b"):
        with pytest.raises(UserError):
            folders.recordings(bad)


def test_only_an_adapter_that_is_better_than_its_base_goes_into_the_list(tmp_path):
    for number, (heldout,
                 fit) in enumerate((('{"base": 0.9, "adapter": 0.5}', True), ('{"base": 0.9, "adapter": 5.3}', False),
                                    ('{"base": 0.9, "adapter": null}', False), ("", False), ("[[[", False))):
        adapter = make_adapter(tmp_path / f"{number}.safetensors", Host("library"), 1, heldout=heldout)
        assert worker.improves(adapter) is fit
        target = tmp_path / f"list/{number}.safetensors"
        worker.Publisher(adapter, target, tmp_path / "record", worker.improves).look()
        assert target.is_file() is fit


def test_a_run_that_made_the_voice_worse_says_so_loudly(runs):
    folder = runs.folders.run("voice")
    folder.mkdir()

    def shown(**run):
        (folder / "run.json").write_text(json.dumps({"state": "done", "steps": 4, "total_steps": 4, **run}))
        return runs.status("voice").verdict, curves.progress(runs.status("voice"), tr_in("en"))

    verdict, text = shown(base_heldout=0.87, best_heldout=5.33)
    assert (verdict == "worse" and "makes the voice worse" in text and "5.3300" in text
            and "not put into the list" in text)
    assert shown(base_heldout=0.87, best_heldout=0.5)[0] == "better"
    verdict, text = shown(base_heldout=0.87, best_heldout=None)
    assert verdict == "unevaluated" and "before its adapter was evaluated" in text
    for nonsense in ([1], {"a": 1}, "x", True, 1e400, None):  # a stranger's run.json
        assert shown(base_heldout=nonsense, best_heldout=nonsense, steps=nonsense, state=nonsense, config=nonsense,
                     best_step=nonsense)


def test_settings_reach_the_trainer(runs):
    config = settings(preset="balanced", rank=3, alpha=5, save_every=2.0, batch_size=3.0).train_config(runs.folders)
    lora = config.lora_config()
    assert lora.targets["ups"].r == 3 and lora.targets["ups"].lora_alpha == 5 and lora.targets["spk_row"].r == 1
    assert (config.batch_size, config.save_every, config.base_d) == (3, 2, None)
    assert settings(epochs=0).train_config(runs.folders).epochs == "auto"
    with pytest.raises(UserError):
        settings(epochs=-1).train_config(runs.folders)
    with pytest.raises(UserError):
        settings(preset="none").train_config(runs.folders)
    with pytest.raises(UserError):
        settings(version="v3")


def test_a_process_is_told_from_another_of_its_id():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = {"pid": child.pid, "began": processes.began(child.pid)}
    assert record["began"] and processes.alive(record)
    assert not processes.alive({**record, "began": "another"})
    assert not processes.alive({}) and not processes.alive(None)
    processes.terminate({**record, "began": "another"})
    assert child.poll() is None
    processes.terminate(record)
    assert processes.wait(record, 10)
    child.wait()
    assert processes.began(child.pid) is None


def test_a_long_log_is_read_once_and_fast(tmp_path):
    lines = [json.dumps({"step": n, "epoch": n // 10 + 1, "mel": 1 / n, "kl": 2.0, "total": 3.0, "seconds": 0.5,
                         **({"heldout_mel": 2 / n} if n % 10 == 0 else {})}) for n in range(1, 20001)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:19999]) + "\n" + lines[19999][:20])
    reader = run_log.LogReader(tmp_path)
    reader.read()
    assert reader.last["step"] == 19999 and len(reader.heldout) == 1999 and reader.seconds_step() == 0.5
    with open(str(tmp_path / "train.jsonl"), "a") as stream:
        stream.write(lines[19999][20:] + "\n")
    started = time.process_time()
    reader.read()
    assert time.process_time() - started < 0.05
    assert reader.last["step"] == 20000 and len(reader.losses["mel"]) == 20000 and reader.heldout[-1][0] == 20000
    assert len(curves.chart(reader.losses["mel"], reader.heldout)) < 80000
    (tmp_path / "new").write_text(lines[0] + "\n")
    os.replace(str(tmp_path / "new"), str(tmp_path / "train.jsonl"))  # as a resumed run writes it
    reader.read()
    assert reader.last["step"] == 1 and len(reader.losses["mel"]) == 1


def test_the_tail_shows_what_a_terminal_would(tmp_path):
    log = tmp_path / "page.log"
    log.write_bytes("first\r\n\x1b[Atraining: 1%\rtraining: 2%\rtraining: 3%\nlast 你好\n".encode())
    assert run_log.tail(log, 5) == ["first", "training: 3%", "last 你好"]
    assert run_log.tail(log, 1) == ["last 你好"]
    assert run_log.tail(tmp_path / "none", 5) == []


def test_two_pages_that_ask_at_once_read_the_log_once(tmp_path, monkeypatch):
    class Slow(io.FileIO):
        def read(self, size=-1):
            data = super().read(size)
            time.sleep(0.1)
            return data

    monkeypatch.setattr(run_log, "open", Slow, raising=False)
    log = "".join(json.dumps({"step": step, "mel": 1.0}) + "\n" for step in range(1, 41))
    (tmp_path / run_log.LOG_FILE).write_text(log)
    reader, start, counts = run_log.LogReader(tmp_path), threading.Barrier(3), []

    def ask():
        start.wait()
        reader.read()
        counts.append(len(reader.losses["mel"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [40, 40, 40] and [step for step, _ in reader.losses["mel"]] == list(range(1, 41))
    assert reader._offset == len(log)
