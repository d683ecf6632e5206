"""The further rows of the inference panel: an adapter and its strength each, which blend with the first."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ... import entries
from ...inference.strength import MAX_STRENGTH
from ...messages import Text
from ..help_texts import Help
from ..text import Tr
from .voices import MOST_VOICES, Extras, State

Update = Dict[str, Any]
ROWS = MOST_VOICES - 1


def update(**changes: Any) -> Update:
    """A change of a component, in the form that RVC's own events return; without arguments, none."""
    return {**changes, "__type__": "update"}


class BlendRows:
    """Components and what they stand for.

    Args:
        names: gives the adapters to choose from, the first of them for none.
    """

    def __init__(self, gr: Any, tr: Tr, names: Callable[[], List[str]]):
        self.gr, self.tr, self.names = gr, tr, names
        self.adapters: List[Any] = []
        self.strengths: List[Any] = []
        self.lines: List[Any] = []  # each holds one of both; Gradio draws one that is in sight though nothing in it is

    def make(self, info: Help) -> None:
        """Make the rows, which are not seen until they are asked for, and their buttons. info: gives them their help
        text."""
        gr, tr = self.gr, self.tr
        for number in range(2, MOST_VOICES + 1):
            with gr.Row(visible=False) as line:
                self.lines.append(line)
                self.adapters.append(gr.Dropdown(
                    **info("more_adapter", tr("LoRA adapter {number}", number=number)), choices=self.names(),
                    interactive=True, visible=False))
                self.strengths.append(gr.Slider(
                    **info("more_strength", tr("Strength {number}", number=number)), minimum=0, maximum=MAX_STRENGTH,
                    step=0.05, value=1, visible=False, interactive=True))
        with gr.Row():
            self.add = gr.Button(tr("Add a voice to the blend"))
            self.remove = gr.Button(tr("Remove the last voice"))
        with gr.Row(visible=False):
            self.count = gr.Number(value=0, visible=False, precision=0)

    @property
    def values(self) -> List[Any]:
        """The components that an event reads: adapter and strength of each row."""
        return [part for pair in zip(self.adapters, self.strengths) for part in pair]

    @property
    def outputs(self) -> List[Any]:
        """The components that an answer writes: the rows' values, and how many rows are seen. (A script's client knows
        no row, and calls no event that answers for one: `events` sees to `lines`.)"""
        return [*self.values, self.count]

    def events(self) -> None:
        """The buttons, and the rows in sight as many as `count` says."""
        self.add.click(self.more, [self.count], [*self.outputs, *self.lines], queue=False)
        self.remove.click(self.fewer, [self.count], [*self.outputs, *self.lines], queue=False)
        self.count.change(self.in_sight, [self.count], self.lines, queue=False)

    def lists(self) -> List[Update]:
        """The adapters that there are now, for each row."""
        return [update(choices=self.names())] * ROWS

    def chosen(self, values: Sequence[Any]) -> Extras:
        """What the rows say: (adapter, strength) of those that name one.

        Raises:
            UserError: one is no text.
        """
        none = self.names()[0]
        pairs = [(entries.text(values[at], Text("the adapter")), values[at + 1]) for at in range(0, 2 * ROWS, 2)]
        return tuple((name, strength) for name, strength in pairs if name and name != none)

    def shown(self, state: Optional[State]) -> List[Update]:
        """What the rows show of what is loaded: as many as it has voices; all others empty and out of sight."""
        extras = state.extras if state is not None else ()
        none = self.names()[0]
        padded: List[Tuple[str, float]] = [*extras, *[(none, 1.0)] * (ROWS - len(extras))]
        return [*(update(value=value, visible=row < len(extras)) for row, pair in enumerate(padded) for value in pair),
                update(value=len(extras))]

    def more(self, count: Any) -> List[Update]:
        """One row more in sight."""
        return self._visible(min(self._whole(count) + 1, ROWS))

    def fewer(self, count: Any) -> List[Update]:
        """The last row out of sight; what it named goes, which is a change that acts by itself."""
        left = max(self._whole(count) - 1, 0)
        changes = self._visible(left)
        changes[2 * left] = update(value=self.names()[0], visible=False)
        return changes

    def _visible(self, count: int) -> List[Update]:
        return [*(update(visible=row < count) for row in range(ROWS) for _ in range(2)), update(value=count),
                *self.in_sight(count)]

    def in_sight(self, count: Any) -> List[Update]:
        """So many of the rows in sight."""
        return [update(visible=row < self._whole(count)) for row in range(ROWS)]

    @staticmethod
    def _whole(count: Any) -> int:
        return int(count) if isinstance(count, (int, float)) and 0 <= count <= ROWS else 0
