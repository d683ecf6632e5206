"""The loudness of a conversion: it follows the source's, and where the source is silent so is the result.

RVC's pipeline does the first in a checkout (`rms_mix_rate`); where the small conversion stands in for it, this does.
RVC leaves the second out: the decoder makes up a breath or a murmur where its input says nothing. What the network
puts beside zero where it speaks is taken out as well.
"""

from __future__ import annotations

import numpy as np

MIX_RATE = 0.25
"""RVC's default: a quarter of the network's own loudness, three quarters of the source's."""
LONG = 1.0
"""Seconds over which loudness is measured, every half of it, as RVC does."""
SHORT, STEP = 0.025, 0.01
"""Seconds of the windows that tell speech from pauses, and from one to the next."""
SLOW = 0.1
"""Seconds over which the mean is zero where a voice is centred."""
SILENCE = 10 ** (-60 / 20)
"""RMS, full scale 1: below it nothing is speech (-60 dBFS)."""
ABOVE_FLOOR, BELOW_SPEECH = 10 ** (6 / 20), 10 ** (-25 / 20)
"""A pause is at most 6 dB above the recording's noise floor, and at least 25 dB below its loud parts."""


def centred(audio: np.ndarray, rate: int, block: int = 2**20) -> np.ndarray:
    """Without what is below hearing: from each sample the mean of the `SLOW` seconds around it is taken, twice smoothed
    (a triangular window, so that from 60 Hz on less than 1% is lost). (samples,) -> (samples,) float32.

    block: samples that are worked on at once; an hour of them would take gigabytes.
    """
    half = max(int(SLOW * rate) // 4, 1)
    result = np.empty(len(audio), dtype=np.float32)
    for start in range(0, len(audio), block):
        before, stop = min(start, 2 * half), min(start + block, len(audio))
        piece = np.asarray(audio[start - before : stop + 2 * half], dtype=np.float64)
        slow = _running_mean(_running_mean(piece, half), half)
        result[start:stop] = (piece - slow)[before : before + stop - start]
    return result


def _running_mean(audio: np.ndarray, half: int) -> np.ndarray:
    """The mean of each sample and `half` on either side, as many as there are: (samples,) -> (samples,) float64."""
    total = np.concatenate([[0.0], np.cumsum(audio)])
    places = np.arange(len(audio))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(audio))
    return (total[last] - total[first]) / (last - first)


def envelope(audio: np.ndarray, rate: int, window: float, step: float) -> np.ndarray:
    """RMS of windows centred on every multiple of `step` seconds: (samples,) -> (1 + samples // hop,)."""
    size, hop = max(int(window * rate), 1), max(int(step * rate), 1)
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    centres = np.arange(1 + len(audio) // hop) * hop
    first = np.clip(centres - size // 2, 0, len(audio))
    last = np.clip(centres - size // 2 + size, 0, len(audio))
    return np.sqrt(np.maximum(energy[last] - energy[first], 0.0) / np.maximum(last - first, 1))


def follow(source: np.ndarray, source_rate: int, result: np.ndarray, rate: int, mix: float = MIX_RATE) -> np.ndarray:
    """Give a converted recording the loudness of its source, and silence where the source has it, centred around zero.

    Args:
        source: (samples,) at `source_rate` Hz.
        result: the converted audio, (samples,) at `rate` Hz, of the same duration.
        mix: 0 takes the source's loudness, 1 leaves the result as it is; between, their powers multiplied, as in RVC.

    Returns:
        (samples,) float32, with no peak above full scale that was not there before.
    """
    if mix >= 1 or not len(result):
        return np.asarray(result, dtype=np.float32)
    before = float(np.abs(result).max())
    result = centred(result, rate)
    seconds = np.arange(len(result)) / rate
    wanted, found = envelope(source, source_rate, LONG, LONG / 2), envelope(result, rate, LONG, LONG / 2)
    wanted_at = np.interp(seconds, np.arange(len(wanted)) * LONG / 2, wanted)
    found_at = np.maximum(np.interp(seconds, np.arange(len(found)) * LONG / 2, found), 1e-6)
    louder = result * (wanted_at / found_at) ** (1 - mix)
    louder *= _pauses(source, source_rate, louder, rate, seconds)
    peak = max(float(np.abs(louder).max()), 1e-9)
    return (louder * min(1.0, max(1.0, before) / peak)).astype(np.float32)


def _pauses(source: np.ndarray, source_rate: int, result: np.ndarray, rate: int, seconds: np.ndarray) -> np.ndarray:
    """A factor for each sample, 0 to 1: in the source's pauses the result gets no louder than the source is there."""
    levels = envelope(source, source_rate, SHORT, STEP)
    made = envelope(result, rate, SHORT, STEP)
    count = min(len(levels), len(made))
    levels, made = levels[:count], made[:count]
    floor, loud = np.percentile(levels, 10), np.percentile(levels, 95)
    pause = levels <= max(SILENCE, min(floor * ABOVE_FLOOR, loud * BELOW_SPEECH))
    factor = np.where(pause, np.minimum(1.0, levels / np.maximum(made, 1e-9)), 1.0)
    smooth = np.convolve(np.pad(factor, 1, mode="edge"), np.ones(3) / 3, mode="valid")  # 30 ms: no click at either end
    smooth[pause] = np.minimum(smooth, factor)[pause]
    return np.interp(seconds, np.arange(count) * STEP, smooth)
