"""Runs of the page: the real trainer on the demo's base in processes of its own, found again, stopped, resumed, crashed."""

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

from LoraModel.lora.adapter_file import load_adapter
from LoraModel.messages import UserError
from LoraModel.scripts import prepare_data
from LoraModel.webui import curves, processes, run_log, worker
from LoraModel.webui.folders import Folders
from LoraModel.webui.runs import Runs, RunSettings

DEMO = Path(worker.__file__).parents[1] / "demo"
BASE = "assets/pretrained_v2/f0G16k.pth"


def make_root(root, clips=5):
    """A folder with the demo's base and the experiment "voice", prepared from some of the demo's recordings."""
    (root / "assets/pretrained_v2").mkdir(parents=True)
    for name in ("f0G16k.pth", "config.json"):
        shutil.copy(str(DEMO / "base" / name), str(root / "assets/pretrained_v2" / name))
    (root / "recordings").mkdir()
    for number in range(1, clips + 1):
        shutil.copy(str(DEMO / f"recordings/target/{number:02d}.flac"), str(root / "recordings"))
    prepare_data.main(["--input_dir", str(root / "recordings"), "--output_dir", str(root / "logs/voice")])
    return root


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
    return RunSettings(**{"name": "voice", "sample_rate": "16k", "base_g": BASE, "preset": "fast", "epochs": 500, "batch_size": 2,
                          "device": "cpu", **changed})


