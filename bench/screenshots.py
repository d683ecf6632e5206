"""Pictures of the pages for docs/: a running WebUI with RVC-LoRA in it, seen by a real browser.

    python bench/screenshots.py --url http://127.0.0.1:7865 --name classic
    python bench/screenshots.py --url ... --name classic --base pretrained_v2/f0G40k.pth --adapter
    lora/voice.safetensors --experiment voice

Writes NAME-inference.png (the inference tab, with the adapter loaded if one is named) and NAME-train.png (the LoRA
Train tab, with the training of the experiment if one is named) into docs/images/. Needs the packages playwright and
Pillow, and a Chromium: `--chromium` names it, else the system's is looked for.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path
from typing import Any, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from LoraModel.commands import Parser
from LoraModel.messages import cli

LOADED, BASE, ADAPTER = ("Loaded", "当前加载"), ("Base model", "底模"), ("LoRA adapter", "LoRA 适配器")
TRAIN, EXPERIMENT = ("LoRA Train", "LoRA 训练"), ("Enter the experiment name:", "输入实验名")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SECONDS = 60


def field(page: Any, labels: Any) -> Any:
    """The block with one of these labels."""
    return page.locator("label", has=page.locator(", ".join(f'span:text-is("{label}")' for label in labels))).first


def choose(page: Any, labels: Any, value: str) -> None:
    """Choose from a dropdown: a list of the browser's own in Gradio 3.14, one of Gradio's in 3.34."""
    block = field(page, labels)
    if block.locator("select").count():
        block.locator("select").select_option(value)
        return
    page.locator("h2").first.click()
    block.locator("input").click()
    page.locator("ul.options li", has_text=value).first.click()


def wait_for(page: Any, labels: Any, text: str) -> None:
    """Wait until a text box holds `text`; an error in it ends the program."""
    box = field(page, labels).locator("textarea")
    for _ in range(SECONDS * 4):
        status = box.input_value()
        if status.startswith(("Error", "错误")):
            sys.exit(status)
        if text in status:
            return
        page.wait_for_timeout(250)
    sys.exit(f"{labels[0]!r} did not show {text!r} in {SECONDS} s; it shows {box.input_value()!r}")


def save(picture: bytes, path: Path) -> None:
    """A picture of the browser's as a small PNG: a page has few colours."""
    from PIL import Image

    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256,
                                                            dither=Image.Dither.NONE).save(str(path), optimize=True)


def take(options: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    options.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": options.width, "height": options.height})
        page.goto(options.url, wait_until="domcontentloaded")
        head = page.get_by_text("RVC-LoRA: ").first
        head.wait_for(timeout=SECONDS * 1000)
        page.wait_for_timeout(2000)
        if not field(page, LOADED).is_visible():
            head.click()
        if options.base:
            choose(page, BASE, options.base)
            wait_for(page, LOADED, options.base)
        if options.adapter:
            choose(page, ADAPTER, options.adapter)
            wait_for(page, LOADED, options.adapter)
        page.wait_for_timeout(1500)
        page.evaluate("window.scrollTo(0, 0)")
        save(page.screenshot(), options.output / f"{options.name}-inference.png")
        page.locator(", ".join(f'button:text-is("{title}")' for title in TRAIN)).first.click()
        if options.experiment:
            name = page.locator("label:visible",
                                has=page.locator(", ".join(f'span:text-is("{label}")' for label in EXPERIMENT))).first
            name.locator("textarea, input").fill(options.experiment)
            name.locator("textarea, input").press("Tab")
            page.locator("#lora_progress .lora-bar").wait_for(timeout=SECONDS * 1000)
        page.wait_for_timeout(4000)
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        save(page.screenshot(full_page=True), options.output / f"{options.name}-train.png")
        browser.close()


def main(argv: Optional[List[str]] = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="of the page, such as http://127.0.0.1:7865")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder of the pictures")
    parser.add_argument("--name", required=True, help="the pictures' names begin with it")
    parser.add_argument("--base", help="choose this base, as the list names it (default: none)")
    parser.add_argument("--adapter", help="then this adapter (default: none)")
    parser.add_argument("--experiment", help="show the training of this experiment (default: none)")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser")
                        or shutil.which("google-chrome"),
                        help="the browser's program (default: the one on PATH)")
    parser.add_argument("--width", type=int, default=1280, help="of the pictures in pixels")
    parser.add_argument("--height", type=int, default=1000,
                        help="of the inference tab's picture; the other shows the whole tab")
    args = parser.parse_args(argv)
    if not args.chromium:
        sys.exit("no Chromium was found: install one, or name it with --chromium")
    take(args)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
