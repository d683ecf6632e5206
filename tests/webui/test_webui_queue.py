"""The queue of the page: a process of its own works on it, whatever becomes of the page."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_base
import torch
import training_data

from LoraModel.host import find_host
from LoraModel.lora import load_adapter
from LoraModel.messages import UserError, tr_in
from LoraModel.models import load_base_beside_config
from LoraModel.preparation.fingerprint import Record, Settings, fingerprints
from LoraModel.webui.folders import Folders
from LoraModel.webui.lists.queue_panel import QueuePanel
from LoraModel.webui.lists.shelf import Shelf
from LoraModel.webui.preparing.preparation import Preparer
from LoraModel.webui.runs import processes
from LoraModel.webui.runs.queue_runs import Queue
from LoraModel.webui.runs.run_settings import RunSettings
from LoraModel.webui.runs.runs import Runs

BASE = "assets/pretrained_v2/f0G16k.pth"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tmp_path / "根 目录"
    tiny_base.make(root / "assets/pretrained_v2/f0G16k.pth")
    for name in ("anna", "ben"):
        training_data.make_experiment(root / "logs" / name, clips=4, seconds=1.2)
    made = Queue(Folders(root, False), "en")
    yield made
    if made.works():
        os.kill(made._process()["pid"], signal.SIGKILL)


def settings(name, **changed):
    return RunSettings(**{"name": name, "sample_rate": "16k", "base_g": BASE, "preset": "fast", "epochs": 2,
                          "batch_size": 2, "device": "cpu", **changed})


def states(queue):
    return {voice["name"]: voice["state"] for voice in queue.status()["voices"]}


def until(queue, wanted, seconds=200):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if wanted(queue):
            return
        time.sleep(0.1)
    raise AssertionError((queue.status(), queue.log.read_text() if queue.log.is_file() else ""))


def test_voices_one_after_another(queue, tmp_path):
    """Two that are prepared, one of recordings, and one that fails: the others go on. The adapters are in the list."""
    assert queue.status() == {"works": False, "paused": False, "voices": [], "log": []}
    recordings = tmp_path / "rec"
    recordings.mkdir()
    for number in (1, 2, 3):
        soundfile.write(str(recordings / f"{number}.wav"), training_data.clip(number, 0.4, 1.2)[0], training_data.RATE)
    broken = queue.folders.logs / "broken"
    shutil.copytree(str(queue.folders.logs / "anna"), str(broken))
    next((broken / "3_feature768").glob("*.npy")).write_bytes(b"no")
    queue.add(settings("broken"), "")
    queue.add(settings("anna"), "")
    queue.add(settings("ben"), "")
    queue.add(settings("carla", epochs=1), str(recordings))
    assert queue.works()
    queue = Queue(Folders(queue.folders.root, False))  # the page was closed and opened anew
    until(queue, lambda q: not q.works())
    assert states(queue) == {"broken": "failed", "anna": "done", "ben": "done", "carla": "done"}
    for entry in queue.entries():
        if entry.state == "done":
            assert queue.folders.adapter(entry.name).is_file() == entry.figures["better"]
    with pytest.raises(UserError, match="in the queue already") as refused:
        queue.add(settings("anna"), "")
    assert "完成" in refused.value.zh and "done" not in refused.value.zh
    queue.remove("broken")
    assert "broken" not in states(queue)


def given(folder, *levels):
    """A folder of recordings."""
    folder.mkdir()
    for number, level in enumerate(levels):
        soundfile.write(str(folder / f"{number}.wav"), np.full(8000, level, np.float32), 16000)
    return folder


def queued(queue, name):
    """What a voice of the queue is trained on, and whether that is prepared."""
    entry = {entry.name: entry for entry in queue.entries()}[name]
    return Path(entry.recordings), entry.data_dir is not None


def test_an_experiment_is_queued_where_it_is_prepared_to_its_end_and_of_the_given_recordings(queue, tmp_path,
                                                                                              monkeypatch):
    monkeypatch.setattr(queue, "see_to_it", lambda asked=False: None)
    first, second = given(tmp_path / "first", 0.1), given(tmp_path / "second", 0.2)
    anna, half = queue.folders.logs / "anna", queue.folders.logs / "half"
    queue.add(settings("anna"), str(first))  # of which nobody noted what it was made of
    assert queued(queue, "anna") == (anna, True)
    plan = Settings("v2", 16000, "pm", "stand-in")
    record, marks = Record(anna), fingerprints([], plan)
    record.describe([], plan, first)
    record.finish("slices", marks)
    for recordings, found in ((first, anna), (second, second), (anna, anna), ("", anna)):
        queue.add(settings("anna"), str(recordings))
        assert queued(queue, "anna") == (found, found == anna)
    shutil.copytree(str(anna), str(half))
    next((half / "3_feature768").glob("*.npy")).unlink()  # broken off in step 2b
    queue.add(settings("half"), str(first))
    assert queued(queue, "half") == (first, False)
    queue.add(settings("half"), "")  # what is complete is trained on, as ever
    assert queued(queue, "half") == (half, True)
    for name in ("3_feature768", "2a_f0", "2b-f0nsf"):  # step 2a alone
        shutil.rmtree(str(half / name))
    queue.add(settings("half"), str(second))
    assert queued(queue, "half") == (second, False)
    with pytest.raises(UserError, match="half is not prepared to its end: give the folder of its recordings"):
        queue.add(settings("half"), "")
    (half / "prepared.json").unlink()
    in_checkout = Queue(Folders(queue.folders.root, True))
    with pytest.raises(UserError, match="half holds files that were not made by this command"):
        in_checkout.add(settings("half"), str(second))


def test_what_the_queue_works_on_is_not_moved_or_prepared_anew(queue, monkeypatch):
    root, runs = queue.folders.root, Runs(queue.folders, "en")
    preparer = Preparer(runs, {})
    shelf = Shelf(runs, preparer)
    working = [False]
    monkeypatch.setattr(queue, "see_to_it", lambda asked=False: None)
    monkeypatch.setattr(processes, "alive", lambda record: working == [record.get("pid")])
    for name in ("anna", "ben"):
        (root / "logs" / name / "prepared.json").write_text("{}")
        queue.add(settings(name), "")
    queue.ledger.claim("a worker", False)
    given(root / "rec", 0.1)
    (queue.folder / "process.json").write_text(json.dumps({"pid": "of the queue"}))
    working[0] = "of the queue"
    refused = (lambda: shelf.delete("logs/anna"), lambda: shelf.rename("logs/anna", "clara"),
               lambda: preparer.begin(("preprocess",), settings("anna"), "rec", "pm"))
    try:
        for action in refused:
            with pytest.raises(UserError, match="the queue is at work on anna"):
                action()
    finally:
        working[0] = False  # it has ended, whatever its file says
    assert (root / "logs/anna").is_dir() and preparer.current is None
    shelf.rename("logs/ben", "clara")  # which waits
    shelf.delete("logs/anna")
    assert not (root / "logs/anna").exists()


def test_voices_of_several_bases(queue):
    """Each is trained on the base of its form, whichever waits first when the process begins; a base that is gone
    holds up no voice of another."""
    first, second = (queue.folders.root / "assets/pretrained_v2" / f"f0{name}16k.pth" for name in ("G", "G_B"))
    base = torch.load(str(first), weights_only=True)
    base["model"]["emb_g.weight"] = base["model"]["emb_g.weight"] + 1
    torch.save(base, str(second))
    training_data.make_experiment(queue.folders.logs / "carla", clips=4, seconds=1.2)
    hashes = [load_base_beside_config(path, find_host()).info.base_hash for path in (first, second)]
    queue.add(settings("anna", epochs=1), "")
    until(queue, lambda q: not q.works())
    queue.pause()
    queue.add(settings("ben", epochs=1, base_g=str(second.relative_to(queue.folders.root))), "")
    queue.add(settings("carla", epochs=1), "")
    queue.resume()
    until(queue, lambda q: not q.works())
    files = [queue.folder / "voices" / name / f"{name}.safetensors" for name in ("anna", "ben", "carla")]
    assert [load_adapter(file).metadata["base_hash"] for file in files] == [hashes[0], hashes[1], hashes[0]]
    ben, carla = queue.entries()[1:]
    assert queue._shared_base([ben, carla]) == str(first) and queue._shared_base([ben]) == str(second)
    first.unlink()
    assert queue._shared_base([carla, ben]) == str(second)


def test_pause_and_resume(queue):
    """What trains saves and waits; the order and the list change meanwhile; then all of it goes on."""
    queue.add(settings("anna", epochs=400, save_every=50), "")
    queue.add(settings("ben"), "")
    until(queue, lambda q: any(voice["step"] > 2 for voice in q.status()["voices"]))
    queue.pause()
    until(queue, lambda q: not q.works())
    found = states(queue)
    assert found["anna"] == "waiting" and queue.status()["paused"]
    queue.see_to_it()
    assert not queue.works(), "a paused queue stays so"
    queue.move("anna", 1)
    assert [entry.name for entry in queue.entries() if entry.state == "waiting"][-1] == "anna"
    queue.remove("anna")
    queue.resume()
    until(queue, lambda q: not q.works())
    assert states(queue) == {"ben": "done"}


def test_the_page(queue):
    """The panel's events and what it shows, in both languages."""
    gradio = pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")

    class Form:
        pass

    with gradio.Blocks() as page:
        form = Form()
        form.fields, form.recordings = [gradio.Textbox() for _ in range(13)], gradio.Textbox()
        panel = QueuePanel(queue, form, tr_in("zh_CN"))
    names = {entry["api_name"] for entry in page.config["dependencies"] if entry.get("api_name")}
    assert {"lora_queue_add", "lora_queue_pause", "lora_queue_resume", "lora_queue_earlier", "lora_queue_later",
            "lora_queue_remove", "lora_queue_status"} <= names
    assert "队列为空" in panel.table() and json.loads(panel.report())["voices"] == []
    assert "队列为空" in panel._on(queue.pause)()[0]
    assert not queue.folder.exists(), "nothing was made"
    said = panel._on_add("nobody", "16k", "v2", True, BASE, "", "fast", 0, 0, 1, 2, 1, "cpu", "")[0]
    assert "nobody" in said and not queue.folder.exists()
    said, table, _ = panel._on_add("anna", "16k", "v2", True, BASE, "", "fast", 0, 0, 1, 2, 1, "cpu", "")
    assert "<b>anna</b>" in table
    until(queue, lambda q: not q.works())
    assert "完成" in panel.table() and "1 个中完成 1 个" in panel.line()
    assert json.loads(panel.report())["voices"][0]["state"] == "done"
