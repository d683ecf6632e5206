"""The form of the Train tab: experiment, recordings and settings, with what follows from a choice in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, Tuple

import gradio as gr
import torch

from ...host import Host
from ...messages import UserError
from ...models import DEFAULT_PRESET, PRESETS
from ...training.config import TrainConfig
from ..folders import Folders
from ..help_texts import Help
from ..runs.run_settings import LIMITS, RunSettings
from ..text import Tr
from .tab_words import rvc_word


class Form:
    """The controls, and the buttons beside them.

    Attributes:
        fields: the controls of a run's settings, in the order of RunSettings.
    """

    def __init__(self, namespace: Dict[str, Any], folders: Folders, host: Host, tr: Tr):
        self.namespace, self.folders, self.tr = namespace, folders, tr
        self.f0_methods = [*host.layout.f0_training, *(host.layout.f0_training_cuda if namespace.get("gpus") else ())]
        self.devices = ["auto", "cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        self.defaults: Dict[str, Any] = namespace.get("rvc_lora_defaults") or {}

    # Components

    def components(self) -> None:
        tr, info = self.tr, Help(self.tr)

        def rvc(key: str) -> str:
            return rvc_word(self.namespace, tr, key)

        gr.Markdown(tr("Step 1: Fill in the experiment. Its data are in the folder logs, a folder for each "
                       "experiment; data that RVC's own Train tab has prepared under the same name can be trained at "
                       "once."))
        rate, version = self._default_rate("v2"), "v2"
        with gr.Row():
            self.name = gr.Textbox(**info("name", rvc("输入实验名")), value=self.defaults.get("name", "mi-test"))
            self.experiments = gr.Dropdown(**info("experiments", tr("Trained so far")), choices=self.folders.names(),
                                           interactive=True)
        with gr.Row():
            self.rate = gr.Radio(**info("rate", rvc("目标采样率")), choices=self._rates(version), value=rate,
                                 interactive=True)
            self.f0 = gr.Radio(**info("f0", rvc("模型是否带音高指导(唱歌一定要, 语音可以不要)")),
                               choices=[True, False], value=True, interactive=True)
            self.version = gr.Radio(**info("version", rvc("版本")), choices=["v1", "v2"], value=version,
                                    interactive=True)
        with gr.Group():
            gr.Markdown(tr("Step 2a: Cut all recordings of the folder, of one speaker, into slices."))
            with gr.Row():
                self.recordings = gr.Textbox(**info("recordings", rvc("输入训练文件夹路径")),
                                             value=self.defaults.get("recordings", ""))
                self.dropped = gr.File(label=tr("Or drop the recordings here"), file_count="multiple", interactive=True)
            with gr.Row():
                self.process = gr.Button(rvc("处理数据"), variant="primary")
                self.check = gr.Button(tr("Look at the recordings first (nothing is changed)"))
                self.info1 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=8, interactive=False)
            self.findings = gr.HTML("")
        with gr.Group():
            gr.Markdown(tr("Step 2b: Extract pitch (if the model has pitch) and features."))
            with gr.Row():
                self.f0_method = gr.Radio(**info("f0_method", rvc("选择音高提取算法")), choices=self.f0_methods,
                                          value=self._default_f0(), interactive=True)
                self.extract = gr.Button(rvc("特征提取"), variant="primary")
                self.info2 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=8, interactive=False)
        with gr.Group():
            gr.Markdown(tr("Step 3: Fill in the training settings, then train the adapter and the index."))
            self._settings(info, rvc, version, rate)
            self.forecast = gr.HTML(elem_id="lora_forecast")
            with gr.Row():
                self.anew = gr.Checkbox(**info("anew", tr("Start anew (an earlier run is kept aside)")),
                                        value=False)
                self.train = gr.Button(rvc("训练模型"), variant="primary")
                self.index = gr.Button(rvc("训练特征索引"), variant="primary")
                self.all = gr.Button(rvc("一键训练"), variant="primary")
            self.info3 = gr.Textbox(label=rvc("输出信息"), value="", max_lines=10, interactive=False)
        info.fold()
        self.fields = [self.name, self.rate, self.version, self.f0, self.base_g, self.base_d, self.preset, self.rank,
                       self.alpha, self.epochs, self.batch, self.save_every, self.device]

    def _settings(self, info: Help, rvc: Any, version: str, rate: str) -> None:
        tr = self.tr
        with gr.Row():
            self.preset = gr.Radio(**info("preset", tr("Preset (layers and ranks)")), choices=list(PRESETS),
                                   value=DEFAULT_PRESET, interactive=True)
            self.rank = gr.Slider(*LIMITS["rank"], step=1, **info("rank", tr("LoRA rank (0: the preset's)")),
                                  value=0, interactive=True)
            self.alpha = gr.Slider(*LIMITS["alpha"], step=1, **info("alpha", tr(
                "LoRA alpha (0: the preset's, twice the rank)")), value=0, interactive=True)
        with gr.Row():
            self.save_every = gr.Slider(*LIMITS["save_every"], step=1,
                                        **info("save_every", rvc("保存频率save_every_epoch")),
                                        value=TrainConfig.save_every, interactive=True)
            self.epochs = gr.Slider(*LIMITS["epochs"], step=1, **info("epochs", rvc("总训练轮数total_epoch")),
                                    value=RunSettings.epochs, interactive=True)
            self.batch = gr.Slider(*LIMITS["batch_size"], step=1, **info("batch", rvc("每张显卡的batch_size")),
                                   value=TrainConfig.batch_size, interactive=True)
        generator, discriminator = self.folders.catalog.pretrained(version, rate, True)
        with gr.Row():
            self.base_g = gr.Dropdown(**info("base_g", rvc("加载预训练底模G路径")), choices=self._bases(generator),
                                      value=generator, interactive=True)
            self.base_d = gr.Dropdown(**info("base_d", rvc("加载预训练底模D路径") + tr(" (optional: slower)")),
                                      choices=self._base_ds(discriminator), value="", interactive=True)
            self.device = gr.Dropdown(**info("device", tr("Device")), choices=self.devices, value="auto",
                                      interactive=True)

    # What there is to choose

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
        others = [name for name in self.folders.catalog.discriminators() if name != fitting]
        return ["", *filter(None, [fitting]), *others]

    # What follows from a choice

    def events(self) -> None:
        bases = [self.rate, self.version, self.f0, self.base_d]
        for component in (self.rate, self.f0):
            component.change(lambda *chosen: self.choose_bases(*chosen)[:2], bases, [self.base_g, self.base_d],
                             queue=False)
        self.version.change(self.choose_bases, bases, [self.base_g, self.base_d, self.rate], queue=False)
        self.f0.change(lambda f0: gr.update(visible=bool(f0)), [self.f0], [self.f0_method], queue=False)

    def choose_bases(self, rate: Any, version: Any, f0: Any, base_d: Any = "") -> Tuple[Any, Any, Any]:
        """G, D and sample rate for what is chosen now; D follows where there is one, and is none where none was wanted.

        What is no rate and no version, as a script may send it, counts as not chosen.
        """
        version = "v1" if version == "v1" else "v2"
        rates = self._rates(version)
        rate = rate if rate in rates else self._default_rate(version)
        generator, discriminator = self.folders.catalog.pretrained(version, rate, bool(f0))
        wanted = discriminator if base_d else ""
        return (gr.update(choices=self._bases(generator), value=generator),
                gr.update(choices=self._base_ds(discriminator), value=wanted), gr.update(choices=rates, value=rate))

    def filled(self, asked: Any) -> List[Any]:
        """What fills `fields` with a run's settings as a file keeps them; no change where they are none."""
        try:
            settings = asdict(RunSettings.read(asked))
        except UserError:
            return [gr.update() for _ in self.fields]
        return [self._filled(key, value) for key, value in settings.items()]

    def _filled(self, key: str, value: Any) -> Any:
        if key == "sample_rate":
            known = self._rates("v2")  # new choices make Gradio 3.14 forget the value: only where they are needed
            return gr.update(value=value) if value in known else gr.update(choices=[*known, value], value=value)
        return gr.update(choices=self._bases(value), value=value) if key == "base_g" else gr.update(value=value)
