"""The LoRA Train tab: RVC's Train tab in its order and words, for adapters. Gradio 3.14 and 3.34.

What goes on is known to `runs` and `preparation` alone. A page only asks, every second and a half and while it is looked at, how
things stand (`_Page.tick`); so it may be closed, reloaded or opened twice.
"""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Sequence, Tuple

import gradio as gr
import torch
from gradio.context import Context

from ..host import find_host
from ..messages import UserError
from ..models import DEFAULT_PRESET, PRESETS
from ..training.config import TrainConfig
from . import curves, entries
from .folders import Folders
from .inference_panel import PANEL, root_of
from .preparation import Preparation, Preparer
from .run_settings import LIMITS, WORDS, RunSettings
from .runs import Runs, Status
from .tab_words import RVC_WORDS, START_ANEW, STEP_WORDS
from .text import fields_for_options, page_language, told, translator

STOP_SECONDS = 60.0
"""How long Stop waits for the run's last save before it says that it will come."""

TICK = """() => {
  if (window.loraTick) return [];
  let unseen = 0;
  window.loraTick = setInterval(() => {
    const page = document.querySelector('gradio-app');
    const root = (page && page.shadowRoot) || document;
    const button = root.querySelector('#lora_tick'), shown = root.querySelector('#lora_progress');
    if (button && shown && !document.hidden && (shown.offsetParent || ++unseen % 4 === 0)) button.click();
  }, 1500);
  return [];
}"""
"""Asks how things stand, less often while another tab is in view, whose list of adapters is kept up to date too. A short event each time,
with or without Gradio's queue."""

def build(namespace: Dict[str, Any]) -> None:
    """Make the tab, inside `with gr.Tabs():`.

    namespace: the WebUI script's `globals()`. In a page that is no RVC checkout's: also `rvc_lora_host` (a `Host`), `rvc_lora_root` (the
    folder that holds logs/ and assets/) and `rvc_lora_defaults` (experiment `name` and `recordings` to begin with).
    """
    page = _Page(namespace)
    with gr.TabItem(page.tr("LoRA Train")):
        page.components()
    page.events()