def until(runs, wanted, seconds=60):
    """The first status for which `wanted(status)` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = runs.status("voice")
        if wanted(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"{seconds} s passed: {status}")


def test_a_run_from_start_to_done(runs):
    status = runs.start(settings())
    assert status.state == "starting" and status.active
    with pytest.raises(UserError, match="being trained already"):
        runs.start(settings())
    with pytest.raises(UserError, match="being trained already"):
        runs.resume("voice")
    with pytest.raises(UserError, match="same device"):
        shutil.copytree(str(runs.folders.logs / "voice"), str(runs.folders.logs / "other"), ignore=shutil.ignore_patterns("lora"))
        runs.start(settings(name="other"))

    status = until(runs, lambda s: s.sample_step > 0 and s.adapter)
    assert status.state == "running" and status.total_steps == 1000 and status.seconds_left > 0
    assert {"mel", "kl"} <= set(status.losses) and 0 < status.best < 5 and 0 < status.base < 5
    assert all(Path(path).is_file() for path in status.samples) and status.samples
    assert any("held-out" in line for line in status.log)
    again = Runs(runs.folders, "en")  # as after a restart of the WebUI
    assert again.going_on() == ["voice"] and again.status("voice").state in ("running", "starting")

    stopped = again.stop("voice", 60)
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
    assert heldout == list(range(2, steps + 1, 2)) and [step for step, _ in runs.curves("voice").losses["mel"]] == list(range(1, steps + 1))
    with pytest.raises(UserError, match="choose more epochs"):
        runs.resume("voice")
    picture = curves.charts(runs.curves("voice"), done.base, lambda en, zh: en)
    assert picture.count("<svg") == 2 and "held-out" in picture

    runs.start(settings(epochs=1), anew=True)
    anew = until(runs, lambda s: not s.active)
    assert anew.state == "done" and anew.step == 2
    assert (runs.folders.logs / "voice/lora.1/state.pt").is_file()


def test_the_states_of_a_run_follow_each_other_without_a_gap(runs):
    """A process that this test plays: after its last step it stays a while before it is gone."""
    folder, process = runs.folders.run("voice"), {"pid": os.getpid(), "began": processes.began(os.getpid()), "started": 5.0, "stopping": False}
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
    assert state(process={**gone, "started": 7.0, "run_before": now, "stopping": True}) == "stopped"  # before it could say a word


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
    stopped = runs.stop("voice", 60)  # before the first step: nothing to save, and no harm
    assert stopped.state == "stopped"


def test_a_crash_shows_the_last_lines_and_resumes(runs):
    runs.start(settings())
    until(runs, lambda s: s.step >= 3 and (runs.folders.run("voice") / "state.pt").is_file())
    os.kill(runs._read(runs.folders.run("voice"), "process.json")["pid"], signal.SIGKILL)
    broken = until(runs, lambda s: not s.active)
    assert broken.state == "broken" and broken.resumable and broken.log
    shown = curves.progress(broken, lambda en, zh: en)
    assert "without a word" in shown and "Resume" in shown
    assert "意外结束" in curves.progress(broken, lambda en, zh: zh)
    runs.resume("voice")
    until(runs, lambda s: s.step > broken.step)


def test_what_the_trainer_refuses_is_shown(runs):
    (runs.folders.logs / "voice/filelist.txt").write_text("no line of RVC's\n")
    runs.start(settings())
    failed = until(runs, lambda s: not s.active)
    assert failed.state == "failed" and "error:" in failed.log[-1] and not failed.resumable
    assert failed.log[-1][:60] in curves.progress(failed, lambda en, zh: en).replace("&#x27;", "'")


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


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "../x", "C:x", "con", "NUL.txt", "a.", "mute", ".hidden", "x\0y", "a" * 201, "a|b"])
def test_no_name_leads_outside(tmp_path, name):
    with pytest.raises(UserError):
        Folders(tmp_path).experiment(name)


@pytest.mark.parametrize("name", ["voice", "声音 1", "a-b_c.2"])
def test_names_that_are_fine(tmp_path, name):
    assert Folders(tmp_path).experiment(name) == tmp_path / "logs" / name


def test_bases_come_from_their_folders_alone(tmp_path):
    for path in ("assets/pretrained_v2/f0G40k.pth", "assets/pretrained_v2/f0D40k.pth", "assets/pretrained/G48k.pth", "assets/weights/v.pth",
                 "logs/v/G_2333.pth", "logs/v/other.pth", "secret.pth", "assets/other/x.pth", "assets/pretrained_v2/x.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    folders = Folders(tmp_path)
    for good in ("assets/pretrained_v2/f0G40k.pth", "assets\\pretrained_v2\\f0G40k.pth", "assets/weights/v.pth", "logs/v/G_2333.pth",
                 str(tmp_path / "assets/pretrained/G48k.pth")):
        assert folders.base(good).is_file()
    for bad in ("", "secret.pth", "../secret.pth", "assets/weights/../../secret.pth", "assets/other/x.pth", "logs/v/other.pth", "/etc/passwd",
                "assets/pretrained_v2/x.txt", "assets/pretrained_v2/none.pth", "assets/weights/a:b.pth", "assets/weights/\0.pth", str(tmp_path)):
        with pytest.raises(UserError):
            folders.base(bad)
    assert folders.found("G") == ["assets/pretrained/G48k.pth", "assets/pretrained_v2/f0G40k.pth", "logs/v/G_2333.pth"]
    assert folders.found("D") == ["assets/pretrained_v2/f0D40k.pth"]
    assert folders.pretrained("v2", "40k", True) == ("assets/pretrained_v2/f0G40k.pth", "assets/pretrained_v2/f0D40k.pth")
    assert folders.pretrained("v1", "48k", False) == ("assets/pretrained/G48k.pth", "")
    with pytest.raises(UserError):
        folders.recordings(str(tmp_path / "nowhere"))


def test_settings_reach_the_trainer(runs):
    config = settings(preset="balanced", rank=3, alpha=5, save_every=2.0, batch_size=3.0).train_config(runs.folders)
    lora = config.lora_config()
    assert lora.targets["ups"].r == 3 and lora.targets["ups"].lora_alpha == 5 and lora.targets["spk_row"].r == 1
    assert (config.batch_size, config.save_every, config.base_d) == (3, 2, None)
    with pytest.raises(UserError):
        settings(epochs=0).train_config(runs.folders)
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
    started = time.perf_counter()
    reader.read()
    assert time.perf_counter() - started < 0.05
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
