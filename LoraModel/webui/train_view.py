"""What the Train tab shows of the preparation and the run that its form names: progress, curves, clips, log, and each step's text."""  # noqa: E501

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Tuple

import gradio as gr

from ..messages import UserError
from . import curves
from .inference_panel import PANEL
from .preparation import Preparation, Preparer
from .runs import Runs, Status
from .tab_words import STEP_WORDS, rvc_word
from .text import Tr, fields_for_options, told
from .train_form import Form


class View:
    """The components below the form, and what they and the form's boxes are to show.

    Attributes:
        outputs: what `tick` gives values for, without the last one: what the page was told.
    """

    def __init__(self, namespace: Dict[str, Any], runs: Runs, preparer: Preparer, tr: Tr):
        self.namespace, self.runs, self.preparer, self.tr = namespace, runs, preparer, tr
        self.lists, self.refresh_lists = _adapter_lists(namespace)

    def components(self, form: Form) -> None:
        tr = self.tr
        with gr.Group():
            self.progress = gr.HTML(elem_id="lora_progress", value=self.nothing())
            with gr.Row():
                self.stop = gr.Button(tr("Stop (saves, then ends)"), variant="stop", visible=False)
                self.resume = gr.Button(tr("Resume"), variant="primary", visible=False)
            self.curves = gr.HTML()
            with gr.Row():
                self.clips = [gr.Audio(label=tr("Held-out clip {n}", n=n), interactive=False) for n in (1, 2)]
            self.log = gr.Textbox(label=tr("Log"), lines=8, max_lines=12, interactive=False)
        self.shown = gr.State({})
        self.outputs = [form.info1, form.info2, form.info3, self.progress, self.curves, *self.clips, self.log, self.stop, self.resume,  # noqa: E501
                        form.experiments, *self.lists]

    def nothing(self) -> str:
        text = self.tr("No training yet under this name.")
        return f'<div class="lora-line">{text}</div>'

    def _step_word(self, step: str) -> str:
        return rvc_word(self.namespace, self.tr, STEP_WORDS[step])

    def tick(self, name: Any, shown: Any) -> List[Any]:
        """What has changed since the page was last told; `shown` is what it was told."""
        before = shown if isinstance(shown, dict) else {}
        try:
            status = self.runs.status(name)
        except (UserError, OSError):
            status = Status("")
        now: Dict[str, Any] = {**self.values(status), "adapter": _stamp(status.adapter)}
        updates = [gr.update() if key in before and before[key] == value else self._update(key, value, status)
                   for key, value in now.items() if key != "adapter"]
        lists = [gr.update() for _ in self.lists]
        if now["adapter"] != before.get("adapter") and (before.get("adapter") is not None or now["adapter"]):
            lists = self.refresh_lists()
        return [*updates, *lists, now]

    def values(self, status: Status) -> Dict[str, Any]:
        """What the view's components are to show, in the order of `components`."""
        job = self.preparer.current
        texts = self._step_texts(status)
        reader = self.runs.curves(status.name) if status.state != "none" else None
        clips = [*status.samples, "", ""][:2]
        busy = status.active or (job is not None and job.active and job.name == status.name)
        record, going = self.preparer.undone(status.name)
        cut_off = "" if busy or not record else curves.cut_off([self._step_word(step) for step in record["steps"]], going, self.tr)  # noqa: E501
        return {
            **texts, "progress": cut_off + curves.progress(status, self.tr) or self.nothing(),
            "curves": curves.charts(reader, status.base, self.tr) if reader else "", "clip1": clips[0], "clip2": clips[1],  # noqa: E501
            "log": fields_for_options("\n".join(status.log), self.tr), "stop": busy,
            "resume": (status.resumable or bool(cut_off) and not going) and not busy, "experiments": self.runs.folders.names(),  # noqa: E501
        }

    def _step_texts(self, status: Status) -> Dict[str, Any]:
        """Texts of the preparation's steps: None leaves a box as it is."""
        job = self.preparer.current
        texts: Dict[str, Any] = {"info1": None, "info2": None, "info3": None}
        if job is None or job.name != status.name:
            return texts
        for step, box in (("preprocess", "info1"), ("extract", "info2"), ("index", "info3")):
            if step in job.texts or job.step == step or job.failed == step:
                said = [job.notes.get(step, ""), fields_for_options(_last_lines(job.texts.get(step, ""), 8), self.tr)]
                if job.step == step and job.active:
                    said.append(self.tr("… under way"))
                elif job.failed == step and job.error is not None:
                    said.append(told(job.error, self.tr))
                elif step not in (job.step, job.failed):
                    said.append(self.tr("done"))
                texts[box] = "\n".join(line for line in said if line)
        if "train" in job.steps:
            texts["info3"] = self._overview(job, status)
        return texts

    def _overview(self, job: Preparation, status: Status) -> str:
        """All steps of One-click below its button: each in a line, and why it failed."""
        lines, over = [], False
        for step in job.steps:
            state = ""
            if job.failed == step and job.error is not None:
                state, over = self.tr("failed: ") + told(job.error, self.tr), True
            elif job.step == step and job.active:
                state, over = self.tr("under way"), True
            elif over or not job.active and job.stop_asked and step not in job.texts:
                state = self.tr("not begun")
            elif step == "train":
                state = curves.state_text(status, self.tr)
                if status.state in ("failed", "broken") and status.log:
                    state += f": {fields_for_options(status.log[-1], self.tr)}"
            else:
                state = self.tr("done")
            lines.append(f"{self._step_word(step)}: {state}")
        return "\n".join(lines)

    def _update(self, key: str, value: Any, status: Status) -> Any:
        if value is None:
            return gr.update()
        if key in ("stop", "resume"):  # a button that does nothing is not there: Gradio 3.14 cannot switch one off
            return gr.update(visible=bool(value))
        if key == "experiments":
            return gr.update(choices=value)
        if key.startswith("clip"):
            label = self.tr("Held-out clip {key}, step {sample_step}", key=key[-1], sample_step=status.sample_step)
            return gr.update(value=value or None, **({"label": label} if value else {}))
        return gr.update(value=value)


def _last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _stamp(path: str) -> Any:
    try:
        return os.stat(path).st_mtime_ns if path else ""
    except OSError:
        return ""


def _adapter_lists(namespace: Dict[str, Any]) -> Tuple[List[Any], Callable[[], List[Any]]]:
    """The inference panel's list of adapters, and what brings it up to date; nothing where there is no panel."""
    panel = namespace.get(PANEL)
    return ([], lambda: []) if panel is None else ([panel.adapter], lambda: [panel.adapter_choices()])
