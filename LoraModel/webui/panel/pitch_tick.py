"""The tick "auto" beside RVC's own transposition: a recording is shifted to the pitch of the LoRA voice that is loaded,
unless a number is given."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ...host.patch import TRANSPOSE
from ...inference.audio import read_audio
from ...inference.convert import INPUT_RATE
from ...messages import UserError
from ...names import unquoted
from ..help_texts import Help
from ..text import Tr, fields_for_options
from .voices import Voices

FIELDS = ("vc_transform0", "vc_transform1")
"""RVC's numbers, of single and of batch conversion."""


class PitchTick:
    """Args:
        voices: what converts; it is asked for the pitch of the voice.
    """

    def __init__(self, voices: Voices, tr: Tr):
        self.voices, self.tr, self.on = voices, tr, True
        self.ticks: List[Any] = []

    def attach(self, namespace: Dict[str, Any]) -> None:
        """Put a tick beside each of RVC's numbers, and let RVC's conversion ask what to shift by."""
        for field in (namespace[name] for name in FIELDS if name in namespace):
            self.ticks.append(_beside(field, lambda: self._tick()))
        for tick in self.ticks:
            others = [other for other in self.ticks if other is not tick]
            tick.change(self.change, [tick], others, queue=False)
        if self.ticks:
            setattr(self.voices.vc, TRANSPOSE, self.choose)

    def _tick(self) -> Any:
        import gradio

        return gradio.Checkbox(**Help(self.tr)("auto_pitch", self.tr("auto (while the number is 0)")), value=self.on,
                               interactive=True)

    def change(self, on: Any) -> List[Any]:
        """Switch it on or off -> what the other ticks show."""
        self.on = on if isinstance(on, bool) else self.on  # a script may send anything
        return self.opened()[1:]

    def opened(self) -> List[Any]:
        """What the ticks show."""
        return [self.on for _ in self.ticks]

    def choose(self, recording: Any, number: Any) -> Tuple[Any, str]:
        """(semitones to shift by, what to say of them): the number that was given, where there is one, the voice is
        none of ours, or the recording cannot be read."""
        state = self.voices.state
        if not self.on or state is None or not state.adapter or number not in (0, None):
            return number, ""
        if not isinstance(recording, str):
            return number, ""
        try:
            found = self.voices.transposition(read_audio(unquoted(recording), INPUT_RATE))
        except (UserError, OSError, ValueError):  # RVC's own reader says what is wrong with it
            return number, ""
        return int(found.semitones), fields_for_options(self.tr(found.reason), self.tr) if found.reason else ""


def _beside(field: Any, make: Any) -> Any:
    """A component made right after another one, in its row, when the page around it is closed already."""
    from gradio.context import Context

    before, Context.block = Context.block, field.parent
    try:
        made = make()
    finally:
        Context.block = before
    row = field.parent.children
    row.remove(made)
    row.insert(row.index(field) + 1, made)
    return made
