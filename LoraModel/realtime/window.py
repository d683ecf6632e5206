"""RVC's realtime windows (gui_v1.py, realtime_gui.py) with our voices: what the installer's lines call.

`setup` is called with the script's own `globals()` just before `gui = GUI()`. It patches the realtime class, and
stands before the script's `sg` (FreeSimpleGUI): the window that the script lays out gets a frame "LoRA voice" with a
list, a strength, a noise and a button, and events of that frame are answered inside `Window.read`, before the script
sees them, which ends its stream at an event that it does not know.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..host import find_host
from ..host.pipeline import host_environment
from ..inference.strength import MAX_STRENGTH
from ..lora import load_adapter
from ..messages import UserError, tr
from ..models.catalog import Catalog
from ..models.prior_noise import MAX_NOISE
from .rvc_class import base_for, choose_base, patch_realtime_class, rvc_lora_voices

VOICE, STRENGTH, NOISE, SAID, REFRESH, HOT_KEY, NEWS = (
    "rvc_lora_voice", "rvc_lora_strength", "rvc_lora_noise", "rvc_lora_said", "rvc_lora_refresh", "rvc_lora_key",
    "rvc_lora_news")
HOT_KEYS = 9
"""Keys 1 to 9 choose the first nine voices, 0 the plain base."""


def setup(namespace: Dict[str, Any]) -> None:
    """Patch the script's realtime class and stand before its `sg`."""
    host = patch_realtime_class(find_host(Path(namespace["__file__"]).resolve().parent))
    gui = namespace["GUI"]
    panel = Panel(namespace["sg"], Catalog(Path(str(host.root)), Path(host_environment(host)["weight_root"])))
    launcher, set_values, start = gui.launcher, gui.set_values, gui.start_vc

    def launched(self: Any) -> Any:
        panel.owner = self
        return launcher(self)

    def checked(self: Any, values: Dict[str, Any]) -> Any:
        panel.wanted = values.get(VOICE, ""), values.get(STRENGTH, 1.0), values.get(NOISE, 0.0)
        panel.path = str(values.get("pth_path", "")).strip()
        return set_values(self, values) if panel.can_start(values) else False

    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = start(self, *args, **kwargs)
        panel.started()
        return made

    gui.launcher, gui.set_values, gui.start_vc = launched, checked, started
    namespace["sg"] = _StandingBefore(namespace["sg"], panel.window)


