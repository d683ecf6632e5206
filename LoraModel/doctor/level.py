"""What is wrong with a recording's level: silence, pauses, clipping, too loud, too quiet, noise in the pauses."""

from __future__ import annotations

from typing import Iterator, Tuple

import numpy as np

from ..messages import Text
from .finding import NOTE, WARNING, Curve, Finding, thinned
from .recording import FRAMES, Recording

SILENT = -60.0
"""dB of full scale: a recording that never rises above it holds no voice."""
FEW_SPOKEN = 0.3
"""Share of a recording that must hold speech, where it is longer than `LONG` seconds."""
LONG = 10.0
LOUD, QUIET = -9.0, -42.0
"""dB of full scale of speech. Ordinary recordings lie between -35 and -12; of a peak at full scale, speech as loud as
the first has been limited."""
NOISY, VERY_NOISY = 22.0, 18.0
"""dB between speech and the noise in its pauses."""
TOP, BELOW = 0.985, 0.955
"""Of the peak: what is clipped crowds above the first, what is not is as dense below it, down to the second."""
CROWDED = 4.0
"""How many times denser the top is where it is clipped."""
CLIPPED = 1e-4
"""Share of the samples that stand at the top, in rows of three at least, from which it is reported."""


def level_findings(r: Recording) -> Iterator[Finding]:
    """All that the level tells of one recording."""
    shown = Curve(thinned(r.levels, 300, 1 / FRAMES), Text("seconds"), Text("level, dB of full scale"),
                  round(r.floor, 1))
    if r.levels.max() < SILENT:
        yield Finding("silent", r.name, Text("It is silent: nowhere louder than {level:.0f} dB of full scale.",
                                             level=float(r.levels.max())),
                      Text("Leave it out, and look whether the right channel was recorded."), WARNING,
                      {"level_db": round(float(r.levels.max()), 1)}, shown)
        return
    share = float(r.spoken.mean())
    if r.seconds > LONG and share < FEW_SPOKEN:
        yield Finding("pauses", r.name, Text("Only {spoken:.0f} of its {seconds:.0f} seconds hold speech.",
                                             spoken=r.spoken_seconds, seconds=r.seconds),
                      Text("Nothing must be done: preparing leaves pauses out. Count on the shorter length."), NOTE,
                      {"spoken_seconds": round(r.spoken_seconds, 1), "seconds": round(r.seconds, 1)}, shown)
    yield from _clipping(r)
    if r.speech > LOUD:
        yield Finding("loud", r.name, Text("Its speech is at {level:.0f} dB of full scale, which is very loud: it was "
                                           "limited or compressed.", level=r.speech),
                      Text("Use the recording as it was before it was made loud, or record at a lower level."), WARNING,
                      {"speech_db": round(r.speech, 1)}, shown)
    elif r.speech < QUIET:
        yield Finding("quiet", r.name, Text("Its speech is at {level:.0f} dB of full scale, which is very quiet: "
                                            "raised "
                                            "to the usual level, its noise rises too.", level=r.speech),
                      Text("Record louder or nearer to the microphone, with peaks at half of full scale."), WARNING,
                      {"speech_db": round(r.speech, 1)}, shown)
    above = r.speech - r.floor
    if above < NOISY:
        yield Finding("noise", r.name, Text("Its noise is {above:.0f} dB below the voice: it becomes part of the "
                                            "voice.",
                                            above=above),
                      Text("Record in a quieter place or nearer to the microphone, or take the noise out with a noise "
                           "reduction first."), WARNING if above < VERY_NOISY else NOTE,
                      {"voice_over_noise_db": round(above, 1), "noise_db": round(r.floor, 1)}, shown)


def _clipping(r: Recording) -> Iterator[Finding]:
    share, place = clipped_share(r.audio)
    if share < CLIPPED:
        return
    width = max(r.rate // 100, 16)
    start = int(np.clip(place - width // 2, 0, max(len(r.audio) - width, 0)))
    wave = r.audio[start:start + width]
    points = [(1000 * index / r.rate, float(value)) for index, value in enumerate(wave)]
    yield Finding("clipping", r.name, Text("{share:.2%} of its samples are cut off at the top: its loud places are "
                                           "distorted, and the voice learns that sound.", share=share),
                  Text("Record again at a lower level, with peaks at half of full scale, or leave it out."), WARNING,
                  {"clipped_share": float(f"{share:.3g}"), "second": round(place / r.rate, 2)},
                  Curve(points, Text("milliseconds"), Text("sound, full scale 1")))


def clipped_share(audio: np.ndarray) -> Tuple[float, int]:
    """Share of (samples,) that is clipped, 0 where nothing is, and the sample where it is worst.

    Samples crowd at the top of what is clipped: a peak of ordinary sound is passed quickly, so that its density falls
    off towards the top.
    """
    size = np.abs(audio)
    peak = float(size.max()) if size.size else 0.0
    if peak < 0.1:
        return 0.0, 0
    top = size >= TOP * peak
    below = float(((size >= BELOW * peak) & ~top).mean())
    row = top[2:] & top[1:-1] & top[:-2]
    inside = np.zeros(len(audio), bool)
    for shift in range(3):
        inside[shift:shift + len(row)] |= row
    share = float(inside.mean())
    crowded = float(top.mean()) > CROWDED * below * (1 - TOP) / (TOP - BELOW)
    if not crowded or share == 0.0:
        return 0.0, 0
    changes = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    lengths = changes[1::2] - changes[::2]
    longest = int(lengths.argmax())
    return share, int(changes[2 * longest] + lengths[longest] // 2)
