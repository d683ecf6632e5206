"""`python run.py app`: the whole page in a browser."""

import os
import re
import time
from types import SimpleNamespace

import pytest
from browser import chromium, field  # noqa: F401  (a fixture)
from page_runs import make_root
from serving import ROOT, end_runs, served

from LoraModel.inference.audio import read_audio
from LoraModel.messages import UserError

SECONDS = 300
"""How long a wait may last on a machine that is busy with other things. Nothing here waits a time: each wait ends with
what it is for."""
EPOCHS = 1000
"""So many that no machine is through with them before the test stops the run."""


def tab(page, name):
    page.locator("button", has_text=name).first.click()


def click(page, name):
    page.locator("button:visible", has_text=name).first.click()


def until(page, look, wanted):
    """The first value of `look()` for which `wanted(value)` is true."""
    end = time.monotonic() + SECONDS
    while True:
        value = look()
        if wanted(value):
            return value
        assert time.monotonic() < end, f"it never came; last: {value!r}"
        page.wait_for_timeout(200)


def wait_for(page, wanted):
    """The text of the progress once it matches `wanted`."""
    return until(page, lambda: page.locator("#lora_progress").first.inner_text(), lambda text: re.search(wanted, text))


def says(page, wanted):
    """Wait until a text box of the page holds `wanted`."""
    until(page, lambda: page.evaluate("[...document.querySelectorAll('textarea')].map(e => e.value)"),
          lambda texts: any(wanted in text for text in texts))


def heard(page):
    """The addresses of the sounds in view."""
    return page.evaluate("[...document.querySelectorAll('audio')].filter(e => e.src && e.offsetParent).map(e => e.src)")


def step_of(text):
    found = re.search(r"step (\d+) of", text)
    return int(found.group(1)) if found else 0


def test_the_whole_way_in_a_browser(chromium, tmp_path):  # noqa: F811
    prepared = make_root(tmp_path / "prepared", clips=4)
    log, data = tmp_path / "app.log", tmp_path / "data"
    try:
        with served([str(ROOT / "LoraModel/webui/app.py"), "--data_dir", str(data)], tmp_path, log,
                    RVC_LORA_LANG="en") as address:
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(SECONDS * 1000)
            asked, wrong = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(address)
            train_stop_and_resume(chromium, page, address, prepared / "recordings")
            convert_and_merge(page, data)
            page.close()
            assert not wrong, wrong
            assert [url for url in asked if url.startswith("http") and not url.startswith(address)] == []
    finally:
        end_runs(data, False)


def train_stop_and_resume(chromium, page, address, recordings):  # noqa: F811
    tab(page, "LoRA Train")
    field(page, "Enter the experiment name:").fill("voice")
    field(page, "Enter the path of the training folder:").fill(str(recordings))
    page.locator("label:visible", has_text="fast").first.click()
    for label, value in (("Total training epochs", str(EPOCHS)), ("Batch size per GPU:", "2")):
        field(page, label).fill(value)
        field(page, label).press("Tab")
    page.wait_for_timeout(500)
    click(page, "One-click training")
    shown = wait_for(page, rf"step ([2-9]|[1-9]\d+) of {2 * EPOCHS}")
    assert " left" in shown and "training" in shown

    page.reload()  # and a second page beside it
    tab(page, "LoRA Train")
    wait_for(page, r"voice: training")
    assert field(page, "Enter the experiment name:").input_value() == "voice"
    second = chromium.new_page()
    second.set_default_timeout(SECONDS * 1000)
    second.goto(address)
    tab(second, "LoRA Train")
    wait_for(second, r"voice: training")
    click(second, "Train model")
    says(second, "being trained already")
    second.close()
    until(page, lambda: page.locator("#lora_curves svg, .lora-charts svg").count(), lambda count: count >= 2)
    until(page, lambda: heard(page), bool)

    click(page, "Stop (saves")
    stopped = wait_for(page, r"voice: stopped")
    assert "held-out loss" in stopped and "voice.safetensors" in stopped
    click(page, "Resume")
    wait_for(page, r"voice: training")
    until(page, lambda: page.locator("#lora_progress").first.inner_text(),
          lambda text: step_of(text) > step_of(stopped))
    click(page, "Stop (saves")
    wait_for(page, r"voice: stopped")
    for label in ("As recorded", "Base alone", "The voice now"):  # the held-out clips, each to be heard
        page.get_by_text(label).locator("visible=true").first.wait_for()
    assert page.locator("a:visible", has_text="Download").count()
    click(page, "Try this voice")
    until(page, lambda: page.get_by_text("RVC-LoRA: ").locator("visible=true").first.inner_text(),
          lambda text: text.startswith("RVC-LoRA: lora/voice.safetensors, "))


