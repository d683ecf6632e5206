"""The LoRA Train tab: its steps, and its events by name on the stand-in hosts."""

import json
import os
import shutil
import threading
import time
import urllib.request
from dataclasses import asdict

import catalog_data
import pytest
import standin_hosts
from page_runs import BASE, ended, make_root, settings, until
from serving import end_runs, served

from LoraModel.install import webui_script
from LoraModel.messages import UserError, tr_in
from LoraModel.webui.folders import Folders
from LoraModel.webui.preparing import preparation
from LoraModel.webui.preparing.preparation import Preparer
from LoraModel.webui.preparing.preparation_job import Preparation
from LoraModel.webui.runs.runs import Runs, RunSettings
from LoraModel.webui.tab import curves


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("prepared"), clips=4)


# ---------------------------------------------------------------- events by name, on the stand-in hosts

@pytest.mark.parametrize("layout, language", [("classic", "en_US"), ("2026", "zh_CN")])
def test_events_by_name_on_a_stand_in_host(layout, language, prepared, tmp_path):
    client_module = pytest.importorskip("gradio_client")
    root = standin_hosts.make(layout, tmp_path / "我的 RVC")
    script = root / standin_hosts.SCRIPT[layout]
    script.write_bytes(webui_script.with_lines(script.read_bytes(), script.name))
    shutil.copytree(str(prepared / "assets/pretrained_v2"), str(root / "assets/pretrained_v2"))
    shutil.copytree(str(prepared / "logs/voice"), str(root / "logs/voice"))
    zh = language == "zh_CN"
    log = tmp_path / "page.log"
    try:
        with served([script.name], root, log, STANDIN_LANGUAGE=language) as address:
            page = urllib.request.urlopen(address).read().decode()
            assert ("LoRA 训练" in page) == zh and ("LoRA Train" in page) != zh
            client = client_module.Client(address, verbose=False)

            def start(name="voice", base=BASE, epochs=500):
                return client.predict(name, "16k", "v2", True, base, "", "fast", 0, 0, epochs, 2, 1, "cpu", False,
                                      api_name="/lora_train_start")

            def status():
                return json.loads(client.predict("voice", api_name="/lora_train_status"))

            assert status()["state"] == "none"
            assert ("找不到" if zh else "there is no") in start(base="assets/pretrained_v2/none.pth")
            assert ("无法使用" if zh else "cannot be taken") in start(base="../../etc/x.pth")
            assert ("不能用作文件名" if zh else "cannot be a file name") in start(name="../voice")
            assert ("找不到实验文件夹" if zh else "there is no experiment folder") in start(name="nobody")
            assert ("没有在训练" if zh else "not being trained") in client.predict("voice", api_name="/lora_train_stop")

            assert ("已开始训练" if zh else "has started") in start()
            assert ("正在训练中" if zh else "being trained already") in start()
            if layout == "2026":  # the same page goes on
                goes_on(client, status, Runs(Folders(root), "en"), zh)
        if layout == "classic":  # the page is gone, the run goes on
            until(Runs(Folders(root), "en"), lambda s: s.step >= 2 and s.adapter)
            with served([script.name], root, log, STANDIN_LANGUAGE=language) as address:
                client = client_module.Client(address, verbose=False)
                goes_on(client, status, Runs(Folders(root), "en"), zh)
    finally:
        end_runs(root, True)


def goes_on(client, status, runs, zh):
    """A run that goes on is found, stopped and resumed."""
    until(runs, lambda s: s.step >= 2 and s.adapter)
    found = status()
    assert found["state"] in ("running", "starting") and found["step"] >= 2 and found["base"] > 0
    assert "training:" in "\n".join(found["log"]) or zh
    assert ("已停止并保存" if zh else "stopped and saved") in client.predict("voice", api_name="/lora_train_stop")
    assert status()["state"] == "stopped"
    resumed = client.predict("voice", 500, api_name="/lora_train_resume")
    assert ("继续训练 voice" if zh else "resuming voice") in resumed
    until(runs, lambda s: s.step > found["step"] + 1)
    lists = json.dumps(client.predict(api_name="/lora_refresh"), ensure_ascii=False)
    assert "voice.safetensors" in lists


