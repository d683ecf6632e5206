"""`RealtimeVoice`: a stream converted block by block, whose voice may be changed at any time from any thread."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from ..commands import MOST_SEED
from ..devices import check_device
from ..host import Host, find_host
from ..inference.convert import FRAME, INPUT_RATE, check_between
from ..inference.model_loader import VoiceLoader
from ..inference.sound import as_floats
from ..messages import Text, UserError
from ..models import Base
from ..names import check_number
from .changes import ROOM, ChangingVoice, VoiceChanges
from .joining import Joiner
from .synthesis import StandInSynthesis, light

FRAMES_A_SECOND = INPUT_RATE // FRAME
LONGEST_FADE = 4
"""Frames: a longer cross-fade is cut to this, as RVC's window does (40 ms)."""
SEARCH = 1
"""Frames by which a block may be shifted to where it fits the last one."""


class Shape(NamedTuple):
    """How long everything is: in frames of 10 ms, and a block in samples of the stream too. `step` frames are whole
    samples."""

    block: int
    context: int
    fade: int
    step: int
    block_samples: int

    @property
    def returned(self) -> int:
        """Frames that are generated for a block: itself, the cross-fade, and the search."""
        return self.block + self.fade + SEARCH

    @property
    def window(self) -> int:
        """Frames of input that are kept."""
        return self.context + self.returned

    @property
    def lead(self) -> int:
        """Frames of sound before a block that are resampled with it. They are whole samples."""
        return max(self.step, 2)

    @property
    def again(self) -> int:
        """How many of them the window takes in place of what it had: their right side was not known before. The first
        one's left side is not; and a window of little context holds fewer."""
        return min(self.lead - 1, self.window - self.block)


