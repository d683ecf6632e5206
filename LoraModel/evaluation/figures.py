"""The figures that tables and charts show: how each is called, which way is better, and what it means in one
sentence."""

from __future__ import annotations

from typing import Dict, NamedTuple

from ..messages import Text


class Figure(NamedTuple):
    """What is known of a figure.

    Attributes:
        name: what it is called. unit: of what is shown. better: "lower", "higher", or "near": the nearer to `aim`.
        means: one sentence on what it says and which way is better.
        factor, digits: for showing it.
    """

    name: Text
    unit: str
    better: str
    means: Text
    factor: float = 1.0
    digits: int = 3
    aim: float = 0.0

    def badness(self, value: float) -> float:
        """Lower is better, whichever way the figure itself goes."""
        return {"lower": value, "higher": -value, "near": abs(value - self.aim)}[self.better]

    @property
    def way(self) -> str:
        """For programs: "lower", "higher", "nearest 1", "nearest 0"."""
        return f"nearest {self.aim:g}" if self.better == "near" else self.better


FIGURES: Dict[str, Figure] = {
    "mel_l1": Figure(
        Text("log-mel L1"),
        "",
        "lower",
        Text("How far the spectrum is from the recording’s: lower is nearer, 0.69 is a factor of two in every band; "
             "it does not hear blur."),
    ),
    "mcd_db": Figure(
        Text("mel-cepstral distortion"),
        "dB",
        "lower",
        Text("How far the spectrum’s envelope is from the recording’s, pauses and level left out: lower is nearer."),
        1.0,
        2,
    ),
    "f0_rmse_cents": Figure(
        Text("pitch error"),
        "cents",
        "lower",
        Text("How far the pitch is off where both are voiced: lower is better, 100 are a semitone."),
        1.0,
        0,
    ),
    "pitch_correlation": Figure(
        Text("pitch correlation"),
        "",
        "higher",
        Text("Whether the melody follows the source’s, at whatever transposition: higher is better, 1 is the same "
             "melody."),
    ),
    "voicing_error": Figure(
        Text("voicing error"),
        "%",
        "lower",
        Text("The share of frames that are voiced in only one of the two; they agree on the rest: lower is better."),
        100.0,
        1,
    ),
    "word_error": Figure(
        Text("word error"),
        "%",
        "lower",
        Text("The share of words that a speech recogniser no longer hears as they were said: lower is better."),
        100.0,
        1,
    ),
    "content": Figure(
        Text("content distance"),
        "",
        "lower",
        Text("How far the content features (what is said) are from the source’s: lower keeps more of the words, 0 is "
             "the same."),
    ),
    "global_variance": Figure(
        Text("global variance"),
        "",
        "near",
        Text("How much the bands move over time relative to real recordings: 1 is as sharp, below 1 the voice is "
             "blurred."),
        aim=1.0,
    ),
    "frame_contrast": Figure(
        Text("frame contrast"),
        "",
        "near",
        Text("How much one frame differs from the next relative to real recordings: 1 is as crisp, below 1 onsets "
             "are smeared."),
        aim=1.0,
    ),
    "band_contrast": Figure(
        Text("band contrast"),
        "",
        "near",
        Text("How much harmonics and formants stand out relative to real recordings: 1 is as clear, below 1 the "
             "timbre is washed out."),
        aim=1.0,
    ),
    "modulation_db": Figure(
        Text("modulation"),
        "dB",
        "near",
        Text("How strongly the spectrum moves at 2 to 25 times a second relative to real recordings: 0 is as lively, "
             "below 0 it is smoothed."),
        1.0,
        2,
    ),
    "high_db": Figure(
        Text("energy above 4 kHz"),
        "dB",
        "near",
        Text("How much of the energy lies above 4 kHz relative to real recordings: 0 is as bright, below 0 it is "
             "duller, above 0 harsher."),
        1.0,
        2,
    ),
    "hnr_db": Figure(
        Text("harmonics to noise"),
        "dB",
        "near",
        Text("Harmonics over noise in voiced sounds relative to real recordings: 0 is as it should be, below 0 is "
             "hoarse, above 0 buzzes."),
        1.0,
        2,
    ),
    "similarity": Figure(
        Text("similarity to the speaker"),
        "",
        "higher",
        Text("How much it sounds like the speaker’s other recordings: higher is better."),
    ),
    "to_target": Figure(
        Text("similarity to the target"),
        "",
        "higher",
        Text("How much it sounds like the target’s recordings: higher is better."),
    ),
    "to_source": Figure(
        Text("similarity to the source"),
        "",
        "lower",
        Text("How much it still sounds like the source speaker: lower is better."),
    ),
    "leak": Figure(
        Text("leak of the source speaker"),
        "%",
        "lower",
        Text("How much of the source speaker is left: lower is better, 0% is no more like the source than the target "
             "is, 100% is the source."),
        100.0,
        1,
    ),
    "dnsmos": Figure(
        Text("DNSMOS"),
        "",
        "higher",
        Text("How good it sounds to a network that rates speech from 1 to 5 without a reference: higher is better."),
        1.0,
        2,
    ),
}
"""In the order in which they are shown; DNSMOS's parts stand in the JSON alone."""
