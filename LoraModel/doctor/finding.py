"""What the doctor has to say: a finding names its recording, says what was found and what to do, and has a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..evaluation.metrics import shortest
from ..evaluation.pictures import spectrogram_indices
from ..messages import Text

WARNING, NOTE = "warning", "note"
"""How grave: what harms the voice, and what is good to know."""


class Curve(NamedTuple):
    """A picture. points: (x, y); across, upward: what the axes are; level: of a dashed line."""

    points: Sequence[Tuple[float, float]]
    across: Text
    upward: Text
    level: Optional[float] = None


class Spectrogram(NamedTuple):
    """A picture: its points, (bands, frames) uint8. The sound is not kept: that of all recordings fills the memory."""

    indices: np.ndarray


Picture = Union[Curve, Spectrogram]

KINDS: Dict[str, Text] = {
    "unreadable": Text("cannot be read"),
    "silent": Text("silence"),
    "pauses": Text("mostly pauses"),
    "clipping": Text("clipping"),
    "loud": Text("too loud"),
    "quiet": Text("too quiet"),
    "noise": Text("noise"),
    "hum": Text("mains hum"),
    "bandwidth": Text("upsampled or of a low rate"),
    "reverberation": Text("reverberation"),
    "music": Text("music or another steady sound"),
    "duplicate": Text("the same recording twice"),
    "speaker": Text("another speaker"),
    "length": Text("length in all"),
}
"""What is looked for, in the order in which it is reported."""


@dataclass
class Finding:
    """One finding.

    Attributes:
        kind: of KINDS. file: of which recording; "" for all together. what, todo: whole sentences.
        grave: WARNING or NOTE. figures: what was measured, by names with their units. picture: to see it; None where
            there is nothing to be seen.
    """

    kind: str
    file: str
    what: Text
    todo: Text
    grave: str
    figures: Dict[str, Any]
    picture: Optional[Picture] = None

    def line(self) -> str:
        """For the console."""
        head = str(Text("warning: ") if self.grave == WARNING else Text("note: "))
        return f"{head}{self.file + ': ' if self.file else ''}{self.what} {self.todo}"

    def to_json(self) -> Dict[str, Any]:
        return {"kind": self.kind, "file": self.file, "grave": self.grave, "what": str(self.what),
                "todo": str(self.todo), "figures": self.figures}


def spectrogram_of(audio: np.ndarray, rate: int) -> Optional[Spectrogram]:
    """The picture of (samples,) at `rate` Hz; None where they are too few for one."""
    return Spectrogram(spectrogram_indices(audio, rate)) if len(audio) >= shortest(rate) else None


def thinned(values: np.ndarray, most: int, scale: float = 1.0) -> List[Tuple[float, float]]:
    """At most `most` points of a curve: (place times `scale`, value), the mean of each stretch."""
    step = max(1, -(-len(values) // most))
    count = len(values) // step
    means = np.asarray(values[:count * step], np.float64).reshape(count, step).mean(axis=1) if count else np.zeros(0)
    return [(float((index + 0.5) * step * scale), float(value)) for index, value in enumerate(means)]
