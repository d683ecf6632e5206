"""The queue below the LoRA Train tab's form: add, order, remove, pause, resume. Gradio 3.14 and 3.34."""

from __future__ import annotations

import json
import traceback
from html import escape
from typing import Any, Callable, List

import gradio as gr
from gradio.context import Context

from ... import entries
from ...fleet.ledger import ACTIVE, DONE, FAILED, Entry
from ...fleet.progress import WORDS, in_short, seconds_left
from ...messages import Text, UserError
from ..help_texts import Help
from ..runs.queue_runs import Queue
from ..runs.run_settings import RunSettings
from ..text import Tr, error_text, fields_for_options

TICK = """() => {
  if (window.loraQueueTick) return [];
  window.loraQueueTick = setInterval(() => {
    const page = document.querySelector('gradio-app');
    const root = (page && page.shadowRoot) || document;
    const button = root.querySelector('#lora_queue_tick'), shown = root.querySelector('#lora_queue');
    if (button && shown && !document.hidden && shown.offsetParent) button.click();
  }, 2000);
  return [];
}"""
STYLE = """<style>
#lora_queue_tick { display: none }
.lora-queue { width: 100%; border-collapse: collapse; font-size: 14px }
.lora-queue td { padding: 3px 10px 3px 0; border-bottom: 1px solid rgba(128,128,128,.25); vertical-align: top }
</style>"""