def convert_and_merge(page, data):
    tab(page, "Model Inference")
    choose(page, "Base model", "f0G16k")
    assert searched(page, "LoRA adapter", "no such voice") == []
    found = searched(page, "LoRA adapter", "oice.safe")
    assert found and all("voice.safetensors" in name for name in found)
    choose(page, "LoRA adapter", "voice.safetensors")
    says(page, "strength 1")
    click(page, "01.flac")
    given = until(page, lambda: heard(page), bool)
    click(page, "Convert")
    says(page, "Success.")
    # all of the answer is there: nothing of the page moves
    until(page, lambda: heard(page), lambda found: set(found) - set(given))
    field(page, "Name of the merged voice").fill("merged")
    click(page, "Merge into")
    says(page, "Wrote merged.pth")
    assert (data / "assets/weights/merged.pth").is_file()
    choose(page, "Inferencing voice:", "merged.pth")
    says(page, "merged.pth, from RVC's own list")


def searched(page, label, text):
    """What a Gradio list offers once somebody has typed `text` into it."""
    field(page, label).click()
    field(page, label).fill(text)
    page.wait_for_timeout(500)
    return page.locator("ul[role=listbox]:visible li, .options:visible li").all_inner_texts()


def choose(page, label, option):
    """Pick an entry of a Gradio list."""
    field(page, label).click()
    page.locator("ul[role=listbox]:visible li, .options:visible li", has_text=option).first.click()


def test_no_event_goes_through_gradios_queue(tmp_path, monkeypatch):
    """It drops an event without a word where a message takes the browser more than five seconds, or the server more
    than one."""
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app

    for name in ("weight_root", "index_root"):
        monkeypatch.setenv(name, "set back afterwards")
    page = app.build(tmp_path)
    events = [event for event in page.config["dependencies"] if event["backend_fn"]]
    assert len(events) > 25 and [event["targets"] for event in events if event["queue"] is not False] == []


def test_every_control_says_what_it_is_for_in_both_languages(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app

    for name in ("weight_root", "index_root"):
        monkeypatch.setenv(name, "set back afterwards")
    said = {}
    for language in ("en", "zh"):
        monkeypatch.setenv("RVC_LORA_LANG", language)
        found = [entry["props"] for entry in app.build(tmp_path).config["components"]
                 if entry["type"] in ("textbox", "radio", "slider", "dropdown", "checkbox", "number")
                 and entry["props"].get("interactive") is not False and entry["props"].get("label")]
        said[language] = {props["label"]: props.get("info") for props in found}
        assert len(found) > 25 and [label for label, info in said[language].items() if not info] == []
    assert not set(said["en"].values()) & set(said["zh"].values())


def test_the_page_changes_its_language_and_keeps_what_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app, app_language

    for name in ("weight_root", "index_root"):
        monkeypatch.setenv(name, "set back afterwards")
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    kept, shown = {}, []
    switch = app_language.LanguageSwitch(tmp_path, lambda: app.build(tmp_path, kept, switch))
    first = switch.served = app.build(tmp_path, kept, switch)
    first.server_app = SimpleNamespace(configure_app=shown.append)
    before = dict(kept)

    def labels(page):
        return {entry["props"].get("label") for entry in page.config["components"]}

    switch.choose("English")
    assert shown == []
    switch.choose("简体中文")
    assert shown == [switch.served] and "LoRA 适配器" in labels(switch.served) and "LoRA adapter" in labels(first)
    assert kept == before and {"vc", "voices", "preparer"} <= set(kept) and kept["preparer"].runs.language == "zh"
    assert switch.served.server_app is first.server_app
    assert len(switch.served.config["dependencies"]) == len(first.config["dependencies"])  # events of a page still open
    monkeypatch.delenv("RVC_LORA_LANG")
    app_language.use_kept(tmp_path)
    assert os.environ["RVC_LORA_LANG"] == "zh_CN"  # the next start
    with pytest.raises(UserError, match="语言"):
        switch.choose("Klingon")


def test_recordings_are_read_without_ffmpeg(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app
    from LoraModel.webui.recording import Recording

    monkeypatch.setenv("PATH", str(tmp_path))
    source, box = ROOT / "LoraModel/demo/recordings/source/01.flac", Recording(type="filepath")
    assert box.get_block_name() == "audio" and box.preprocess(None) is None
    given = {"name": str(source), "data": None, "is_file": True}
    whole = read_audio(box.preprocess(given), 16000)
    assert (whole == read_audio(source, 16000)).all()
    part = read_audio(box.preprocess({**given, "crop_min": 25, "crop_max": 75}), 16000)
    assert (part == whole[len(whole) // 4:len(whole) // 4 + len(part)]).all() and abs(2 * len(part) - len(whole)) <= 2
    for name, contents in (("cover.jpg", b"\xff\xd8\xff\xe0" * 200), ("cut.flac", source.read_bytes()[:40])):
        (tmp_path / name).write_bytes(contents)
        upload = box.preprocess({**given, "name": str(tmp_path / name), "crop_min": 10})
        with pytest.raises(UserError) as error:
            read_audio(upload, 16000)
        said = str(error.value)
        assert len(said.splitlines()) == 1 and len(said) < 400 and said.count(name) == 1 and "Error opening" not in said
        assert app._without_folder(said, upload).startswith(name)
