"""The panel's slider for the noise of whatever is loaded.

Scripts call it by name: `lora_noise(share)`, 0 for the voices' own; it answers what is loaded. What a page's slider
says is acted on once: two pages do not undo each other's.
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

    def component(self, info: Help) -> None:
        self.slider = gr.Slider(minimum=0, maximum=MAX_NOISE, step=0.05, value=self.voices.noise,
                                **info("noise", self.tr("Random noise")), interactive=True)
        self.acted = gr.State(self.voices.noise)  # what this page's slider last said and was acted on
        with gr.Row(visible=False):
            self.asked = gr.Button("", visible=False)  # of scripts alone

    def events(self, status: Any, answered: Any) -> None:
        """status: shows what is loaded. answered: another text with every answer of the panel."""
        outputs = [status, answered, self.acted, self.slider]
        self.slider.change(self.change, [self.slider], outputs, show_progress=False, queue=False)
        answered.change(self.settle, [self.slider, self.acted], outputs, show_progress=False, queue=False)
        self.asked.click(self.ask, [self.slider], [status, answered], api_name="lora_noise", queue=False)

    def change(self, noise: Any) -> List[Any]:
        """The slider moved: another share of RVC's noise for what is loaded, once it rests."""
        return [update(), uuid.uuid4().hex, None, update()] if self._rest.passed() else self._act(noise)

    def settle(self, noise: Any, acted: Any) -> List[Any]:
        """After every answer: what the slider says by now, where that was not acted on. Gradio's pages drop a change
        while another is under way."""
        if noise == acted and isinstance(noise, (int, float)):
            return [update(), update(), acted, update()]
        return self._act(noise)

    def ask(self, noise: Any) -> List[Any]:
        """A script's share, at once -> what is loaded then."""
        try:
            state = self.voices.set_noise(noise)
        except Exception as error:
            return [self._failed(error), uuid.uuid4().hex]
        words = self.tr("The random noise is for voices that are chosen here, not for those of RVC's own list.")
        return [words if state is None else self._said(state), uuid.uuid4().hex]

    def _act(self, noise: Any) -> List[Any]:
        """The slider goes back where its noise is refused."""
        if noise == self.voices.noise:
            return [update(), update(), noise, update()]
        answer, now = self.ask(noise), self.voices.noise
        return [*answer, now, update() if now == noise else update(value=now)]