class QueuePanel:
    """Args:
        form: of the tab, whose fields a voice is queued with.
    """

    def __init__(self, queue: Queue, form: Any, tr: Tr):
        self.queue, self.form, self.tr = queue, form, tr
        self._components()
        self._events()

    def _components(self) -> None:
        tr = self.tr
        gr.HTML(STYLE)
        with gr.Group():
            gr.Markdown(tr("Queue: voices that are prepared and trained one after another, or as many at once as the "
                           "machine bears. It continues when this page or the WebUI is closed."))
            with gr.Row():
                self.add = gr.Button(tr("Add the form's voice to the queue"), variant="primary")
                self.pause = gr.Button(tr("Pause the queue (saves)"))
                self.resume = gr.Button(tr("Continue the queue"))
            with gr.Row():
                self.chosen = gr.Dropdown(**Help(tr)("queue_voice", tr("Voice of the queue")), choices=self._names(),
                                          interactive=True)
                self.up = gr.Button(tr("Earlier"))
                self.down = gr.Button(tr("Later"))
                self.remove = gr.Button(tr("Remove from the queue"))
            self.status = gr.Textbox(label=tr("Queue"), value="", max_lines=4, interactive=False)
            self.shown = gr.HTML(elem_id="lora_queue", value=self.table())
        self.tick = gr.Button("", elem_id="lora_queue_tick")
        self.ask, self.asked = gr.Button("", visible=False), gr.Textbox(visible=False)

    def _events(self) -> None:
        form, outputs = self.form, [self.status, self.shown, self.chosen]
        self.add.click(self._on_add, [*form.fields, form.recordings], outputs, api_name="lora_queue_add", queue=False)
        for button, action, name in ((self.pause, self.queue.pause, "pause"), (self.resume, self.queue.resume,
                                                                               "resume")):
            button.click(self._on(action), None, outputs, api_name=f"lora_queue_{name}", queue=False)
        for button, places, name in ((self.up, -1, "earlier"), (self.down, 1, "later")):
            button.click(self._on_voice(lambda voice, places=places: self.queue.move(voice, places)), [self.chosen],
                         outputs, api_name=f"lora_queue_{name}", queue=False)
        self.remove.click(self._on_voice(self.queue.remove), [self.chosen], outputs, api_name="lora_queue_remove",
                          queue=False)
        self.ask.click(self.report, None, [self.asked], api_name="lora_queue_status", queue=False)
        self.tick.click(self._on_tick, None, [self.shown], show_progress=False, queue=False)
        page = Context.root_block
        page.load(lambda: gr.update(choices=self._names()), None, [self.chosen], queue=False)
        page.load(fn=None, inputs=None, outputs=None, _js=TICK)

    # Events

    def _told(self, action: Callable[[], Any]) -> List[Any]:
        """Do it, and tell what is now, or why it could not be done."""
        status = ""
        try:
            action()
        except Exception as error:  # whatever it is, the page says it
            if not isinstance(error, (UserError, OSError)):
                traceback.print_exc()
            status = error_text(error, self.tr)
        return [status or self.line(), self.table(), gr.update(choices=self._names())]

    def _on(self, action: Callable[[], Any]) -> Callable[[], List[Any]]:
        return lambda: self._told(action)

    def _on_voice(self, action: Callable[[str], Any]) -> Callable[[Any], List[Any]]:
        def event(name: Any) -> List[Any]:
            return self._told(lambda: action(entries.text(name, Text("the voice of the queue"))))

        return event

    def _on_add(self, *values: Any) -> List[Any]:
        def action() -> None:
            self.queue.add(RunSettings(*values[:-1]), entries.path(values[-1], Text("the path of the training folder")))

        return self._told(action)

    def _on_tick(self) -> str:
        try:
            self.queue.see_to_it()
            return self.table()
        except (UserError, OSError) as error:
            return f'<div class="lora-error">{escape(error_text(error, self.tr))}</div>'

    def report(self) -> str:
        """Where the queue stands as JSON, for scripts."""
        try:
            return json.dumps(self.queue.status(), ensure_ascii=False)
        except (UserError, OSError) as error:
            return json.dumps({"error": error_text(error, self.tr)}, ensure_ascii=False)

    # What is shown

    def _names(self) -> List[str]:
        try:
            return [entry.name for entry in self.queue.entries()]
        except (UserError, OSError):
            return []

    def line(self) -> str:
        """The whole queue in a few words."""
        entries_, tr = self.queue.entries(), self.tr
        done = sum(entry.state == DONE for entry in entries_)
        failed = sum(entry.state == FAILED for entry in entries_)
        if self.queue.paused:
            state = tr("paused")
        elif self.queue.works():
            state = tr("at work, {left} left", left=in_short(seconds_left(entries_, 1)))
        else:
            state = tr("nothing under way")
        return tr("{done} of {count} done, {failed} failed: {state}", done=done, count=len(entries_), failed=failed,
                  state=state)

    def table(self) -> str:
        """All voices of the queue, as HTML."""
        try:
            found = self.queue.entries()
            if not found:
                return f'<div class="lora-line">{escape(self.tr("The queue is empty."))}</div>'
            rows = "".join(f"<tr><td>{number}</td><td><b>{escape(entry.name)}</b></td>"
                           f"<td>{self._state(entry)}</td></tr>" for number, entry in enumerate(found, 1))
            return f'<div class="lora-line">{escape(self.line())}</div><table class="lora-queue">{rows}</table>'
        except (UserError, OSError) as error:
            return f'<div class="lora-error">{escape(error_text(error, self.tr))}</div>'

    def _state(self, entry: Entry) -> str:
        tr = self.tr
        word = tr("{state}", state=WORDS[entry.state])
        if entry.state == FAILED:
            why = tr("{why}", why=entry.reason or "")
            return f"{escape(word)}: {escape(fields_for_options(why, tr))}"
        if entry.state in ACTIVE and entry.steps:
            left = in_short(entry.seconds_left)
            return escape(tr("{state}: step {step} of {steps}, {left} left", state=word, step=entry.step,
                             steps=entry.steps, left=left))
        if entry.state == DONE and isinstance(entry.figures.get("heldout"), float):
            better = entry.figures.get("better", True)
            note = "" if better else " " + tr("(worse than the base alone: not in the list)")
            return escape(tr("{state} in {time}: held-out log-mel L1 {heldout:.4f}", state=word,
                             time=in_short(entry.seconds), heldout=entry.figures["heldout"]) + note)
        return escape(word)
