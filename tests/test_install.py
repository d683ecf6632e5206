"""install_into_rvc.py: the lines in the WebUI script, the folder in the checkout, and what a killed run leaves."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
import standin_hosts

from LoraModel.messages import UserError, cli

ROOT = Path(__file__).resolve().parents[1]
LAYOUTS = ("classic", "2026")
SOURCE_FILES = ("__init__.py", "messages.py", "files.py", "host/webui_script.py", "host/installed_copy.py", "lora/functional.py")
MARKED = re.compile(rb"[ \t]*# >>> RVC-LoRA.*?# <<< RVC-LoRA[^\r\n]*(?:\r\n|\r|\n|$)", re.DOTALL)


def load(path: Path):
    spec = importlib.util.spec_from_file_location("module_under_test", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lines_of = load(ROOT / "LoraModel" / "host" / "webui_script.py")


def tree(root: Path) -> Dict[str, object]:
    """Everything in `root`: contents and modes of files, targets of links, folders. .git left out."""
    found: Dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            found[name] = os.readlink(str(path))
        else:
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) if path.is_file() else "folder"
    return found


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small copy of this project, with the installer; `source.parent` is nobody's checkout."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    copy = tmp_path / "unpacked" / "RVC-LoRA"
    for name in SOURCE_FILES:
        (copy / "LoraModel" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / "LoraModel" / name), str(copy / "LoraModel" / name))
    shutil.copy(str(ROOT / "install_into_rvc.py"), str(copy))
    return copy


@pytest.fixture(params=LAYOUTS)
def host(request, tmp_path):
    """A stand-in checkout under a path with a space and Chinese characters."""
    return standin_hosts.make(request.param, tmp_path / "我的 RVC" / request.param)


@pytest.fixture
def run(source, capsys):
    """run(host, "--status", ...) -> (exit code, what was printed). Packages are looked at only with --python."""
    installer = load(source / "install_into_rvc.py")
    look = installer.lacking_packages
    installer.lacking_packages = lambda python, root: [] if python == sys.executable else look(python, root)

    def call(host, *options):
        capsys.readouterr()
        code = cli(installer.main, ["--rvc_root", str(host), *options])
        out, err = capsys.readouterr()
        return code, out + err

    return call


def script_of(host: Path) -> Path:
    return host / ("infer-web.py" if (host / "infer-web.py").exists() else "webui.py")


def compile_ours(host: Path) -> None:
    """Import from the installed copy, so that Python leaves its __pycache__ there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", "import LoraModel.messages, LoraModel.files"], cwd=str(host), env=environment, check=True)
    assert list(host.glob("LoraModel/__pycache__/*.pyc"))


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
    "a comment at the end of the tabs": changed("\n    if config.iscolab", "            # the end\n\n    if config.iscolab"),
    "a tab before": changed("        with gr.TabItem(i18n(\"模型推理\")):", "        with gr.TabItem(\"mine\"):\n            gr.Markdown(\"\")\n"
                            "        with gr.TabItem(i18n(\"模型推理\")):"),
    "a tab after": changed("\n    if config.iscolab",
                           "        with gr.TabItem(\"mine\"):\n            gr.Markdown('''\nx\n''')\n\n    if config.iscolab"),
    "another title": changed("RVC WebUI", "我的 RVC"),
    "another name of the page": lambda text: re.sub(r"\bapp\b", "demo", text),
    "gr.Tab": lambda text: text.replace("gr.TabItem", "gr.Tab"),
    "gradio under another name": lambda text: text.replace("gradio as gr", "gradio as g").replace("gr.", "g."),
    "the voice list outside its row": changed("            with gr.Row():\n                sid0", "            if True:\n                sid0"),
    "the voice list right in the tab": changed("            with gr.Row():\n                sid0 = gr.Dropdown(label=i18n(\"推理音色\"), "
                                               "choices=sorted(names))", "            sid0 = gr.Dropdown()\n            with gr.Row():"),
    "another group of tabs before": changed("    with gr.Tabs():",
                                            "    with gr.Tabs():\n        with gr.TabItem('a'):\n            pass\n    with gr.Tabs():"),
    "one with for both": changed("with gr.Row():\n                sid0", "with gr.Row(), gr.Column():\n                sid0"),
    "vc beside another statement": changed("config = Config()\nvc = VC(config)", "config = Config(); vc = VC(config)"),
    "vc in a try": changed("\nvc = VC(config)", "\ntry:\n    vc = VC(config)\nexcept OSError:\n    raise"),
    "tabs for indentation": lambda text: re.sub(r"^( {4})+", lambda found: "\t" * (len(found.group()) // 4), text, flags=re.M),
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
    assert [name.decode() for name in re.findall(rb'^\s*rvc_lora\("(\w+)"\)', done, re.M)] == ["setup", "inference_panel", "train_tab"]


def test_a_script_in_another_encoding():
    text = "# -*- coding: gb18030 -*-\n" + standin_hosts.webui_script("classic")
    done = lines_of.with_lines(text.encode("gb18030"), "infer-web.py")
    assert "RVC 照常运行" in done.decode("gb18030") and lines_of.without_lines(done, "infer-web.py") == text.encode("gb18030")
    latin = b"# coding: latin-1\n" + re.sub(r"[^\x00-\x7f]+", "x", standin_hosts.webui_script("classic")).encode()
    done = lines_of.with_lines(latin, "infer-web.py")
    assert "RVC 照常运行" in [node.value for node in ast.walk(ast.parse(done)) if isinstance(node, ast.Constant) and "RVC-LoRA" in str(node.value)][0]
    assert lines_of.without_lines(done, "infer-web.py") == latin


def page_in_a_function(text: str) -> str:
    head, page = text.split("\nwith gr.Blocks")
    return head + "\ndef page():\n    with gr.Blocks" + page.replace("\n", "\n    ")


REFUSED = {
    "no voice list": (lambda text: text.replace("sid0", "voices"), "sid0"),
    "no tabs": (changed("with gr.Tabs():", "with gr.Column():"), r"gr\.Tabs"),
    "no page": (changed("with gr.Blocks(", "with gr.Interface("), r"gr\.Blocks"),
    "no vc": (changed("\nvc = VC(config)", "\nconverter = VC(config)"), r"vc = VC\(config\)"),
    "vc after the page": (lambda text: text.replace("\nvc = VC(config)", "\n") + "\nvc = VC(config)\n", "after its page"),
    "page in a function": (page_in_a_function, "at its top level"),
    "voice list behind a semicolon": (changed("            with gr.Row():\n                sid0", "            names = names; sid0 = gr.Dropdown()\n"
                                              "            with gr.Row():\n                sid1"), "several statements"),
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
    "two markers gone, the script between": lambda text: re.sub(r" *# <<< RVC-LoRA\nvc = (.*?)# >>> RVC-LoRA \w+\n", r"vc = \1", text, flags=re.S),
    "all markers gone": drop_line("# (?:>>>|<<<) RVC-LoRA", 0),
    "a line of the user's among ours": changed("rvc_lora(\"train_tab\")\n", "rvc_lora(\"train_tab\")\n        gr.Markdown(\"mine\")\n"),
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
    assert code == 1 and "damaged" in said and "need your hand" in said
    assert tree(host) == before


def test_blank_lines_and_indentation_of_our_lines_may_change(host, run):
    """As a formatter would change them."""
    original = script_of(host).read_bytes()
    run(host)
    text = script_of(host).read_bytes()
    script_of(host).write_bytes(re.sub(rb"\n( *)(rvc_lora\(\"train_tab\"\))", rb"\n\n\1\2", text).replace(b"\n\n\nrvc_lora(", b"\nrvc_lora("))
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
    """page(broken_part or None or "no hooks") -> (what the script laid out as nested lists, standard error), with a small Gradio and no torch."""
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
            "".join(f"class {name}: pass\n" for name in re.findall(r"Synthesizer\w+", (host / f"{module}.py").read_text(encoding="utf-8"))))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "stubs"), "STANDIN_LANGUAGE": "en_US", "PYTHONIOENCODING": "ascii"}
        done = subprocess.run([sys.executable, script_of(host).name], cwd=str(host), env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return ast.literal_eval(done.stdout.split("PAGE ")[1].replace("null", "None")), done.stderr
    return make


def test_the_panel_lies_under_the_voice_list_and_the_tab_is_the_last(page):
    blocks, errors = page(None)
    tabs = next(child for child in blocks[2] if child[0] == "Tabs")[2]
    assert [tab[1] for tab in tabs] == ["Model Inference", "Train", "FAQ", "OURS: tab"]
    assert [(child[0], child[1]) for child in tabs[0][2]][:3] == [("Row", None), ("Button", "OURS: panel"), ("TabItem", "Single Inference")]
    assert tabs[3][2] == [["Button", "train", []]] and errors == ""


@pytest.mark.parametrize("broken, left", [("no hooks", []), ("setup", []), ("inference_panel", []), ("train_tab", ["OURS: panel"])])
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
    code = ("import sys, runpy, gradio; gradio.Blocks.launch = lambda self, **k: print('TITLES', [b.label for b in self.blocks.values() "
            "if type(b).__name__ in ('Tab', 'TabItem')]); sys.path.insert(0, '.'); runpy.run_path('infer-web.py', run_name='__main__')")
    environment = {**os.environ, "STANDIN_LANGUAGE": "zh_CN", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], cwd=str(host), env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'模型推理'" in done.stdout and "'训练'" in done.stdout


# ---------------------------------------------------------------- the checkout

def test_install_twice_and_uninstall(host, run, source):
    before = tree(host)
    code, said = run(host)
    assert code == 0 and "is installed in" in said
    after = tree(host)
    for name in SOURCE_FILES:
        assert (host / "LoraModel" / name).read_bytes() == (source / "LoraModel" / name).read_bytes()
    moved = {name for name in after if after[name] != before.get(name)}
    assert all(name == script_of(host).name or name.split("/")[0] == "LoraModel" for name in moved)
    stamps = {path: path.stat().st_mtime_ns for path in host.rglob("*")}
    code, said = run(host)
    assert code == 0 and "already installed" in said and "nothing changed" in said
    assert tree(host) == after and {path: path.stat().st_mtime_ns for path in host.rglob("*")} == stamps
    assert run(host, "--status")[0] == 0
    code, said = run(host, "--uninstall")
    assert code == 0 and "uninstalled" in said and tree(host) == before
    code, said = run(host, "--uninstall")
    assert code == 0 and "not installed" in said and tree(host) == before


def test_uninstall_leaves_git_clean_and_keeps_adapters_and_results(host, run):
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", *words], cwd=str(host), check=True,
                              capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "rvc")
    run(host)
    assert git("status", "--short") != ""
    compile_ours(host)
    (host / "LoraModel" / "__pycache__" / "files.cpython-311.pyc.140234").touch()  # a killed import
    run(host, "--uninstall")
    assert git("status", "--short") == "" and not (host / "LoraModel").exists()
    run(host)
    users = {"assets/lora/me.safetensors": b"1",
             "assets/weights/me.safetensors": b"2", "logs/me/lora/last.pt": b"3", "LoraModel/out/me.safetensors": b"4"}
    for name, content in users.items():
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_bytes(content)
    (host / "LoraModel" / "lora" / "functional.py").write_text("# mine\n")
    code, said = run(host, "--uninstall")
    assert code == 0 and "out/me.safetensors" in said and "lora/functional.py" in said
    assert all((host / name).read_bytes() == content for name, content in users.items())
    left = sorted(path.relative_to(host).as_posix() for path in (host / "LoraModel").rglob("*") if path.is_file())
    assert left == ["LoraModel/lora/functional.py", "LoraModel/out/me.safetensors"] and git("diff") == ""
    assert "not installed" in run(host, "--status")[1]
    code, said = run(host)
    assert code == 2 and "lora/functional.py" in said and "move them away" in said
    (host / "LoraModel" / "lora" / "functional.py").unlink()
    assert run(host)[0] == 0 and (host / "LoraModel/out/me.safetensors").read_bytes() == b"4"


