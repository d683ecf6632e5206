"""The LoRA Train tab: RVC's Train tab in its order and words, for adapters. Gradio 3.14 and 3.34.

What goes on is known to `runs` and `preparation` alone. A page only asks, every second and a half and while it is
looked at, how things stand (`View.tick`); so it may be closed, reloaded or opened twice.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Sequence

import gradio as gr
from gradio.context import Context

from ... import entries
from ...host import find_host
from ...messages import Text, UserError
from ...preparation.fingerprint import Record
from ..folders import Folders, root_of
from ..lists.queue_panel import QueuePanel
from ..lists.shelf import Shelf
from ..lists.shelf_view import ShelfView
from ..page_scripts import TICK
from ..panel.inference_panel import TRY
from ..preparing.forecast import Forecaster
from ..preparing.preparation import Preparer
from ..runs.queue_runs import Queue
from ..runs.run_settings import LIMITS, WORDS, RunSettings
from ..runs.runs import Runs
from ..text import error_text, page_language, translator
from . import curves
from .tab_words import START_ANEW
from .train_form import Form
from .train_view import View

STOP_SECONDS = 60.0
"""How long Stop waits for the run's last save before it says that it will come."""


def build(namespace: Dict[str, Any]) -> None:
    """Make the tab, inside `with gr.Tabs():`.

    namespace: the WebUI script's `globals()`. In a page that is no RVC checkout's: also `rvc_lora_host` (a `Host`),
    `rvc_lora_root` (the folder that holds logs/ and assets/) and `rvc_lora_defaults` (experiment `name` and
    `recordings` to begin with).
    """
    page = _Page(namespace)
    with gr.TabItem(page.tr("LoRA Train")):
        page.components()
    namespace[TRY] = (page.view.use, page.form.name)
    page.events()


