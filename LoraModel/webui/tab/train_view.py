"""What the Train tab shows of the preparation and the run that its form names: progress, curves, clips, log, and each
step's text."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Tuple

import gradio as gr

from ...messages import UserError
from ..help_texts import Help
from ..page_scripts import TICK_NOW
from ..panel.inference_panel import PANEL
from ..preparing.forecast import Forecast
from ..preparing.paces import Paces
from ..preparing.preparation import Preparer
from ..preparing.preparation_job import Preparation
from ..runs.run_settings import RunSettings
from ..runs.runs import Runs, Status
from ..text import Tr, error_text
from . import curves, listening
from .console import page_lines, page_text
from .prepare_bar import stage_of
from .tab_words import STEP_WORDS, rvc_word
from .train_form import Form

NOTHING = listening.HeldOutClip()
LEARNED_AT = 20
"""Steps after which a run's pace tells how long the next one will take."""




class View:
    """The components below the form, and what they and the form's boxes are to show.

    Attributes:
        asked: what `tick` is given beside the experiment's name. outputs: what it gives values for, without the last
        one: what the page was sent.
    """

    def __init__(self, namespace: Dict[str, Any], runs: Runs, preparer: Preparer, tr: Tr):
        self.namespace, self.runs, self.preparer, self.tr = namespace, runs, preparer, tr
        self.lists, self.refresh_lists = _adapter_lists(namespace)
        self._learned: Tuple[str, float] = ("", 0.0)

    def components(self, form: Form) -> None:
        tr, info = self.tr, Help(self.tr)
        with gr.Group():
            self.progress = gr.HTML(elem_id="lora_progress", value=self.nothing())
            with gr.Row():
                self.stop = gr.Button(tr("Stop (saves, then ends)"), variant="stop", visible=False)
                self.resume = gr.Button(tr("Resume"), variant="primary", visible=False)
                self.use = gr.Button(tr("Try this voice"), variant="primary", visible=False)
            self.file = gr.File(label=tr("The adapter, to download"), interactive=False, visible=False)
            self.curves = gr.HTML(elem_id="lora_curves")
            with gr.Column(visible=False) as self.hearing:
                with gr.Row():
                    self.clip = gr.Radio(**info("clip", tr("Held-out clip")), choices=["1", "2"], value="1",
                                         interactive=True)
                    self.save = gr.Slider(minimum=1, maximum=2, step=1, value=1, interactive=True,
                                          **info("save", tr("Save to listen to")))
                with gr.Row():
                    self.sounds = [gr.Audio(label=label, interactive=False) for label in (
                        tr("As recorded"), tr("Base alone"), tr("The voice"))]
            self.log = gr.Textbox(label=tr("Log"), lines=8, max_lines=12, interactive=False)
        info.fold()
        self.shown = gr.State({})
        self.asked = [self.shown, self.clip, self.save, form.recordings, *form.fields]
        self.outputs = [form.info1, form.info2, form.info3, self.progress, self.curves, *self.sounds, self.log,
                        self.stop, self.resume, form.experiments, self.hearing, self.save, self.use, self.file,
                        form.forecast, *self.lists]

    def events(self) -> None:
        for component in (self.clip, self.save):
            component.change(fn=None, inputs=None, outputs=None, _js=TICK_NOW, queue=False)

    def nothing(self) -> str:
        text = self.tr("No training yet under this name.")
        return f'<div class="lora-line">{text}</div>'

    def _step_word(self, step: str) -> str:
        return rvc_word(self.namespace, self.tr, STEP_WORDS[step])

    def tick(self, name: Any, shown: Any, clip: Any = None, save: Any = None, recordings: Any = None,
             *form: Any) -> List[Any]:
        """What has changed since the page's last answer; `shown` is that answer."""
        before = shown if isinstance(shown, dict) else {}
        try:
            status = self.runs.status(name)
        except (UserError, OSError):
            status = Status("")
        another = before.get("name") not in (None, status.name)
        follows = another or not before or save is None or save == before.get("save", {}).get("count")
        sounds = listening.held_out_clip(self.runs.folders, status.name, clip, None if follows else save) if (
            status.name and status.state != "none") else NOTHING
        now: Dict[str, Any] = {**self.values(status, sounds, another),
                               "forecast": self._forecast(status, recordings, form),
                               "adapter": _stamp(status.adapter), "name": status.name}
        updates = [gr.update() if key in before and before[key] == value else self._update(key, value)
                   for key, value in now.items() if key not in ("adapter", "name")]
        lists = [gr.update() for _ in self.lists]
        if now["adapter"] != before.get("adapter") and (before.get("adapter") is not None or now["adapter"]):
            lists = self.refresh_lists()
        return [*updates, *lists, now]

    def values(self, status: Status, sounds: listening.HeldOutClip = NOTHING, another: bool = False) -> Dict[str, Any]:
        """What the view's components are to show, in the order of `outputs`.

        another: whether the page showed another voice before, whose texts must not stay.
        """
        job, tr = self.preparer.current, self.tr
        ours = job is not None and job.name == status.name
        stage = stage_of(job, self.runs.folders, status) if ours and job is not None else None
        reader = self.runs.curves(status.name) if status.state != "none" else None
        prepares = ours and job is not None and job.active
        busy = status.active or prepares
        record, going = self.preparer.undone(status.name)
        above = "" if busy or not record else curves.cut_off([self._step_word(step) for step in record["steps"]],
                                                             going, tr)
        if prepares and not status.active:
            above = curves.preparing(status.name, stage, self._step_word(stage.step), tr) if stage else ""
        else:
            above += curves.progress(status, tr, stage)
        self._learn(status)
        usable = status.adapter if not status.active and status.state != "none" else ""
        newest = sounds.number == sounds.count
        voice = tr("The voice now (step {step})", step=sounds.step) if newest else tr("The voice at step {step}",
                                                                                     step=sounds.step)
        return {
            **self._step_texts(status, another), "progress": above or self.nothing(),
            "curves": curves.charts(reader, status.base, tr) if reader else "",
            "original": sounds.original, "base": sounds.base, "voice": (sounds.voice, voice),
            "log": "\n".join(page_lines(status.log, tr)), "stop": busy,
            "resume": (status.resumable or bool(record) and not going) and not busy,
            "experiments": self.runs.folders.names(),
            "hearing": bool(sounds.base or sounds.voice),
            "save": {"number": sounds.number, "count": sounds.count},
            "use": bool(usable) and bool(self.lists), "file": (usable, _stamp(usable)),
        }

    def _learn(self, status: Status) -> None:
        """Keep how long a step of this run takes, saves included, once it is known."""
        mark = (status.name, status.started)
        if status.seconds_left is None or status.step < LEARNED_AT or self._learned == mark or (
                status.step >= status.total_steps) or self.preparer.forecaster is None:
            return
        self._learned = mark
        paces: Paces = self.preparer.forecaster.paces
        try:
            settings = RunSettings.read(self.runs.settings(status.name))
        except UserError:
            return
        paces.learn(settings.pace_key(), status.seconds_left / (status.total_steps - status.step))

    def _forecast(self, status: Status, recordings: Any, form: Tuple[Any, ...]) -> str:
        """What the run of the form will be, while there is none."""
        forecaster = self.preparer.forecaster
        if not form or forecaster is None or status.active:
            return ""
        try:
            found = forecaster.ask(RunSettings(*form), recordings)
        except (UserError, TypeError):
            return ""
        return f'<div class="lora-line">{self._in_words(found)}</div>' if found is not None else ""

    def _in_words(self, found: Forecast) -> str:
        tr, parts = self.tr, []
        if found.size is not None:
            parts.append(tr("{parameters:,} parameters in a file of {size:,.0f} KB", parameters=found.size.parameters,
                            size=found.size.size / 1000))
            if found.size.clamped:
                parts.append(tr("{count} layers cannot use so high a rank and keep their smaller side",
                                count=found.size.clamped))
        if found.steps:
            time = "" if found.seconds is None else tr(", about {time}", time=curves.duration(found.seconds, tr))
            parts.append(tr("about {steps} steps", steps=found.steps) + time)
        else:
            parts.append(tr("the number of steps is known once there are recordings"))
        if found.steps and found.preparing:
            parts.append(tr("the steps before it about {time}", time=curves.duration(found.preparing, tr)))
        return tr("This training: ") + tr("; ").join(parts)

    def _step_texts(self, status: Status, another: bool) -> Dict[str, Any]:
        """Texts of the preparation's steps: None leaves a box as it is."""
        job = self.preparer.current
        texts: Dict[str, Any] = dict.fromkeys(("info1", "info2", "info3"), "" if another else None)
        if job is None or job.name != status.name:
            return texts
        for step, box in (("preprocess", "info1"), ("extract", "info2"), ("index", "info3")):
            if step in job.texts or job.step == step or job.failed == step:
                lines = [job.notes.get(step, ""), page_text(job.texts.get(step, ""), self.tr)]
                if job.step == step and job.active:
                    lines.append(self.tr("… under way"))
                elif job.failed == step and job.error is not None:
                    lines.append(error_text(job.error, self.tr))
                else:
                    lines.append(self.tr("done") if step in job.finished else self.tr("stopped"))
                texts[box] = "\n".join(line for line in lines if line)
        if "train" in job.steps:
            texts["info3"] = self._overview(job, status)
        return texts

    def _overview(self, job: Preparation, status: Status) -> str:
        """All steps of One-click below its button: each in a line, and why it failed."""
        lines, over = [], False
        for step in job.steps:
            state = ""
            if job.failed == step and job.error is not None:
                state, over = self.tr("failed: ") + error_text(job.error, self.tr), True
            elif job.step == step and job.active:
                state, over = self.tr("under way"), True
            elif step == "train" and step in job.finished:
                state = curves.state_text(status, self.tr)
                if status.state in ("failed", "broken") and status.log:
                    state += f": {page_text(status.log[-1], self.tr)}"
            elif step in job.finished:
                state = self.tr("done")
            else:
                state = self.tr("not started") if over or step not in job.begun else self.tr("stopped")
                over = True
            lines.append(f"{self._step_word(step)}: {state}")
        return "\n".join(lines)

    def _update(self, key: str, value: Any) -> Any:
        if value is None:
            return gr.update()
        if key in ("stop", "resume", "hearing", "use"):  # a button that does nothing is not there: Gradio 3.14 cannot
            return gr.update(visible=bool(value))  # switch one off
        if key == "experiments":
            return gr.update(choices=value)
        if key in ("original", "base"):
            return gr.update(value=value or None, visible=bool(value))
        if key == "voice":
            return gr.update(value=value[0] or None, visible=bool(value[0]), label=value[1])
        if key == "save":
            count = value["count"]
            return gr.update(maximum=max(2, count), value=max(1, value["number"]), visible=count > 1)
        if key == "file":
            return gr.update(value=value[0] or None, visible=bool(value[0]))
        return gr.update(value=value)


def _stamp(path: str) -> Any:
    try:
        return os.stat(path).st_mtime_ns if path else ""
    except OSError:
        return ""


def _adapter_lists(namespace: Dict[str, Any]) -> Tuple[List[Any], Callable[[], List[Any]]]:
    """The inference panel's list of adapters, and what brings it up to date; nothing where there is no panel."""
    panel = namespace.get(PANEL)
    return ([], lambda: []) if panel is None else ([panel.adapter], lambda: [panel.adapter_choices()])
