"""What the inference panel answers: what is loaded, in words and in the values of its components."""

from __future__ import annotations

import base64
import logging
import uuid
from html import escape
from typing import Any, List, Optional, Sequence

from ...lora.adapter_file import read_preview
from ...lora.adapter_metadata import PREVIEW_KINDS
from ...messages import UserError
from ..text import Tr, error_text
from .adapter_info import describe
from .blend_rows import BlendRows, update
from .voices import Extras, State, Voices

logger = logging.getLogger(__name__)


class PanelAnswers:
    """The part of the panel that no event calls by itself.

    Attributes:
        voices: what is loaded. rows: the further voices. tr: into the page's language. none, error: words of the page.
    """

    voices: Voices
    rows: BlendRows
    tr: Tr
    none: str
    error: str
    _sid: Optional[Any]
    _has_speaker: bool
    _protects: List[Any]
    _indices: List[Any]

    def _answer(self, *shown: Any, **blend: Optional[State]) -> List[Any]:
        """An answer for all that a choice shows: `shown` for the first of it, no change of the rest, and a new text for
        `answered`. blend: what the further rows show, where they are to show something else."""
        count = 4 + (self._sid is not None) + self._has_speaker + len(self._protects) + len(self._indices)
        rows = self._blend_shown(blend["blend"]) if "blend" in blend else [update()] * (2 + len(self.rows.outputs))
        whole = [*shown, *(update() for _ in range(count - len(shown)))]
        return [*whole, *(rows if len(whole) == count else []), uuid.uuid4().hex]

    def _blend_shown(self, state: Optional[State]) -> List[Any]:
        """The first strength, the preview and the further rows, as they are loaded."""
        sound = self._player(state.adapter) if state is not None else ""
        return [update() if state is None else update(value=state.strength), update(value=sound, visible=bool(sound)),
                *self.rows.shown(state)]

    def _player(self, adapter: str) -> str:
        """The few seconds that an adapter's file carries, as HTML; "" where it carries none."""
        try:
            sound = read_preview(self.voices.catalog.adapter_path(adapter)) if adapter else b""
        except (UserError, OSError):
            return ""
        if not sound:
            return ""
        source = f"data:{PREVIEW_KINDS[sound[:4]]};base64,{base64.b64encode(sound).decode()}"
        caption = escape(self.tr("How it sounds, as its file carries it"))
        return f'<label>{caption}<br><audio controls preload="none" src="{source}"></audio></label>'

    def _chosen_rows(self, rows: Sequence[Any]) -> Optional[Extras]:
        """What the further rows name; None where an event sent none, or nonsense."""
        try:
            return self.rows.chosen(rows) if len(rows) == len(self.rows.values) else None
        except UserError:
            return None

    def _shown(self, empty: bool = False) -> List[Any]:
        """What is loaded: status, metadata, base and adapter. empty: where nothing is, empty the lists' choice."""
        state = self.voices.state
        if state is None:
            return [self._said(None), "",
                    *([update(value=""), update(value=self.none)] if empty else [update(), update()])]
        return [self._said(state), self._details(state.adapter), update(value=state.base),
                update(value=state.adapter or self.none)]

    def _said(self, state: Optional[State]) -> str:
        if state is None:
            return self.tr("No LoRA voice: choose an adapter, or a voice in RVC's own list above.")
        status = self.tr("on {base}", base=state.base)
        if not state.adapter and not state.extras:
            status = self.tr("{base}, the base alone", base=state.base)
        if state.adapter:
            status = self.tr("{adapter}\non {base}\nstrength {strength:g}", adapter=state.adapter, base=state.base,
                           strength=state.strength)
        more = [self.tr("\nwith {adapter} at {strength:g}", adapter=name, strength=strength)
                for name, strength in state.extras]
        noise = round(state.heard, 2)
        more += [self.tr("\nrandom noise {noise:g} of RVC's own", noise=noise)] if noise != 1 else []
        return status + "".join(more)

    def _failed(self, error: Exception, still: bool = True) -> str:
        if not isinstance(error, UserError):
            logger.exception("RVC-LoRA")
        state, kept = self.voices.state, ""
        if still and state is not None:
            kept = self.tr("\nStill loaded: ") + self._said(state).replace("\n", self.tr(", "))
        return self.error + error_text(error, self.tr) + kept

    def _details(self, adapter: str) -> str:
        if not adapter:
            return ""
        try:
            return describe(self.voices.catalog.adapter_path(adapter), self.tr)
        except Exception as error:  # a stranger's file: whatever it makes of the reading
            return error_text(error, self.tr)

    def _adapter(self, value: Any) -> str:
        text = self._text(value)
        return "" if text == self.none else text

    @staticmethod
    def _text(value: Any) -> str:
        return value if isinstance(value, str) else ""
