"""Small stand-ins for RVC checkouts: `make("classic", folder)` and `make("2026", folder)`.

A stand-in has the shape that the installer and the web page rely on, written for this project: the two WebUI scripts'
layout of `gr.Blocks` / `gr.Tabs` / `sid0`, `VC.get_vc` and `vc_single`, the folders, `i18n`, and the networks, which
come from the package `rvc` by way of one-line modules. Its features are folded spectra, not HuBERT's, and its pitch is
200 Hz throughout. The page runs under Gradio 3.34.0: `python infer-web.py --port 7865` (classic),
`python webui.py --port 7865` (2026), from the folder.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

from LoraModel.host.layouts import CHECKOUTS

SCRIPT = {layout.name: layout.webui_script for layout in CHECKOUTS}

_SHIMS = {
    "classic": {"infer/lib/infer_pack/models": "infer_pack.models",
                "infer/lib/infer_pack/commons": "infer_pack.commons",
                "infer/lib/train/data_utils": "train.data_utils",
                "infer/lib/train/mel_processing": "train.mel_processing", "infer/lib/train/losses": "train.losses"},
    "2026": {"infer/module/models": "infer_pack.models", "infer/module/commons": "infer_pack.commons",
             "train/data_utils": "train.data_utils", "train/mel_processing": "train.mel_processing",
             "train/losses": "train.losses"},
}
_VC = {"classic": ("infer/modules/vc/modules", "infer.lib.infer_pack.models"),
       "2026": ("infer/vc/modules", "infer.module.models")}
_READS = {"classic": "", "2026": "            previous = self.net_g  # 2026 reads it first\n"}

_CONFIG = '''import argparse


class Config:
    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--port", type=int, default=7865)
        parser.add_argument("--noautoopen", action="store_true")
        options, _ = parser.parse_known_args()
        self.listen_port, self.noautoopen, self.iscolab = options.port, options.noautoopen, False
        self.device, self.is_half, self.dml = "cpu", False, False
'''

_I18N = '''import json
import locale
import os


class I18nAuto:
    def __init__(self, language=None):
        self.language = language or os.environ.get("STANDIN_LANGUAGE") or locale.getlocale()[0] or "en_US"
        path = "./i18n/locale/%s.json" % self.language
        if not os.path.exists(path):
            self.language, path = "en_US", "./i18n/locale/en_US.json"
        with open(path, encoding="utf-8") as file:
            self.language_map = json.load(file)

    def __call__(self, key):
        return self.language_map.get(key, key)
'''
_ENGLISH = {"模型推理": "Model Inference", "推理音色": "Inferencing voice:", "刷新音色列表": "Refresh voice list",
            "卸载音色省显存": "Unload voice",
            "请选择说话人id": "Select Speaker/Singer ID", "单次推理": "Single Inference", "批量推理": "Batch Inference",
            "转换": "Convert", "输入待处理音频文件夹路径(去文件管理器地址栏拷就行了)":
                "Enter the path of the audio folder to be processed (copy it from the address bar of the file "
            "manager):", "指定输出文件夹": "Specify output folder:", "训练": "Train", "常见问题解答": "FAQ"}

_VC_MODULE = '''import os

import numpy as np
import soundfile
import torch

from {models} import (
    SynthesizerTrnMs256NSFsid,
    SynthesizerTrnMs256NSFsid_nono,
    SynthesizerTrnMs768NSFsid,
    SynthesizerTrnMs768NSFsid_nono,
)

CLASSES = {{
    ("v1", 1): SynthesizerTrnMs256NSFsid,
    ("v1", 0): SynthesizerTrnMs256NSFsid_nono,
    ("v2", 1): SynthesizerTrnMs768NSFsid,
    ("v2", 0): SynthesizerTrnMs768NSFsid_nono,
}}


class VC:
    def __init__(self, config):
        self.config = config
        self.n_spk = self.tgt_sr = self.net_g = self.pipeline = self.cpt = self.version = self.if_f0 = self.hubert_model = None

    def get_vc(self, sid, *protect):
        if not sid:
            if self.hubert_model is not None:  # as RVC does, which leaves two attributes missing
                self.net_g = self.n_spk = self.hubert_model = self.tgt_sr = None
                self.if_f0, self.version = self.cpt.get("f0", 1), self.cpt.get("version", "v1")
                del self.net_g, self.cpt
            answer = {{"visible": False, "__type__": "update"}}
        else:
{reads}            self.cpt = torch.load("%s/%s" % (os.getenv("weight_root"), sid), map_location="cpu")
            self.cpt["config"][-3] = self.n_spk = self.cpt["weight"]["emb_g.weight"].shape[0]
            self.tgt_sr, self.if_f0, self.version = self.cpt["config"][-1], self.cpt.get("f0", 1), self.cpt.get("version", "v1")
            self.net_g = CLASSES[self.version, self.if_f0](*self.cpt["config"], is_half=False)
            del self.net_g.enc_q
            self.net_g.load_state_dict(self.cpt["weight"], strict=False)
            self.net_g.eval().float()
            answer = {{"visible": True, "maximum": self.n_spk, "__type__": "update"}}
        index = {{"value": "", "__type__": "update"}}
        return (answer, *({{"value": one, "__type__": "update"}} for one in protect), *([index] * len(protect)))

    def vc_single(self, sid, input_audio_path, f0_up_key, *rest):
        if not input_audio_path:
            return "no recording", (None, None)
        self.hubert_model = self.hubert_model or "loaded by the first conversion"
        if getattr(self, "net_g", None) is None:
            return "no voice", (None, None)
        audio, rate = soundfile.read(input_audio_path, dtype="float32", always_2d=True)
        size = 768 if self.version == "v2" else 256
        frames = max(8, len(audio) * 100 // rate)
        window, hop = np.hanning(2 * size), max(1, (len(audio) - 2 * size) // frames)
        pieces = [np.resize(audio[start * hop:start * hop + 2 * size, 0], 2 * size) * window for start in range(frames)]
        phone = torch.from_numpy(np.log1p(np.abs(np.fft.rfft(pieces)))[None, :, :size]).float()
        given = [phone, torch.tensor([frames])]
        if self.if_f0:
            given += [torch.full((1, frames), 100), torch.full((1, frames), 200 * 2 ** (float(f0_up_key or 0) / 12))]
        with torch.no_grad():
            sound = self.net_g.infer(*given, torch.tensor([int(sid or 0)]))[0][0, 0]
        return "Success.", (self.tgt_sr, (sound.clamp(-1, 1) * 32767).short().numpy())

    def vc_multi(self, sid, dir_path, opt_root, *rest):
        os.makedirs(opt_root, exist_ok=True)
        for name in sorted(os.listdir(dir_path)):
            info, (rate, sound) = self.vc_single(sid, os.path.join(dir_path, name), *rest)
            if sound is not None:
                soundfile.write(os.path.join(opt_root, name + ".wav"), sound, rate)
            yield name + "->" + info
'''  # noqa: E501

_HEAD = '''import os
import sys

now_dir = os.getcwd()
sys.path.append(now_dir)
os.environ.setdefault("weight_root", "assets/weights")
os.environ.setdefault("index_root", "logs")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
from {vc} import VC
from i18n.i18n import I18nAuto
from configs.config import Config
import gradio as gr

os.makedirs("logs", exist_ok=True)

config = Config()
vc = VC(config)


i18n = I18nAuto()
weight_root = os.getenv("weight_root")


def change_choices():
    return {{"choices": sorted(n for n in os.listdir(weight_root) if n.endswith(".pth")), "__type__": "update"}}


def clean():
    return {{"value": "", "__type__": "update"}}


names = change_choices()["choices"]
'''

_PAGE = '''
with gr.Blocks(title="RVC WebUI"{css}) as app:
    gr.Markdown("## RVC WebUI")
    with gr.Tabs():
        with gr.TabItem(i18n("模型推理")):
            with gr.Row():
                sid0 = gr.Dropdown(label=i18n("推理音色"), choices=sorted(names))
                with gr.Column():
                    refresh_button = gr.Button(i18n("刷新音色列表"), variant="primary")
                    clean_button = gr.Button(i18n("卸载音色省显存"), variant="primary")
                spk_item = gr.Slider(minimum=0, maximum=2333, step=1, label=i18n("请选择说话人id"), value=0, visible=False, interactive=True)
                clean_button.click(
                    fn=clean, inputs=[], outputs=[sid0], api_name="infer_clean"
                )
            with gr.TabItem(i18n("单次推理")):
                with gr.Row():
                    input_audio0 = gr.Textbox(label="audio")
                    vc_transform0 = gr.Number(label="pitch", value=0)
                    protect0 = gr.Slider(minimum=0, maximum=0.5, value=0.33, label="protect", interactive=True)
{first_index}
                    refresh_button.click(fn=change_choices, inputs=[], outputs=sid0, api_name="infer_refresh")
                but0 = gr.Button(i18n("转换"), variant="primary")
                vc_output1 = gr.Textbox(label="info")
                vc_output2 = gr.Audio(label="output")
                but0.click(
                    vc.vc_single,
                    [spk_item, input_audio0, vc_transform0, file_index1, protect0],
                    [vc_output1, vc_output2],
                    api_name="infer_convert",
                )
            with gr.TabItem(i18n("批量推理")):
                protect1 = gr.Slider(minimum=0, maximum=0.5, value=0.33, label="protect", interactive=True)
{second_index}
                dir_input = gr.Textbox(label=i18n("输入待处理音频文件夹路径(去文件管理器地址栏拷就行了)"))
                opt_input = gr.Textbox(label=i18n("指定输出文件夹"), value="opt")
                but1 = gr.Button(i18n("转换"), variant="primary")
                vc_output3 = gr.Textbox(label="info")
                but1.click(
                    vc.vc_multi,
                    [spk_item, dir_input, opt_input, vc_transform0, protect1],
                    [vc_output3],
                    api_name="infer_convert_batch",
                )
                sid0.change(
                    fn=vc.get_vc,
                    inputs=[sid0, protect0, protect1],
                    outputs=[spk_item, protect0, protect1, {indices}],
                    api_name="infer_change_voice",
                )
        with gr.TabItem(i18n("训练")):
            exp_dir1 = gr.Textbox(label="experiment", value="mi-test")

        tab_faq = i18n("常见问题解答")
        with gr.TabItem(tab_faq):
            try:
                gr.Markdown(value=open("docs/faq.md", encoding="utf8").read())
            except:
                gr.Markdown("no FAQ")

    if config.iscolab:
        app.queue(concurrency_count=511, max_size=1022).launch(share=True)
    else:
        app.queue(concurrency_count=511, max_size=1022).launch(
            server_name="127.0.0.1", inbrowser=not config.noautoopen, server_port=config.listen_port, quiet=True
        )
'''  # noqa: E501


def webui_script(layout: str) -> str:
    """The text of the stand-in's WebUI script: classic has two index widgets a page (a text box and a list), 2026 has
    one."""
    def indices(*names: str) -> str:
        return "\n".join(f'{" " * 20}{name} = gr.Textbox(label="{name}", interactive=True)' for name in names)

    classic = layout == "classic"
    page = _PAGE.format(css="" if classic else ', css=".train {}"',
                        first_index=indices(*(["file_index1", "file_index2"] if classic else ["file_index1"])),
                        second_index=indices(*(["file_index3", "file_index4"] if classic else ["file_index3"])).replace(
                            " " * 20, " " * 16),
                        indices="file_index2, file_index4" if classic else "file_index1, file_index3")
    return _HEAD.format(vc=_VC[layout][0].replace("/", ".")) + "\n" + page


def make(layout: str, root: Path) -> Path:
    """Write a stand-in checkout ("classic" or "2026") into the folder `root`; return it."""
    def put(name: str, text: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("utf-8"))

    for module, of_rvc in _SHIMS[layout].items():
        put(module + ".py", f"from rvc.lib.{of_rvc} import *\n")
    module, models = _VC[layout]
    put(module + ".py", _VC_MODULE.format(models=models, reads=_READS[layout]))
    put("configs/config.py", _CONFIG)
    put("i18n/i18n.py", _I18N)
    put("i18n/locale/en_US.json", json.dumps(_ENGLISH, ensure_ascii=False))
    put("i18n/locale/zh_CN.json", json.dumps({key: key for key in _ENGLISH}, ensure_ascii=False))
    put("docs/faq.md", "# FAQ\n")
    put("assets/weights/.gitignore", "*\n!.gitignore\n")
    put(".gitignore", "__pycache__\n/logs\n" if layout == "classic" else "/logs\n")
    put(SCRIPT[layout], webui_script(layout))
    library = importlib.util.find_spec("rvc")
    if library is not None:
        for version in ("v1", "v2"):
            shutil.copytree(str(Path(list(library.submodule_search_locations)[0]) / "configs" / version),
                            str(root / "configs" / version))
    return root
