"""The clips kept out of training, by the host's own inference path: the figures that tell whether a voice gets better.

Log-mel L1 says how near a voice is, and rewards blur: where a network does not know which of two sounds it is, their
mean is nearest to both. So sharpness stands beside it (`LoraModel/sharpness.py`), and the best save is the one of the
lowest `Score.value`.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..host.networks import Mel
from ..messages import tr
from ..models.random_state import undisturbed
from ..models.synthesizer_lora import infer
from ..sharpness import Sharpness, sharpness, sharpness_ratios
from .data_loader import ClipSet, recording_of
from .judge import NOTHING, Judged


class Reconstructed(NamedTuple):
    """One clip. error: L1 of natural log-mel against the recording; audio, real: (samples,); mel: (bands, frames), of
    `audio`; variance, contrast: global variance and frame contrast over the recording's, 1 is as sharp."""

    error: float
    audio: np.ndarray
    real: np.ndarray
    mel: Tensor
    variance: float = math.nan
    contrast: float = math.nan


Sharp = Tuple[Optional[float], Optional[float]]
"""Global variance and frame contrast over the recordings', as a run keeps them."""
UNKNOWN: Sharp = (None, None)


class Score(NamedTuple):
    """How good a voice is on the clips kept out of training.

    Attributes:
        error: log-mel L1, mean over the clips. variance, contrast: means over the clips that have them, None where
            none has. judged: by networks, where they were asked.
    """

    error: float
    variance: Optional[float] = None
    contrast: Optional[float] = None
    judged: Judged = NOTHING

    @property
    def value(self) -> float:
        """What the best save is chosen by, lower is better: the error times 1 + the mean distance of the two ratios
        from 1.

        So one percent of sharpness weighs as much as one percent of log-mel L1, and roughness counts as blur does; and
        so does a hundredth that the similarity to the speaker lacks, and four hundredths of a point of DNSMOS.
        """
        off = [abs(1 - ratio) for ratio in (self.variance, self.contrast) if ratio is not None]
        return self.error * (1 + (sum(off) / len(off) if off else 0.0)) * self.judged.factor

    @property
    def sharp(self) -> Sharp:
        return self.variance, self.contrast

    def words(self) -> str:
        """The sharpness for the user, in percent of the recordings'."""
        variance, contrast = ("?" if ratio is None else f"{100 * ratio:.0f}%" for ratio in self.sharp)
        return tr("sharpness relative to the recordings: {variance} (variance), {contrast} (frame contrast)",
                  variance=variance, contrast=contrast)

    def log(self) -> Dict[str, Any]:
        """For train.jsonl and TensorBoard."""
        return {"heldout_mel": self.error, "heldout_variance": self.variance, "heldout_contrast": self.contrast,
                "heldout_score": self.value, **self.judged.log()}


def for_adapter(base: Optional[float], base_sharp: Sharp, score: Optional[Score]) -> str:
    """What an adapter's metadata says of the clips kept out, JSON: base and adapter by log-mel L1, and how sharp both
    are."""
    sharp = score.sharp if score else UNKNOWN
    return json.dumps({"base": base, "adapter": score.error if score else None, "metric": "log-mel L1, inference path",
                       "base_global_variance": base_sharp[0], "base_frame_contrast": base_sharp[1],
                       "global_variance": sharp[0], "frame_contrast": sharp[1]})


def read_sharp(saved: Any) -> Sharp:
    """What a save holds of the sharpness; unknown in a save from before it was measured.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if saved is None:
        return UNKNOWN
    variance, contrast = saved
    for ratio in (variance, contrast):
        if ratio is not None and (type(ratio) is not float or not math.isfinite(ratio)):
            raise ValueError("sharpness")
    return variance, contrast


def score_of(clips: Sequence[Reconstructed]) -> Score:
    """The mean over the clips."""
    def mean(values: List[float]) -> Optional[float]:
        known = [value for value in values if math.isfinite(value)]
        return sum(known) / len(known) if known else None

    return Score(sum(clip.error for clip in clips) / len(clips), mean([clip.variance for clip in clips]),
                 mean([clip.contrast for clip in clips]))


PREVIEWS = 2
"""Held-out clips whose sound is kept at each save."""


def choose_previews(clips: ClipSet, most: int) -> List[int]:
    """Which of the first `most` clips are worth listening to: the longest of each recording, the longest first."""
    longest: Dict[str, int] = {}
    order = sorted(range(min(most, len(clips))), key=lambda index: -clips.frames[index])
    for index in order:
        longest.setdefault(recording_of(clips.clips[index]), index)
    chosen = list(longest.values())
    return (chosen + [index for index in order if index not in chosen])[:PREVIEWS]


class HeldOut:
    """Args:
        speaker: the row of the speaker table that the voice uses. most: at most this many clips are evaluated.

    Attributes:
        previews: which of them are to be listened to, by their place.
    """

    def __init__(self, clips: ClipSet, mel: Mel, speaker: int, device: torch.device, most: int):
        self._clips, self._mel, self._speaker, self._device, self._most = clips, mel, speaker, device, most
        self.previews = choose_previews(clips, most)

    @torch.no_grad()
    def measure(self, network: nn.Module) -> List[Reconstructed]:
        """Every clip through `network`, which must be in evaluation mode.

        Each clip has its own fixed noise, so that measurements can be compared; random generators are left as they
        were.
        """
        clips = []
        with undisturbed(self._device):
            for index, batch in enumerate(self._clips.one_by_one(self._most)):
                batch = batch.to(self._device)
                torch.manual_seed(index)
                sid = torch.full_like(batch.speaker, self._speaker)
                audio = infer(network, batch.phone, batch.lengths, batch.pitch, batch.f0, sid).squeeze(1).float()
                mel, real = self._mel.of_audio(audio), self._mel.of_spectrogram(batch.spec)
                frames = min(mel.shape[2], real.shape[2])
                error = float(F.l1_loss(mel[..., :frames], real[..., :frames]))
                sharp = sharpness_ratios(*(sharpness_of(each[0, :, :frames]) for each in (mel, real)))
                clips.append(Reconstructed(error, audio[0].cpu().numpy(), batch.wave[0, 0].cpu().numpy(), mel[0],
                                   sharp["global_variance"], sharp["frame_contrast"]))
        return clips


def sharpness_of(mel: Tensor) -> Sharpness:
    """mel: (bands, frames). What is not finite counts as 0: the error is not finite either then, and ends the run."""
    return sharpness(np.nan_to_num(mel.float().cpu().numpy(), nan=0.0, posinf=0.0, neginf=0.0))
