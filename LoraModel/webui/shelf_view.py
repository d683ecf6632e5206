"""The list of experiments and adapters in the Train tab, with its buttons Rename and Delete."""

from __future__ import annotations

import time
from html import escape
from typing import Any, Callable, List

import gradio as gr

from ..messages import UserError
from .help_texts import Help
from .shelf import Shelf
from .text import Tr, error_text


class ShelfView:
    """The components, and their events.

    Attributes:
        table, entry, name, said: components.
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
            self.said = gr.Textbox(label=tr("Result"), interactive=False)
            info.fold()

    def events(self, lists: List[Any], refresh: Callable[[], List[Any]]) -> None:
        """refresh: gives new values for `lists`, the other lists of the page, after a change."""
        outputs = [self.said, self.table, self.entry, *lists]
        self.rename.click(lambda entry, name: self._do(lambda: self._renamed(entry, name), refresh),
                          [self.entry, self.name], outputs, queue=False)
        self.delete.click(lambda entry: self._do(lambda: self._deleted(entry), refresh), [self.entry], outputs,
                          queue=False)
        self.again.click(lambda: self._do(str, refresh), [], outputs, queue=False)

    def _renamed(self, entry: Any, name: Any) -> str:
        return self.tr("{entry} is {label} now", entry=str(entry), label=self.shelf.rename(entry, name))

    def _deleted(self, entry: Any) -> str:
        return self.tr("{entry} lies in {place} now; delete that folder when you are sure", entry=str(entry),
                       place=self.shelf.delete(entry))

    def _do(self, action: Callable[[], str], refresh: Callable[[], List[Any]]) -> List[Any]:
        """What to show after an action, or why it could not be done."""
        try:
            said = action()
        except (UserError, OSError) as error:
            said = error_text(error, self.tr)
        return [said, self._table(), gr.update(choices=self.shelf.labels(), value=None), *refresh()]

    def _table(self) -> str:
        """All entries with size and date."""
        heads = (self.tr("Name"), self.tr("Size"), self.tr("Date"))
        rows = "".join(
            f"<tr><td>{escape(item.label)}</td><td>{item.size / 1e6:,.1f} MB</td>"
            f"<td>{time.strftime('%Y-%m-%d %H:%M', time.localtime(item.changed))}</td></tr>"
            for item in self.shelf.items())
        head = "".join(f"<th>{escape(title)}</th>" for title in heads)
        return f'<div class="lora-shelf"><table><tr>{head}</tr>{rows}</table></div>'
