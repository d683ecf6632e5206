"""A stream from a microphone to a loudspeaker, where the package `sounddevice` is installed; voices change by what is
typed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

import numpy as np

from ..faults import describe_fault
from ..messages import UserError, listing, tr
from ..paths import printable
from .plan import parse_voice
from .voice import RealtimeVoice

DeviceName = Union[int, str, None]


def sound_devices() -> Any:
    """The package `sounddevice`.

    Raises:
        UserError: it, or the library PortAudio below it, is not installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise UserError("sound devices need the package sounddevice ({error}): python -m pip install sounddevice",
                        error=error) from None
    return sounddevice


def device_of(name: Optional[str]) -> DeviceName:
    """A device as `sounddevice` takes it: its number, or a part of its name."""
    return int(name) if name is not None and re.fullmatch("[0-9]{1,4}", name) else name


class DeviceStream:
    """An open stream; `callback` is what PortAudio calls with each block.

    Attributes:
        late: blocks that PortAudio reported as too late.
    """

    def __init__(self, live: RealtimeVoice, device_in: Optional[str], device_out: Optional[str],
                 fault: Callable[[BaseException], None]):
        self.live, self.late = live, 0
        self._fault = fault
        package = sound_devices()
        try:
            self.stream = package.Stream(samplerate=live.rate, blocksize=live.block_samples, channels=1,
                                         dtype="float32",
                                         device=(device_of(device_in), device_of(device_out)), callback=self.callback)
        except (package.PortAudioError, ValueError) as error:
            raise UserError("the sound devices cannot be opened ({error}): `python -m sounddevice` lists those that "
                            "are here", error=error) from None

    def callback(self, recorded: np.ndarray, out: np.ndarray, frames: int, _when: Any, status: Any) -> None:
        """recorded, out: (block_samples, 1)."""
        self.late += bool(status)
        try:
            out[:, 0] = self.live.process(np.nan_to_num(recorded[:, 0], posinf=0.0, neginf=0.0))
        except Exception as error:  # in PortAudio's thread: silence, and the main thread says it
            out[:] = 0
            self._fault(error)


def talk(live: RealtimeVoice, device_in: Optional[str], device_out: Optional[str], names: Dict[str, Path],
         any_strength: bool = False, noise: Optional[float] = None, force: bool = False,
         lines: Optional[Iterable[str]] = None, own: Optional[Mapping[Path, float]] = None) -> DeviceStream:
    """Convert from one device to the other until the input ends or says "q"; each other line is a voice. A voice that
    cannot be had is named, and the one before stays.

    any_strength, noise, force: as `RealtimeVoice.use` takes them. lines: None for standard input. own: as
    `plan.parse_voice` takes it.
    """
    lines = lines if lines is not None else sys.stdin or ()
    faults: List[BaseException] = []
    opened = DeviceStream(live, device_in, device_out, faults.append)
    with opened.stream:
        print(tr("voices: {names}, base; blends as 1=0.5,2=0.5; q ends", names=listing(names)))
        for line in lines:
            if line.strip() == "q":
                break
            if faults:
                raise faults[0]
            if not line.strip():
                continue
            try:
                live.use(parse_voice(line, names, any_strength, own), force, any_strength, noise).result()
            except (UserError, OSError, MemoryError) as error:
                print(printable(str(describe_fault(error))), file=sys.stderr)
    if faults:
        raise faults[0]
    return opened