def test_an_older_version_is_updated_in_place(host, run, source, monkeypatch):
    original = script_of(host).read_bytes()
    (source / "LoraModel" / "old.py").write_text("# gone in the new version\n")
    (source / "LoraModel" / "lora" / "functional.py").write_text("# old\n")
    run(host)
    installer = load(source / "install_into_rvc.py")
    monkeypatch.setattr(installer.webui_script, "_TAB", 'rvc_lora("a_tab_of_an_older_version")')
    script_of(host).write_bytes(installer.webui_script.with_lines(original, "x"))
    (source / "LoraModel" / "old.py").unlink()
    (source / "LoraModel" / "new.py").write_text("# new\n")
    (source / "LoraModel" / "lora" / "functional.py").write_text("# new\n")
    (host / "LoraModel" / "messages.py").write_text("# mine\n")
    code, said = run(host, "--status")
    assert code == 1 and "another version of RVC-LoRA is installed" in said
    code, said = run(host)
    assert code == 0 and "you had changed LoraModel/messages.py" in said
    assert (host / "LoraModel" / "messages.py.yours1").read_text() == "# mine\n"
    assert (host / "LoraModel" / "new.py").exists() and not (host / "LoraModel" / "old.py").exists()
    assert (host / "LoraModel" / "lora" / "functional.py").read_text() == "# new\n" and b"older_version" not in script_of(host).read_bytes()
    assert run(host, "--status")[0] == 0 and "nothing changed" in run(host)[1]
    run(host, "--uninstall")
    assert script_of(host).read_bytes() == original and [path.name for path in (host / "LoraModel").iterdir()] == ["messages.py.yours1"]