class _Page:
    def __init__(self, namespace: Dict[str, Any]):
        self.tr = translator(namespace)
        root = root_of(namespace)
        host = namespace.get("rvc_lora_host") or find_host(root)
        self.folders = Folders(root.resolve(), host.is_checkout)
        kept = namespace.setdefault("rvc_lora_kept", {})
        self.preparer: Preparer = kept.get("preparer") or Preparer(
            Runs(self.folders, None), namespace, Forecaster(self.folders, host))
        kept["preparer"], self.runs = self.preparer, self.preparer.runs
        self.runs.language = page_language(namespace)
        self.form = Form(namespace, self.folders, host, self.tr)
        self.view = View(namespace, self.runs, self.preparer, self.tr)
        self.shelf = ShelfView(Shelf(self.runs, self.preparer), self.tr)

    def components(self) -> None:
        gr.HTML(curves.STYLE)
        self.form.components()
        self.view.components(self.form)
        QueuePanel(Queue(self.folders, self.runs.language), self.form, self.tr)
        self.shelf.components()
        self.asked = gr.Textbox(visible=False)  # of scripts alone: the status as JSON
        self.tick_button = gr.Button("", elem_id="lora_tick")
        self.ask = gr.Button("", visible=False)

    def events(self) -> None:
        form, view = self.form, self.view
        form.events()
        form.dropped.change(self.take_in, [form.dropped, form.name], [form.recordings, form.info1], queue=False)
        steps = [form.recordings, form.f0_method, form.anew, *form.fields]
        for button, names, info in (
                (form.process, ("preprocess",), form.info1), (form.extract, ("extract",), form.info2),
                (form.index, ("index",), form.info3),
                (form.all, ("preprocess", "extract", "index", "train"), form.info3)):
            button.click(self._preparing(names), steps, [info], queue=False)
        form.check.click(self.check, [form.recordings, form.rate], [form.info1, form.findings],
                         api_name="lora_check_recordings", queue=False)
        form.train.click(self.start, [*form.fields, form.anew], [form.info3], api_name="lora_train_start", queue=False)
        view.stop.click(self.halt, [form.name], [form.info3], api_name="lora_train_stop", queue=False)
        view.resume.click(self.go_on, [form.name, form.epochs], [form.info3], api_name="lora_train_resume", queue=False)
        self.ask.click(self.report, [form.name], [self.asked], api_name="lora_train_status", queue=False)
        view.events()
        self.shelf.events(form.name, [form.experiments, *view.lists],
                          lambda: [gr.update(choices=self.folders.names()), *view.refresh_lists()])
        self.tick_button.click(self.tick, [form.name, *view.asked],
                               [*self.shelf.shown_now, *view.outputs, view.shown], show_progress=False, queue=False)
        form.experiments.change(self.chosen, [form.experiments], [*form.fields, form.recordings], queue=False)
        page = Context.root_block
        page.load(self.opened, None, [*form.fields, form.recordings, *self.shelf.shown_now, form.experiments],
                  queue=False)
        page.load(fn=None, inputs=None, outputs=None, _js=TICK, queue=False)

    def _told(self, action: Callable[[], str]) -> str:
        """What `action` returns, or why it could not be done."""
        try:
            return action()
        except Exception as error:  # whatever it is, the page says it
            if not isinstance(error, (UserError, OSError)):
                traceback.print_exc()
            return error_text(error, self.tr)

    def _preparing(self, names: Sequence[str]) -> Callable[..., str]:
        def begin(recordings: Any, f0_method: Any, anew: Any, *form: Any) -> str:
            def action() -> str:
                method = entries.one_of(f0_method, Text("the pitch extraction algorithm"),
                                        self.form.f0_methods)
                self.preparer.begin(names, RunSettings(*form), recordings, method, entries.flag(anew, START_ANEW))
                return self.tr("started")

            return self._told(action)

        return begin

    def take_in(self, files: Any, name: Any) -> List[Any]:
        """Recordings that were dropped into the tab -> the folder that they are kept in, and what to tell."""
        try:
            folder, count = self.folders.take_in(files, name)
        except (UserError, OSError) as error:
            return [gr.update(), error_text(error, self.tr)]
        if not count:
            return [gr.update(), gr.update()]
        return [str(folder), self.tr("{count} files are in {folder} now", count=count, folder=folder)]

    def check(self, recordings: Any, rate: Any) -> List[str]:
        """Look at the recordings -> what to tell, and the findings with their pictures as HTML."""
        shown = [""]

        def action() -> str:
            from . import checking  # brings SciPy's signal code: only where it is asked for

            report, shown[0] = checking.look(self.folders.recordings(recordings), rate, self.tr)
            return report

        return [self._told(action), shown[0]]

    def start(self, *form: Any) -> str:
        """Start the run that the form asks for -> what to tell."""
        def action() -> str:
            status = self.runs.start(RunSettings(*form[:-1]), entries.flag(form[-1], START_ANEW))
            self.preparer.forget(status.name)
            return self.tr("training of {status_name} has started", status_name=status.name)

        return self._told(action)

    def halt(self, name: Any) -> str:
        """Stop the preparation or the run of `name` and wait for its last save -> what to tell."""
        def action() -> str:
            job, experiment = self.preparer.current, self.folders.experiment(name).name
            if job is not None and job.active and job.name == experiment and self.preparer.stop():
                return self.tr("the preparation stops after its present step")
            status = self.runs.stop(experiment, STOP_SECONDS)
            if status.active:
                return self.tr("stopping: it saves after the step under way")
            if status.resumable:
                return self.tr("stopped and saved at step {step}", step=status.step)
            return self.tr("stopped before there was anything to save")

        return self._told(action)

    def go_on(self, name: Any, epochs: Any) -> str:
        """Resume the preparation of `name` that was cut off, or its run, up to `epochs` -> what to tell."""
        def action() -> str:
            experiment = self.folders.experiment(name).name
            if self.preparer.undone(experiment)[0]:
                self.preparer.resume(experiment)
                return self.tr("resuming the preparation of {experiment}", experiment=experiment)
            wanted = None if epochs is None else entries.whole(epochs, WORDS["epochs"], 0, LIMITS["epochs"][1])
            status = self.runs.resume(experiment, wanted or None)
            return self.tr("resuming {status_name}", status_name=status.name)

        return self._told(action)

    def report(self, name: Any) -> str:
        """The status of `name` as JSON, for scripts."""
        try:
            status = self.runs.status(name)
            undone = self.preparer.undone(status.name)[0].get("steps", [])
            return json.dumps({**status.to_dict(), "preparing": self._preparing_now(status.name), "undone": undone},
                              ensure_ascii=False)
        except (UserError, OSError) as error:
            return json.dumps({"state": "error", "message": error_text(error, self.tr)}, ensure_ascii=False)

    def _preparing_now(self, name: str) -> str:
        job = self.preparer.current
        return job.step if job is not None and job.name == name else ""

    def opened(self) -> List[Any]:
        """The form as the page opens: that of the run or the preparation that goes on, or was cut off; else that of
        the newest run."""
        going, job, names = self.runs.going_on(), self.preparer.current, self.folders.names()
        cut_off, recordings = self.preparer.undone()[0], gr.update()
        if going:
            asked, recordings = self._asked(going[0]), self._recordings(going[0])
        elif job is not None and job.active:
            asked, recordings = asdict(job.settings), gr.update(value=job.recordings)
        elif cut_off:
            asked, recordings = cut_off.get("settings"), gr.update(value=str(cut_off.get("recordings")))
        else:
            asked = self._asked(names[0]) if names else None
            recordings = self._recordings(names[0]) if names else recordings
        return [*self.form.filled(asked), recordings, *self.shelf.now(), gr.update(choices=names)]

    def chosen(self, name: Any) -> List[Any]:
        """The form of a run that was chosen in the list."""
        if name not in self.folders.names():
            return [*self.form.filled(None), gr.update()]
        return [*self.form.filled(self._asked(name)), self._recordings(name)]

    def _recordings(self, name: str) -> Any:
        """The field for the recordings of an experiment: another voice's must not stay in it."""
        return gr.update(value=Record(self.folders.experiment(name)).source)

    def tick(self, *asked: Any) -> List[Any]:
        """What has changed since the page's last answer. A new experiment or adapter stands in their list, too."""
        answer = self.view.tick(*asked)
        places = dict(zip(self.view.outputs, answer))
        news = any("choices" in places[one] for one in (self.form.experiments, *self.view.lists))
        return [*(self.shelf.now() if news else [gr.update(), gr.update()]), *answer]

    def _asked(self, name: str) -> Any:
        """What was asked of a run, under the name that its folder has now."""
        asked = self.runs.settings(name)
        return {**asked, "name": name} if asked else None