# ---------------------------------------------------------------- the steps before training

def slow(*texts, then=None, gate=None):
    """A function of the script as RVC's are: a generator of what to show."""
    def step(**given):
        for text in texts:
            yield text
            if gate is not None:
                gate.wait(300)
        if then is not None:
            then(given)

    return step


@pytest.fixture
def checkout(tmp_path, prepared):
    root = standin_hosts.make("2026", tmp_path / "rvc")
    shutil.copytree(str(prepared / "assets/pretrained_v2"), str(root / "assets/pretrained_v2"))
    return root


def test_rvcs_own_functions_do_the_first_steps(checkout, prepared, monkeypatch):
    calls = []

    def copy(*parts):
        def then(given):
            calls.append(given)
            for part in parts:
                for path in (prepared / "logs/voice").glob(part):
                    target = checkout / "logs/voice" / path.relative_to(prepared / "logs/voice")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())

        return then

    def preprocess_dataset(trainset_dir, exp_dir, sr, n_p):
        yield from slow("0/4", "end preprocess", then=copy("0_gt_wavs/*", "1_16k_wavs/*"))(trainset_dir=trainset_dir,
                                                                                           exp_dir=exp_dir, sr=sr)

    def extract_f0_feature(gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe):
        given = {"f0method": f0method, "if_f0": if_f0, "version19": version19}
        for text in slow("all-feature-done", then=copy("2*/*", "3_feature768/*", "config.json"))(**given):
            yield text, {"__type__": "update"}, {"__type__": "update"}  # as the 2026 layout: text and buttons

    def train_index(exp_dir1, version19):
        yield from slow("index", then=copy("added_*"))(exp_dir1=exp_dir1)

    runs = Runs(Folders(checkout), "en")
    preparer = Preparer(runs, {"preprocess_dataset": preprocess_dataset, "extract_f0_feature": extract_f0_feature,
                               "train_index": train_index})
    assert preparer.by_rvc
    preparer.begin(("preprocess", "extract", "index", "train"), settings(), str(prepared / "recordings"), "pm")
    job = ended(preparer)
    assert job.error is None and job.texts == {"preprocess": "end preprocess", "extract": "all-feature-done",
                                               "index": "index"}
    assert calls[0] == {"trainset_dir": str(prepared / "recordings"), "exp_dir": "voice", "sr": "16k"}
    assert calls[1] == {"f0method": "pm", "if_f0": True, "version19": "v2"}
    assert until(runs, lambda s: not s.active).state == "done"

    # a function of RVC's that makes nothing: its script is run once more in our own way, whose reason is told
    monkeypatch.setattr(preparation.preprocess, "slice_recordings",
                        lambda *_: (_ for _ in ()).throw(UserError("sliced in vain")))
    shutil.rmtree(str(checkout / "logs/voice"))
    preparer._namespace["preprocess_dataset"] = lambda trainset_dir, exp_dir, sr, n_p: iter(["failed"])
    preparer.begin(("preprocess", "extract"), settings(), str(prepared / "recordings"), "pm")
    job = ended(preparer)
    assert str(job.error) == "sliced in vain" and job.failed == "preprocess" and "extract" not in job.texts


def test_bases_are_found_by_themselves_and_follow_the_sample_rate(checkout):
    train_tab = pytest.importorskip("LoraModel.webui.tab.train_tab", reason="gradio is not installed")
    for rate in ("40k", "48k"):
        catalog_data.generator(checkout / f"assets/pretrained_v2/f0G{rate}.pth", rate=rate)
        catalog_data.discriminator(checkout / f"assets/pretrained_v2/f0D{rate}.pth")
    page = train_tab._Page({"rvc_lora_root": str(checkout)})
    generator, discriminator, rate = page.form.choose_bases("48k", "v2", True)
    assert generator["value"] == "assets/pretrained_v2/f0G48k.pth" and "assets/pretrained_v2/f0G40k.pth" in generator[
        "choices"]
    assert discriminator["value"] == "" and discriminator["choices"][:2] == ["", "assets/pretrained_v2/f0D48k.pth"]
    assert page.form.choose_bases("48k", "v2", True,
                             "assets/pretrained_v2/f0D40k.pth")[1]["value"] == "assets/pretrained_v2/f0D48k.pth"
    # there is none
    assert page.form.choose_bases("48k", "v1", True, "assets/pretrained_v2/f0D40k.pth")[1]["value"] == ""


