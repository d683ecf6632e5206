"""What each control of our tab and panel is for, in a sentence or two beside it."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List

import gradio as gr

from ..messages import Text
from .text import Tr

HELP: Dict[str, Text] = {
    # the Train tab
    "experiments": Text("Choose one to see its progress, to resume it, or to fill in its settings again."),
    "name": Text("Names the folder in logs and the voice. An existing name uses its data again."),
    "rate": Text("That of the base. Recordings of any rate are converted to it."),
    "f0": Text("Leave it at True, except for a base that was trained without pitch."),
    "version": Text("That of the base. v2 is the usual one."),
    "recordings": Text("One person, no music, no other voices; five to ten minutes are plenty. Subfolders are "
                       "searched, other files skipped."),
    "f0_method": Text("rmvpe is the most reliable one where its model is there."),
    "preset": Text("Which layers are trained, and how large the file is: 221 to 793 KB for a v2 base of 40k. clear "
                   "keeps the words best and suits most voices; balanced comes a little nearer to the speaker and "
                   "loses more words."),
    "rank": Text("A higher rank learns finer detail and makes a larger file; a few minutes of recordings need no "
                 "more than the preset."),
    "alpha": Text("Scales what is learned, by alpha / rank. Leave it at 0 unless you know that you need another "
                  "value."),
    "save_every": Text("In epochs; while the epochs are 0, in tens of steps. At each save the adapter is evaluated on "
                       "held-out clips, and you can listen to it."),
    "epochs": Text("Passes over all recordings; 0 trains until nothing improves. The best save is kept, so too many do "
                   "no harm but take time."),
    "batch": Text("Clips in one step. Halve it where memory runs out."),
    "base_g": Text("What the adapter is trained on, and will be used with."),
    "base_d": Text("Adds RVC's adversarial losses: several times slower. On a small base it made no voice better; on "
                   "RVC's own it has not been measured."),
    "device": Text("auto takes the GPU where there is one."),
    "anew": Text("Trains from the first step on. The earlier run is kept as lora.1, lora.2, …"),
    # listening
    "clip": Text("Recordings that the training never hears: they tell what it has learned."),
    "save": Text("Drag back to hear how the voice was at earlier saves."),
    # the list of experiments and adapters
    "entry": Text("logs/NAME is an experiment with its data and its run, the others are adapters."),
    "rename": Text("Of an experiment, the adapter in the list is renamed along with it."),
    # the inference panel
    "base": Text("The large model that stays in memory. Choosing an adapter loads the base that it needs."),
    "adapter": Text("The small file of one voice. A change takes effect with the next conversion."),
    "search": Text("Shows only the adapters whose name contains this text."),
    "queue_voice": Text("The voice that the buttons beside it are for."),
    "more_adapter": Text("A further voice, whose change is added to the first one's."),
    "more_strength": Text("How much of this voice is added: 1 all of it, 0 nothing."),
    "strength": Text("1 is the voice as trained, 0 the base alone; above 1 exaggerates it."),
    "noise": Text("Share of the random noise that RVC makes a voice from (no background noise): 1 is RVC's own, less "
                  "is clearer and calmer, 0 is the voice's own setting (usually 0.45). Holds for every voice that is "
                  "chosen here; a merged voice keeps it."),
    "merge": Text("Writes what is loaded now as an ordinary RVC voice, for programs that know no adapters."),
    "auto_pitch": Text("Shifts a recording by whole semitones to where the LoRA voice speaks, and says by how many."),
    # the app's own page
    "voice": Text("Whole voices, such as merged ones. For base and adapter use the panel below."),
    "speaker": Text("0, unless the voice holds several people."),
    "transpose": Text("About 12 from a man to a woman, -12 the other way. At 0 the tick beside it chooses."),
    "index": Text("Features of the voice's own recordings: they bring the result closer to that voice."),
    "index_rate": Text("0 takes the source's features alone, 1 those of the index alone."),
    "protect": Text("Lower keeps more of the source's breath and voiceless sounds."),
}


class Help:
    """Gives controls their label and help text. Gradio 3.14 has no place for it beside them: `fold` puts all into one
    there."""

    def __init__(self, tr: Tr):
        self.tr = tr
        self.beside = "info" in inspect.signature(gr.Textbox.__init__).parameters
        self._said: List[str] = []

    def __call__(self, key: str, label: str) -> Dict[str, Any]:
        """The arguments `label` and, where it can be, `info` of a control."""
        text = self.tr(HELP[key])
        self._said.append(f"- **{label}** {text}")
        return {"label": label, "info": text} if self.beside else {"label": label}

    def fold(self) -> None:
        """What there is no place for beside the controls, unfolded on demand."""
        if not self.beside:
            with gr.Accordion(self.tr("What the controls are for"), open=False):
                gr.Markdown("\n".join(self._said))
