"""What sounds beside the voice: a room that rings, and music or another sound that holds on in the pauses."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

import numpy as np
from scipy import ndimage, signal

from ..messages import Text
from .finding import NOTE, WARNING, Curve, Finding, spectrogram_of, thinned
from .recording import FRAMES, Recording, levels_of

DECAY = 12
"""Frames over which a fall of the level is measured: long enough to look past the end of the direct sound."""
FALLS, CLEAR = 20.0, 35.0
"""dB above the noise at which a fall must begin, for its slope to be that of the room; dB of the voice above the noise
from which a fall that ends in it is a fast one."""
LEAST_SECONDS, LEAST_FALLS, FAST = 15.0, 60, 95
"""Seconds, and frames at which something ends, below which nothing is reported; the percentile of their slopes."""
RINGS, RINGS_LONG = 0.55, 0.9
"""Seconds for a fall of 60 dB, of the fastest falls. No room lets sound fall faster than it rings."""
RATE, MOST_SECONDS = 16000, 1200
LOW, HIGH = 300.0, 5000.0
"""Hz between which a steady sound is looked for: below it there is hum, above it hiss."""
STEADY_SECONDS = 0.4
TONAL = 7.0
"""dB by which narrow lines stand above what is beside them, in the mean of pauses that last `STEADY_SECONDS`."""
LINES = 4.0
"""Lines that must stand there, on average."""
MUSIC = 45.0
"""dB below the voice, down to which a steady sound is reported."""


def surroundings_findings(r: Recording) -> Iterator[Finding]:
    seconds = decay_seconds(r)
    if seconds is not None and seconds > RINGS:
        excerpt = r.loudest(5.0)
        yield Finding("reverberation", r.name, Text("The room is heard: sounds take about {seconds:.1f} s to die away.",
                                                    seconds=seconds),
                      Text("Record nearer to the microphone, in a room with curtains and carpets; a dereverberation "
                           "(RVC's "
                           "page has one) helps a little."), WARNING if seconds > RINGS_LONG else NOTE,
                      {"decay_seconds": round(seconds, 2)},
                      Curve(thinned(levels_of(excerpt, r.rate), 300, 1 / FRAMES), Text("seconds"),
                            Text("level, dB of full scale")))
    found = steady_sound(r)
    if found is not None:
        below, frame = found
        yield Finding("music", r.name, Text("A sound with tones holds on in its pauses, {below:.0f} dB below the "
                                            "voice: "
                                            "music, or a machine.", below=below),
                      Text("Take the voice alone out of it (RVC's page has a separation of vocals), or use recordings "
                           "without it."), WARNING, {"below_voice_db": round(below, 1)},
                      spectrogram_of(r.excerpt(frame, 6.0), r.rate))


def decay_seconds(r: Recording) -> Optional[float]:
    """About how long a sound takes to fall by 60 dB in the room of the recording; None where that cannot be measured.

    After the direct sound has ended the level falls by the room's own slope, so even the fastest falls (of which the
    95th percentile is taken) are no faster. Measured over 120 ms, of which the first 40 are left to the direct sound.
    """
    levels = ndimage.uniform_filter1d(r.levels, 3)
    start, tail = 4, DECAY
    if r.seconds < LEAST_SECONDS:
        return None
    before = levels[:len(levels) - start - tail]
    first, last = levels[start:len(levels) - tail], levels[start + tail:]
    ends = (before > r.speech - 6) & (before - first > 3)
    if int(ends.sum()) < LEAST_FALLS:
        return None
    falls = first - np.maximum(last, r.floor)
    if r.speech - r.floor > CLEAR:  # what falls into so faint a noise at once has no room behind it
        falls = np.where((last > r.floor + 6) & (first > r.floor + FALLS), falls, np.maximum(falls, CLEAR - FALLS / 4))
    fast = float(np.percentile(falls[ends], FAST)) * FRAMES / tail
    return 60.0 / fast if fast > 0 else None


def steady_sound(r: Recording) -> Optional[Tuple[float, int]]:
    """(dB below the voice, frame) of a sound with tones that goes on in the pauses; None where there is none."""
    sound = r.audio[:MOST_SECONDS * r.rate]
    if r.rate > RATE:
        sound = signal.resample_poly(sound, RATE // 100, r.rate // 100)
    rate = min(r.rate, RATE)
    size, hop = int(0.064 * rate), int(0.016 * rate)
    if len(sound) < 2 * rate:
        return None
    hz, times, power = signal.spectrogram(sound, rate, "hann", size, size - hop, detrend=False, scaling="spectrum",
                                          mode="psd")
    frames = np.minimum(times * FRAMES, len(r.levels) - 1).astype(int)
    run = max(1, int(STEADY_SECONDS * rate / hop))
    quiet = r.levels[frames] < r.speech - 12
    # stretches that are quiet all along
    stretches = ndimage.minimum_filter1d(quiet.astype(np.uint8), run, mode="constant") > 0
    places = np.flatnonzero(stretches)[::max(1, run // 2)]
    if len(places) < 3:
        return None
    band = (hz >= LOW) & (hz <= HIGH)
    counts, levels = [], []
    for place in places:
        part = power[band][:, max(0, place - run // 2):place + run // 2 + 1]
        # a tone is there all the time: the lower quartile over time
        held = 10 * np.log10(np.percentile(part, 25, axis=1) + 1e-14)
        beside = ndimage.median_filter(held, 15)
        tops = (held - beside > TONAL) & (held == ndimage.maximum_filter1d(held, 5))
        counts.append(int(tops.sum()))
        levels.append(10 * np.log10(part.mean(axis=1).sum() + 1e-14))
    below = r.speech - float(np.median(levels))
    if float(np.median(counts)) < LINES or below > MUSIC:
        return None
    return below, int(frames[places[int(np.argmax(counts))]])
