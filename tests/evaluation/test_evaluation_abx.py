"""The listening test: shuffling, what stands in its page, its interval against worked numbers, and a listener in a
browser."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import chromium  # noqa: F401  (a fixture)
from html_page import Page
from voice_data import BASE

from LoraModel.demo.demo import RECORDINGS
from LoraModel.evaluation import abx, binomial, evaluate
from LoraModel.messages import cli

EVIL = "</script><img src=x onerror=document.title='gotcha'> \u2028 & \"quoted\" 声音"


# The interval -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen, answers, low, high",
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # the last is Newcombe's example, 1998
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (0, 20, 0.0, 0.1611),
    ],
)
def test_wilson_against_worked_numbers(chosen, answers, low, high):
    share, found_low, found_high = binomial.wilson(chosen, answers)
    assert (
        share == chosen / answers
        and found_low == pytest.approx(low, abs=5e-5)
        and found_high == pytest.approx(high, abs=5e-5)
    )


def test_wilson_of_nothing_and_of_nonsense():
    assert binomial.wilson(0, 0) == (0.5, 0.0, 1.0)
    for wrong in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="no share"):
            binomial.wilson(*wrong)


# The trials ---------------------------------------------------------------------------------------------------------


def tone(hz, level=0.1, seconds=0.2, rate=16000):
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32), rate


def questions(count=6, voices=("one", EVIL)):
    return [
        abx.Question(
            f"clip {place}",
            tone(200 + place),
            {label: tone(300 + 100 * number + place) for number, label in enumerate(voices)},
        )
        for place in range(count)
    ]


def test_every_clip_and_pair_is_asked_once_in_an_order_that_the_seed_gives():
    trials, sounds = abx.make_trials(questions(4, ("a", "b", "c")), seed=1)
    asked = {(trial.clip, frozenset((trial.voice_a, trial.voice_b))) for trial in trials}
    assert len(trials) == len(asked) == 4 * 3 and len(sounds) == 4 * 4
    assert (
        trials
        == abx.make_trials(questions(4, ("a", "b", "c")), seed=1)[0]
        != abx.make_trials(questions(4, ("a", "b", "c")), seed=2)[0]
    )
    assert [trial.clip for trial in trials] != sorted(trial.clip for trial in trials)


def test_each_voice_is_as_often_a_as_b():
    trials, _ = abx.make_trials(questions(6), seed=3)
    assert sum(trial.voice_a == "one" for trial in trials) == 3


def test_keys_of_sounds_tell_nothing():
    trials, sounds = abx.make_trials(questions(2), seed=0)
    assert all(re.fullmatch("s[0-9a-f]{12}", key) for key in sounds) and list(sounds) == sorted(sounds)
    assert {key for trial in trials for key in (trial.x, trial.a, trial.b)} == set(sounds)


def test_one_voice_alone_cannot_be_compared(tmp_path, capsys):
    with pytest.raises(ValueError, match="needs two voices"):
        abx.make_trials(questions(1, ("alone",)))
    assert cli(evaluate.main, ["--base", str(BASE), "--recordings", "x", "--abx", str(tmp_path)]) == 2
    assert "name two models" in capsys.readouterr().err


def test_all_sounds_are_equally_loud():
    quiet, loud, peaky = tone(300, 0.01)[0], tone(300, 0.5)[0], np.r_[np.zeros(3000), 0.9, np.zeros(199)]
    assert np.sqrt(np.mean(abx.even(quiet, 16000) ** 2)) == pytest.approx(np.sqrt(np.mean(abx.even(loud, 16000) ** 2)))
    assert np.abs(abx.even(peaky, 16000)).max() == pytest.approx(0.99) and not abx.even(np.zeros(10), 16000).any()
    assert len(abx.even(np.ones(20 * 100), 100)) == abx.MOST_SECONDS * 100


# The page -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    return abx.write_abx(tmp_path_factory.mktemp("abx"), questions())


def test_the_page_stands_alone_and_nothing_in_it_is_unescaped(page_path):
    text = page_path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.stands_alone() and "http:" not in text and "https:" not in text
    assert text.count("</script>") == text.count("<script") == 2 and "<img" not in text and "\u2028" not in text
    assert len(page.tags("audio")) == 6 * 3
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(page.tags("audio")[0]["src"].split(",", 1)[1])))
    assert rate == 16000 and len(sound) == 3200
    contents = json.loads(
        re.search(r'<script id="contents" type="application/json">(.*?)</script>', text, re.S).group(1)
    )
    assert {trial["voice_a"] for trial in contents["trials"]} == {"one", EVIL}
    policy = page.tags("meta")[1]["content"]
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    assert (
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
        and "default-src 'none'" in policy
    )
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_languages_stand_in_it(tmp_path, monkeypatch, language):
    monkeypatch.setenv("RVC_LORA_LANG", language)
    page = Page(abx.write_abx(tmp_path, questions(1)).read_text(encoding="utf-8"))
    assert page.tags("html")[0]["data-shown"] == language
    spans = [attributes.get("lang") for tag, attributes in page.seen if tag == "span" and "lang" in attributes]
    assert spans.count("en") == spans.count("zh-CN") > 10


def test_a_listener_answers_by_keys_leaves_comes_back_and_saves(chromium, page_path, tmp_path):  # noqa: F811
    context = chromium.new_context(accept_downloads=True)
    context.set_default_timeout(60000)
    asked, said = [], []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url.split(":", 1)[0]))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_path.as_uri())
    trials = json.loads(page.locator("#contents").text_content())["trials"]
    page.keyboard.press("ArrowLeft")  # nothing was played yet
    assert page.locator("#count").inner_text() == "1 / 6" and page.locator("#choose-a").is_disabled()

    def listen_and_choose(label):
        place = int(page.locator("#count").inner_text().split(" ")[0]) - 1
        for key in "xab":
            page.keyboard.press(key)
        assert page.locator("#choose-a").is_enabled() and page.locator("#play-b.playing").count() <= 1
        page.keyboard.press("ArrowLeft" if trials[place]["voice_a"] == label else "ArrowRight")

    for _ in range(3):
        listen_and_choose(EVIL)
    page.keyboard.press("Backspace")  # one back, another answer
    listen_and_choose("one")
    page.reload()
    assert page.locator("#count").inner_text() == "4 / 6"  # it is kept
    for _ in range(3):
        listen_and_choose(EVIL)
    assert page.locator("#results").is_visible() and page.locator("#unfinished").is_hidden()
    first = sorted(["one", EVIL])[0]  # as JavaScript sorts: by UTF-16 code units
    expected = binomial.wilson(5 if first == EVIL else 1, 6)
    assert f"{100 * expected.low:.1f}% – {100 * expected.high:.1f}%" in page.locator(".numbers").inner_text()
    assert page.locator("#pairs b").inner_text().startswith("</script>") and page.title() == "RVC-LoRA: ABX"
    page.locator("#language").click()
    assert (
        page.locator("html").get_attribute("lang") == "zh-CN" and "保存回答" in page.locator("#download").inner_text()
    )
    with page.expect_download() as found:
        page.locator("#download").click()
    found.value.save_as(str(tmp_path / "answers.json"))
    answers = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert found.value.suggested_filename == f"abx-{answers['id']}.json" and answers["format"] == abx.FORMAT
    (pair,) = answers["pairs"]
    assert pair["voices"] == sorted(["one", EVIL]) and pair["answers"] == 6
    assert (pair["share"], pair["low"], pair["high"]) == tuple(pytest.approx(value, abs=1e-12) for value in expected)
    assert [one["chosen"] for one in answers["answers"]].count(EVIL) == 5 and len(answers["answers"]) == 6
    assert set(asked) <= {"file", "data", "blob"} and said == []
    context.close()


def test_the_command_writes_it(tmp_path, capsys):
    sound = soundfile.read(str(RECORDINGS / "reference" / "01.flac"), dtype="float32")[0][:16000]
    for name in ("target", "source"):
        soundfile.write(str(tmp_path / f"{name}.wav"), sound, 16000)
    arguments = [
        "--base",
        BASE,
        "--speaker",
        2,
        "--base",
        BASE,
        "--label",
        "other",
        "--speaker",
        3,
        "--recordings",
        tmp_path / "target.wav",
        "--sources",
        tmp_path / "source.wav",
        "--out",
        tmp_path / "out",
        "--abx",
        tmp_path / "abx",
        "--players",
        0,
        "--no_dnsmos",
        "--no_similarity",
    ]
    assert cli(evaluate.main, [str(argument) for argument in arguments]) == 0
    text = Path(tmp_path / "abx" / "abx.html").read_text(encoding="utf-8")
    contents = json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S).group(1))
    assert sorted(trial["clip"] for trial in contents["trials"]) == ["source.wav", "target.wav"]
    assert {trial["voice_a"] for trial in contents["trials"]} | {trial["voice_b"] for trial in contents["trials"]} == {
        "f0G16k",
        "other",
    }
    assert "abx.html" in capsys.readouterr().out
