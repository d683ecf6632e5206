"""`--transpose auto`: the source's pitch is measured, and shifted by whole semitones to that of the voice, which its
adapter tells."""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

import numpy as np

from .. import commands
from ..lora.voice_pitch import VoicePitch, pitch_of, semitones_between
from ..messages import tr
from .model_loader import VoiceLoader

AUTO = "auto"
PIECES, PIECE = 12, 10
"""Of a recording longer than both together (seconds) so many pieces of so many seconds are measured, from its
beginning to its end."""


class Transposition(NamedTuple):
    """How far to transpose, in semitones, and why in one sentence of each language; "" where there is nothing to
    say."""

    semitones: float
    en: str = ""
    zh: str = ""

    @property
    def words(self) -> str:
        return tr(self.en, self.zh)


def parse_transpose(text: str) -> Union[float, str]:
    """The type of --transpose: "auto", or semitones from -48 to 48.

    Raises:
        UserError: neither.
    """
    return AUTO if text.strip().lower() == AUTO else commands.parse_number(text, -48, 48)


def pitch_of_recording(audio: np.ndarray) -> Optional[VoicePitch]:
    """The pitch of a recording, by Praat's autocorrelation. audio: (samples,) at 16 kHz, full scale 1.

    Returns:
        None where hardly a frame of it is voiced.
    """
    from . import stand_in

    rate, piece = stand_in.SAMPLE_RATE, len(audio)
    starts = [0]
    if len(audio) > PIECES * PIECE * rate:
        piece = PIECE * rate
        starts = np.linspace(0, len(audio) - piece, PIECES).astype(int).tolist()
    return pitch_of(np.concatenate([stand_in.pitch(audio[start:start + piece], piece // stand_in.PITCH_HOP)
                                    for start in starts]))


def choose_transposition(loader: VoiceLoader, audio: np.ndarray) -> Transposition:
    """How far to transpose a recording so that it lies where the voice lies that is applied.

    Args:
        audio: the recording, (samples,) at 16 kHz.
    """
    if not loader.info.f0:
        return Transposition(0)
    voice = loader.pitch
    if voice is None:
        why = (("this voice's file does not tell how high it speaks", "该声音的文件没有记录音高") if loader.applied
               else ("this model does not tell how high it speaks", "该模型没有记录音高"))
        return Transposition(0, f"note: {why[0]}: nothing is transposed; give --transpose, such as 12 from a man's "
                             f"voice to a woman's, -12 back",
                             f"提示：{why[1]}，不变调；可用 --transpose 指定，如男声转女声 12，女声转男声 -12")
    try:
        source = pitch_of_recording(audio)
    except ImportError:
        return Transposition(0, "note: the package praat-parselmouth, which measures pitch, is not installed: nothing "
                             "is transposed", "提示：未安装用于测量音高的 praat-parselmouth，不变调")
    if source is None:
        return Transposition(0, "note: hardly a sound of the recording has a pitch: nothing is transposed",
                             "提示：录音中几乎没有可测的音高，不变调")
    chosen = semitones_between(source, voice)
    return Transposition(chosen, f"transpose {chosen:+d}: the recording speaks at {source.median:.0f} Hz, the voice at "
                         f"{voice.median:.0f} Hz",
                         f"变调 {chosen:+d}：录音音高约 {source.median:.0f} Hz，声音约 {voice.median:.0f} Hz")
