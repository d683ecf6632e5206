"""The list of experiments and adapters in the Train tab, with its buttons Rename and Delete."""

from __future__ import annotations

import time
from html import escape
from typing import Any, Callable, List

import gradio as gr

from ...messages import UserError
from ..help_texts import Help
from ..text import Tr, error_text
from .shelf import LOGS, Shelf


class ShelfView:
    """The components, and their events.

    Attributes:
        table, entry, name, status: components.
    """

    def __init__(self, shelf: Shelf, tr: Tr):
        self.shelf, self.tr = shelf, tr

    def components(self) -> None:
        tr, info = self.tr, Help(self.tr)
        with gr.Accordion(tr("Experiments and adapters: rename, delete"), open=False):
            self.table = gr.HTML(value=self._table())
            with gr.Row():
                self.entry = gr.Dropdown(**info("entry", tr("Experiment or adapter")), choices=self.shelf.labels(),
                                         interactive=True)
                self.name = gr.Textbox(**info("rename", tr("New name")), interactive=True)
                with gr.Column(min_width=160):
                    self.rename = gr.Button(tr("Rename"))
                    self.delete = gr.Button(tr("Delete (into the trash folder)"), variant="stop")
                    self.again = gr.Button(tr("Refresh"))
            self.status = gr.Textbox(label=tr("Result"), interactive=False)
            info.fold()

    def events(self, experiment: Any, lists: List[Any], refresh: Callable[[], List[Any]]) -> None:
        """experiment: the field of the form that names one: a new name is followed there. refresh: gives new values
        for `lists`, the other lists of the page, after a change."""
        shown = [self.status, self.table, self.entry]
        self.rename.click(lambda entry, name, now: [*self._renamed(entry, name, now), *refresh()],
                          [self.entry, self.name, experiment], [*shown, self.name, experiment, *lists], queue=False)
        self.delete.click(lambda entry: [*self._deleted(entry), *refresh()], [self.entry], [*shown, *lists],
                          queue=False)
        self.again.click(lambda: [*self._shown("", None), *refresh()], [], [*shown, *lists], queue=False)

    def now(self) -> List[Any]:
        """What `shown_now` is to show."""
        return [self._table(), gr.update(choices=self.shelf.labels())]

    @property
    def shown_now(self) -> List[Any]:
        return [self.table, self.entry]

    def _renamed(self, entry: Any, name: Any, now: Any) -> List[Any]:
        """-> status, table, entry, new name, experiment of the form. now: the form's; it follows its own folder."""
        try:
            label = self.shelf.rename(entry, name)
        except (UserError, OSError) as error:
            return [*self._shown(error_text(error, self.tr), entry), gr.update(), gr.update()]
        ours = str(entry).startswith(LOGS) and str(now).strip() == str(entry)[len(LOGS):]
        return [*self._shown(self.tr("{entry} is {label} now", entry=str(entry), label=label), label),
                gr.update(value=""), gr.update(value=label[len(LOGS):]) if ours else gr.update()]

    def _deleted(self, entry: Any) -> List[Any]:
        """-> status, table, entry."""
        try:
            place = self.shelf.delete(entry)
        except (UserError, OSError) as error:
            return self._shown(error_text(error, self.tr), entry)
        return self._shown(self.tr("{entry} lies in {place} now; delete that folder when you are sure",
                                   entry=str(entry), place=place), None)

    def _shown(self, status: str, entry: Any) -> List[Any]:
        """What to show after an action. entry: what is chosen then, if it is still there."""
        labels = self.shelf.labels()
        return [status, self._table(), gr.update(choices=labels, value=entry if entry in labels else None)]

    def _table(self) -> str:
        """All entries with size and date."""
        heads = (self.tr("Name"), self.tr("Size"), self.tr("Date"))
        rows = "".join(
            f"<tr><td>{escape(item.label)}</td><td>{item.size / 1e6:,.1f} MB</td>"
            f"<td>{time.strftime('%Y-%m-%d %H:%M', time.localtime(item.changed))}</td></tr>"
            for item in self.shelf.items())
        head = "".join(f"<th>{escape(title)}</th>" for title in heads)
        return f'<div class="lora-shelf"><table><tr>{head}</tr>{rows}</table></div>'
