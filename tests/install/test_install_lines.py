"""The lines that install_into_rvc.py puts into the WebUI script: where they go, what is refused, what they do."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import installing
import pytest
import standin_hosts
from installing import LAYOUTS, MARKED, lines_of, script_of, tree

host, run, source = installing.host, installing.run, installing.source  # fixtures


# ---------------------------------------------------------------- the lines

def with_endings(text: str, kind: str) -> bytes:
    lines = text.encode().split(b"\n")
    if kind == "mixed":
        return b"".join(line + (b"\r\n", b"\n")[i % 2] for i, line in enumerate(lines[:-1])) + lines[-1]
    return {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[kind].join(lines)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("kind", ["lf", "crlf", "mixed", "cr"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lines_go_in_and_come_out_byte_for_byte(layout, kind, bom):
    plain = bom + with_endings(standin_hosts.webui_script(layout), kind)
    done = lines_of.with_lines(plain, "webui.py")
    compile(done, "webui.py", "exec")
    assert done != plain and lines_of.without_lines(done, "webui.py") == plain
    assert lines_of.with_lines(done, "webui.py") == done
    assert MARKED.sub(b"", done) == plain and len(MARKED.findall(done)) == 3
    if kind != "mixed":
        ending = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[kind]
        assert {line[len(line.rstrip(b"\r\n")):] for line in done.splitlines(keepends=True)} <= {ending, b""}


def changed(old: str, new: str):
    def change(text: str) -> str:
        assert text.count(old) >= 1
        return text.replace(old, new, 1)
    return change


def only_the_first_tab(text: str) -> str:
    """A page whose only tab holds the voice list as its last statement: two blocks go to the same line."""
    return text[:text.index("                clean_button.click(")] + "    app.launch()\n"


EDITED = {
    "comments": changed("        with gr.TabItem(i18n(\"训练\")):",
                        "            # mine\n      # mine too\n        with gr.TabItem(i18n(\"训练\")):"),
    "a comment at the end of the tabs": changed("\n    if config.iscolab",
                                                "            # the end\n\n    if config.iscolab"),
    "a tab before": changed("        with gr.TabItem(i18n(\"模型推理\")):",
                            "        with gr.TabItem(\"mine\"):\n            gr.Markdown(\"\")\n"
                            "        with gr.TabItem(i18n(\"模型推理\")):"),
    "a tab after": changed("\n    if config.iscolab",
                           "        with gr.TabItem(\"mine\"):\n            gr.Markdown('''\nx\n''')\n\n    if "
                           "config.iscolab"),
    "another title": changed("RVC WebUI", "我的 RVC"),
    "another name of the page": lambda text: re.sub(r"\bapp\b", "demo", text),
    "gr.Tab": lambda text: text.replace("gr.TabItem", "gr.Tab"),
    "gradio under another name": lambda text: text.replace("gradio as gr", "gradio as g").replace("gr.", "g."),
    "the voice list outside its row": changed("            with gr.Row():\n                sid0",
                                              "            if True:\n                sid0"),
    "the voice list right in the tab": changed("            with gr.Row():\n                sid0 = "
                                               "gr.Dropdown(label=i18n(\"推理音色\"), "
                                               "choices=sorted(names))", "            sid0 = gr.Dropdown()\n           "
                                               " with gr.Row():"),
    "another group of tabs before": changed("    with gr.Tabs():",
                                            "    with gr.Tabs():\n        with gr.TabItem('a'):\n            pass\n    "
                                            "with gr.Tabs():"),
    "one with for both": changed("with gr.Row():\n                sid0", "with gr.Row(), gr.Column():\n               "
                                 " sid0"),
    "vc beside another statement": changed("config = Config()\nvc = VC(config)", "config = Config(); vc = VC(config)"),
    "vc in a try": changed("\nvc = VC(config)", "\ntry:\n    vc = VC(config)\nexcept OSError:\n    raise"),
    "tabs for indentation": lambda text: re.sub(r"^( {4})+", lambda found: "\t" * (len(found.group()) // 4), text,
                                                flags=re.M),
    "no newline at the end": lambda text: text[:text.index("\n    if config.iscolab")].rstrip("\n"),
    "only one tab": only_the_first_tab,
    "a voice list above the tabs too": changed("    with gr.Tabs():", "    sid0 = gr.Dropdown()\n    with gr.Tabs():"),
}


@pytest.mark.parametrize("edit", list(EDITED))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_edited_script_still_works(layout, edit):
    plain = EDITED[edit](standin_hosts.webui_script(layout)).encode()
    done = lines_of.with_lines(plain, "webui.py")
    compile(done, "webui.py", "exec")
    assert lines_of.without_lines(done, "webui.py") == plain and lines_of.with_lines(done, "webui.py") == done
    assert [name.decode() for name in re.findall(rb'^\s*rvc_lora\("(\w+)"\)', done,
                                                 re.M)] == ["setup", "inference_panel", "train_tab"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_tab_stands_right_after_rvcs_train_tab(layout):
    plain = standin_hosts.webui_script(layout)

    def titles(text):
        done = lines_of.with_lines(text.encode(), "webui.py").decode()
        return re.findall(r'^ {8}(?:with gr\.TabItem\((.*)\)|rvc_lora\("(train_tab)"\))', done, re.M)

    assert [tab or ours for tab, ours in titles(plain)] == ['i18n("模型推理")', 'i18n("训练")', "train_tab", "tab_faq"]
    without = titles(plain.replace("exp_dir1", "experiment"))  # no RVC Train tab to be told: the last one
    assert [tab or ours for tab, ours in without] == ['i18n("模型推理")', 'i18n("训练")', "tab_faq", "train_tab"]


def test_a_script_in_another_encoding():
    text = "# -*- coding: gb18030 -*-\n" + standin_hosts.webui_script("classic")
    done = lines_of.with_lines(text.encode("gb18030"), "infer-web.py")
    assert "RVC 照常运行" in done.decode("gb18030") and lines_of.without_lines(done,
                                                                               "infer-web.py") == text.encode("gb18030")
    latin = b"# coding: latin-1\n" + re.sub(r"[^\x00-\x7f]+", "x", standin_hosts.webui_script("classic")).encode()
    done = lines_of.with_lines(latin, "infer-web.py")
    assert "RVC 照常运行" in [node.value for node in ast.walk(ast.parse(done)) if isinstance(node, ast.Constant)
                              and "RVC-LoRA" in str(node.value)][0]
    assert lines_of.without_lines(done, "infer-web.py") == latin


def page_in_a_function(text: str) -> str:
    head, page = text.split("\nwith gr.Blocks")
    return head + "\ndef page():\n    with gr.Blocks" + page.replace("\n", "\n    ")


REFUSED = {
    "no voice list": (lambda text: text.replace("sid0", "voices"), "sid0"),
    "no tabs": (changed("with gr.Tabs():", "with gr.Column():"), r"gr\.Tabs"),
    "no page": (changed("with gr.Blocks(", "with gr.Interface("), r"gr\.Blocks"),
    "no vc": (changed("\nvc = VC(config)", "\nconverter = VC(config)"), r"vc = VC\(config\)"),
    "vc after the page": (lambda text: text.replace("\nvc = VC(config)", "\n") + "\nvc = VC(config)\n",
                          "after its page"),
    "page in a function": (page_in_a_function, "at its top level"),
    "voice list behind a semicolon": (changed("            with gr.Row():\n                sid0",
                                              "            names = names; sid0 = gr.Dropdown()\n"
                                              "            with gr.Row():\n                sid1"),
                                      "several statements"),
    "no Python": (changed("import os", "import os os"), r"line 1 \("),
    "not UTF-8": (lambda text: text.encode("gb18030"), "cannot read"),
}


@pytest.mark.parametrize("edit", list(REFUSED))
def test_a_script_without_a_safe_place_is_refused_with_the_reason(edit, tmp_path, run):
    change, reason = REFUSED[edit]
    host = standin_hosts.make("classic", tmp_path / "rvc")
    text = change(standin_hosts.webui_script("classic"))
    (host / "infer-web.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = tree(host)
    code, said = run(host)
    assert code == 2 and "infer-web.py was left as it is" in said and re.search(reason, said), said
    assert tree(host) == before


def drop_line(pattern: str, count: int = 1):
    return lambda text: re.sub(rf"^[ ]*{pattern}.*\n", "", text, count=count, flags=re.M)


DAMAGED = {
    "first marker gone": drop_line("# >>> RVC-LoRA"),
    "last marker gone": drop_line("# <<< RVC-LoRA"),
    "two markers gone, the script between": lambda text: re.sub(r" *# <<< RVC-LoRA\nvc = (.*?)# >>> RVC-LoRA \w+\n",
                                                                r"vc = \1", text, flags=re.S),
    "all markers gone": drop_line("# (?:>>>|<<<) RVC-LoRA", 0),
    "a line of the user's among ours": changed("rvc_lora(\"train_tab\")\n",
                                               "rvc_lora(\"train_tab\")\n        gr.Markdown(\"mine\")\n"),
    "a line of ours gone": drop_line(r"rvc_lora\(\"train_tab\"\)"),
    "no checksum": lambda text: re.sub(r"(# >>> RVC-LoRA) \w+", r"\1", text),
}


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_damaged_lines_are_refused_with_the_remedy(damage, host, run):
    run(host)
    script = script_of(host)
    text = script.read_text(encoding="utf-8")
    script.write_text(DAMAGED[damage](text), encoding="utf-8")
    assert script.read_text(encoding="utf-8") != text
    before = tree(host)
    for options in ([], ["--uninstall"]):
        code, said = run(host, *options)
        assert code == 2 and f"git checkout -- {script.name}" in said and "by hand" in said
    code, said = run(host, "--status")
    assert code == 1 and "damaged" in said and "have to be repaired by hand" in said
    assert tree(host) == before


def test_blank_lines_and_indentation_of_our_lines_may_change(host, run):
    """As a formatter would change them."""
    original = script_of(host).read_bytes()
    run(host)
    text = script_of(host).read_bytes()
    script_of(host).write_bytes(re.sub(rb"\n( *)(rvc_lora\(\"train_tab\"\))", rb"\n\n\1\2",
                                       text).replace(b"\n\n\nrvc_lora(", b"\nrvc_lora("))
    assert script_of(host).read_bytes() != text
    assert run(host, "--uninstall")[0] == 0 and script_of(host).read_bytes() == original


# ---------------------------------------------------------------- what the lines do

GRADIO = '''
class Event:
    def __getattr__(self, name):
        return lambda *a, **k: self
class Block(Event):
    stack = []
    def __init__(self, *args, **kwargs):
        self.kind, self.children = type(self).__name__, []
        self.title = args[0] if args else kwargs.get("label") or kwargs.get("title") or kwargs.get("value")
        if Block.stack:
            Block.stack[-1].children.append(self)
    def __enter__(self):
        Block.stack.append(self)
        return self
    def __exit__(self, *error):
        Block.stack.pop()
    def told(self):
        return [self.kind, self.title, [child.told() for child in self.children]]
    def launch(self, **options):
        import json
        print("PAGE " + json.dumps(self.told()))
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (Block,), {})
'''
HOOKS = '''
import sys
def setup(names):
    assert "config" in names and "vc" not in names
    fail("setup")
def inference_panel(names):
    import gradio as gr
    assert {"vc", "i18n", "sid0", "refresh_button", "clean_button", "spk_item"} <= set(names)
    fail("inference_panel")
    gr.Button("OURS: panel")
def train_tab(names):
    import gradio as gr
    assert {"app", "file_index1", "protect0", "protect1", "vc_output2", "but0"} <= set(names)
    fail("train_tab")
    with gr.TabItem("OURS: tab"):
        gr.Button("train")
def fail(part):
    if part == %r:
        raise RuntimeError("broken 坏 in " + part)
'''


@pytest.fixture
def page(host, source, run, tmp_path):
    """page(broken_part or None or "no hooks") -> (what the script laid out as nested lists, standard error), with a
    small Gradio and no torch."""
    def make(broken):
        if broken != "no hooks":
            (source / "LoraModel" / "webui").mkdir()
            (source / "LoraModel" / "webui" / "__init__.py").touch()
            (source / "LoraModel" / "webui" / "hooks.py").write_text(HOOKS % broken, encoding="utf-8")
        assert run(host)[0] == 0
        (tmp_path / "stubs").mkdir()
        (tmp_path / "stubs" / "gradio.py").write_text(GRADIO, encoding="utf-8")
        (tmp_path / "stubs" / "torch.py").touch()
        (tmp_path / "stubs" / "soundfile.py").touch()
        module, models = standin_hosts._VC["classic" if script_of(host).name == "infer-web.py" else "2026"]
        (host / (models.replace(".", "/") + ".py")).write_text(
            "".join(f"class {name}: pass\n"
                    for name in re.findall(r"Synthesizer\w+", (host / f"{module}.py").read_text(encoding="utf-8"))))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "stubs"), "STANDIN_LANGUAGE": "en_US",
                       "PYTHONIOENCODING": "ascii"}
        done = subprocess.run([sys.executable, script_of(host).name], cwd=str(host), env=environment,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return ast.literal_eval(done.stdout.split("PAGE ")[1].replace("null", "None")), done.stderr
    return make


def test_the_panel_lies_under_the_voice_list_and_the_tab_beside_rvcs_train(page):
    blocks, errors = page(None)
    tabs = next(child for child in blocks[2] if child[0] == "Tabs")[2]
    assert [tab[1] for tab in tabs] == ["Model Inference", "Train", "OURS: tab", "FAQ"]
    assert [(child[0], child[1]) for child in tabs[0][2]][:3] == [("Row", None), ("Button", "OURS: panel"),
                                                                  ("TabItem", "Single Inference")]
    assert tabs[2][2] == [["Button", "train", []]] and errors == ""


@pytest.mark.parametrize("broken, left",
                         [("no hooks", []), ("setup", []), ("inference_panel", []), ("train_tab", ["OURS: panel"])])
def test_rvc_runs_on_when_a_part_fails(page, broken, left):
    blocks, errors = page(broken)
    assert re.findall(r"OURS: \w+", str(blocks)) == left
    assert "'FAQ'" in str(blocks) and errors.count("RVC runs without it") == 1
    assert ("LoraModel.webui" if broken == "no hooks" else "broken \\u574f in") in errors


def test_the_classic_stand_in_starts_under_gradio(tmp_path, run):
    """The whole page with the real Gradio, with the lines in it."""
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    host = standin_hosts.make("classic", tmp_path / "rvc")
    assert run(host)[0] == 0
    code = ("import sys, runpy, gradio; gradio.Blocks.launch = lambda self, **k: print('TITLES', [b.label for b in "
            "self.blocks.values() "
            "if type(b).__name__ in ('Tab', 'TabItem')]); sys.path.insert(0, '.'); runpy.run_path('infer-web.py', "
            "run_name='__main__')")
    environment = {**os.environ, "STANDIN_LANGUAGE": "zh_CN", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], cwd=str(host), env=environment, capture_output=True, text=True,
                          encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'模型推理'" in done.stdout and "'训练'" in done.stdout
