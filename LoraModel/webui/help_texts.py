"""What each control of our tab and panel is for, in a sentence or two beside it."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Tuple

import gradio as gr

from .text import Tr

HELP: Dict[str, Tuple[str, str]] = {
    # the Train tab
    "experiments": ("Choose one to see where it stands, to go on with it, or to fill in its settings again.",
                    "选择一个实验即可查看进度、继续训练，或重新填入其设置。"),
    "name": ("Names the folder in logs and the voice. A name that is in use goes on with its data.",
             "logs 中的文件夹与音色均用此名；使用已有名称会沿用其数据。"),
    "rate": ("That of the base. Recordings of any rate are converted to it.", "与底模一致；任何采样率的录音都会转换为该采样率。"),  # noqa: E501
    "f0": ("Leave it at True, except for a base that was trained without pitch.", "除非底模不含音高，否则请保持 True。"),  # noqa: E501
    "version": ("That of the base. v2 is the usual one.", "与底模一致，通常为 v2。"),
    "recordings": ("One person, no music, no other voices; five to ten minutes are plenty. Subfolders are searched, other files skipped.",  # noqa: E501
                   "只含一个人的声音，无背景音乐和他人声音；五到十分钟足够。会搜索子文件夹，其他文件自动跳过。"),
    "f0_method": ("rmvpe is the most reliable one where its model is there.", "若已有 rmvpe 模型，它最为可靠。"),
    "preset": ("How many layers are trained, and how large the file is: 221, 360 or 793 KB for a v2 base of 40k. balanced suits most voices.",  # noqa: E501
               "决定训练的层数与文件大小（v2 40k 底模分别为 221、360、793 KB）。多数声音用 balanced 即可。"),
    "rank": ("More learns finer detail and makes a larger file; a few minutes of recordings need no more than the preset.",  # noqa: E501
             "越大越能学到细节，文件也越大；几分钟的录音无需超过预设值。"),
    "alpha": ("How much each step of learning counts. Leave it at 0 unless you know that you want another.", "学习的幅度。不确定时保持 0。"),  # noqa: E501
    "save_every": ("In epochs. At each save the adapter is measured on clips kept out of training, and can be heard.",
                   "以轮为单位。每次保存时用留出片段评估适配器，并可试听。"),
    "epochs": ("How often all recordings are gone through. The best save is kept, so too many do no harm but take time.",  # noqa: E501
               "全部录音学习的遍数。程序保留最佳的一次保存，轮数过多只是更费时间。"),
    "batch": ("Clips in one step. Halve it where memory runs out.", "每步使用的片段数。内存或显存不足时减半。"),
    "base_g": ("What the adapter is trained on, and will be used with.", "适配器在它之上训练，也与它一起使用。"),
    "base_d": ("Adds RVC's adversarial losses: somewhat clearer, several times slower.", "加入 RVC 的对抗损失：更清晰一些，但慢数倍。"),  # noqa: E501
    "device": ("auto takes the GPU where there is one.", "auto：有显卡时使用显卡。"),
    "anew": ("Trains from the first step on. The earlier run is kept as lora.1, lora.2, …", "从第一步开始训练；先前的训练保留为 lora.1、lora.2……"),  # noqa: E501
    # listening
    "clip": ("Recordings that the training never hears: they tell what it has learned.", "训练从未用到的录音，用来检验学到了什么。"),  # noqa: E501
    "save": ("Drag back to hear how the voice was at earlier saves.", "向左拖动可试听较早保存的声音。"),
    # the list of experiments and adapters
    "entry": ("logs/NAME is an experiment with its data and its run, the others are adapters.",
              "logs/NAME 为实验（含数据与训练），其余为适配器。"),
    "rename": ("Of an experiment, the adapter in the list is renamed along with it.", "重命名实验时，列表中的适配器一并改名。"),  # noqa: E501
    # the inference panel
    "base": ("The large model that stays in memory. An adapter brings its own.", "常驻内存的大模型；选择适配器会自动切换到其底模。"),  # noqa: E501
    "adapter": ("The small file of one voice. A change takes effect with the next conversion.", "一个音色的小文件；更换后下一次转换即生效。"),  # noqa: E501
    "search": ("Leaves in the list what holds this text.", "列表中只留下包含该文字的适配器。"),
    "strength": ("1 is the voice as trained, 0 the base alone; above 1 exaggerates it.", "1 为训练所得音色，0 为仅底模，大于 1 会夸张。"),  # noqa: E501
    "merge": ("Writes what is loaded now as an ordinary RVC voice, for programs that know no adapters.",
              "将当前加载的内容写成普通的 RVC 音色，供不支持适配器的程序使用。"),
    "auto_pitch": ("Shifts a recording by whole semitones to where the LoRA voice speaks, and says by how many.",
                   "按整数半音把录音移到 LoRA 音色的音高，并说明移了多少。"),
    # the app's own page
    "voice": ("Whole voices, such as merged ones. For base and adapter use the panel below.", "完整音色（如合并所得）。底模与适配器请用下方面板。"),  # noqa: E501
    "speaker": ("0, unless the voice holds several people.", "除非音色含多人，否则为 0。"),
    "transpose": ("About 12 from a man to a woman, -12 the other way. At 0 the tick beside it chooses.", "男声转女声约 12，女声转男声约 -12；为 0 时由旁边的“自动”决定。"),  # noqa: E501
    "index": ("What the voice's own recordings sound like; it makes the result more alike.", "该声音自身录音的特征，使结果更相似。"),  # noqa: E501
    "index_rate": ("0 takes the source's features alone, 1 those of the index alone.", "0 只用源录音的特征，1 只用检索库的特征。"),  # noqa: E501
    "protect": ("Lower keeps more of the source's breath and voiceless sounds.", "越小则保留越多源录音的呼吸与清辅音。"),  # noqa: E501
}


class Help:
    """Gives controls their label and help text. Gradio 3.14 has no place for it beside them: `fold` puts all into one there."""  # noqa: E501

    def __init__(self, tr: Tr):
        self.tr = tr
        self.beside = "info" in inspect.signature(gr.Textbox.__init__).parameters
        self._said: List[str] = []

    def __call__(self, key: str, label: str) -> Dict[str, Any]:
        """The arguments `label` and, where it can be, `info` of a control."""
        text = self.tr(*HELP[key])
        self._said.append(f"- **{label}** {text}")
        return {"label": label, "info": text} if self.beside else {"label": label}

    def fold(self) -> None:
        """What there is no place for beside the controls, unfolded on demand."""
        if not self.beside:
            with gr.Accordion(self.tr("What the controls are for"), open=False):
                gr.Markdown("\n".join(self._said))