def test_edits_of_the_script_after_the_installation_stay(host, run):
    run(host)
    script = script_of(host)
    script.write_bytes(script.read_bytes().replace(b'gr.Markdown("no FAQ")', b'gr.Markdown("mine")'))
    run(host, "--uninstall")
    assert b'gr.Markdown("mine")' in script.read_bytes() and b"rvc_lora" not in script.read_bytes()


def test_a_folder_of_someone_else(host, run, source):
    (host / "LoraModel").mkdir()
    (host / "LoraModel" / "__init__.py").write_text("# another project\n")
    before = tree(host)
    code, said = run(host)
    assert code == 2 and "__init__.py" in said and "move them away" in said and tree(host) == before
    assert "not installed" in run(host, "--uninstall")[1] and tree(host) == before
    shutil.rmtree(str(host / "LoraModel"))
    shutil.copytree(str(source / "LoraModel"), str(host / "LoraModel"))  # ours, copied by hand
    assert run(host)[0] == 0 and run(host, "--status")[0] == 0
    assert run(host, "--uninstall")[0] == 0 and not (host / "LoraModel").exists()
    (host / "LoraModel").write_text("a file")
    assert run(host)[0] == 2


def test_a_damaged_manifest_is_refused(host, run):
    run(host)
    (host / "LoraModel" / "installed.json").write_text("{")
    before = tree(host)
    for options in ([], ["--uninstall"], ["--status"]):
        code, said = run(host, *options)
        assert code == 2 and "installed.json is damaged" in said and tree(host) == before
    (host / "LoraModel" / "installed.json").write_text(
        '{"version": "1", "state": "whole", "files": {"../assets/weights/.gitignore": ["x"], "/etc/passwd": []}}')
    assert load(ROOT / "LoraModel/host/installed_copy.py").Folder(host / "LoraModel", False).known == {}


