"""The panel's last row: what is loaded, written as an ordinary RVC voice, or a blend as one adapter."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from ..help_texts import Help
from ..text import Tr
from .voices import Voices


class MergeRow:
    """Args:
        failed: what to show of an error.
    """

    def __init__(self, voices: Voices, tr: Tr, failed: Callable[[Exception], str]):
        self.voices, self.tr, self._failed = voices, tr, failed

    def components(self, info: Help) -> None:
        import gradio as gr

        with gr.Row():
            with gr.Column(scale=3):
                with gr.Row():
                    self.name = gr.Textbox(**info("merge", self.tr("Name of the merged voice")),
                                           placeholder="my_voice", interactive=True)
                    self.merged = gr.Textbox(label=self.tr("Result of the merge"), interactive=False)
            with gr.Column(scale=1, min_width=180):
                self.button = gr.Button(self.tr("Merge into a voice (.pth)"), variant="primary")
                self.save = gr.Button(self.tr("Save the blend"))

    def events(self, base: Any, sid: List[Any], adapters: List[Any], names: Callable[[], List[str]]) -> None:
        """base: the panel's list of bases. sid: RVC's own list of voices, in a list, or none. adapters: its lists of
        adapters, which show `names()`."""
        self.save.click(lambda name: self.save_blend(name, names, len(adapters)), [self.name],
                        [self.merged, *adapters], api_name="lora_save_blend", queue=False)
        self.button.click(lambda name: self.merge_into(name)[:2 + len(sid)], [self.name], [self.merged, base, *sid],
                          api_name="lora_merge", queue=False)

    def merge_into(self, name: Any) -> List[Any]:
        """Write the merged voice; RVC's own list shows it at once -> what to say, the bases, RVC's voices."""
        try:
            path = self.voices.merge(name)
        except Exception as error:
            return [self._failed(error), {"__type__": "update"}, {"__type__": "update"}]
        size = f"{path.stat().st_size / 1e6:.0f} MB"
        status = self.tr("Wrote {path_name} ({size}): it is in the voice list above.", path_name=path.name, size=size)
        catalog = self.voices.catalog
        return [status, _choices(catalog.bases()), _choices(catalog.full_voices())]


    def save_blend(self, name: Any, names: Callable[[], List[str]], lists: int) -> List[Any]:
        """Write the blend as one adapter -> what to say, the adapters for each list."""
        try:
            path = self.voices.save_blend(name)
        except Exception as error:
            return [self._failed(error), *[{"__type__": "update"}] * lists]
        status = self.tr("Wrote {path_name}: it is in the list of adapters, and brings its voices back.",
                       path_name=path.name)
        return [status, *[_choices(names())] * lists]


def _choices(found: List[str]) -> Dict[str, Any]:
    return {"choices": found, "__type__": "update"}
