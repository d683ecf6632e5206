"""Every event of the page with every wrong type: it answers in words, breaks nothing and starts nothing."""

import json
import random

import pytest
import requests
from serving import ROOT, served

from LoraModel.messages import UserError

pytestmark = pytest.mark.attack

WRONG = [None, True, False, [], [1], ["x", ["y"]], {}, {"a": 1}, {"name": "/etc/passwd", "is_file": True}, -1, 0, 3,
         0.5, 1e308,
         float("nan"), float("inf"), 10**400, "", " ", "²", "１", "1e3", "../../etc/passwd", "/etc/passwd", "C:\\x",
         ".", "..", "~root", "~nosuchuser/x", "a\0b", "\ud800", "\u202ex",
         "con", "voice.", "<script>alert(1)</script>", "x" * 5000, "[" * 3000, "\x1b[31m"]


def _random(rng, depth=0):
    """A value as a broken client may send it."""
    kind = rng.randrange(5 if depth < 3 else 3)
    if kind == 0:
        return "".join(chr(rng.randrange(0xFFFF)) for _ in range(rng.randrange(30)))
    if kind == 1:
        return rng.choice([rng.randrange(-10**30, 10**30), rng.uniform(-1e10, 1e10)])
    if kind == 2:
        return rng.choice(WRONG)
    return [_random(rng, depth + 1) for _ in range(3)] if kind == 3 else {"x": _random(rng, depth + 1)}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of `python run.py app`, not served -> (its folder, [(name, function, number of inputs)])."""
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from LoraModel.webui import app
    from LoraModel.webui.panel import slider_rest

    root = tmp_path_factory.mktemp("page")
    drag, slider_rest.DRAG = slider_rest.DRAG, 0.0
    blocks = app.build(root)
    events = []
    for dependency, function in zip(blocks.config["dependencies"], blocks.fns):
        if function.fn is not None and "LoraModel" in (getattr(function.fn, "__module__", None) or "LoraModel"):
            events.append((dependency["api_name"] or getattr(function.fn, "__name__", "?"), function.fn,
                           len(dependency["inputs"])))
    yield root, events
    slider_rest.DRAG = drag


def _files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".rvc-lora" not in path.parts)


def _answered(name, function, values):
    try:
        answer = function(*values)
    except UserError as error:  # of the events whose answer holds no text: Gradio shows it
        assert name == "infer_change_voice" and len(error.en) < 600
        answer = [error.en, error.zh]
    text = json.dumps(answer, ensure_ascii=False, default=str)
    assert text.encode("utf-8") and "Traceback" not in text and not any(ord(character) < 32
                                                                        for character in text), (name, values)
    return text


def test_every_event_answers_every_wrong_value_in_words(page, attack_rounds):
    root, events = page
    names = {name for name, _, _ in events}
    assert {"lora_load", "lora_noise", "lora_unload", "lora_refresh", "lora_merge", "lora_train_start",
            "lora_train_stop", "lora_train_resume", "lora_train_status",
            "infer_convert", "infer_change_voice", "tick", "begin", "settle", "choose_bases", "choose_adapter"} <= names
    before, rng, calls = _files(root), random.Random(0), 0
    for name, function, count in events:
        for value in WRONG if count else [None]:
            _answered(name, function, [value] * count)  # all of them wrong
            calls += 1
        for _ in range(30 * attack_rounds if count else 0):
            _answered(name, function, [_random(rng) for _ in range(count)])
    assert calls > 300 and _files(root) == before  # nothing was made, nowhere


def test_one_wrong_value_among_good_ones_is_named(page, attack_rounds):
    root, events = page
    functions = {name: function for name, function, _ in events}
    good = ["nobody", "16k", "v2", True, "assets/pretrained_v2/f0G16k.pth", "", "fast", 0, 0, 5, 2, 1, "cpu", False]
    assert "there is no experiment folder" in functions["lora_train_start"](*good)
    before = _files(root)
    for place in range(len(good)):
        for value in WRONG:
            values = [*good[:place], value, *good[place + 1:]]
            said = functions["lora_train_start"](*values)
            assert "has started" not in said and 0 < len(said) < 700 and "Error: " not in said, (place, value, said)
    loaded = ["pretrained_v2/f0G16k.pth", "", 1]
    for place in range(3):
        for value in WRONG:
            if place == 2 and value in (0, 3, 0.5) and not isinstance(value, bool) or value in (None, "", " ",
                                                                                                "1") and place < 2:
                continue
            said = functions["lora_load"](*loaded[:place], value, *loaded[place + 1:])[0]
            assert said.startswith("Error: ") and len(said) < 700, (place, value, said)
    functions["lora_noise"](0.3)
    for value in WRONG:
        if isinstance(value, bool) or value not in (0, 0.5):  # which are noises
            said = functions["lora_noise"](value)[0]
            assert said.startswith("Error: ") and len(said) < 700, (value, said)
    functions["lora_noise"](0)
    assert functions["lora_load"](*loaded)[0] == "pretrained_v2/f0G16k.pth, the base alone"
    assert _files(root) == before


def test_a_live_page_answers_wrong_values_in_words(tmp_path, attack_rounds):
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    rng = random.Random(1)
    inputs = {"lora_train_start": 14, "lora_train_stop": 1, "lora_train_resume": 2, "lora_train_status": 1,
              "lora_load": 3, "lora_noise": 1, "lora_merge": 1}
    command = [str(ROOT / "LoraModel/webui/app.py"), "--data_dir", str(tmp_path / "data")]
    with served(command, tmp_path, tmp_path / "log", RVC_LORA_LANG="en") as address:
        for name, count in inputs.items():
            for _ in range(12 * attack_rounds):
                data = json.dumps({"data": [rng.choice(WRONG) for _ in range(count)]})
                answer = requests.post(f"{address}run/{name}", data=data, headers={"Content-Type": "application/json"},
                                       timeout=60)
                # what is no event of the page, and files of others
                by_the_guard = answer.status_code == 400 and answer.json()["error"]
                assert answer.status_code == 200 or by_the_guard, (name, data[:200], answer.status_code,
                                                                   answer.text[:300])
    assert not list((tmp_path / "data/logs").glob("[!.]*"))
