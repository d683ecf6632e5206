"""The figures that tables and charts show: how each is called, which way is better, and what it means in one
sentence."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Figure(NamedTuple):
    """What is known of a figure.

    Attributes:
        en, zh: its name. unit: of what is shown. better: "lower", "higher", or "near": the nearer to `aim`.
        means_en, means_zh: one sentence on what it says and which way is better.
        factor, digits: for showing it.
    """

    en: str
    zh: str
    unit: str
    better: str
    means_en: str
    means_zh: str
    factor: float = 1.0
    digits: int = 3
    aim: float = 0.0

    def badness(self, value: float) -> float:
        """Lower is better, whichever way the figure itself goes."""
        return {"lower": value, "higher": -value, "near": abs(value - self.aim)}[self.better]

    @property
    def way(self) -> str:
        """For programs: "lower", "higher", "nearest 1", "nearest 0"."""
        return f"nearest {self.aim:g}" if self.better == "near" else self.better


FIGURES: Dict[str, Figure] = {
    "mel_l1": Figure(
        "log-mel L1",
        "对数梅尔 L1",
        "",
        "lower",
        "How far the spectrum is from the recording’s: lower is nearer, 0.69 is a factor of two in every band; it does "
        "not hear blur.", "频谱与录音的差距：越低越接近，0.69 相当于各频带相差一倍；它听不出模糊。",
    ),
    "mcd_db": Figure(
        "mel-cepstral distortion",
        "梅尔倒谱失真",
        "dB",
        "lower",
        "How far the spectrum’s envelope is from the recording’s, pauses and level left out: lower is nearer.",
        "频谱包络与录音的差距，不计停顿与响度：越低越接近。",
        1.0,
        2,
    ),
    "f0_rmse_cents": Figure(
        "pitch error",
        "音高误差",
        "cents",
        "lower",
        "How far the pitch is off where both are voiced: lower is better, 100 are a semitone.",
        "双方均为浊音处的音高偏差：越低越好，100 为一个半音。",
        1.0,
        0,
    ),
    "pitch_correlation": Figure(
        "pitch correlation",
        "音高相关",
        "",
        "higher",
        "Whether the melody follows the source’s, at whatever transposition: higher is better, 1 is the same melody.",
        "旋律是否跟随源录音（与变调无关）：越高越好，1 为旋律相同。",
    ),
    "voicing_error": Figure(
        "voicing error",
        "清浊音误判",
        "%",
        "lower",
        "The share of frames that are voiced in only one of the two; they agree on the rest: lower is better.",
        "只有一方为浊音的帧所占比例，其余帧一致：越低越好。",
        100.0,
        1,
    ),
    "word_error": Figure(
        "word error",
        "词错误率",
        "%",
        "lower",
        "The share of words that a speech recogniser no longer hears as they were said: lower is better.",
        "语音识别器未能正确听出的词所占比例：越低越好。",
        100.0,
        1,
    ),
    "content": Figure(
        "distance of content",
        "内容距离",
        "",
        "lower",
        "How far the content features (what is said) are from the source’s: lower keeps more of the words, 0 is the "
        "same.", "内容特征（所说的内容）与源的距离：越低，词句保留得越多，0 为相同。",
    ),
    "global_variance": Figure(
        "global variance",
        "全局方差",
        "",
        "near",
        "How much the bands move over time beside real recordings: 1 is as sharp, below 1 the voice is blurred.",
        "各频带随时间的变化幅度与真实录音之比：1 为同样清晰，小于 1 表示声音模糊。",
        aim=1.0,
    ),
    "frame_contrast": Figure(
        "frame contrast",
        "帧间对比",
        "",
        "near",
        "How much one frame differs from the next beside real recordings: 1 is as crisp, below 1 onsets are smeared.",
        "相邻帧的差异与真实录音之比：1 为同样干脆，小于 1 表示起音被抹平。",
        aim=1.0,
    ),
    "band_contrast": Figure(
        "band contrast",
        "频带对比",
        "",
        "near",
        "How much harmonics and formants stand out beside real recordings: 1 is as clear, below 1 the timbre is "
        "washed out.", "谐波与共振峰的突出程度与真实录音之比：1 为同样清楚，小于 1 表示音色发糊。",
        aim=1.0,
    ),
    "modulation_db": Figure(
        "modulation",
        "调制谱",
        "dB",
        "near",
        "How strongly the spectrum moves at 2 to 25 times a second beside real recordings: 0 is as lively, below 0 it "
        "is smoothed.", "频谱每秒 2 至 25 次的变化强度与真实录音之差：0 为同样生动，小于 0 表示被平滑。",
        1.0,
        2,
    ),
    "high_db": Figure(
        "energy above 4 kHz",
        "4 kHz 以上能量",
        "dB",
        "near",
        "How much of the energy lies above 4 kHz beside real recordings: 0 is as bright, below 0 it is duller, above 0 "
        "harsher.", "4 kHz 以上能量占比与真实录音之差：0 为同样明亮，小于 0 偏暗，大于 0 偏刺耳。",
        1.0,
        2,
    ),
    "hnr_db": Figure(
        "harmonics to noise",
        "谐噪比",
        "dB",
        "near",
        "Harmonics over noise in voiced sounds beside real recordings: 0 is as it should be, below 0 is hoarse, above "
        "0 buzzes.", "浊音中谐波与噪声之比与真实录音之差：0 为正常，小于 0 发沙，大于 0 有蜂鸣感。",
        1.0,
        2,
    ),
    "similarity": Figure(
        "similarity to the speaker",
        "与说话人的相似度",
        "",
        "higher",
        "How much it sounds like the speaker’s other recordings: higher is better.",
        "与该说话人其他录音的相似程度：越高越好。",
    ),
    "to_target": Figure(
        "similarity to the target",
        "与目标的相似度",
        "",
        "higher",
        "How much it sounds like the target’s recordings: higher is better.",
        "与目标录音的相似程度：越高越好。",
    ),
    "to_source": Figure(
        "similarity to the source",
        "与源的相似度",
        "",
        "lower",
        "How much it still sounds like the source speaker: lower is better.",
        "与源说话人的相似程度：越低越好。",
    ),
    "leak": Figure(
        "leak of the source speaker",
        "源说话人泄漏",
        "%",
        "lower",
        "How much of the source speaker is left: lower is better, 0% is no more like the source than the target is, "
        "100% is the source.", "源说话人残留的程度：越低越好，0% 表示不比目标本人更像源，100% 即为源本人。",
        100.0,
        1,
    ),
    "dnsmos": Figure(
        "DNSMOS",
        "DNSMOS",
        "",
        "higher",
        "How good it sounds to a network that rates speech from 1 to 5 without a reference: higher is better.",
        "由网络在无参考的情况下打 1 至 5 分的听感：越高越好。",
        1.0,
        2,
    ),
}
"""In the order in which they are shown; DNSMOS's parts stand in the JSON alone."""
