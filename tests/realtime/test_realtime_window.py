"""RVC's realtime windows: the installer's lines in and out byte for byte, and what the frame "LoRA voice" does (by a
stand-in toolkit)."""

import os
import shutil
import types
from concurrent.futures import Future
from pathlib import Path

import installing
import pytest
import standin_hosts
from voice_data import BASE, make_adapter

from LoraModel.host import Host
from LoraModel.host.layouts import CHECKOUTS
from LoraModel.install import webui_script
from LoraModel.messages import UserError
from LoraModel.models.catalog import Catalog
from LoraModel.realtime import rvc_class, window
from LoraModel.realtime.window import HOT_KEY, NOISE, SAID, STRENGTH, VOICE, Panel

run, source = installing.run, installing.source  # fixtures

SCRIPT = '''import os
import sys

flag_vc = False

if __name__ == "__main__":
    import json

    class GUI:
        def __init__(self):
            self.launcher()

    gui = GUI()
'''
WINDOWS = {layout.name: layout.realtime_window for layout in CHECKOUTS}


@pytest.mark.parametrize("name", sorted(WINDOWS.values()))
@pytest.mark.parametrize("text_before", [
    SCRIPT.encode(), SCRIPT.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + SCRIPT.encode(),
    SCRIPT.rstrip("\n").encode(), SCRIPT.replace("    gui = GUI()", "    gui: object = GUI()  # the window").encode()])
def test_the_lines_go_in_before_the_window_is_made_and_come_out_byte_for_byte(name, text_before):
    source = text_before
    done = webui_script.with_lines(source, name)
    assert webui_script.without_lines(done, name) == source and webui_script.with_lines(done, name) == done
    text = done.decode("utf-8-sig")
    assert text.index("rvc_lora_window.setup(globals())") < text.index("= GUI()")
    compile(text, name, "exec")


@pytest.mark.parametrize("text_before", [SCRIPT.replace("gui = GUI()", "start()"),
                                         SCRIPT.replace("    gui = GUI()", "    a = 1; gui = GUI()"),
                                    SCRIPT.replace("if __name__", "while __name__")])
def test_a_script_without_a_place_for_them_is_refused(text_before):
    with pytest.raises(UserError, match="gui_v1.py was left as it is"):
        webui_script.with_lines(text_before.encode(), "gui_v1.py")


@pytest.mark.parametrize("layout", sorted(WINDOWS))
def test_installed_and_uninstalled_with_the_window(tmp_path, run, layout):
    host = tmp_path / "rvc"
    standin_hosts.make(layout, host)
    script = host / WINDOWS[layout]
    script.write_bytes(SCRIPT.encode())
    code, said = run(host)
    assert code == 0 and b"rvc_lora_window" in script.read_bytes()
    code, said = run(host, "--status")
    assert code == 0 and f"{script.name}: RVC-LoRA's lines are in place" in said
    assert "nothing changed" in run(host)[1]
    script.write_bytes(SCRIPT.encode())  # put back by hand
    code, said = run(host, "--status")
    assert code == 1 and f"{script.name}: no lines" in said and "run the installer again" in said
    assert run(host)[0] == 0 and run(host, "--uninstall")[0] == 0
    assert script.read_bytes() == SCRIPT.encode() and not (host / "LoraModel").exists()


def test_a_window_that_was_changed_too_much_is_left_alone_and_the_page_is_served(tmp_path, run):
    host = tmp_path / "rvc"
    standin_hosts.make("2026", host)
    script = host / WINDOWS["2026"]
    script.write_bytes(b"print('mine')\n")
    code, said = run(host)
    assert code == 0 and "note" in said and script.name in said and script.read_bytes() == b"print('mine')\n"
    code, said = run(host, "--status")
    assert code == 0 and "no place for them" in said
    assert run(host, "--uninstall")[0] == 0 and script.read_bytes() == b"print('mine')\n"


# ---------------------------------------------------------------- the frame

class Element:
    def __init__(self, *args, **options):
        self.args, self.options, self.value = args, options, None

    def update(self, value=None, values=None):
        self.value = value

    def set_focus(self):
        Element.focused = self


class Input(Element):
    pass


class Window(dict):
    """As FreeSimpleGUI's: elements by key, events from a queue."""

    def __init__(self, title, layout=None, **options):
        super().__init__()
        self.events, self.bound, self.focus, self.layout = [], {}, None, layout
        for row in layout or []:
            self._keep(row)

    def _keep(self, elements):
        for element in elements:
            if "key" in element.options:
                self[element.options["key"]] = element
            for part in element.args:
                for row in part if isinstance(part, list) else []:
                    self._keep(row if isinstance(row, list) and row and isinstance(row[0], Element) else [])

    def bind(self, key, event):
        self.bound[key] = event

    def find_element_with_focus(self):
        return self.focus

    def write_event_value(self, key, value):
        self.events.append((key, {key: value, **self.values()}))

    def values(self):
        return {VOICE: self[VOICE].value or "", STRENGTH: 0.5, NOISE: 0.0}

    def read(self, timeout=None):
        return self.events.pop(0)