def test_link(host, run, source):
    before = tree(host)
    assert run(host, "--link")[0] == 0
    assert os.readlink(str(host / "LoraModel")) == str(source / "LoraModel") and run(host, "--status")[0] == 0
    assert "nothing changed" in run(host, "--link")[1]
    assert run(host)[0] == 0 and not (host / "LoraModel").is_symlink() and (host / "LoraModel" / "installed.json").exists()
    assert run(host, "--link")[0] == 0 and (host / "LoraModel").is_symlink()
    assert run(host, "--uninstall")[0] == 0 and tree(host) == before and (source / "LoraModel" / "messages.py").exists()
    run(host)
    (host / "LoraModel" / "mine.txt").write_text("mine")
    code, said = run(host, "--link")
    assert code == 2 and "mine.txt" in said and (host / "LoraModel" / "messages.py").exists()
    shutil.rmtree(str(host / "LoraModel"))
    (host / "LoraModel").symlink_to(host / "assets", target_is_directory=True)
    assert run(host)[0] == 2 and run(host, "--uninstall")[0] == 2 and (host / "LoraModel").is_symlink()


def test_dry_run_prints_the_diff_and_writes_nothing(host, run):
    before = tree(host)
    code, said = run(host, "--dry-run")
    assert code == 0 and tree(host) == before and '+            rvc_lora("inference_panel")' in said and "nothing was written" in said
    assert not re.search(r"^-(?!-)", said, re.M)
    run(host)
    after = tree(host)
    code, said = run(host, "--uninstall", "--dry-run")
    assert code == 0 and tree(host) == after and '-            rvc_lora("inference_panel")' in said and f"{len(SOURCE_FILES)} files" in said
    assert "nothing would change" in run(host, "--dry-run")[1] and tree(host) == after


