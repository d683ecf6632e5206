"""The language switch of `python run.py app`: the page is built anew in the other language and takes the place of the
one that is served; what is loaded and what goes on stays."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Callable

from .. import entries
from ..files import atomic_write
from ..messages import Text, UserError, closest, languages, own_name, tr, wanted_language

FILE = "language.txt"


def use_kept(root: Path) -> None:
    """Speak the language that was chosen last, unless RVC_LORA_LANG asks for another."""
    try:
        kept = (root / FILE).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return
    if kept in languages():
        os.environ.setdefault("RVC_LORA_LANG", kept)


class LanguageSwitch:
    """Args:
        root: where the choice is kept. build: makes the page anew.

    Attributes:
        served: the page that is served, once it is.
    """

    def __init__(self, root: Path, build: Callable[[], Any]):
        self.root, self._build = root, build
        self.served: Any = None

    def components(self) -> None:
        """The switch, where the page is being built."""
        import gradio as gr

        now = closest(wanted_language())
        choices = [own_name(name) for name in languages()]
        label = " / ".join(dict.fromkeys(Text("Language").in_language(name) for name in languages()))
        chosen = gr.Radio(label=label, choices=choices, value=own_name(now), interactive=True,
                          info=tr("The page opens again; what is loaded or under way stays."))
        chosen.change(self._chosen, [chosen], [], queue=False).then(
            fn=None, inputs=None, outputs=None, _js="() => { location.reload(); return []; }", queue=False)

    def _chosen(self, name: Any) -> None:
        with contextlib.suppress(UserError):  # no language: the page stays as it is
            self.choose(name)

    def choose(self, name: Any) -> None:
        """Serve the page in the language of that name.

        Raises:
            UserError: there is no such language.
        """
        names = {own_name(code): code for code in languages()}
        code = names[entries.one_of(name, Text("the language"), list(names))]
        if code == closest(wanted_language()):
            return
        os.environ["RVC_LORA_LANG"] = code
        atomic_write(self.root / FILE, code.encode())
        if self.served is not None:
            self._serve(self._build())

    def _serve(self, page: Any) -> None:
        """Put a page into the place of the one that is served: Gradio sets these at `launch`, which starts a server."""
        own = {"blocks", "fns", "dependencies", "children", "temp_file_sets", "config", "default_config", "theme",
               "title"}
        for key, value in vars(self.served).items():
            if key not in own and (key not in vars(page) or key in _LAUNCHED):
                setattr(page, key, value)
        page.temp_file_sets = [*page.temp_file_sets, *self.served.temp_file_sets]  # sounds that the page shows now
        page.config = page.get_config_file()
        self.served.server_app.configure_app(page)
        self.served = page


_LAUNCHED = {"auth", "auth_message", "show_tips", "show_error", "height", "width", "favicon_path", "ssl_verify",
             "root_path", "enable_queue", "_queue", "show_api", "api_open", "allowed_paths", "blocked_paths",
             "max_threads", "is_running", "server_name", "local_url", "server_port", "server_app", "server", "is_colab",
             "dev_mode", "share", "share_url", "exited", "progress_tracking"}
