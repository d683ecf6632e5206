"""What `python run.py demo` left for the app: its voice, loaded as the page opens, and four recordings to compare."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Dict, Tuple

from ..messages import UserError
from .text import Tr
from .voices import Voices

FOLDER, ADAPTER = "demo", "lora/demo_voice.safetensors"
RECORDINGS: Dict[str, Tuple[str, str]] = {
    "source.wav": ("Source: another speaker", "源音频：另一位说话人"),
    "converted_base.wav": ("Converted by the base alone", "仅用底模转换"),
    "converted.wav": ("Converted by base + adapter", "底模 + 适配器转换"),
    "target.wav": ("Target: the real voice, same words", "目标：真实录音，相同内容"),
}
"""The demo's files in the order in which they are heard, with their titles in English and Chinese."""


def load_voice(voices: Voices) -> bool:
    """Load the demo's voice, if it is there and none is loaded; whether it was."""
    if voices.state is not None or ADAPTER not in voices.catalog.adapters():
        return False
    with contextlib.suppress(UserError, OSError):  # a damaged one is shown by the list, and says why when it is chosen
        return voices.load("", ADAPTER) is not None
    return False


def components(root: Path, tr: Tr) -> None:
    """The recordings, where the page is being built; nothing where there was no demo."""
    import gradio as gr

    places = {name: root / FOLDER / name for name in RECORDINGS}
    if not all(place.is_file() for place in places.values()):
        return
    with gr.Accordion(tr("The demo: the same sentence, four times"), open=True):
        with gr.Row():
            for name, place in places.items():
                gr.Audio(value=str(place), label=tr(*RECORDINGS[name]), interactive=False)
