"""Words of the Train tab: RVC's own for what RVC's Train tab has too."""

from __future__ import annotations

from typing import Any, Dict

from .text import Tr

RVC_WORDS = {
    "输入实验名": "Enter the experiment name:", "目标采样率": "Target sample rate:", "版本": "Version",
    "模型是否带音高指导(唱歌一定要, 语音可以不要)": "Whether the model has pitch guidance (required for singing, "
    "optional for speech):",
    "输入训练文件夹路径": "Enter the path of the training folder:", "处理数据": "Process data",
    "输出信息": "Output information",
    "特征提取": "Feature extraction", "选择音高提取算法": "Select the pitch extraction algorithm",
    "保存频率save_every_epoch": "Save frequency (save_every_epoch):", "总训练轮数total_epoch": "Total training epochs "
    "(total_epoch):",
    "每张显卡的batch_size": "Batch size per GPU:", "加载预训练底模G路径": "Load pre-trained base model G path:",
    "加载预训练底模D路径": "Load pre-trained base model D path:", "训练模型": "Train model",
    "训练特征索引": "Train feature index", "一键训练": "One-click training",
}
"""The words of RVC's Train tab, for where its own translation lacks them."""
START_ANEW = ("Start anew", "“重新开始”")

STEP_WORDS = {"preprocess": "处理数据", "extract": "特征提取", "index": "训练特征索引", "train": "训练模型"}
"""RVC's word for each step of the preparation."""


def rvc_word(namespace: Dict[str, Any], tr: Tr, key: str) -> str:
    """RVC's own word for `key` (Chinese, as in its script), in the page's language."""
    i18n = namespace.get("i18n")
    said = str(i18n(key)) if callable(i18n) else key
    return tr(RVC_WORDS.get(key, key), key) if said == key else said
