"""What `python run.py demo` left for the app: its voice, loaded as the page opens, and four recordings to compare."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Dict

from ..messages import Text, UserError
from ..models.catalog import Catalog
from .panel.voices import Voices
from .text import Tr

FOLDER, ADAPTER = "demo", "lora/demo_voice.safetensors"
RECORDINGS: Dict[str, Text] = {
    "source.wav": Text("Source: another speaker"),
    "converted_base.wav": Text("Converted by the base alone"),
    "converted.wav": Text("Converted by base + adapter"),
    "target.wav": Text("Target: the real voice, same words"),
}
"""The demo's files in the order in which they are played, with their titles."""


def load_voice(voices: Voices) -> bool:
    """Load the demo's voice, if it is there and none is loaded; whether it was."""
    if voices.state is not None or ADAPTER not in voices.catalog.adapters():
        return False
    with contextlib.suppress(UserError, OSError):  # a damaged one is shown by the list, and says why when it is chosen
        return voices.load("", ADAPTER) is not None
    return False


def first_words(catalog: Catalog, tr: Tr) -> str:
    """What to do first, as a paragraph of Markdown; nothing where there is an adapter."""
    if catalog.adapters():
        return ""
    return "\n\n" + tr("**How to begin**: in the tab LoRA Train the bundled recordings are filled in. Press One-click "
                       "training there, then Try this voice. Your own recordings go the same way.")


def components(root: Path, tr: Tr) -> None:
    """The recordings, where the page is being built; nothing where there was no demo."""
    import gradio as gr

    places = {name: root / FOLDER / name for name in RECORDINGS}
    if not all(place.is_file() for place in places.values()):
        return
    with gr.Accordion(tr("The demo: the same sentence, four times"), open=True):
        with gr.Row():
            for name, place in places.items():
                gr.Audio(value=str(place), label=tr(RECORDINGS[name]), interactive=False)
