"""The catalogue: languages, placeholders, texts that lack a translation, translations that lack a text."""

from __future__ import annotations

import ast
import json
import pickle
import re
import string
from pathlib import Path
from typing import Dict, Iterator, Set, Tuple

import pytest

from LoraModel import messages
from LoraModel.evaluation import page
from LoraModel.messages import StoredText, Text, UserError, closest, listing, say, stored, tr
from LoraModel.webui.text import page_language, translator

ROOT = Path(__file__).resolve().parents[2]
LOCALES = sorted((ROOT / "LoraModel" / "locale").glob("*.json"))
SOURCES = [*sorted((ROOT / "LoraModel").rglob("*.py")), ROOT / "run.py", ROOT / "install_into_rvc.py",
           *sorted((ROOT / "bench").glob("*.py"))]
CALLED = {"tr", "system_tr", "UserError", "say", "two", "Text", "NoConfiguration", "Busy", "WrongValue"}
TEMPLATES = sorted((ROOT / "LoraModel").rglob("*_template.html"))
OF_RVC = {"webui/tab/tab_words.py", "webui/tab/train_form.py"}
"""Files that name texts of RVC's own catalogue, whose keys are Chinese."""
IN_HOST = {"install/webui_script.py"}
"""What stands in RVC's script and is said where nothing of ours can be imported, in both languages."""