def toolkit():
    return types.SimpleNamespace(Input=Input, Window=Window, popup=lambda text: None, **{
        name: type(name, (Element,), {}) for name in ("Frame", "Combo", "Button", "FileBrowse", "Text", "Slider")})


@pytest.fixture
def root(tmp_path, library):
    for folder in ("assets/lora", "assets/pretrained_v2", "assets/weights", "logs"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(str(BASE), str(tmp_path / "assets/pretrained_v2/f0G16k.pth"))
    for seed, name in enumerate(("anna", "bob")):
        make_adapter(tmp_path / f"assets/lora/{name}.safetensors", library, seed)
    return tmp_path


class Voices:
    """As `rvc_lora_voices` gives them."""

    def __init__(self):
        self.used, self.noises = [], []

    def use(self, wanted, noise):
        if "fails" in self.__dict__:
            raise UserError(self.fails)
        self.used.append({path.name: strength for path, strength in wanted.items()})
        self.noises.append(noise)
        answer = Future()
        answer.set_result(True)
        return answer


@pytest.fixture
def shown(root, monkeypatch):
    """A panel in an open window over a running stream."""
    panel = Panel(toolkit(), Catalog(root))
    panel.owner = types.SimpleNamespace(rvc=object())
    voices = Voices()
    monkeypatch.setattr(window, "rvc_lora_voices", lambda rvc: voices)
    opened = panel.window("RVC - GUI", layout=[[Element(key="pth_path")], [Element(key="start_vc")]], finalize=True)
    return panel, opened, voices


def test_the_frame_stands_in_rvcs_window_and_in_no_other(shown):
    panel, opened, _ = shown
    assert len(opened.layout) == 3 and {VOICE, STRENGTH, NOISE, SAID, "pth_path", "start_vc"} <= set(opened)
    assert opened[VOICE].args[0] == [panel.plain, "lora/anna.safetensors", "lora/bob.safetensors"]
    assert sorted(opened.bound) == [f"<KeyPress-{key}>" for key in range(10)]
    assert len(panel.window("another", layout=[[Element()]]).layout) == 1


def test_choosing_a_voice_acts_at_once_and_rvc_never_sees_our_events(shown):
    panel, opened, voices = shown
    opened[VOICE].value = "lora/bob.safetensors"
    opened.events = [(VOICE, opened.values()), (STRENGTH, {VOICE: "lora/bob.safetensors", STRENGTH: 0.25,
                                                                            NOISE: 0.0}),
                     (NOISE, {VOICE: "lora/bob.safetensors", STRENGTH: 0.25, NOISE: 0.3}),
                     (VOICE, {VOICE: panel.plain, STRENGTH: 1.0, NOISE: 0.3}), ("pitch", {"pitch": 3})]
    assert opened.read() == ("pitch", {"pitch": 3})  # another event would end RVC's stream
    assert voices.used == [{"bob.safetensors": 0.5}, *[{"bob.safetensors": 0.25}] * 2, {}]
    assert voices.noises == [None, None, 0.3, 0.3]  # 0 is the voice's own
    event, values = opened.events[0]
    # told to the window by an event: it is no other thread's to touch
    assert event == window.NEWS and "bob" in values[window.NEWS]


def test_hot_keys_choose_unless_something_is_typed(shown):
    panel, opened, voices = shown
    opened.events = [(f"{HOT_KEY}2", opened.values()), (f"{HOT_KEY}0", opened.values()),
                     (f"{HOT_KEY}7", opened.values()), ("stop_vc", {})]
    assert opened.read()[0] == "stop_vc" and voices.used == [{"bob.safetensors": 0.5}, {}]
    assert opened[VOICE].value == panel.plain
    opened.focus = Input()
    opened.events = [(f"{HOT_KEY}1", opened.values()), ("stop_vc", {})]
    opened.read()
    assert len(voices.used) == 2


def test_what_is_wrong_is_said_in_the_frame(shown, root):
    panel, opened, voices = shown
    voices.fails = "another base"
    panel.use("lora/bob.safetensors", 1.0, 0.0)
    assert opened[SAID].value == "another base"
    panel.use("lora/bob.safetensors", 1.0, 0.0)
    (root / "assets/lora/bob.safetensors").unlink()
    panel.use("lora/bob.safetensors", 1.0, 0.0)
    assert "no adapter" in opened[SAID].value
    panel.owner.rvc = None
    panel.use("lora/anna.safetensors", 1.0, 0.0)
    assert "as soon as the stream runs" in opened[SAID].value


def test_the_voice_of_the_list_is_heard_when_the_stream_starts(shown):
    panel, opened, voices = shown
    panel.wanted = ("lora/anna.safetensors", 0.75, 0.0)
    panel.started()
    panel.wanted = (panel.plain, 1.0, 0.0)
    panel.started()
    assert voices.used == [{"anna.safetensors": 0.75}] and opened[VOICE].value is None
    panel.path = str(panel.catalog.loras / "bob.safetensors")  # given as the voice: it is shown, and stays
    panel.wanted = (panel.plain, 0.5, 0.0)
    panel.started()
    assert voices.used[1:] == [{"bob.safetensors": 0.5}] and opened[VOICE].value == "lora/bob.safetensors"
    assert Element.focused is opened[STRENGTH]  # hot keys are typed into no field


def test_the_noise_of_the_slider_is_heard_when_the_stream_starts(shown, tmp_path):
    panel, opened, voices = shown
    panel.wanted = (panel.plain, 0.75, 0.3)
    panel.started()
    panel.path = str(panel.catalog.loras / "bob.safetensors")
    panel.started()
    panel.path = str(tmp_path / "elsewhere.safetensors")  # in no list: it stays the voice, whatever else is set
    panel.started()
    assert opened[VOICE].value == ""
    opened.events = [(NOISE, {VOICE: "", STRENGTH: 0.5, NOISE: 0.6}), ("stop_vc", {})]
    opened.read()
    assert voices.used == [{}, {"bob.safetensors": 0.75}, {"elsewhere.safetensors": 0.75},
                           {"elsewhere.safetensors": 0.5}]
    assert voices.noises == [0.3, 0.3, 0.3, 0.6]
    assert opened.events[-1][1][window.NEWS] == "elsewhere: 0.5, noise 0.6"


def test_a_base_that_is_not_in_the_checkout_is_asked_for(root, library, tmp_path, monkeypatch):
    panel = Panel(toolkit(), Catalog(root))
    monkeypatch.setattr(window, "find_host", lambda _: Host("library", root))
    monkeypatch.setattr(rvc_class, "_chosen", {})
    adapter, elsewhere, asked = root / "assets/lora/anna.safetensors", tmp_path / "elsewhere.pth", []
    panel.sg.popup_get_file = lambda text, **_: asked.append(text) or str(elsewhere)
    panel.sg.popup = lambda text: asked.append(text)
    assert panel.can_start({"pth_path": str(adapter)}) and panel.can_start({"pth_path": "voice.pth"}) and not asked
    shutil.move(str(root / "assets/pretrained_v2/f0G16k.pth"), str(elsewhere))
    assert panel.can_start({"pth_path": str(adapter)}) and "f0G16k" in asked[0]
    assert rvc_class.base_for(Host("library", root), adapter) == elsewhere
    rvc_class._chosen.clear()
    other = make_adapter(root / "assets/lora/other.safetensors", library, 5, base_hash="0" * 64, base_name="f0G48k")
    assert not panel.can_start({"pth_path": str(other)}) and "is not the base of adapter" in asked[-1]
    panel.sg.popup_get_file = lambda text, **_: None
    assert not panel.can_start({"pth_path": str(other)})


def test_setup_patches_the_script_and_stands_before_its_toolkit(monkeypatch, root):
    started = []

    class GUI:
        def launcher(self):
            self.window = namespace["sg"].Window("RVC - GUI", layout=[[Element(key="pth_path")]], finalize=True)

        def set_values(self, values):
            return True

        def start_vc(self):
            started.append(True)

    host = Host("2026", root)
    monkeypatch.setattr(window, "find_host", lambda _: host)
    monkeypatch.setattr(window, "patch_realtime_class", lambda given: given)
    namespace = {"__file__": str(root / "realtime_gui.py"), "sg": toolkit(), "GUI": GUI}
    window.setup(namespace)
    gui = GUI()
    gui.rvc = None
    gui.launcher()
    assert VOICE in gui.window and namespace["sg"].Input is Input
    assert gui.set_values({"pth_path": "a.pth", VOICE: "", STRENGTH: 1.0}) is True
    gui.start_vc()
    assert started == [True]
    assert not gui.set_values({"pth_path": str(root / "none.safetensors"), VOICE: "", STRENGTH: 1.0})


@pytest.mark.host
@pytest.mark.skipif(not os.environ.get("RVC_HOSTS"), reason="RVC_HOSTS names no checkout")
def test_every_checkouts_window_has_a_place_for_the_lines():
    for root in os.environ["RVC_HOSTS"].split(os.pathsep):
        script = webui_script.window_of(Path(root))
        source = script.read_bytes()
        done = webui_script.with_lines(source, script.name)
        assert webui_script.without_lines(done, script.name) == source