@pytest.mark.parametrize("what", ["script", "folder"])
def test_read_only(host, run, what):
    locked = script_of(host) if what == "script" else host
    before = tree(host)
    mode = locked.stat().st_mode
    locked.chmod(0o444 if what == "script" else 0o555)
    code, said = run(host)
    locked.chmod(mode)
    assert code == 2 and "read-only" in said and str(locked) in said and tree(host) == before


def test_the_mode_of_the_script_stays(host, run):
    script_of(host).chmod(0o755)
    before = tree(host)
    run(host)
    assert stat.S_IMODE(script_of(host).stat().st_mode) == 0o755
    run(host, "--uninstall")
    assert tree(host) == before


@pytest.mark.parametrize("language, texts", [
    ("en", ("RVC-LoRA is not installed", "is installed", "was cut off", "layout")),
    ("zh", ("=> 未安装 RVC-LoRA", "=> 已安装 RVC-LoRA", "曾被中断", "布局")),
])
def test_status_in_both_languages(host, run, monkeypatch, language, texts):
    monkeypatch.setenv("RVC_LORA_LANG", language)
    code, said = run(host, "--status")
    assert code == 1 and texts[0] in said and texts[3] in said and str(host) in said
    run(host)
    code, said = run(host, "--status")
    assert code == 0 and texts[1] in said and script_of(host).name in said
    (host / "LoraModel" / "messages.py").unlink()
    code, said = run(host, "--status")
    assert code == 1 and texts[2] in said
    assert run(host)[0] == 0 and run(host, "--status")[0] == 0
    shutil.rmtree(str(host / "LoraModel"))
    code, said = run(host, "--status")
    assert code == 1 and texts[2] in said
    assert run(host, "--uninstall")[0] == 0 and texts[0] in run(host, "--status")[1]


