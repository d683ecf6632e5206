"""A recording in a voice that turns into another one along it.

The recording is converted in steps of half a second, each with what stands before and after it and with the two voices
mixed as its time asks; the steps are joined as a stream's blocks are (`joining`), so that no joint is heard.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Sequence, Tuple

import numpy as np

from ..inference.convert import INPUT_RATE, ConvertOptions
from ..inference.converter import Converter
from ..inference.model_loader import Source
from .joining import Joiner

STEP, LEAD, FADE, SEARCH = 0.5, 0.5, 0.08, 0.01
"""Seconds: of a step, of what it hears on either side, of the cross-fade, and by which a step may be shifted."""

Blend = Sequence[Tuple[Source, float]]


def convert_morphing(converter: Converter, audio: np.ndarray, start: Blend, end: Blend, options: ConvertOptions,
                     transposes: Tuple[float, float], progress: Callable[[float], None] = lambda share: None
                     ) -> np.ndarray:
    """Convert a recording from one blend of voices at its beginning to another at its end.

    Args:
        audio: (samples,) at 16 kHz.
        transposes: semitones at the beginning and at the end, in place of the options' own.

    Returns:
        (samples,) at the base's rate, as long as the recording. The voice of the end stays applied, and the noise that
        was asked for is kept.
    """
    voice, rate = converter.voice, converter.voice.info.sample_rate
    noise = voice.noise
    step, lead = int(STEP * INPUT_RATE), int(LEAD * INPUT_RATE)
    joiner = Joiner(int(STEP * rate), int(FADE * rate), int(SEARCH * rate))
    count = max(1, -(-len(audio) // step))
    padded = np.pad(audio, (lead, count * step - len(audio) + lead + INPUT_RATE // 5))
    out: List[np.ndarray] = []
    for index in range(count):
        progress(index / count)
        t = index / (count - 1) if count > 1 else 0.5
        voice.morph(start, end, t, noise=noise)
        window = padded[index * step:index * step + 2 * lead + step + INPUT_RATE // 5]
        made = converter(window, replace(options, transpose=transposes[0] + t * (transposes[1] - transposes[0])))
        first = int(LEAD * rate)
        sound = made[first:first + joiner.needed]
        out.append(joiner.join(np.pad(sound, (0, joiner.needed - len(sound)))))
    return np.concatenate(out)[:len(audio) * rate // INPUT_RATE]
