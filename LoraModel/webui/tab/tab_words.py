"""Words of the Train tab: RVC's own for what RVC's Train tab has too."""

from __future__ import annotations

from typing import Any, Dict

from ...messages import Text
from ..text import Tr

RVC_WORDS: Dict[str, Text] = {
    "输入实验名": Text("Enter the experiment name:"),
    "目标采样率": Text("Target sample rate:"),
    "版本": Text("Version"),
    "模型是否带音高指导(唱歌一定要, 语音可以不要)":
        Text("Whether the model has pitch guidance (required for singing, optional for speech):"),
    "输入训练文件夹路径": Text("Enter the path of the training folder:"),
    "处理数据": Text("Process data"),
    "输出信息": Text("Output information"),
    "特征提取": Text("Feature extraction"),
    "选择音高提取算法": Text("Select the pitch extraction algorithm"),
    "保存频率save_every_epoch": Text("Save frequency (save_every_epoch):"),
    "总训练轮数total_epoch": Text("Total training epochs (total_epoch):"),
    "每张显卡的batch_size": Text("Batch size per GPU:"),
    "加载预训练底模G路径": Text("Load pre-trained base model G path:"),
    "加载预训练底模D路径": Text("Load pre-trained base model D path:"),
    "训练模型": Text("Train model"),
    "训练特征索引": Text("Train feature index"),
    "一键训练": Text("One-click training"),
}
"""The words of RVC's Train tab, for where its own translation lacks them."""
START_ANEW = Text("Start anew")

STEP_WORDS = {"preprocess": "处理数据", "extract": "特征提取", "index": "训练特征索引", "train": "训练模型"}
"""RVC's word for each step of the preparation."""


def rvc_word(namespace: Dict[str, Any], tr: Tr, key: str) -> str:
    """RVC's own word for `key` (Chinese, as in its script), in the page's language."""
    i18n = namespace.get("i18n")
    word = str(i18n(key)) if callable(i18n) else key
    return tr(RVC_WORDS.get(key, key)) if word == key else word
