"""A recording that the page is given, read by our own reader: Gradio's needs ffmpeg for all but WAV, and shows its
pages of options."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

import gradio as gr
import soundfile

from ..inference.audio import read_audio
from ..inference.convert import INPUT_RATE
from ..messages import UserError


class Recording(gr.Audio):
    """`gr.Audio` that hands on the path of what was uploaded, recorded or chosen, as it is; what was trimmed in the
    page as a WAV file of `INPUT_RATE` Hz. A file that is no audio is handed on too: whoever reads it says so."""

    is_template = True  # the page shows Gradio's own component

    def preprocess(self, x: Optional[Dict[str, Any]]) -> Optional[str]:
        """x: what the page sends: name, data, is_file, crop_min and crop_max (percent)."""
        if x is None:
            return None
        if x.get("is_file"):
            path = str(self.make_temp_copy_if_needed(x["name"]))
        else:
            path = str(self.base64_to_temp_file_if_needed(x["data"], x["name"]))
        low, high = x.get("crop_min", 0), x.get("crop_max", 100)
        numbers = all(isinstance(edge, (int, float)) for edge in (low, high))
        if not numbers or not 0 <= low < high <= 100 or (low, high) == (0, 100):
            return path
        try:
            audio = read_audio(path, INPUT_RATE)
        except UserError:
            return path
        folder = tempfile.mkdtemp(dir=str(Path(path).parent))
        trimmed = Path(folder) / (Path(path).stem + ".wav")
        kept = audio[int(len(audio) * low / 100):int(len(audio) * high / 100)]
        soundfile.write(str(trimmed), kept, INPUT_RATE, subtype="FLOAT")
        return str(trimmed)
