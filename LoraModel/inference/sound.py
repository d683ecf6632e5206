"""Sound as it is read: which channels carry it, its scale, its level; what is not as it should be is put right or
reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Set, Union

import numpy as np

from ..messages import Text, UserError, tr
from ..paths import printable

SILENT_CHANNEL = 0.1
"""Of the loudest channel's level: a channel below it (20 dB) carries no voice, and averaging it in would halve the
voice's level."""
INTEGERS = 32.0
"""A peak above it (full scale is 1) means that the samples are integers stored as floating-point numbers."""
OVER, CLIPPED, QUIET, OFFSET = 1.5, 0.001, 0.01, 0.005
"""Peak that is brought down to full scale; share of samples at the top that counts as clipped; peak that counts as
very quiet; mean that is taken away."""
CANCELLED = 1e-3
"""Energy of the average, relative to the loudest channel's, below which channels are each other's opposite: a cable
with its poles exchanged."""
SHORTEST = 0.1
"""Seconds: of less, neither pitch nor features can be found."""

FULL_SCALE = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
"""The full scale of whole numbers by their type."""

Tell = Callable[[str], None]
_told: Set[str] = set()


def tell_once(text: str) -> None:
    """A note on standard error, the same one once in a process."""
    if text not in _told and len(_told) < 10000:
        _told.add(text)
        print(printable(text), file=sys.stderr)


def channels_used(energy: np.ndarray, mixed: float) -> np.ndarray:
    """Which channels to average: those that are not silent, and where they cancel each other the loudest alone.

    Args:
        energy: of each channel, (channels,). mixed: of the average of all.

    Returns:
        (channels,) bool.
    """
    used = energy >= energy.max() * SILENT_CHANNEL**2
    if used.sum() > 1 and mixed < CANCELLED * energy.max():
        used = np.arange(len(energy)) == int(energy.argmax())
    return used


def as_floats(samples: Any, what: Text, guess: bool = False) -> np.ndarray:
    """Samples as float32 of full scale 1: whole numbers are divided by what their type can hold.

    Args:
        what: what is named where they cannot be taken.
        guess: leave whole numbers of more than 16 bits as they are, for `in_scale` to find their scale by their peak.

    Raises:
        UserError: neither floating-point nor whole numbers, or whole ones of a type that no sound has.
    """
    array = np.asarray(samples)
    full = 1.0 if array.dtype.kind == "f" or guess and array.dtype.kind in "iu" else None
    full = FULL_SCALE.get(array.dtype.name, full) if not guess or array.dtype.itemsize <= 2 else full
    if full is None:
        raise UserError("{what} holds samples of the type {kind}: give float32 of full scale 1, or int16", what=what,
                        kind=array.dtype.name)
    return array.astype(np.float32) / np.float32(full) if full != 1 else np.asarray(array, dtype=np.float32)


def in_scale(audio: np.ndarray, path: Union[Path, Text], tell: Tell) -> np.ndarray:
    """`audio` (samples,) within full scale and around zero; what was changed, and what cannot be, is printed.

    Raises:
        UserError: values that are no sound in any scale.
    """
    peak = float(np.abs(audio).max())
    if peak > 2.0**32:
        raise UserError("{path} holds values up to {peak:.3g} where full scale is 1: export it again from its source",
                        path=path, peak=peak)
    if peak > INTEGERS:
        scale = next(full for full in (2.0**15, 2.0**23, 2.0**31, 2.0**32) if peak <= full)
        tell(tr("note: {path} holds integers as floating-point numbers (peak {peak:.0f}): they are divided by "
                "{scale:.0f}", path=path, peak=peak, scale=scale))
        audio = audio / np.float32(scale)
    elif peak > OVER:
        tell(tr("note: {path} exceeds full scale (peak {peak:.1f}): it is made quieter", path=path, peak=peak))
        audio = audio * np.float32(0.99 / peak)
    mean = float(audio.mean(dtype=np.float64))
    if abs(mean) > OFFSET and float(audio.std()) > 1e-4:
        if abs(mean) > 10 * OFFSET:
            tell(tr("note: {path} is not centred around zero (offset {mean:.2f}): the offset is removed", path=path,
                    mean=mean))
        audio = audio - np.float32(mean)
    return audio


def tell_level(audio: np.ndarray, path: Path, tell: Tell) -> None:
    """Say where a recording is clipped or hardly to be heard."""
    peak = float(np.abs(audio).max()) if audio.size else 0.0
    if audio.size and peak == 0:
        tell(tr("note: {path} is silent from beginning to end", path=path))
    if 0 < peak < QUIET:
        tell(tr("note: {path} is very quiet (peak {peak:.4f} of full scale): record it louder, or raise its level",
                path=path, peak=peak))
    if peak < 0.5:
        return
    top = np.abs(audio) >= 0.999 * peak
    # two in a row: a single sample is an ordinary peak
    share = float((top[1:] & top[:-1]).mean()) if audio.size > 1 else 0.0
    if share > CLIPPED:
        tell(tr("note: {path} is clipped ({share:.1%} of its samples are at the top): a recording at a lower level "
                "converts better", path=path, share=share))


def check_length(audio: np.ndarray, rate: int) -> None:
    """Check that there is enough of a recording to convert.

    Raises:
        UserError: there is less than `SHORTEST`.
    """
    if len(audio) < SHORTEST * rate:
        raise UserError("the recording is shorter than {shortest} s ({count:.3f} s): choose a longer one",
                        shortest=SHORTEST, count=len(audio) / rate)
