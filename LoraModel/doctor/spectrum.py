"""What a recording's spectrum tells: mains hum, and where it ends though the file could hold more."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Optional, Tuple

import numpy as np
from scipy import signal

from ..messages import Text
from .finding import NOTE, WARNING, Curve, Finding
from .recording import FRAMES, Recording

MAINS = (50.0, 60.0)
"""Hz, of the world's two nets."""
MULTIPLES = 6
LINE, STRONG_LINE = 12.0, 20.0
"""dB by which a line of hum stands above what is beside it: two lines, or one strong one at the
mains' own frequency."""
HEARD = 55.0
"""dB below the voice, down to which hum is reported."""
HUM_RATE, HUM_SECONDS = 2000, 0.5
BLOCK = 30
"""Seconds that are transformed at once."""
CLIFF = 18.0
"""dB by which the spectrum falls within `STEP` Hz where it ends."""
STEP = 500.0
FALLEN = 10.0
"""dB below what comes before, at which it has ended."""
ENDS = 0.9
"""Of half the sample rate: a spectrum that ends below it ends too early."""
LOW_RATE = 10000.0
"""Hz below which an end of the spectrum is heard by everybody."""


def spectrum_findings(r: Recording, wanted: int) -> Iterator[Finding]:
    """wanted: sample rate of the base, Hz."""
    hum = find_hum(r)
    if hum is not None:
        below = r.speech - hum.level
        yield Finding("hum", r.name, Text("The mains hum is in it, at {hz:.0f} Hz and its multiples, {below:.0f} dB "
                                          "below the "
                                          "voice.", hz=hum.mains, below=below),
                      Text("Take it out with a hum filter of your sound editor; for the next recording mend the cable, "
                           "or run the computer from its battery."), WARNING if below < 40 else NOTE,
                      {"mains_hz": hum.mains, "below_voice_db": round(below, 1)},
                      Curve(hum.points, Text("Hz"), Text("level, dB of full scale")))
    if r.rate < ENDS * wanted:
        yield Finding("bandwidth", r.name, Text("It has {rate:g} kHz, the base {wanted:g}: its upper tones are "
                                                "missing.",
                                                rate=r.rate / 1000, wanted=wanted / 1000),
                      Text("Use recordings of {wanted:g} kHz or more, or a base of a lower rate.",
                           wanted=wanted / 1000),
                      WARNING if r.rate < 2 * LOW_RATE else NOTE, {"rate": r.rate, "wanted": wanted})
        return
    end, points = spectrum_end(r)
    if end is not None and end < ENDS * min(r.rate, wanted) / 2:
        yield Finding("bandwidth", r.name, Text("Its spectrum ends at {end:.1f} kHz, though the file has {rate:g} "
                                                "kHz: it "
                                                "was made of a recording of a lower rate, or was strongly compressed.",
                                                end=end / 1000, rate=r.rate / 1000),
                      Text("Use the original recording; if there is none, the voice will be as dull as it is."),
                      WARNING if end < LOW_RATE else NOTE, {"ends_hz": round(end), "rate": r.rate},
                      Curve(points, Text("kHz"), Text("level, dB"), None))


class Hum(NamedTuple):
    """mains: 50 or 60 Hz. level: of its lines together, dB of full scale. points: (Hz, dB) of the low spectrum."""

    mains: float
    level: float
    points: Tuple[Tuple[float, float], ...]


def find_hum(r: Recording) -> Optional[Hum]:
    """The steady lines at a net's frequency and its multiples; None where there are none.

    What is always there is distinguished from a voice by the tenth percentile over time.
    """
    down = max(1, r.rate // HUM_RATE)
    rate = r.rate / down
    low = signal.resample_poly(r.audio, 1, down) if down > 1 else r.audio
    size = int(HUM_SECONDS * rate)
    if len(low) < 4 * size:
        return None
    hz, _, power = signal.spectrogram(low, rate, "hann", size, size // 2, detrend=False, scaling="spectrum", mode="psd")
    steady = 10 * np.log10(np.percentile(power, 10, axis=1) + 1e-14)  # (bins,)
    best: Optional[Hum] = None
    for mains in MAINS:
        lines = [mains * k for k in range(1, MULTIPLES + 1) if mains * k < 0.45 * rate]
        heights, levels = [], []
        for line in lines:
            away = np.abs(hz - line)
            peak = float(steady[away <= 2.5].max())
            heights.append(peak - float(np.median(steady[(away > 7) & (away < 21)])))
            levels.append(peak)
        standing = [level for level, height in zip(levels, heights) if height >= LINE]
        if len(standing) < 2 and not heights[0] >= STRONG_LINE:
            continue
        level = float(10 * np.log10(sum(10 ** (one / 10) for one in standing)))
        if r.speech - level < HEARD and (best is None or level > best.level):
            shown = hz <= 420
            best = Hum(mains, level, tuple(zip(hz[shown].tolist(), np.round(steady[shown], 1).tolist())))
    return best


def spectrum_end(r: Recording) -> Tuple[Optional[float], Tuple[Tuple[float, float], ...]]:
    """(Hz above which there is nothing, None where the spectrum goes on; (kHz, dB) of the mean spectrum of speech)."""
    level, width = mean_spectrum(r)
    hz = (np.arange(len(level)) + 0.5) * width
    points = tuple((float(f) / 1000, float(v)) for f, v in zip(hz, level))
    step = max(2, int(STEP / width))
    steepest, where = 0.0, None
    highest = np.maximum.accumulate(level[::-1])[::-1]  # of all that is above
    for index in range(2 * step, len(level) - step):
        if float(np.mean(level[index - step:index])) - float(highest[min(index + step, len(level) - 1)]) < CLIFF:
            continue
        slope = float(level[index - step // 2] - level[index + step // 2])
        if slope > steepest:
            steepest, where = slope, index
    if where is None:
        return None, points
    before = float(np.mean(level[where - step:where - step // 2]))
    begins = next((index for index in range(where - step // 2, where + step) if level[index] < before - FALLEN), where)
    return float(hz[begins]), points


def mean_spectrum(r: Recording) -> Tuple[np.ndarray, float]:
    """Mean power of the spoken frames in bands of about 100 Hz: ((bands,) dB, Hz of a band)."""
    size = 1 << max(8, int(round(np.log2(r.rate * 0.04))))
    total, count = np.zeros(size // 2 + 1), 0
    for start in range(0, len(r.audio), BLOCK * r.rate):
        block = r.audio[start:start + BLOCK * r.rate]
        if len(block) < size:
            break
        _, times, power = signal.spectrogram(block, r.rate, "blackmanharris", size, size // 2, detrend=False,
                                             mode="psd")
        frames = np.minimum((times + start / r.rate) * FRAMES, len(r.spoken) - 1).astype(int)
        kept = power[:, r.spoken[frames]]
        total += kept.sum(axis=1)
        count += kept.shape[1]
    per = max(1, int(round(100 * size / r.rate)))
    bands = (total / max(count, 1))[:(size // 2) // per * per].reshape(-1, per).mean(axis=1)
    return 10 * np.log10(bands + 1e-16), per * r.rate / size
