"""The panel's slider for the noise of whatever is loaded.

Scripts call it by name: `lora_noise(share)`, 0 for the voices' own; it answers what is loaded, and with another text.
"""

from __future__ import annotations

import uuid
from typing import Any, Callable, List, Optional

import gradio as gr

from ...models.prior_noise import MAX_NOISE
from ..help_texts import Help
from ..text import Tr
from .blend_rows import update
from .slider_rest import SliderRest
from .voices import State, Voices


class NoiseSlider:
    """Args:
        said: what is loaded, in words. failed: what to show of an error.
    """

    def __init__(self, voices: Voices, tr: Tr, said: Callable[[Optional[State]], str],
                 failed: Callable[[Exception], str]):
        self.voices, self.tr, self._said, self._failed = voices, tr, said, failed
        self._rest = SliderRest()
        self._refused: Any = None  # it is not tried again by itself

    def component(self, info: Help) -> None:
        self.slider = gr.Slider(minimum=0, maximum=MAX_NOISE, step=0.05, value=self.voices.noise,
                                **info("noise", self.tr("Noise")), interactive=True)

    def events(self, status: Any, answered: Any) -> None:
        """status: shows what is loaded. answered: another text with every answer of the panel."""
        self.slider.change(self.change, [self.slider], [status, answered], show_progress=False, api_name="lora_noise",
                           queue=False)
        answered.change(self.settle, [self.slider], [status, answered], show_progress=False, queue=False)

    def change(self, noise: Any) -> List[Any]:
        """Another share of RVC's noise for what is loaded."""
        return [update(), uuid.uuid4().hex] if self._rest.passed() else self._set(noise)

    def settle(self, noise: Any) -> List[Any]:
        """After every answer: what the slider says by now. Gradio's pages drop a change while another is under way."""
        return [update(), update()] if noise in (self.voices.noise, self._refused) else self._set(noise)

    def _set(self, noise: Any) -> List[Any]:
        try:
            state, self._refused = self.voices.set_noise(noise), None
        except Exception as error:
            self._refused = noise
            return [self._failed(error), uuid.uuid4().hex]
        return [update() if state is None else self._said(state), uuid.uuid4().hex]