def shape_of(rate: int, block: float, context: float, crossfade: float) -> Shape:
    """Lengths in frames from seconds. A block is a whole number of frames and of samples: at 22050 Hz, of 20 ms each.

    Raises:
        UserError: a length that no stream has.
    """
    for name, value, low, high in (("block", block, 0.02, 10), ("context", context, 0.1, 60),
                                   ("crossfade", crossfade, 0.0, 1)):
        check_number(name, value)
        if not low <= value <= high:
            raise UserError("{name}={value} must be between {low} and {high} seconds", name=name, value=value, low=low,
                            high=high)
    step = FRAMES_A_SECOND // math.gcd(rate, FRAMES_A_SECOND)
    frames = max(int(round(block * FRAMES_A_SECOND / step)), 1) * step
    fade = min(int(round(crossfade * FRAMES_A_SECOND)), LONGEST_FADE, frames)
    return Shape(frames, int(round(context * FRAMES_A_SECOND)), fade, step, frames * rate // FRAMES_A_SECOND)


class RealtimeVoice(ChangingVoice):
    """A base, and a stream that is converted on it block by block.

    The window of input that RVC's realtime class looks at, its parts of the network and its way to join blocks (SOLA)
    are kept: a recording fed block by block sounds as RVC's realtime window makes it. In a checkout RVC's own class
    does the work.

    Attributes:
        rate: of input and output, in Hz.
        block_samples: how many samples `process` takes and gives.
        delay: seconds by which a sound lies later in the output than in the input, for cross-fade and search.

    Args:
        base: a base's file, or a loaded one, or a `VoiceLoader` whose base the stream is to use.
        device: "cpu", "cuda", … or "auto" for the best one here.
        block, context, crossfade: seconds of a block, of the input before it, and of the cross-fade of two blocks.
        rate: of the stream in Hz; None for the base's own.
        transpose: semitones.
        index, index_rate: a faiss index of the target's features, and its share.
        f0_method: how pitch is found in a checkout; None for the best that is there.
        seed: of all noise, so that the same sound is always converted the same way; None for RVC's own, other in each
            block.
        host: the RVC installation; None finds it.
        room: bytes for prepared voices that are kept.
        sample_rate, config_json: as `load_base` takes them, for a base's file.

    Raises:
        UserError: the base, the device or the index cannot be used; a length out of range; without a checkout, a v1
            base.
    """

    def __init__(
        self, base: Union[str, Path, Base, VoiceLoader], device: str = "cpu", block: float = 0.25, context: float = 2.5,
        crossfade: float = 0.05, *, rate: Optional[int] = None, transpose: float = 0.0,
        index: Union[str, Path, None] = None,
        index_rate: float = 0.75, f0_method: Optional[str] = None, seed: Optional[int] = 0, host: Optional[Host] = None,
        room: int = ROOM, sample_rate: Union[int, str, None] = None, config_json: Union[str, Path, None] = None,
    ):
        if not isinstance(base, VoiceLoader):
            host = host or find_host()
            base = light(VoiceLoader(base, host, check_device(device), sample_rate, config_json))
        from scipy.signal import resample_poly  # it takes a second to load, which every command would wait for

        self.voice, self._resample = base, resample_poly
        check_between("seed", seed, 0, MOST_SEED, whole=True, optional=True)
        check_between("transpose", transpose, -48, 48)
        check_between("index_rate", index_rate, 0, 1)
        if rate is not None:
            check_number("rate", rate)
        if rate is not None and not 4000 <= rate <= 384000:
            raise UserError("rate={rate} must be between 4000 and 384000 Hz", rate=rate)
        self.rate = int(rate or base.info.sample_rate)
        self.shape = shape = shape_of(self.rate, block, context, crossfade)
        if base.host.is_checkout:
            from .by_rvc import RvcSynthesis

            self._synthesis = RvcSynthesis(base, transpose, index, index_rate, f0_method, seed)
        else:
            self._synthesis = StandInSynthesis(base, shape.window, transpose, index, index_rate, seed)
        self._changes = VoiceChanges(base, room=room)
        self.block_samples = shape.block_samples
        self._joiner = Joiner(shape.block_samples, shape.fade * self.rate // FRAMES_A_SECOND,
                              SEARCH * self.rate // FRAMES_A_SECOND)
        self._heard = np.zeros(shape.lead * self.rate // FRAMES_A_SECOND + shape.block_samples, dtype=np.float32)
        self._window = np.zeros(shape.window * FRAME, dtype=np.float32)

    @property
    def delay(self) -> float:
        """Seconds by which a sound lies later in the output than in the input."""
        return (self.shape.fade + SEARCH) / FRAMES_A_SECOND

    def process(self, block: np.ndarray) -> np.ndarray:
        """Convert the next block of the stream. One thread at a time.

        Args:
            block: (block_samples,) at `rate`, full scale 1; int8, int16 and int32 are brought to it.

        Returns:
            (block_samples,) float32: the sound of `delay` seconds before, all of it in one voice.

        Raises:
            UserError: another number of samples, samples that are no numbers, or of another type.
        """
        block = as_floats(block, Text("the block"))
        if block.shape != (self.block_samples,):
            raise UserError("a block of this stream has {block_samples} samples, not {shape}: cut or fill it to this "
                            "length", block_samples=self.block_samples, shape=block.shape)
        if not np.isfinite(block).all():
            raise UserError("the block holds samples that are no numbers (NaN or infinity): check what gives the sound")
        self._hear(block)
        self._changes.take()
        sound = self._synthesis(self._window, self.shape.block, self.shape.context, self.shape.returned)
        return self._joiner.join(self._at_rate(sound))

    def reset(self) -> None:
        """Forget the input so far, for another stream; the voice stays."""
        self._heard[:] = 0
        self._window[:] = 0
        self._synthesis.reset()
        self._joiner = Joiner(self._joiner.block, self._joiner.fade, self._joiner.search)

    def close(self) -> None:
        """End the thread that prepares voices."""
        self._changes.close()

    def __enter__(self) -> RealtimeVoice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Parts

    def _hear(self, block: np.ndarray) -> None:
        """Put a block into the window at 16 kHz. What was at the end before is resampled again, now that its right
        side is known."""
        self._heard = np.concatenate([self._heard[self.block_samples:], block])
        ratio = Fraction(INPUT_RATE, self.rate)
        low = self._resample(self._heard, ratio.numerator, ratio.denominator) if ratio != 1 else self._heard
        new, again = self.shape.block * FRAME, self.shape.again * FRAME
        self._window[:-new] = self._window[new:].copy()
        self._window[-new - again:] = low[-new - again:]

    def _at_rate(self, sound: np.ndarray) -> np.ndarray:
        """(samples,) at the base's rate -> at the stream's, as many as joining takes."""
        ratio = Fraction(self.rate, self._synthesis.sample_rate)
        if ratio != 1:
            sound = self._resample(sound, ratio.numerator, ratio.denominator)
        return np.pad(sound, (0, max(self._joiner.needed - len(sound), 0)))