class _Page:
    def __init__(self, namespace: Dict[str, Any]):
        self.namespace, self.tr = namespace, translator(namespace)
        root = root_of(namespace)
        host = namespace.get("rvc_lora_host") or find_host(root)
        self.folders = Folders(root.resolve(), host.is_checkout)
        self.runs = Runs(self.folders, page_language(namespace))
        self.preparer = Preparer(self.runs, namespace)
        self.f0_methods = [*host.layout.f0_training, *(host.layout.f0_training_cuda if namespace.get("gpus") else ())]
        self.devices = ["auto", "cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        self.defaults: Dict[str, Any] = namespace.get("rvc_lora_defaults") or {}

    def rvc(self, key: str) -> str:
        """RVC's own word for `key` (Chinese, as in its script)."""
        i18n = self.namespace.get("i18n")
        said = str(i18n(key)) if callable(i18n) else key
        return self.tr(RVC_WORDS.get(key, key), key) if said == key else said

    # Components

    def components(self) -> None:
        tr, rvc = self.tr, self.rvc
        gr.HTML(curves.STYLE)
        gr.Markdown(tr("Step 1: Fill in the experiment. Its data are in the folder logs, a folder for each "
                       "experiment; data that RVC's own Train tab has prepared under the same name can be trained at "
                       "once."))
        rate, version = self._default_rate("v2"), "v2"
        with gr.Row():
            self.name = gr.Textbox(label=rvc("输入实验名"), value=self.defaults.get("name", "mi-test"))
            self.rate = gr.Radio(label=rvc("目标采样率"), choices=self._rates(version), value=rate, interactive=True)
            self.f0 = gr.Radio(label=rvc("模型是否带音高指导(唱歌一定要, 语音可以不要)"), choices=[True, False], value=True, interactive=True)
            self.version = gr.Radio(label=rvc("版本"), choices=["v1", "v2"], value=version, interactive=True)
        with gr.Group():
            gr.Markdown(tr("Step 2a: Cut all recordings of the folder, of one speaker, into slices."))
            with gr.Row():
                self.recordings = gr.Textbox(label=rvc("输入训练文件夹路径"), value=self.defaults.get("recordings", ""))
                self.process = gr.Button(rvc("处理数据"), variant="primary")
                self.info1 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=8, interactive=False)
        with gr.Group():
            gr.Markdown(tr("Step 2b: Extract pitch (if the model has pitch) and features."))
            with gr.Row():
                self.f0_method = gr.Radio(label=rvc("选择音高提取算法"), choices=self.f0_methods, value=self._default_f0(), interactive=True)
                self.extract = gr.Button(rvc("特征提取"), variant="primary")
                self.info2 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=8, interactive=False)
        with gr.Group():
            gr.Markdown(tr("Step 3: Fill in the training settings, then train the adapter and the index."))
            with gr.Row():
                self.preset = gr.Radio(label=tr("Preset (layers and ranks)"), choices=list(PRESETS), value=DEFAULT_PRESET,
                                       interactive=True)
                self.rank = gr.Slider(*LIMITS["rank"], step=1, label=tr("LoRA rank (0: the preset's)"), value=0,
                                      interactive=True)
                self.alpha = gr.Slider(*LIMITS["alpha"], step=1, label=tr(
                    "LoRA alpha (0: the preset's, twice the rank)"), value=0, interactive=True)
            with gr.Row():
                self.save_every = gr.Slider(*LIMITS["save_every"], step=1, label=rvc("保存频率save_every_epoch"), value=TrainConfig.save_every,
                                            interactive=True)
                self.epochs = gr.Slider(*LIMITS["epochs"], step=1, label=rvc("总训练轮数total_epoch"), value=TrainConfig.epochs,
                                        interactive=True)
                self.batch = gr.Slider(*LIMITS["batch_size"], step=1, label=rvc("每张显卡的batch_size"), value=TrainConfig.batch_size,
                                       interactive=True)
            generator, discriminator = self.folders.catalog.pretrained(version, rate, True)
            with gr.Row():
                self.base_g = gr.Dropdown(label=rvc("加载预训练底模G路径"), choices=self._bases(generator), value=generator, interactive=True)
                self.base_d = gr.Dropdown(label=rvc("加载预训练底模D路径") + tr(" (optional: slower)"),
                                          choices=self._base_ds(discriminator), value="", interactive=True)
                self.device = gr.Dropdown(label=tr("Device"), choices=self.devices, value="auto", interactive=True)
            with gr.Row():
                self.anew = gr.Checkbox(label=tr("Start anew (an earlier run is kept aside)"), value=False)
                self.train = gr.Button(rvc("训练模型"), variant="primary")
                self.index = gr.Button(rvc("训练特征索引"), variant="primary")
                self.all = gr.Button(rvc("一键训练"), variant="primary")
            self.info3 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=10, interactive=False)
        with gr.Group():
            self.progress = gr.HTML(elem_id="lora_progress", value=self._nothing())
            with gr.Row():
                self.stop = gr.Button(tr("Stop (saves, then ends)"), variant="stop", visible=False)
                self.resume = gr.Button(tr("Resume"), variant="primary", visible=False)
            self.curves = gr.HTML()
            with gr.Row():
                self.clips = [gr.Audio(label=tr("Held-out clip {n}", n=n), interactive=False) for n in (1, 2)]
            self.log = gr.Textbox(label=tr("Log"), lines=8, max_lines=12, interactive=False)
            self.asked = gr.Textbox(visible=False)  # of scripts alone: the status as JSON
        self.tick_button = gr.Button("", elem_id="lora_tick")
        self.ask = gr.Button("", visible=False)
        self.shown = gr.State({})

    def _rates(self, version: str) -> List[str]:
        own = [] if not self.folders.is_checkout else ["40k", "48k"] + ([] if version == "v1" else ["32k"])
        return own + [rate for rate in self.folders.catalog.rates(version) if rate not in own]

    def _default_rate(self, version: str) -> str:
        rates = self._rates(version)
        there = [rate for rate in rates if self.folders.catalog.pretrained(version, rate, True)[0]]
        return there[0] if there else rates[0] if rates else "40k"

    def _default_f0(self) -> str:
        there = any(self.folders.root.glob("assets/rmvpe/rmvpe.pt"))
        return "rmvpe" if there and "rmvpe" in self.f0_methods else "pm"

    def _bases(self, chosen: str) -> List[str]:
        found = self.folders.catalog.trainable()
        return found if chosen in found or not chosen else [chosen, *found]

    def _base_ds(self, fitting: str) -> List[str]:
        """None, the one that fits the base G, and all others."""
        return ["", *filter(None, [fitting]), *(name for name in self.folders.catalog.discriminators() if name != fitting)]

    def _nothing(self) -> str:
        text = self.tr("No training yet under this name.")
        return f'<div class="lora-line">{text}</div>'

    # Events

    def events(self) -> None:
        self.form = [self.name, self.rate, self.version, self.f0, self.base_g, self.base_d, self.preset, self.rank, self.alpha, self.epochs,
                     self.batch, self.save_every, self.device]  # in the order of RunSettings
        steps = [self.recordings, self.f0_method, self.anew, *self.form]
        bases = [self.rate, self.version, self.f0, self.base_d]
        for component in (self.rate, self.f0):
            component.change(lambda *chosen: self.choose_bases(*chosen)[:2], bases, [self.base_g, self.base_d], queue=False)
        self.version.change(self.choose_bases, bases, [self.base_g, self.base_d, self.rate], queue=False)
        self.f0.change(lambda f0: gr.update(visible=bool(f0)), [self.f0], [self.f0_method], queue=False)
        for button, names, info in ((self.process, ("preprocess",), self.info1), (self.extract, ("extract",), self.info2),
                                    (self.index, ("index",), self.info3), (self.all, ("preprocess", "extract", "index", "train"), self.info3)):
            button.click(self._preparing(names), steps, [info], queue=False)
        self.train.click(self.start, [*self.form, self.anew], [self.info3], api_name="lora_train_start", queue=False)
        self.stop.click(self.halt, [self.name], [self.info3], api_name="lora_train_stop", queue=False)
        self.resume.click(self.go_on, [self.name, self.epochs], [self.info3], api_name="lora_train_resume", queue=False)
        self.ask.click(self.report, [self.name], [self.asked], api_name="lora_train_status", queue=False)
        self.view = [self.info1, self.info2, self.info3, self.progress, self.curves, *self.clips, self.log, self.stop, self.resume]
        lists, self.refresh_lists = _adapter_lists(self.namespace)
        self.lists = lists
        self.tick_button.click(self.tick, [self.name, self.shown], [*self.view, *lists, self.shown], show_progress=False, queue=False)
        page = Context.root_block
        page.load(self.opened, None, [*self.form, self.recordings], queue=False)
        page.load(fn=None, inputs=None, outputs=None, _js=TICK)

    def _told(self, action: Callable[[], str]) -> str:
        """What `action` returns, or why it could not be done."""
        try:
            return action()
        except Exception as error:  # whatever it is, the page says it
            if not isinstance(error, (UserError, OSError)):
                traceback.print_exc()
            return told(error, self.tr)

    def choose_bases(self, rate: Any, version: Any, f0: Any, base_d: Any = "") -> Tuple[Any, Any, Any]:
        """G, D and sample rate for what is chosen now; D follows where there is one, and is none where none was wanted.

        What is no rate and no version, as a script may send it, counts as not chosen.
        """
        version = "v1" if version == "v1" else "v2"
        rates = self._rates(version)
        rate = rate if rate in rates else self._default_rate(version)
        generator, discriminator = self.folders.catalog.pretrained(version, rate, bool(f0))
        wanted = discriminator if base_d else ""
        return (gr.update(choices=self._bases(generator), value=generator), gr.update(choices=self._base_ds(discriminator), value=wanted),
                gr.update(choices=rates, value=rate))

    def _preparing(self, names: Sequence[str]) -> Callable[..., str]:
        def begin(recordings: Any, f0_method: Any, anew: Any, *form: Any) -> str:
            def action() -> str:
                method = entries.one_of(f0_method, ("the pitch extraction algorithm", "音高提取算法"), self.f0_methods)
                self.preparer.begin(names, RunSettings(*form), recordings, method, entries.flag(anew, START_ANEW))
                return self.tr("started")

            return self._told(action)

        return begin

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
                return self.tr("going on with the preparation of {experiment}", experiment=experiment)
            wanted = None if epochs is None else entries.whole(epochs, WORDS["epochs"], 0, LIMITS["epochs"][1])
            status = self.runs.resume(experiment, wanted or None)
            return self.tr("going on with {status_name}", status_name=status.name)

        return self._told(action)

    def report(self, name: Any) -> str:
        """The status of `name` as JSON, for scripts."""
        try:
            status = self.runs.status(name)
            undone = self.preparer.undone(status.name)[0].get("steps", [])
            return json.dumps({**status.to_dict(), "preparing": self._preparing_now(status.name), "undone": undone}, ensure_ascii=False)
        except (UserError, OSError) as error:
            return json.dumps({"state": "error", "message": told(error, self.tr)}, ensure_ascii=False)

    def _preparing_now(self, name: str) -> str:
        job = self.preparer.current
        return job.step if job is not None and job.name == name else ""

    def opened(self) -> List[Any]:
        """The form as the page opens: that of the run or the preparation that goes on, or was cut off, if there is one."""
        going, job = self.runs.going_on(), self.preparer.current
        cut_off = self.preparer.undone()[0]
        if going:
            asked, recordings = self.runs.settings(going[0]), gr.update()
        elif job is not None and job.active:
            asked, recordings = asdict(job.settings), gr.update(value=job.recordings)
        else:
            asked, recordings = cut_off.get("settings"), gr.update(value=str(cut_off.get("recordings"))) if cut_off else gr.update()
        try:
            asked = asdict(RunSettings.read(asked))
        except UserError:  # nothing goes on, or its settings cannot be read
            return [gr.update() for _ in (*self.form, recordings)]
        return [*(self._filled(key, value) for key, value in asked.items()), recordings]

    def _filled(self, key: str, value: Any) -> Any:
        if key == "sample_rate":
            known = self._rates("v2")  # new choices make Gradio 3.14 forget the value: only where they are needed
            return gr.update(value=value) if value in known else gr.update(choices=[*known, value], value=value)
        return gr.update(choices=self._bases(value), value=value) if key == "base_g" else gr.update(value=value)

    # The view

    def tick(self, name: Any, shown: Any) -> List[Any]:
        """What has changed since the page was last told; `shown` is what it was told."""
        before = shown if isinstance(shown, dict) else {}
        try:
            status = self.runs.status(name)
        except (UserError, OSError):
            status = Status("")
        now: Dict[str, Any] = {**self._values(status), "adapter": _stamp(status.adapter)}
        updates = [gr.update() if key in before and before[key] == value else self._update(key, value, status)
                   for key, value in now.items() if key != "adapter"]
        lists = [gr.update() for _ in self.lists]
        if now["adapter"] != before.get("adapter") and (before.get("adapter") is not None or now["adapter"]):
            lists = self.refresh_lists()
        return [*updates, *lists, now]

    def _values(self, status: Status) -> Dict[str, Any]:
        """What the view's components are to show, in the order of `self.view`."""
        job = self.preparer.current
        texts = self._step_texts(status)
        reader = self.runs.curves(status.name) if status.state != "none" else None
        clips = [*status.samples, "", ""][:2]
        busy = status.active or (job is not None and job.active and job.name == status.name)
        record, going = self.preparer.undone(status.name)
        cut_off = "" if busy or not record else curves.cut_off([self.rvc(STEP_WORDS[step]) for step in record["steps"]], going, self.tr)
        return {
            **texts, "progress": cut_off + curves.progress(status, self.tr) or self._nothing(),
            "curves": curves.charts(reader, status.base, self.tr) if reader else "", "clip1": clips[0], "clip2": clips[1],
            "log": fields_for_options("\n".join(status.log), self.tr), "stop": busy,
            "resume": (status.resumable or bool(cut_off) and not going) and not busy,
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
            lines.append(f"{self.rvc(STEP_WORDS[step])}: {state}")
        return "\n".join(lines)

    def _update(self, key: str, value: Any, status: Status) -> Any:
        if value is None:
            return gr.update()
        if key in ("stop", "resume"):  # a button that does nothing is not there: Gradio 3.14 cannot switch one off
            return gr.update(visible=bool(value))
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
