"""`python run.py app`: the whole page in a browser."""

import re

from browser import chromium  # noqa: F401  (a fixture)
from serving import ROOT, end_runs, served
from test_webui_runs import make_root


def tab(page, name):
    page.locator("button", has_text=name).first.click()


def click(page, name):
    page.locator("button:visible", has_text=name).first.click()


def field(page, label):
    return page.get_by_label(label).locator("visible=true").first


def wait_for(page, wanted, seconds=60):
    """The text of the progress once it matches `wanted`."""
    text = ""
    for _ in range(seconds * 5):
        text = page.locator("#lora_progress").first.inner_text()
        if re.search(wanted, text):
            return text
        page.wait_for_timeout(200)
    raise AssertionError(f"{wanted!r} never came: {text!r}")


def test_the_whole_way_in_a_browser(chromium, tmp_path):  # noqa: F811
    prepared = make_root(tmp_path / "prepared", clips=4)
    log, data = tmp_path / "app.log", tmp_path / "data"
    try:
        with served([str(ROOT / "LoraModel/webui/app.py"), "--data_dir", str(data)], tmp_path, log, RVC_LORA_LANG="en") as address:
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(60000)
            asked, wrong = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(address)
            tab(page, "LoRA Train")
            field(page, "Enter the experiment name:").fill("voice")
            field(page, "Enter the path of the training folder:").fill(str(prepared / "recordings"))
            page.locator("label:visible", has_text="fast").first.click()
            for label, value in (("Total training epochs", "300"), ("Batch size per GPU:", "2")):
                field(page, label).fill(value)
                field(page, label).press("Tab")
            page.wait_for_timeout(500)
            click(page, "One-click training")
            shown = wait_for(page, r"step [2-9]\d* of 600", 90)
            assert " left" in shown and "training" in shown

            page.reload()  # and a second page beside it
            tab(page, "LoRA Train")
            wait_for(page, r"voice: training")
            assert field(page, "Enter the experiment name:").input_value() == "voice"
            second = chromium.new_page()
            second.goto(address)
            tab(second, "LoRA Train")
            wait_for(second, r"voice: training")
            click(second, "Train model")
            second.wait_for_function("[...document.querySelectorAll('textarea')].some(e => e.value.includes('being trained already'))")
            second.close()
            page.wait_for_function("document.querySelectorAll('#lora_curves svg, .lora-charts svg').length >= 2")
            page.wait_for_function("[...document.querySelectorAll('audio')].some(e => e.src && e.offsetParent)")

            click(page, "Stop (saves")
            stopped = wait_for(page, r"voice: stopped")
            assert "held-out loss" in stopped and "voice.safetensors" in stopped
            before = int(re.search(r"step (\d+) of", stopped).group(1))
            click(page, "Resume")
            wait_for(page, r"voice: training")
            for _ in range(300):
                now = re.search(r"step (\d+) of", page.locator("#lora_progress").first.inner_text())
                if now and int(now.group(1)) > before:
                    break
                page.wait_for_timeout(200)
            assert int(now.group(1)) > before
            click(page, "Stop (saves")
            wait_for(page, r"voice: stopped")

            tab(page, "Model Inference")
            choose(page, "Base model", "f0G16k")
            choose(page, "LoRA adapter", "voice.safetensors")
            page.wait_for_function("[...document.querySelectorAll('textarea')].some(e => e.value.includes('strength 1'))")
            click(page, "01.flac")
            page.wait_for_timeout(1500)
            click(page, "Convert")
            page.wait_for_function("[...document.querySelectorAll('textarea')].some(e => e.value.startsWith('Success'))", timeout=60000)
            field(page, "Name of the merged voice").fill("merged")
            click(page, "Merge into")
            page.wait_for_function("[...document.querySelectorAll('textarea')].some(e => e.value.includes('merged.pth'))", timeout=60000)
            assert (data / "assets/weights/merged.pth").is_file()
            choose(page, "Inferencing voice:", "merged.pth")
            page.wait_for_function("[...document.querySelectorAll('textarea')].some(e => e.value.startsWith('merged.pth'))", timeout=60000)
            page.close()
            assert not wrong, wrong
            assert [url for url in asked if url.startswith("http") and not url.startswith(address)] == []
    finally:
        end_runs(data, False)


def choose(page, label, option):
    """Pick an entry of a Gradio list."""
    field(page, label).click()
    page.locator("ul[role=listbox]:visible li, .options:visible li", has_text=option).first.click()
