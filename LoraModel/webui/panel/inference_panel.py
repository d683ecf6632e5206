"""The panel in RVC's inference tab: base, adapter and strength beside RVC's own voice list, and the merge button.

RVC's own Convert and batch buttons convert with what is chosen here, since it is loaded into RVC's own converter `vc`.
Scripts call the same events by name: `lora_refresh()`, `lora_load(base, adapter, strength)`, `lora_unload()`,
`lora_noise(share)`, `lora_merge(name)`, with names as `lora_refresh` lists them. An answer that starts with "Error"
("错误") changed nothing.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ... import entries
from ...host import find_host
from ...inference.strength import MAX_STRENGTH
from ...messages import Text
from ...models.catalog import Catalog
from ...names import plain_name
from ...paths import printable
from ..folders import root_of
from ..page_scripts import HEAD, SEARCH, TO_INFERENCE
from ..text import translator
from .blend_rows import BlendRows, Update, update
from .merge_row import MergeRow
from .noise_slider import NoiseSlider
from .panel_answers import PanelAnswers
from .pitch_tick import PitchTick
from .slider_rest import SliderRest
from .voices import Extras, Voices

logger = logging.getLogger(__name__)

PANEL = "rvc_lora_panel"
"""Where the panel is kept among the script's names."""
TRY = "rvc_lora_try"
"""Where the Train tab keeps its button "Try this voice" and the experiment's name, among the script's names."""


def build(namespace: Dict[str, Any]) -> Panel:
    """Make the panel where the page is being built.

    namespace: the script's own `globals()`: `vc`, `i18n`, `sid0` and, in a page that is no RVC checkout's,
    `rvc_lora_host` (a `Host`), `rvc_lora_root` (the folder that holds assets/) and `rvc_lora_unfolded` (True shows all
    of the panel at once).
    """
    panel = Panel(namespace)
    panel.make()
    namespace[PANEL] = panel
    return panel


def attach(namespace: Dict[str, Any]) -> None:
    """Join the panel to what the script made after it. Nothing happens where there is no panel."""
    panel = namespace.get(PANEL)
    if panel is not None:
        panel.attach(namespace)