def texts() -> Iterator[Tuple[str, Set[str], str]]:
    """(English text, names of its values, place) of every call whose Chinese stands in the catalogue."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in CALLED:
                first = node.args[0] if len(node.args) == 1 else None
                if isinstance(first, ast.Constant) and isinstance(first.value,
                                                                  str) and re.search("[A-Za-z]", first.value):
                    names = {keyword.arg or "" for keyword in node.keywords}
                    yield first.value, names, f"{path.relative_to(ROOT)}, line {node.lineno}"


    for path in TEMPLATES:
        for text in re.findall(r"\{\{(.*?)\}\}", path.read_text(encoding="utf-8")):
            yield text, set(), path.name


def placeholders(text: str) -> Set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def without_placeholders(text: str) -> str:
    return "".join(part for part, _, _, _ in string.Formatter().parse(text))


TEXTS = list(texts())


@pytest.mark.parametrize("file", LOCALES, ids=lambda file: file.stem)
def test_every_text_is_translated_and_every_translation_has_its_text(file):
    translated: Dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    written = {text for text, _, _ in TEXTS if re.search("[A-Za-z]", without_placeholders(text))}
    assert sorted(written - set(translated)) == []
    assert sorted(set(translated) - {text for text, _, _ in TEXTS} - {", ", ": ", "; "}) == []


def test_the_code_is_english_and_every_text_a_key():
    """A further language is one file: no text stands in two languages in the code."""
    chinese = re.compile("[\u4e00-\u9fff]")
    for path in [*SOURCES[:-len(list((ROOT / "bench").glob("*.py")))], *TEMPLATES]:
        name = path.relative_to(ROOT / "LoraModel").as_posix() if "LoraModel" in path.parts else path.name
        if path.suffix == ".html":
            assert not chinese.search(path.read_text(encoding="utf-8")), name
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in CALLED:
                assert len(node.args) < 2, f"{name}, line {node.lineno}: two texts"
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if name not in OF_RVC | IN_HOST and not text.startswith("The panel in RVC's"):
                assert not chinese.search(text), f"{name}, line {node.lineno}: {text[:60]}"


@pytest.mark.parametrize("file", LOCALES, ids=lambda file: file.stem)
def test_a_translation_has_the_placeholders_of_its_text(file):
    for text, translation in json.loads(file.read_text(encoding="utf-8")).items():
        assert placeholders(text) == placeholders(translation), text


def test_a_text_gets_the_values_that_it_names():
    for text, names, place in TEXTS:
        assert placeholders(text) == names or "" in names, place


def test_in_each_language(monkeypatch):
    monkeypatch.setattr(messages, "catalogue", lambda name: {"{n} files": "{n} 个文件", ", ": "、"}
                        if name == "zh_CN" else {})
    monkeypatch.setattr(messages, "languages", lambda: ("en", "zh_CN"))
    for wanted, said in (("zh", "3 个文件"), ("zh_TW.UTF-8", "3 个文件"), ("en_US.UTF-8", "3 files"),
                         ("xx", "3 files")):
        monkeypatch.setenv("RVC_LORA_LANG", wanted)
        assert tr("{n} files", n=3) == said
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    assert tr("{n} folders", n=3) == "3 folders"  # English where a text is missing
    assert tr("a {x!r} {{}}, {y:.1f}", x="q", y=2) == "a 'q' {}, 2.0"
    assert tr("{names}", names=listing(["a", "b"])) == "a、b" and tr(Text("{n} files", n=4)) == "4 个文件"
    assert closest("zh-CN") == closest("Chinese (Simplified)_China.936") == "zh_CN" and closest("fr_FR") == "en"


def test_an_error_in_both_languages_and_from_another_process(monkeypatch, capsys):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    monkeypatch.setattr(messages, "catalogue", lambda name: {"it is empty": "为空"} if name == "zh_CN" else {})
    inner = UserError("it is empty")
    error = UserError("{path}: {why}", path="a", why=inner)
    error.note = 3
    assert (error.en, error.zh, str(error)) == ("a: it is empty", "a: 为空", "a: it is empty")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.en, again.zh, again.note) == (UserError, error.en, error.zh, 3)
    say("{name} is here", name="x")
    assert capsys.readouterr().out == "x is here\n"


def test_a_text_with_stray_braces_is_shown_as_it_is():
    assert str(Text('{"ups": true')) == '{"ups": true' and str(Text("{missing}")) == "{missing}"


def test_another_language_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "fr_FR.json").write_text('{"done": "terminé"}', encoding="utf-8")
    (tmp_path / "es_ES.json").write_text("[damaged", encoding="utf-8")
    monkeypatch.setattr(messages, "LOCALES", tmp_path)
    messages.languages.cache_clear()
    messages.catalogue.cache_clear()
    try:
        monkeypatch.setenv("RVC_LORA_LANG", "fr")
        assert tr("done") == "terminé" and tr("not done") == "not done" and messages.language() == "fr"
        monkeypatch.setenv("RVC_LORA_LANG", "es")
        assert tr("done") == "done"
    finally:
        messages.languages.cache_clear()
        messages.catalogue.cache_clear()


@pytest.fixture
def french_and_taiwanese(tmp_path, monkeypatch):
    """Two further languages, one of them of the same letters as another."""
    for name, done, failed in (("zh_CN", "已完成", "{name}: 失败 {why}"), ("zh_TW", "完成了", "{name}: 失敗 {why}"),
                               ("fr_FR", "terminé", "{name} : échec, {why}")):
        texts = {"done": done, "{name}: failed: {why}": failed, "English": name}
        (tmp_path / f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")
    monkeypatch.setattr(messages, "LOCALES", tmp_path)
    messages.languages.cache_clear()
    messages.catalogue.cache_clear()
    yield
    messages.languages.cache_clear()
    messages.catalogue.cache_clear()


def test_two_languages_of_the_same_letters(french_and_taiwanese, monkeypatch):
    assert [messages.short_name(name) for name in messages.languages()] == ["en", "fr", "zh", "zh_TW"]
    monkeypatch.setenv("RVC_LORA_LANG", "zh_TW.UTF-8")
    assert (messages.language(), tr("done")) == ("zh_TW", "完成了")
    texts = messages.in_every_language(Text("done"))
    assert texts == {"en": "done", "fr": "terminé", "zh": "已完成", "zh_TW": "完成了"}
    older = {"en": "x", "zh": "y"}  # a file that was written before there was a further language
    assert messages.of_language(texts, "zh_TW") == "完成了" and messages.of_language(older, "zh_TW") == "y"
    assert messages.of_language(older, "fr_FR") == "x"
    style = page.style()
    for short, code in (("fr", "fr-FR"), ("zh", "zh-CN"), ("zh_TW", "zh-TW")):  # exactly one is seen
        assert f'html[data-shown="{short}"] [lang]:not([lang="{code}"])' in style
    assert style.count("data-shown=") == 4


def test_a_text_out_of_a_file(french_and_taiwanese):
    error = UserError("{name}: failed: {why}", name=Path("v"), why=Text("done"), unused=listing([1.5, "a"]))
    again = StoredText(json.loads(json.dumps(stored(error))))
    assert [again.in_language(name) for name in ("en", "zh_TW", "fr_FR")] == ["v: failed: done", "v: 失敗 完成了",
                                                                            "v : échec, terminé"]
    assert str(again.values["unused"]) == "1.5, a" and str(pickle.loads(pickle.dumps(again))) == str(again)
    older = StoredText({"en": "{x:>99999999999} it", "zh": "旧"})  # of a version that kept two languages
    assert [older.in_language(name) for name in ("en", "fr_FR", "zh_CN")] == [older.in_language("en")] * 2 + ["旧"]
    for strange in ({"text": "{x:>99999999999}", "values": {"x": 1}, "en": "as it was written"},
                    {"text": ["done"], "values": 3, "en": "as it was written"}):
        assert StoredText(strange).in_language("fr_FR") == "as it was written"  # no template that is not ours
    assert StoredText([]).in_language("en") == "" == StoredText({"en": 3}).in_language("fr_FR")


def test_the_pages_language_goes_before_the_systems(monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    page = {"i18n": type("I18n", (), {"language": "zh_CN"})()}
    assert translator(page)("done") == "已完成" and page_language(page) == "zh"
    assert translator({})("done") == "done" and page_language({}) == "en"
