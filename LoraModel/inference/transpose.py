"""`--transpose auto`: the source's pitch is measured, and shifted by whole semitones to that of the voice, which its
adapter tells."""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

import numpy as np

from .. import commands
from ..lora.voice_pitch import VoicePitch, pitch_of, semitones_between
from ..messages import Text
from .model_loader import VoiceLoader

AUTO = "auto"
PIECES, PIECE = 12, 10
"""Of a recording longer than both together (seconds) so many pieces of so many seconds are measured, from its
beginning to its end."""


class Transposition(NamedTuple):
    """How far to transpose, in semitones, and why, in one sentence; None where there is nothing to say."""

    semitones: float
    reason: Optional[Text] = None

    @property
    def words(self) -> str:
        return str(self.reason or "")


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
        why = (Text("this voice's file has no record of its pitch") if loader.applied
               else Text("this model has no record of its voice's pitch"))
        return Transposition(0, Text("note: {why}: nothing is transposed; give --transpose, such as 12 from a man's "
                                     "voice to a woman's, -12 back", why=why))
    try:
        source = pitch_of_recording(audio)
    except ImportError:
        return Transposition(0, Text("note: the package praat-parselmouth, which measures pitch, is not installed: "
                                     "nothing is transposed"))
    if source is None:
        return Transposition(0, Text("note: hardly a sound of the recording has a pitch: nothing is transposed"))
    chosen = semitones_between(source, voice)
    return Transposition(chosen, Text("transpose {chosen:+d}: the recording speaks at {median:.0f} Hz, the voice at "
                                      "{median_2:.0f} Hz", chosen=chosen, median=source.median, median_2=voice.median))
