"""Sound as it is read: which channels carry it, its scale, its level; what is not as it should be is put right or said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, Set

import numpy as np

from ..messages import UserError, tr
from ..paths import printable

SILENT_CHANNEL = 0.1
"""Of the loudest channel's level: a channel below it (20 dB) carries no voice, and averaging it in would halve the voice's level."""
INTEGERS = 32.0
"""A peak above it (full scale is 1) means that the samples are integers stored as floating-point numbers."""
OVER, CLIPPED, QUIET, OFFSET = 1.5, 0.001, 0.01, 0.005
"""Peak that is brought down to full scale; share of samples at the top that counts as clipped; peak that counts as very quiet; mean
that is taken away."""
SHORTEST = 0.1
"""Seconds: of less, neither pitch nor features can be found."""

Tell = Callable[[str], None]
_told: Set[str] = set()


def tell_once(text: str) -> None:
    """A note on standard error, the same one once in a process."""
    if text not in _told and len(_told) < 10000:
        _told.add(text)
        print(printable(text), file=sys.stderr)


def channels_used(energy: np.ndarray) -> np.ndarray:
    """Which channels to average, by their energies: (channels,) bool."""
    return energy >= energy.max() * SILENT_CHANNEL**2


def in_scale(audio: np.ndarray, path: Path, tell: Tell) -> np.ndarray:
    """`audio` (samples,) within full scale and around zero; what was changed, and what cannot be, is told.

    Raises:
        UserError: values that are no sound in any scale.
    """
    peak = float(np.abs(audio).max())
    if peak > 2.0**32:
        raise UserError(f"{path} holds values up to {peak:.3g} where full scale is 1: write it anew from its source",
                        f"{path} 中的值高达 {peak:.3g}，而满刻度为 1：请从源文件重新导出")
    if peak > INTEGERS:
        scale = next(full for full in (2.0**15, 2.0**23, 2.0**31, 2.0**32) if peak <= full)
        tell(tr(f"note: {path} holds integers as floating-point numbers (peak {peak:.0f}): they are divided by {scale:.0f}",
                f"提示：{path} 将整数存成了浮点数（峰值 {peak:.0f}）：已除以 {scale:.0f}"))
        audio = audio / np.float32(scale)
    elif peak > OVER:
        tell(tr(f"note: {path} goes above full scale (peak {peak:.1f}): it is made quieter",
                f"提示：{path} 超出满刻度（峰值 {peak:.1f}）：已降低音量"))
        audio = audio * np.float32(0.99 / peak)
    mean = float(audio.mean(dtype=np.float64))
    if abs(mean) > OFFSET and float(audio.std()) > 1e-4:
        if abs(mean) > 10 * OFFSET:
            tell(tr(f"note: {path} is not centred around zero (offset {mean:.2f}): the offset is removed",
                    f"提示：{path} 存在直流偏移（{mean:.2f}）：已去除"))
        audio = audio - np.float32(mean)
    return audio


def tell_level(audio: np.ndarray, path: Path, tell: Tell) -> None:
    """Say where a recording is clipped or hardly to be heard."""
    peak = float(np.abs(audio).max()) if audio.size else 0.0
    if 0 < peak < QUIET:
        tell(tr(f"note: {path} is very quiet (peak {peak:.4f} of full scale): record it louder, or raise its level",
                f"提示：{path} 音量过低（峰值为满刻度的 {peak:.4f}）：请提高录音或文件音量"))
    if peak < 0.5:
        return
    top = np.abs(audio) >= 0.999 * peak
    share = float((top[1:] & top[:-1]).mean()) if audio.size > 1 else 0.0  # two in a row: a single sample is an ordinary peak
    if share > CLIPPED:
        tell(tr(f"note: {path} is clipped ({share:.1%} of its samples are at the top): a recording at a lower level converts better",
                f"提示：{path} 存在削波（{share:.1%} 的采样达到上限）：降低录音电平效果更好"))


def check_length(audio: np.ndarray, rate: int) -> None:
    """Check that there is enough of a recording to convert.

    Raises:
        UserError: there is less than `SHORTEST`.
    """
    if len(audio) < SHORTEST * rate:
        raise UserError(f"the recording is shorter than {SHORTEST} s ({len(audio) / rate:.3f} s): choose a longer one",
                        f"录音短于 {SHORTEST} 秒（{len(audio) / rate:.3f} 秒）：请选择更长的录音")