class Panel(PanelAnswers):
    """The components, and the events between them and `Voices`.

    Attributes:
        base, adapter, strength, status, metadata: components. After training, `adapter` takes `adapter_choices()`.
    """

    def __init__(self, namespace: Dict[str, Any]):
        import gradio

        self.gr = gradio
        self.tr = translator(namespace)
        root = root_of(namespace)
        host = namespace.get("rvc_lora_host") or find_host(root)
        weights = os.environ.get("weight_root")
        self.voices: Voices = namespace.get("rvc_lora_kept", {}).get("voices") or Voices(
            namespace["vc"], host, Catalog(root, Path(weights) if weights else None))
        namespace.setdefault("rvc_lora_kept", {})["voices"] = self.voices
        self.none = self.tr("(none: the base alone)")
        self.error = self.tr("Error: ")
        self._unfolded = bool(namespace.get("rvc_lora_unfolded"))  # RVC's own controls stay in view below one row
        self._speaker = 0  # what an adapter set RVC's slider to
        self._sid: Optional[Any] = namespace.get("sid0")
        self.merge = MergeRow(self.voices, self.tr, lambda error: self._failed(error, still=False))
        self.pitch = PitchTick(self.voices, self.tr)
        self.noise = NoiseSlider(self.voices, self.tr, self._said, self._failed)
        self._rest = SliderRest()  # of the strengths
        self._refused_rows: Optional[Extras] = None
        self._refused: Optional[Tuple[Any, ...]] = None  # the choice that failed last: it is not tried again by itself

    # ------------------------------------------------------------ components

    def make(self) -> None:
        from ..help_texts import Help

        gr, tr, info = self.gr, self.tr, Help(self.tr)
        self.box = gr.Accordion("RVC-LoRA: " + self._said(None), open=self._unfolded)
        with self.box:
            with gr.Row():
                with gr.Column(scale=3):
                    with gr.Row():
                        self.base = gr.Dropdown(**info("base", tr("Base model")), choices=self.voices.catalog.bases(),
                                                interactive=True)
                        self.adapter = gr.Dropdown(**info("adapter", tr("LoRA adapter")),
                                                   choices=self._adapter_names(), interactive=True,
                                                   elem_id="lora_adapter")
                        self.strength = gr.Slider(minimum=0, maximum=MAX_STRENGTH, step=0.05, value=1,
                                                  **info("strength", tr("Strength")), interactive=True)
                    with gr.Row():
                        self.noise.component(info)
                with gr.Column(scale=1, min_width=180):
                    if "allow_custom_value" not in inspect.signature(gr.Dropdown.__init__).parameters:
                        search = gr.Textbox(**info("search", tr("Search the adapters")), interactive=True)
                        search.change(fn=None, inputs=[search], outputs=[], _js=SEARCH, queue=False)
                    self.refresh = gr.Button(tr("Refresh the LoRA lists"), variant="primary")
                    self.unload = gr.Button(tr("Remove the adapter"))
            self.rows = BlendRows(gr, tr, self._adapter_names)
            self.rows.make(info)
            with gr.Row():
                self.status = gr.Textbox(label=tr("Loaded"), value=self._said(None), lines=3, max_lines=12,
                                         interactive=False)
                self.metadata = gr.Textbox(label=tr("Adapter metadata"), lines=3, max_lines=12,
                                          interactive=False)
            self.player = gr.HTML(visible=False)
            self.merge.components(info)
            with gr.Row(visible=False):  # Gradio 3.14 draws a line where a field out of sight stands by itself
                self.asked = gr.Button("", visible=False)  # of scripts alone
                # another text with every answer that concerns what is loaded
                self.answered = gr.Textbox(visible=False)
            info.fold()

    def _adapter_names(self) -> List[str]:
        return [self.none] + self.voices.catalog.adapters()

    def adapter_choices(self) -> Update:
        """The adapters that are there now, for the dropdown `adapter`."""
        return update(choices=self._adapter_names())

    # ------------------------------------------------------------ events

    def attach(self, namespace: Dict[str, Any]) -> None:
        """Give every component its events; those of RVC that come after the panel are known now.

        None goes through Gradio's queue: that drops an event without a word where a message takes the browser more
        than five seconds, or the server more than one, as on a busy machine.
        """
        from gradio.context import Context

        indices = ("file_index2", "file_index4") if "file_index2" in namespace else ("file_index1", "file_index3")
        self._indices = [namespace[name] for name in indices if name in namespace]
        self._protects = [namespace[name] for name in ("protect0", "protect1") if name in namespace]
        speaker = [namespace["spk_item"]] if "spk_item" in namespace else []
        sid = [self._sid] if self._sid is not None else []
        self._has_speaker = bool(speaker)

        chosen, rows = [self.base, self.adapter, self.strength], self.rows
        # The status goes first: it is the answer that a script reads.
        loaded = [self.status, self.metadata, self.base, self.adapter]
        shown = [*loaded, *sid, *speaker, *self._protects, *self._indices, self.strength, self.player, *rows.outputs,
                 self.answered]
        for part in rows.values:
            part.change(self.change_blend, [*chosen, *rows.values], [self.status, self.answered], show_progress=False,
                        queue=False)
        rows.events()
        self.asked.click(self.load, chosen, shown, api_name="lora_load", queue=False)
        self.base.change(self.choose_base, chosen, shown, queue=False)
        self.adapter.change(self.choose_adapter, chosen, shown, queue=False)
        self.strength.change(self.change_strength, chosen, [self.status, self.answered], show_progress=False,
                             queue=False)
        # Gradio's pages drop an event while the same one is under way: after every answer, whatever was chosen
        # meanwhile is seen to.
        self.status.change(None, [self.status], [self.box], _js=HEAD, queue=False)
        self.answered.change(self.settle, [*chosen, *(sid or [self.asked]), *rows.values], shown, show_progress=False,
                             queue=False)
        self.noise.events(self.status, self.answered)
        if TRY in namespace:
            button, name = namespace[TRY]
            show = TO_INFERENCE.replace("TITLES", json.dumps([self.tr("LoRA Train")]))
            button.click(self.try_voice, [name, self.strength], shown, _js=show, queue=False)
        self.unload.click(self.take_off, [], shown, api_name="lora_unload", queue=False)
        self.refresh.click(self.lists, [], [self.base, self.adapter], api_name="lora_refresh", queue=False)
        self.refresh.click(rows.lists, [], rows.adapters, queue=False)
        self.merge.events(self.base, sid, [self.adapter, *rows.adapters], self._adapter_names)
        if "refresh_button" in namespace:
            namespace["refresh_button"].click(self.lists, [], [self.base, self.adapter], queue=False)
            namespace["refresh_button"].click(rows.lists, [], rows.adapters, queue=False)
        if "clean_button" in namespace:
            namespace["clean_button"].click(self.release, [], shown, queue=False)
        if sid:
            self._sid.change(self.rvc_chose, [self._sid], [*loaded, *speaker], queue=False)
        self.pitch.attach(namespace)
        root = Context.root_block
        if root is not None:
            root.load(self.page_opened, [], [*loaded, self.strength, self.player, *rows.outputs, self.noise.slider,
                                             *self.pitch.ticks], queue=False)

    def merge_into(self, name: Any) -> List[Any]:
        """Write the merged voice; RVC's own list shows it at once."""
        return self.merge.merge_into(name)[:2 + (self._sid is not None)]

    def load(self, base: Any, adapter: Any, strength: Any) -> List[Any]:
        """Load exactly what is named; an error leaves what is loaded as it is, and shows that again."""
        return self._attempt(lambda: self._load(*self._named(base, adapter), strength, ()), (base, adapter, strength))

    def choose_base(self, base: Any, adapter: Any, strength: Any) -> List[Any]:
        """A base was chosen in the list: an adapter of another base comes off."""
        def action() -> List[Any]:
            chosen = self._named(base, adapter)
            if self._is_loaded(chosen) or not chosen[0]:
                return self._answer()
            if not chosen[1] or self.voices.fits(chosen[1], chosen[0]):
                return self._load(*chosen, strength)
            answer = self._load(chosen[0], "", strength)
            answer[0] += self.tr("\n{chosen} was removed: it was trained on another base", chosen=chosen[1])
            return answer

        return self._attempt(action, (base, adapter, strength))

    def choose_adapter(self, base: Any, adapter: Any, strength: Any) -> List[Any]:
        """An adapter was chosen in the list: it brings its own base, where the chosen one is another."""
        def action() -> List[Any]:
            chosen = self._named(base, adapter)
            if self._is_loaded(chosen):
                return self._answer()
            own = chosen[0] if not chosen[1] or chosen[0] and self.voices.fits(chosen[1], chosen[0]) else ""
            return self._load(own, chosen[1], strength)

        return self._attempt(action, (base, adapter, strength))

    def try_voice(self, name: Any, strength: Any) -> List[Any]:
        """The voice that an experiment trained, loaded: its adapter in the list brings its own base."""
        def action() -> List[Any]:
            adapter = f"lora/{plain_name(name, Text('the experiment name'))}.safetensors"
            return self._answer() if self.voices.state is not None and self.voices.state.adapter == adapter else (
                self._load("", adapter, strength))

        return self._attempt(action, ("", "", strength))

    def settle(self, base: Any, adapter: Any, strength: Any, sid: Any = "", *rows: Any) -> List[Any]:
        """After every answer: load what is chosen by now, if that is another voice, blend or strength.

        It comes to rest: what is loaded, or was refused, is not loaded again, and only another load is answered by a
        further event.
        """
        rest = [update() for _ in self._answer()]
        if not all(value is None or isinstance(value, str) for value in (base, adapter)):
            return rest
        state, chosen = self.voices.state, (base or "", self._adapter(adapter))
        if not any(chosen):  # RVC's own list emptied the choice while it was being loaded
            lost = state is not None and not self._text(sid)
            return [*self._shown(), *rest[4:]] if lost else rest
        extras = self._chosen_rows(rows)
        if self._is_loaded(chosen) and state is not None and (not state.adapter or state.strength == strength):
            if extras in (None, state.extras, self._refused_rows):
                return rest
            return self._answer(*self.change_blend(base, adapter, strength, *rows)[:1])
        if self._refused == (*chosen, strength):
            return rest
        same_adapter = state is not None and chosen[1] == state.adapter
        return self.choose_base(base, adapter, strength) if same_adapter and not self._is_loaded(chosen) else (
            self._attempt(lambda: self._load(*chosen, strength), (base, adapter, strength))
            if self._is_loaded(chosen) else self.choose_adapter(base, adapter, strength))

    def _attempt(self, action: Callable[[], List[Any]], given: Sequence[Any]) -> List[Any]:
        """The answer of `action`; where it fails, why, and what is loaded as before, in all that the page shows."""
        try:
            answer = action()
        except Exception as error:
            self._refused = (given[0] or "", self._adapter(given[1]),
                             given[2]) if isinstance(given[1], (str, type(None))) else None
            return self._answer(self._failed(error), *self._shown(empty=True)[1:])
        return answer

    def _load(self, base: str, adapter: str, strength: Any, extras: Optional[Extras] = None) -> List[Any]:
        if not base and not adapter:
            return self._answer()
        before = self.voices.state
        state = self.voices.load(base, adapter, strength, extras)
        self._refused = None
        assert state is not None
        answer = self._shown()
        if before is not None and before[:2] == state[:2] and before.extras == state.extras:
            return self._answer(*answer, blend=state)
        index = self.voices.index_for(state)
        self._speaker = state.speaker
        answer += [update(value="")] if self._sid is not None else []
        answer += [update(visible=True, maximum=state.speakers, value=state.speaker)] if self._has_speaker else []
        return self._answer(*answer, *(update(visible=state.f0) for _ in self._protects),
                            *(update(value=index) for _ in self._indices), *self._blend_shown(state))

    def _named(self, base: Any, adapter: Any) -> Tuple[str, str]:
        """(base, adapter) as they came, "" for none.

        Raises:
            UserError: one is no text.
        """
        found = entries.text(base, Text("the base")), entries.text(adapter, Text("the adapter"))
        return found[0], self._adapter(found[1])

    def _is_loaded(self, chosen: Tuple[str, str]) -> bool:
        return self.voices.state is not None and self.voices.state[:2] == chosen

    def change_strength(self, base: Any, adapter: Any, strength: Any) -> List[Any]:
        """Act on a slider once it rests; the steps on the way there are let go."""
        stale = self._rest.passed()
        state, status = self.voices.state, update()
        # What is chosen and is not what is loaded: its own event says why.
        if not stale and state is not None and state[:2] == (self._text(base) or state.base,
                                                                               self._adapter(adapter)):
            try:
                status = self._said(self.voices.load(state.base, state.adapter, strength))
            except Exception as error:
                self._refused = (state.base, state.adapter, strength)
                status = self._failed(error)
        return [status, uuid.uuid4().hex]

    def take_off(self) -> List[Any]:
        """The adapter off, the base as it was."""
        try:
            state = self.voices.unload()
        except Exception as error:
            return self._answer(self._failed(error))
        return self._answer(self._said(state), "", update(value=state.base if state else ""), update(value=self.none),
                            blend=state)

    def release(self) -> List[Any]:
        """RVC's button for unloading was pressed: our base goes as RVC's voice does."""
        if self.voices.state is None:
            return self._answer()
        self.voices.release()
        answer = [self._said(None), "", update(value=""), update(value=self.none)]
        return self._answer(*answer, *([update()] if self._sid is not None else []),
                            *([update(visible=False)] if self._has_speaker else []), blend=None)

    def lists(self) -> List[Update]:
        """What there is to choose now."""
        return [update(choices=self.voices.catalog.bases()), self.adapter_choices()]

    def change_blend(self, base: Any, adapter: Any, strength: Any, *rows: Any) -> List[Any]:
        """A further voice of the blend, or its strength, was changed; of a slider that is dragged, only the last step
        acts."""
        extras = self._chosen_rows(rows)
        if self.voices.state is not None and extras == self.voices.state.extras:
            return [update(), update()]
        if self._rest.passed():
            return [update(), uuid.uuid4().hex]
        state = self.voices.state
        mine = state is not None and state[:2] == (self._text(base) or state.base, self._adapter(adapter))
        if state is None or not mine or extras in (None, state.extras):
            return [update(), update()]
        try:
            status = self._said(self.voices.load(state.base, state.adapter, state.strength, extras))
            self._refused_rows = None
        except Exception as error:
            self._refused_rows, status = extras, self._failed(error)
        return [status, uuid.uuid4().hex]

    def rvc_chose(self, sid: Any) -> List[Any]:
        """A voice was chosen in RVC's own list: nothing of ours is shown as chosen any more."""
        if not sid or not isinstance(sid, str):
            return [*self._shown()[:2], *[update()] * (2 + self._has_speaker)]
        sid = printable(sid)[:200]
        status = self.tr("{sid}, from RVC's own list", sid=sid)
        # RVC keeps the speaker that is set; one that an adapter set is no wish of the user's.
        speaker = [update(value=0) if self._speaker else update()][:self._has_speaker]
        self._speaker = 0
        return [status, "", update(value=""), update(value=self.none), *speaker]

    def page_opened(self) -> List[Any]:
        """A page that is opened, or opened again, shows what is loaded and what there is."""
        state = self.voices.state
        status, metadata, *values = self._shown()
        lists = [{**choices, **value} for choices, value in zip(self.lists(), values)]
        return [status, metadata, *lists, update() if state is None else state.strength, *self._blend_shown(state)[1:],
                self.voices.noise, *self.pitch.opened()]
