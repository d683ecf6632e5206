"""Step 2's look at the recordings: words and pictures on the page, nothing changed."""

import pytest
import soundfile
from doctor_sounds import RATE, clipped, voice

from LoraModel.doctor import together
from LoraModel.host import find_host
from LoraModel.messages import UserError, tr
from LoraModel.webui.tab import checking
from LoraModel.webui.tab.train_tab import _Page
from LoraModel.webui.text import translator


@pytest.fixture(autouse=True)
def no_speaker_network(monkeypatch):
    def missing():
        raise UserError("there is none")

    monkeypatch.setattr(together, "SpeakerEncoder", missing)


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    soundfile.write(str(folder / "a <i>.wav"), clipped(voice(3)), RATE)
    return folder


def test_the_page_says_it_in_its_language_with_pictures(recordings):
    said, html = checking.look(recordings, "40k", translator({"i18n": type("I18n", (), {"language": "en_US"})()}))
    assert said.startswith("recordings: 1; ") and "not looked at: whether a second speaker" in said
    assert "a &lt;i&gt;.wav" in html and "<i>.wav" not in html and "cut off at the top" in html and "<svg" in html
    said, html = checking.look(recordings, "40k", translator({"i18n": type("I18n", (), {"language": "zh_CN"})()}))
    assert "个录音" in said and "未检查" in said and "削平" in html


def test_a_second_look_waits_for_the_first(recordings):
    with checking._one:
        with pytest.raises(UserError, match="already"):
            checking.look(recordings, "40k", tr)
    assert checking.look(recordings, "40k", tr)[1]


def test_the_button_answers_in_words_whatever_is_sent(recordings, tmp_path):
    page = _Page({"rvc_lora_root": str(tmp_path), "rvc_lora_host": find_host()})
    said, html = page.check(str(recordings), "40k")
    assert "recordings" in said and "lora-check" in html
    for wrong in (None, "", str(tmp_path / "none"), ["x"], 3, "\0"):
        said, html = page.check(wrong, "40k")
        assert said and html == ""
    assert page.check(str(recordings), "much")[1] == "" and page.check(str(recordings), None)[1]