def test_which_checkout(source, run, tmp_path, monkeypatch, capsys):
    code, said = run(tmp_path)
    assert code == 2 and str(tmp_path) in said and "infer-web.py or webui.py" in said
    installer = load(source / "install_into_rvc.py")
    with pytest.raises(UserError):
        installer.find_checkout(None)
    standin_hosts.make("2026", source.parent)
    assert installer.find_checkout(None) == ("2026", source.parent, source.parent / "webui.py")
    other = standin_hosts.make("classic", tmp_path / "other")
    monkeypatch.setenv("RVC_ROOT", str(other))
    assert installer.find_checkout(None).root == other and installer.find_checkout(str(source.parent)).layout == "2026"
    (other / "infer-web.py").unlink()
    assert run(other)[0] == 2


def test_unpacked_right_into_the_checkout(source, run):
    standin_hosts.make("classic", source)
    before = tree(source)
    assert run(source)[0] == 0 and run(source, "--status")[0] == 0
    assert {name for name, what in tree(source).items() if before.get(name) != what} == {"infer-web.py"}
    assert run(source, "--link")[0] == 2
    code, said = run(source, "--uninstall")
    assert code == 0 and "stays" in said and tree(source) == before


# ---------------------------------------------------------------- packages

def test_missing_packages(host, run, tmp_path, source):
    python = tmp_path / "a python"

    def lacks(*names):
        python.write_text("#!/bin/sh\necho some warning\necho found: %s\n" % " ".join(names))
        python.chmod(0o755)
        return run(host, "--python", str(python), "--status")[1]

    said = lacks("safetensors", "faiss")
    assert f'run this once: "{python}" -m pip install safetensors faiss-cpu\n' in said
    said = lacks("torch", "gradio", "safetensors")
    assert "lacks torch, gradio" in said and "pip install safetensors\n" in said
    assert "all there" in lacks()
    python.write_text("#!/bin/sh\necho no such thing\n")
    before = tree(host)
    code, said = run(host, "--python", str(python))
    assert code == 2 and "no such thing" in said and "--python" in said and tree(host) == before
    assert run(host, "--python", str(tmp_path / "nowhere"))[0] == 2
    installer = load(source / "install_into_rvc.py")
    assert {"torch", "numpy", "safetensors"}.isdisjoint(installer.lacking_packages(sys.executable, host))
    assert installer.python_for(installer.find_checkout(str(host)), None) == sys.executable
    (host / ".venv" / "bin").mkdir(parents=True)
    (host / ".venv" / "bin" / "python").touch()
    assert installer.python_for(installer.find_checkout(str(host)), None) == str(host / ".venv/bin/python")


def test_the_installer_needs_the_standard_library_only(host, source):
    """-S: no site packages. Neither it nor what it loads leaves compiled files behind."""
    done = subprocess.run([sys.executable, "-S", "-s", str(source / "install_into_rvc.py"), "--rvc_root", str(host)], capture_output=True, text=True,
                          env={**os.environ, "RVC_LORA_LANG": "zh", "PYTHONIOENCODING": "ascii"}, timeout=60)
    assert done.returncode == 0 and "\\u5df2\\u5b89\\u88c5" in done.stdout, done.stderr
    assert not list(source.rglob("__pycache__")) and not list(host.rglob("__pycache__"))


# ---------------------------------------------------------------- killed runs

