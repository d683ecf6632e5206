"""Which voice is heard when: what `--switch 2.0:anna 4.0:anna=0.5,bob=0.5` says, and the file that it is played on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..commands import parse_number
from ..inference.strength import FREE_STRENGTH, check_strength
from ..messages import UserError
from ..names import shown
from .voice import RealtimeVoice

PLAIN = "base"
"""What the plain base is called."""


class Switch(NamedTuple):
    """A change of voice: seconds from the beginning, and {file: strength}."""

    at: float
    voice: Dict[Path, float]

    def __str__(self) -> str:
        """As --switch takes it."""
        parts = (path.stem if strength == 1 else f"{path.stem}={strength:g}" for path, strength in self.voice.items())
        return f"{self.at}:{','.join(parts) or PLAIN}"


def names_of(files: Sequence[Path]) -> Dict[str, Path]:
    """What each adapter may be called: its number from 1 on, its path, its file's name, and that without the ending
    where no two files share it."""
    names: Dict[str, Path] = {}
    for call in (lambda file: file.stem, lambda file: file.name, str):
        called = [call(file) for file in files]
        names.update({name: file for name, file in zip(called, files) if called.count(name) == 1})
    names.update({str(number): file for number, file in enumerate(files, 1) if str(number) not in names})
    return names


def parse_voice(text: str, names: Dict[str, Path], any_strength: bool = False,
                own: Optional[Mapping[Path, float]] = None) -> Dict[Path, float]:
    """"anna", "anna=0.5,bob=0.5", or "base" for the plain base.

    Args:
        own: the strengths of adapters that are named without one; 1 where it has none.

    Raises:
        UserError: a name that no adapter has, or a strength that is none.
    """
    if text.strip() == PLAIN and PLAIN not in names:
        return {}
    chosen: Dict[Path, float] = {}
    for part in text.split(","):
        name, equals, strength = part.strip().rpartition("=") if part.strip() not in names else (part.strip(), "", "")
        if not equals:
            name = part.strip()
        if name not in names:
            known = ", ".join([*names, PLAIN])
            raise UserError("no adapter is called {name}: choose from {known}", name=shown(name), known=known[:300])
        value: Any = strength if equals else (own or {}).get(names[name], 1.0)
        with contextlib.suppress(UserError):  # what is no number is named as a strength
            value = parse_number(strength, -FREE_STRENGTH, FREE_STRENGTH) if equals else value
        chosen[names[name]] = check_strength(value, any_strength)
    return chosen


def parse_switch(text: str, names: Dict[str, Path], any_strength: bool = False,
                 own: Optional[Mapping[Path, float]] = None) -> Switch:
    """"SECONDS:VOICE", such as "2.0:anna" or "4.0:anna=0.5,bob=0.5". own: as `parse_voice` takes it.

    Raises:
        UserError: anything else.
    """
    at, colon, voice = text.partition(":")
    try:
        seconds = parse_number(at if colon else "", 0, 10**6)
    except UserError:
        raise UserError("--switch {text} is not SECONDS:VOICE, such as 2.0:anna or 4.0:anna=0.5,bob=0.5",
                        text=shown(text)) from None
    return Switch(seconds, parse_voice(voice, names, any_strength, own))


def play(live: RealtimeVoice, sound: np.ndarray, switches: Sequence[Switch],
         progress: Optional[Callable[[float], None]] = None, force: bool = False, any_strength: bool = False,
         noise: Optional[float] = None) -> Played:
    """Feed a recording block by block, with each change of voice from the block on that its time falls into.

    Args:
        sound: (samples,) at the stream's rate.
        progress: called with the share that is done.
        force, any_strength, noise: as `RealtimeVoice.use` takes them.

    Raises:
        UserError: an adapter that cannot be used.
    """
    size, delay = live.block_samples, int(round(live.delay * live.rate))
    count = -(-(len(sound) + delay) // size)
    padded = np.pad(sound, (0, count * size - len(sound)))
    waiting = sorted(switches, key=lambda switch: switch.at)
    out: List[np.ndarray] = []
    taken: List[float] = []
    changes: List[Dict[str, Any]] = []
    for index in range(count):
        due = []
        while waiting and waiting[0].at * live.rate < (index + 1) * size:
            due.append(waiting.pop(0))
        for switch in due:
            asked = time.perf_counter()
            live.use(switch.voice, force, any_strength, noise).result()
            changes.append({"asked_seconds": switch.at, "heard_seconds": round(index * size / live.rate, 4),
                            "voice": {path.name: strength for path, strength in switch.voice.items()},
                            "ready_ms": round(1000 * (time.perf_counter() - asked), 3)})
        started = time.perf_counter()
        out.append(live.process(padded[index * size:(index + 1) * size]))
        taken.append(time.perf_counter() - started)
        if due:
            changes[-1]["held_ms"] = round(1000 * live.held, 3)
        if progress is not None:
            progress((index + 1) / count)
    return Played(np.concatenate(out)[delay:delay + len(sound)], taken, changes, waiting)


class Played(NamedTuple):
    """The converted recording, as long as it was; seconds that each block took; what each change of voice took; the
    changes that were never heard, since they lie after its end."""

    sound: np.ndarray
    seconds: List[float]
    changes: List[Dict[str, Any]]
    unheard: Sequence[Switch] = ()

    def figures(self, live: RealtimeVoice) -> Dict[str, Any]:
        length = live.block_samples / live.rate
        return {
            "rate": live.rate, "block_seconds": length, "blocks": len(self.seconds), "delay_seconds": live.delay,
            "seconds_a_block": round(float(np.median(self.seconds)), 5),
            "seconds_a_block_most": round(max(self.seconds), 5),
            "blocks_slower_than_real_time": sum(seconds > length for seconds in self.seconds), "changes": self.changes,
            "changes_after_the_end": [str(switch) for switch in self.unheard],
        }
