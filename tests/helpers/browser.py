"""Steps of a user in a real browser (Playwright, the system's Chromium) on a page of Gradio 3.14 or 3.34, in its
language."""

import base64
import io
import re
import shutil
import time

import pytest
import soundfile

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium():
    """The system's Chromium, without a window. Skips, saying so, where there is none or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def field(page, label):
    """The control in view that has this label."""
    return page.get_by_label(label).locator("visible=true").first


class Visitor:
    """One page and who uses it. Labels are given in English and Chinese; `chinese` says which the page shows.

    Attributes:
        wrong: errors of the page's scripts.
    """

    def __init__(self, browser, address, chinese, seconds=300):
        self.chinese, self.seconds, self.wrong = chinese, seconds, []
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.page.set_default_timeout(seconds * 1000)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(address, wait_until="domcontentloaded")
        self._button(*TRAIN_TAB).wait_for(timeout=seconds * 1000)
        self.page.wait_for_timeout(1500)  # the page's own first events

    def say(self, en, zh):
        return zh if self.chinese else en

    def _button(self, en, zh):
        return self.page.get_by_role("button", name=self.say(en, zh), exact=True).locator("visible=true").first

    def _tab(self, en, zh):
        # Either word: RVC 2.2.231006 in English has "批量推理".
        return self.page.locator("button", has_text=re.compile(f"{en}|{zh}")).locator("visible=true").first

    def until(self, look, wanted, seconds=None):
        """The first value of `look()` for which `wanted(value)` is true."""
        deadline = time.monotonic() + (seconds or self.seconds)
        while True:
            value = look()
            if wanted(value):
                return value
            assert time.monotonic() < deadline, f"never came; last: {value!r}"
            self.page.wait_for_timeout(200)

    def tab(self, en, zh):
        self._tab(en, zh).click()
        self.page.wait_for_timeout(500)

    def click(self, en, zh):
        self._button(en, zh).click()

    def block(self, en, zh):
        """The visible field whose label is exactly this."""
        return self.page.locator("label",
                                 has=self.page.locator(f'span:text-is("{self.say(en, zh)}")')).locator(
                                     "visible=true").first

    def fill(self, en, zh, value):
        box = self.block(en, zh).locator("textarea, input").first
        box.fill(str(value))
        box.press("Tab")

    def number(self, en, zh, value):
        """Write a slider's number into the field beside it."""
        box = self.page.get_by_label(self.say(en, zh)).locator("visible=true").first
        box.fill(str(value))
        box.press("Tab")
        self.page.wait_for_timeout(300)

    def value(self, en, zh):
        return self.block(en, zh).locator("textarea, input, select").first.input_value()

    def says(self, en, zh, wanted, seconds=None):
        """Wait until the text box with this label holds what the pattern `wanted` asks for; its text."""
        return self.until(lambda: self.value(en, zh), lambda text: re.search(wanted, text), seconds)

    def options(self, en, zh):
        """What a list offers."""
        block = self.block(en, zh)
        if block.locator("select").count():  # Gradio 3.14
            return block.locator("option").all_inner_texts()
        self._open(block)
        found = self.page.locator("ul.options li").all_inner_texts()
        block.locator("input").press("Escape")
        return found

    def _open(self, block):
        # a list that is open already would be closed by a click
        self.page.locator("h2:visible, h1:visible").first.click()
        block.locator("input").click()
        self.page.locator("ul.options li").first.wait_for()

    def choose(self, en, zh, value):
        block = self.block(en, zh)
        if block.locator("select").count():
            block.locator("select").select_option(value)
            return
        self._open(block)
        self.page.locator("ul.options li", has_text=value).first.click()

    def progress(self, pattern, seconds=None):
        """The text of the training's progress once it matches `pattern`."""
        return self.until(lambda: self.page.locator("#lora_progress").first.inner_text(),
                          lambda text: re.search(pattern, text), seconds)

    def bar(self):
        """How far the bar is, in percent."""
        return float(re.search(r"width:\s*([\d.]+)%",
                               self.page.locator("#lora_progress .lora-bar > div").first.get_attribute("style")).group(
                                   1))

    def sounds(self):
        """Addresses of the sounds that the page shows."""
        # Gradio 3.14: a shadow tree
        return self.page.locator("audio:visible").evaluate_all("(found) => found.filter(e => e.src).map(e => e.src)")

    def sound(self, address):
        """The sound at an address of the page: ((samples,) float32, sample rate in Hz)."""
        data = self.page.evaluate("""async (address) => {
            const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
            let text = '';
            for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
            return btoa(text);
        }""", address)  # noqa: E501
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32", always_2d=True)
        return audio[:, 0], rate

    def convert(self, seconds=None):
        """Press RVC's own Convert; the new sound: ((samples,), sample rate in Hz)."""
        before = set(self.sounds())
        self.click("Convert", "转换")
        new = self.until(lambda: [address for address in self.sounds() if address not in before], bool, seconds)
        said = self.value("Output information", "输出信息") if self.block("Output information",
                                                                          "输出信息").count() else ""
        assert "Traceback" not in said, said
        return self.sound(new[-1])


TRAIN_TAB = ("LoRA Train", "LoRA 训练")