KILLER = '''
import io, os, signal, sys
from contextlib import redirect_stdout
from pathlib import Path
import importlib.util
source, host, first, then = sys.argv[1:5]
spec = importlib.util.spec_from_file_location("installer", source + "/install_into_rvc.py")
installer = importlib.util.module_from_spec(spec); spec.loader.exec_module(installer)
installer.lacking_packages = lambda *a: []
os.fsync = lambda descriptor: None
EVENTS = {"open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "tempfile.mkstemp"}
host = Path(host)

def tree():
    return {str(p.relative_to(host)): os.readlink(str(p)) if p.is_symlink() else p.read_bytes() if p.is_file() else "folder"
            for p in sorted(host.rglob("*"))}

def main(*options):
    said = io.StringIO()
    with redirect_stdout(said):
        code = installer.main(["--rvc_root", str(host), *options])
    return code, said.getvalue()

def words(text):
    return [word for word in text.split(",") if word]

script = host / "infer-web.py"
plain = tree()
main(*words(first)); start = tree()
main(*words(then)); goal = tree()
main(*words(first)); assert tree() == start
steps = 0
while True:
    child = os.fork()
    if child == 0:
        left = steps
        def hook(event, args):
            global left
            if event in EVENTS and not (event == "open" and isinstance(args[1], str) and args[1].startswith("r")):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        sys.addaudithook(hook)
        main(*words(then))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    now = tree()
    assert now["infer-web.py"] in (start["infer-web.py"], goal["infer-web.py"]), "half a script"
    code, said = main("--status")
    verdict = said.split("=> ")[1].splitlines()[0]
    if now == plain:
        assert verdict == "RVC-LoRA is not installed", (steps, verdict)
    elif "is installed" in verdict and "another" not in verdict:
        assert code == 0 and now in (start, goal), (steps, verdict)
    else:
        assert code == 1 and ("cut off" in verdict or "another version" in verdict), (steps, verdict)
    if os.WIFEXITED(status):
        assert now == goal
        break
    if steps % 2:
        main(*words(then)); assert tree() == goal, steps
    main("--uninstall"); assert tree() == plain, (steps, sorted(set(tree()) ^ set(plain)))
    main(*words(first)); assert tree() == start
    steps += 1
print("killed", steps)
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first, then, least", [("--uninstall", "", 25), ("", "--uninstall", 12), ("--link", "", 25), ("", "--link", 12)],
                         ids=["install", "uninstall", "link to copy", "copy to link"])
def test_killed_before_each_of_its_steps(first, then, least, source, tmp_path):
    """kill -9 before the 1st, 2nd, ... change to the file system: --status names what is left, install and uninstall both mend it."""
    host = standin_hosts.make("classic", tmp_path / "rvc")
    done = subprocess.run([sys.executable, "-S", "-c", KILLER, str(source), str(host), first, then], capture_output=True,
                          text=True, timeout=300, env={**os.environ, "RVC_LORA_LANG": "en"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("killed ")[1]) >= least


# ---------------------------------------------------------------- real checkouts

HOSTS = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]


@pytest.mark.host
@pytest.mark.skipif(not HOSTS, reason="RVC_HOSTS names no checkout")
@pytest.mark.parametrize("checkout", HOSTS or ["-"], ids=lambda path: Path(path).name)
@pytest.mark.parametrize("kind", ["as it is", "crlf", "bom"])
def test_on_a_real_checkout(checkout, kind, tmp_path, run):
    """All of the checkout's Python, git-committed in a copy: installed, used, uninstalled, clean."""
    host = tmp_path / "RVC 变声器"
    shutil.copytree(checkout, str(host), ignore=lambda folder, names: [
        name for name in names if not (Path(folder) / name).is_dir() and not name.endswith((".py", ".json", ".gitignore"))
        or name in (".git", "__pycache__", "logs", "pymss_core", "TEMP", "LoraModel")])
    script = script_of(host)
    content = lines_of.without_lines(script.read_bytes(), script.name)
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if kind == "crlf" else b"\xef\xbb\xbf" + content if kind == "bom" else content
    script.write_bytes(content)

    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", "-c", "core.quotepath=false", *words],
                              cwd=str(host), check=True, capture_output=True).stdout.decode()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "rvc")
    before = tree(host)
    assert run(host)[0] == 0
    done = script.read_bytes()
    compile(done, script.name, "exec")
    assert MARKED.sub(b"", done) == content
    added_and_deleted = git("diff", "--numstat").split()[:2]
    assert added_and_deleted == [str(sum(block.count(b"\n") for block in MARKED.findall(done))), "0"]
    assert git("status", "--short").split() == ["M", script.name, "??", "LoraModel/"]
    assert "nothing changed" in run(host)[1] and run(host, "--status")[0] == 0
    compile_ours(host)
    assert run(host, "--uninstall")[0] == 0
    assert git("status", "--short") == "" and tree(host) == before