class _StandingBefore:
    """A module, but for `Window`."""

    def __init__(self, module: Any, window: Any):
        self._module, self.Window = module, window

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Panel:
    """The frame "LoRA voice" of one window.

    Attributes:
        owner: RVC's object of the window; its `rvc` is the realtime class's object, once a stream was started.
    """

    def __init__(self, sg: Any, catalog: Catalog):
        self.sg, self.catalog = sg, catalog
        self.owner: Any = None
        self._window: Any = None
        self._names: List[str] = []
        self.wanted: Tuple[str, float, float] = ("", 1.0, 0.0)
        self.path = ""

    @property
    def plain(self) -> str:
        return tr("(the base alone)")

    def window(self, title: str, layout: Optional[List[Any]] = None, **options: Any) -> Any:
        """In the place of `sg.Window`: RVC's own window gets our frame, below its first one; others are left alone."""
        if self._window is not None or not layout or self.owner is None:
            return self.sg.Window(title, layout=layout, **options)
        layout = [*layout[:1], [self._frame()], *layout[1:]]
        self._window = window = self.sg.Window(title, layout=layout, **options)
        for key in range(HOT_KEYS + 1):
            window.bind(f"<KeyPress-{key}>", f"{HOT_KEY}{key}")
        read = window.read

        def read_others(*args: Any, **kwargs: Any) -> Tuple[Any, Any]:
            while True:
                event, values = read(*args, **kwargs)
                if not self.answer(event, values):
                    return event, values

        window.read = read_others
        return window

    def _frame(self) -> Any:
        sg = self.sg
        self._names = self.catalog.adapters()
        return sg.Frame(tr("LoRA voice"), [
            [sg.Combo([self.plain, *self._names], default_value=self.plain, key=VOICE, enable_events=True,
                      readonly=True, size=(38, 1)),
             sg.Button(tr("refresh"), key=REFRESH),
             sg.FileBrowse(tr("adapter as the voice"), target="pth_path", initial_folder=str(self.catalog.loras),
                           file_types=((tr("adapters"), "*.safetensors"),))],
            [sg.Text(tr("strength")),
             sg.Slider(range=(0, MAX_STRENGTH), resolution=0.05, default_value=1.0, orientation="h", key=STRENGTH,
                       enable_events=True),
             sg.Text(tr("random noise (0: the voice's own)")),
             sg.Slider(range=(0, MAX_NOISE), resolution=0.05, default_value=0.0, orientation="h", key=NOISE,
                       enable_events=True)],
            [sg.Text(tr("keys 1 to 9: the first voices, 0: the base"), key=SAID, size=(52, 2))],
        ])

    # What happens in it

    def answer(self, event: Any, values: Any) -> bool:
        """Answer an event if it is ours."""
        if not isinstance(event, str) or not event.startswith("rvc_lora_"):
            return False
        if event == NEWS:
            self.say(values[NEWS])
        elif event == REFRESH:
            self._names = self.catalog.adapters()
            self._window[VOICE].update(values=[self.plain, *self._names], value=values[VOICE])
        elif event.startswith(HOT_KEY):
            self._key(int(event[len(HOT_KEY):]), values)
        else:
            self.use(values[VOICE], values[STRENGTH], values[NOISE])
        return True

    def _key(self, number: int, values: Any) -> None:
        """A hot key, unless something is being typed into a field."""
        if isinstance(self._window.find_element_with_focus(), self.sg.Input) or number > len(self._names):
            return
        name = self._names[number - 1] if number else self.plain
        self._window[VOICE].update(value=name)
        self.use(name, values[STRENGTH], values[NOISE])

    def use(self, name: str, strength: float, noise: float) -> None:
        """Change the stream to a voice of the list, or to the one whose file was given as the voice; what is wrong
        stands in the frame. noise: 0 for the voice's own."""
        rvc = getattr(self.owner, "rvc", None)
        if rvc is None:
            self.say(tr("used as soon as the stream runs"))
            return
        try:
            file = self.catalog.adapter_path(name) if name in self._names else self._given() if not name else None
            wanted = {file: float(strength)} if file is not None else {}
            answer = rvc_lora_voices(rvc).use(wanted, noise=float(noise) or None)
        except UserError as error:
            self.say(str(error))
            return
        label = f"{name or Path(self.path).stem}: {float(strength):g}" if wanted else self.plain
        label += tr(", noise {noise:g}", noise=float(noise)) if noise else ""

        def report(done: Any) -> None:  # by the thread that prepares voices: the window's own gets an event
            error = done.exception()
            if error is not None or done.result():
                self._window.write_event_value(NEWS, label if error is None else str(error))

        answer.add_done_callback(report)

    def _given(self) -> Optional[Path]:
        """The adapter in RVC's own field for the voice; None where another file is there."""
        return Path(self.path).absolute() if self.path.lower().endswith(".safetensors") else None

    def say(self, text: str) -> None:
        self._window[SAID].update(text)

    # Before a stream starts

    def can_start(self, values: Dict[str, Any]) -> bool:
        """Whether the voice that is chosen can be taken; for an adapter whose base is not among the checkout's, it is
        asked for."""
        path = str(values.get("pth_path", "")).strip()
        if not path.lower().endswith(".safetensors"):
            return True
        host = find_host(self.catalog.root)
        try:
            base_for(host, path)
            return True
        except UserError as error:
            words = str(error)
        try:
            load_adapter(host.resolve(path))
            base = self.sg.popup_get_file(words, title=tr("the adapter's base"), file_types=((".pth", "*.pth"),))
            if not base:
                return False
            choose_base(host, path, base)
            return True
        except UserError as error:
            self.sg.popup(str(error))
            print(error, file=sys.stderr)
            return False

    def started(self) -> None:
        """The voice of the list, on the stream that has just begun."""
        name, strength, noise = self.wanted
        given = self._given()
        if name not in self._names and given is not None:  # an adapter that was given as the voice stays the voice
            known = {self.catalog.adapter_path(known).absolute(): known for known in self._names}
            name = known.get(given, "")
            self._window[VOICE].update(value=name)
        if name in self._names or given is not None or noise:
            self.use(name, strength, noise)
        self._window[STRENGTH].set_focus()  # away from the field of the path, into which hot keys would be typed