def test_a_page_that_is_opened_again_finds_the_newest_run(checkout):
    """One that was stopped, also where its folder was renamed; a list names all of them."""
    gr = pytest.importorskip("gradio", reason="gradio is not installed")
    from LoraModel.webui.tab import train_tab

    for name, settings_ in (("older", {"name": "older"}), ("mine", {"name": "before", "epochs": 7, "preset": "fast"})):
        run = checkout / "logs" / name / "lora"
        run.mkdir(parents=True)
        (run / "job.json").write_text(json.dumps({"settings": settings_}))
        os.utime(str(run / "job.json"), (1 + 9 * (name == "mine"), 1 + 9 * (name == "mine")))
        (run / "process.json").write_text('{"pid": 1, "began": "x", "started": 1.0, "stopping": true}')
    (checkout / "logs/mine/prepared.json").write_text('{"format": 2, "steps": {}, "folder": "recordings of mine"}')
    page = train_tab._Page({"rvc_lora_root": str(checkout)})
    with gr.Blocks() as app:
        page.components()
        page.events()
    opened = page.opened()
    outputs = [event["outputs"] for event in app.config["dependencies"]
               if event["trigger"] == "load" and event["backend_fn"]]
    assert sorted(len(ids) for ids in outputs) == [1, len(opened)]  # the queue has one of its own
    values = dict(zip(asdict(RunSettings("x")), opened))
    assert values["name"]["value"] == "mine" and values["epochs"]["value"] == 7
    assert opened[-1]["choices"] == ["mine", "older"]
    assert opened[len(page.form.fields)]["value"] == "recordings of mine"  # its own, or none: never another voice's
    assert page.chosen("older")[0]["value"] == "older" and page.chosen("older")[-1]["value"] == ""
    assert "logs/mine" in opened[-3] and "logs/mine" in opened[-2]["choices"]  # the list at the foot of the page
    ticked = page.tick("mine", {})
    assert "logs/mine" in ticked[0] and len(ticked) == len(page.shelf.shown_now) + len(page.view.outputs) + 1
    assert page.tick("mine", ticked[-1])[:2] == [gr.update(), gr.update()]
    for nothing in ("none", "../x", ["mine"], None, 3):
        assert not any("value" in change for change in page.chosen(nothing))
    shown = page.view.tick("mine", {})
    assert "mine: stopped" in shown[3]["value"]
    assert not any("value" in change for change in page.view.tick("mine", shown[-1])[:-1])
    page.preparer.current = Preparation(("preprocess",), RunSettings("mine"), "", "pm", False, None,
                                        texts={"preprocess": "of mine"}, finished=["preprocess"])
    assert page.view.tick("mine", shown[-1])[0]["value"] == "of mine\ndone"
    other = page.view.tick("older", page.view.tick("mine", {})[-1])  # no text of one voice under another's name
    assert [box["value"] for box in other[:3]] == ["", "", ""]
    stopped = Preparation(("preprocess", "extract"), RunSettings("mine"), "", "pm", False, None, stop_asked=True,
                          texts={"preprocess": "half"}, begun={"preprocess": 1.0})
    page.preparer.current = stopped
    assert page.view.tick("mine", {})[0]["value"].endswith("stopped")  # what was stopped is not done


def test_preparation_is_not_begun_twice_nor_in_vain(checkout, prepared):
    gate = threading.Event()
    runs = Runs(Folders(checkout), "en")
    names = {name: slow("under way", gate=gate) for name in preparation.FUNCTIONS.values()}
    preparer = Preparer(runs, names)
    preparer.begin(("index",), settings(), "", "pm")
    with pytest.raises(UserError, match="being prepared already"):
        preparer.begin(("index",), settings(), "", "pm")
    assert preparer.stop()
    gate.set()
    ended(preparer)
    with pytest.raises(UserError, match="no folder"):
        preparer.begin(("preprocess",), settings(), "/no/such/folder", "pm")
    with pytest.raises(UserError, match="cannot be taken"):  # before anything is prepared
        preparer.begin(("preprocess", "train"), settings(base_g="x.pth"), str(prepared / "recordings"), "pm")
    assert not preparer.current.active


def test_a_webui_that_is_started_again_goes_on_with_the_preparation(checkout, prepared, monkeypatch):
    monkeypatch.setattr(Preparer, "_check", lambda *_: None)
    gate, calls, folders = threading.Event(), [], Folders(checkout)
    steps = {function: slow("under way", then=lambda _given, step=step: calls.append(step)) for step,
             function in preparation.FUNCTIONS.items()}
    first = Preparer(Runs(folders, "en"), {**steps, "extract_f0_feature": slow("under way", gate=gate)})
    first.begin(("preprocess", "extract", "index"), settings(), str(prepared / "recordings"), "pm")
    until = time.monotonic() + 300
    while first.current.texts.get("extract") is None:
        assert first.current.active and time.monotonic() < until, (first.current.error, first.current.texts)
        time.sleep(0.01)
    noted = first._noted()
    again = Preparer(Runs(folders, "en"), steps)
    assert again.undone("voice") == (noted, True) and noted["steps"] == ["extract", "index"]
    gate.set()
    ended(first)
    assert again.undone() == ({}, False)
    with pytest.raises(UserError, match="nothing of the preparation of voice is left"):
        again.resume("voice")

    # as the first WebUI, killed, would have left it
    Runs._write(folders.own, "preparation.json", {**noted, "began": "at another time"})
    assert again.undone("voice")[1] is False and again.undone("other") == ({}, False)
    (checkout / "logs/voice/3_feature768").mkdir(parents=True)
    (checkout / "logs/voice/3_feature768/0_0.npy").write_bytes(b"half an array")
    with pytest.raises(UserError, match="still running"):  # RVC's own script may be
        again.resume("voice")
    monkeypatch.setattr(preparation, "QUIET_SECONDS", -1)
    calls.clear()
    again.resume("voice")
    assert again.undone("voice") == ({}, False)  # it is under way
    assert ended(again).error is None and calls == ["extract", "index"] and again._noted() == {}
    assert not (checkout / "logs/voice/3_feature768/0_0.npy").exists()  # or RVC would take it for done

    Runs._write(folders.own, "preparation.json", {**noted, "began": "at another time"})
    again.forget("other")
    assert again.undone("voice")[0]
    again.forget("voice")
    assert not again.undone("voice")[0]
    assert "Still to do: Train model. Press Resume" in curves.cut_off(["Train model"], False, tr_in("en"))
    assert "训练模型" in curves.cut_off(["训练模型"], True, tr_in("zh_CN"))


def test_without_rvcs_functions_prepare_data_does_the_steps(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tmp_path / "app"
    shutil.copytree(str(prepared / "assets"), str(root / "assets"))
    preparer = Preparer(Runs(Folders(root, False), "zh"), {})
    assert not preparer.by_rvc
    preparer.begin(("preprocess",), settings(), str(prepared / "recordings"), "pm")
    job = ended(preparer)
    assert job.error is None and "切分" in job.texts["preprocess"]
    assert list((root / "logs/voice/1_16k_wavs").glob("*.wav")) and not (root / "logs/voice/3_feature768").exists()
    preparer.begin(("extract",), settings(), str(prepared / "recordings"), "pm")
    job = ended(preparer)
    assert job.error is None and (root / "logs/voice/filelist.txt").is_file() and list(
        (root / "logs/voice").glob("added_*.index"))
    (tmp_path / "empty").mkdir()
    preparer.begin(("preprocess",), settings(name="nobody"), str(tmp_path / "empty"), "pm")
    assert isinstance(ended(preparer).error, UserError)
