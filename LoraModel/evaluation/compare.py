"""Voices against recordings: every clip's figures, and their means with intervals.

Two questions. Does the voice give back its own speaker's recordings (kept out of training, converted by the voice
itself without transposition, compared with the originals)? And what becomes of other speakers' recordings?
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..inference.stand_in import SAMPLE_RATE
from ..judges import SpeakerEncoder, SpeechQuality, cosine_to_mean, speaker_leak
from ..messages import UserError
from .bootstrap import difference_interval, mean_interval
from .metrics import at_16k, pair_metrics, pitch_figures
from .recordings import Recording
from .texture import mean_texture, texture, texture_figures
from .words import Listener, content_distance, text_beside, word_error

Figures = Dict[str, float]
"""One clip's figures by their key; NaN where one could not be found."""

MOST_SEMITONES = 48.0


@dataclass
class Judges:
    """The networks that judge; None for one that is left out."""

    encoder: Optional[SpeakerEncoder] = None
    quality: Optional[SpeechQuality] = None
    listener: Optional[Listener] = None

    def rate(self, audio: np.ndarray, sr: int) -> Figures:
        """DNSMOS of (samples,) at `sr` Hz; empty without it."""
        return self.quality.rate(audio, sr) if self.quality is not None else {}

    def embedding(self, audio: np.ndarray, sr: int) -> Optional[np.ndarray]:
        """(256,) of (samples,) at `sr` Hz; None without the encoder, or where it finds no speech."""
        if self.encoder is None:
            return None
        try:
            return self.encoder.embedding(audio, sr)
        except UserError:
            return None


    def words(self, clip: Recording, audio: np.ndarray, sr: int) -> Figures:
        """`word_error` of (samples,) at `sr` Hz that should say what the recording says; empty without the recogniser.

        What the recording says is the text beside it, else what the recogniser hears in it.
        """
        if self.listener is None:
            return {}
        if clip.language is None:
            recognised, clip.language = self.listener.hear(clip.audio, SAMPLE_RATE)
            clip.text = text_beside(clip.path) or recognised
        return {"word_error": word_error(self.listener.hear(audio, sr, clip.language)[0], clip.text)}


@dataclass
class Voice:
    """What converts.

    Attributes:
        convert: (samples,) at 16 kHz and semitones to transpose -> (samples,) at `sample_rate`.
        sample_rate: Hz.
        label: how messages call it.
        content: (samples,) at 16 kHz -> content features (frames, size); None leaves their distance out.
    """

    convert: Callable[[np.ndarray, float], np.ndarray]
    sample_rate: int
    label: str = "the voice"
    content: Optional[Callable[[np.ndarray], np.ndarray]] = None

    def __call__(self, clip: Recording, semitones: float = 0.0) -> np.ndarray:
        """A recording converted; UserError where the voice gives samples that are not finite."""
        generated = self.convert(clip.audio, semitones)
        if not np.isfinite(generated).all():
            raise UserError("{label} turns {path} into samples that are not numbers: the model is damaged, train or "
                            "download it again", label=self.label, path=clip.path)
        return generated


    def distance(self, clip: Recording, generated: np.ndarray) -> Figures:
        """`content`, how far the features of a conversion are from the recording's; empty where the voice has none."""
        if self.content is None:
            return {}
        return {"content": content_distance(self.content(at_16k(generated, self.sample_rate)),
                                            self.content(clip.audio))}


@dataclass
class Listened:
    """What the report plays: (clip, samples, rate), for as many clips as were asked for."""

    most: int = 0
    sounds: List[Tuple[str, np.ndarray, int]] = field(default_factory=list)

    def keep(self, clip: Recording, audio: np.ndarray, rate: int) -> None:
        """Keep (samples,) at `rate` Hz, if there is still room."""
        if len(self.sounds) < self.most:
            self.sounds.append((clip.name, audio, rate))


def _cosine(embedding: Optional[np.ndarray], references: Sequence[Optional[np.ndarray]]) -> float:
    known = [reference for reference in references if reference is not None]
    return cosine_to_mean(embedding, known) if embedding is not None and known else math.nan


def _to_the_others(embedding: Optional[np.ndarray], clips: Sequence[Recording], clip: Recording) -> float:
    """Cosine to the speaker's other recordings; NaN where there is no other."""
    return _cosine(embedding, [other.embedding for other in clips if other is not clip])


def evaluate_real(clips: Sequence[Recording], judges: Judges,
                  done: Callable[[], object] = lambda: None) -> List[Figures]:
    """The recordings themselves, the ceiling: similarity of each to the others, DNSMOS."""
    found = []
    for clip in clips:
        found.append({**_named("similarity", _to_the_others(clip.embedding, clips, clip), judges),
                      **judges.rate(clip.audio, SAMPLE_RATE)})
        done()
    return found


def evaluate_clips(
    voice: Voice, clips: Sequence[Recording], judges: Optional[Judges] = None,
    done: Callable[[], object] = lambda: None, listened: Optional[Listened] = None,
) -> List[Figures]:
    """The voice's own speaker's recordings, converted without transposition and compared with the originals.

    Args:
        clips: of the voice's speaker, kept out of its training.
        judges: None for distances alone.
        done: called after each clip. listened: keeps what is to be played.

    Returns:
        For each clip `metrics.pair_metrics` and `texture.texture_figures` at the voice's rate; `content` where the
        voice has features, `word_error` with a recogniser; with an encoder `similarity`, to the speaker's other clips;
        with DNSMOS its four ratings.
    """
    judges = judges or Judges()
    found = []
    for clip in clips:
        generated, rate = voice(clip), voice.sample_rate
        real = clip.at(rate)
        figures = {**pair_metrics(generated, real, rate),
                   **texture_figures(texture(generated, rate), texture(real, rate))}
        figures.update({**voice.distance(clip, generated), **judges.words(clip, generated, rate)})
        figures.update(_named("similarity", _to_the_others(judges.embedding(generated, rate), clips, clip), judges))
        figures.update(judges.rate(generated, rate))
        found.append(figures)
        if listened is not None:
            listened.keep(clip, generated, rate)
        done()
    return found


def evaluate_sources(
    voice: Voice, sources: Sequence[Recording], clips: Sequence[Recording], judges: Judges,
    done: Callable[[], object] = lambda: None, listened: Optional[Listened] = None,
) -> List[Figures]:
    """Other speakers' recordings, each transposed by the difference of median pitch and converted.

    Args:
        sources: of other speakers. clips: of the voice's speaker; the rest as `evaluate_clips`.

    Returns:
        For each source `transpose` in semitones, `metrics.pitch_figures` beside the source, `texture.texture_figures`
        beside the target's recordings, `content` and `word_error` as `evaluate_clips`; with an encoder `to_target`,
        `to_source` and `leak`; with DNSMOS its four ratings.
    """
    found = []
    if not sources:
        return found
    target = mean_texture([texture(clip.at(voice.sample_rate), voice.sample_rate) for clip in clips])
    for source in sources:
        semitones = transposition(source, clips)
        generated, rate = voice(source, semitones), voice.sample_rate
        embedding = judges.embedding(generated, rate)
        figures: Figures = {"transpose": semitones, **pitch_figures(at_16k(generated, rate), source.audio, SAMPLE_RATE)}
        figures.update(texture_figures(texture(generated, rate), target))
        figures.update({**voice.distance(source, generated), **judges.words(source, generated, rate)})
        figures.update(_named("to_target", _cosine(embedding, [clip.embedding for clip in clips]), judges))
        figures.update(_named("to_source", _cosine(embedding, [source.embedding]), judges))
        figures.update(_named("leak", _leak(embedding, source, clips), judges))
        found.append({**figures, **judges.rate(generated, rate)})
        if listened is not None:
            listened.keep(source, generated, rate)
        done()
    return found


def _leak(embedding: Optional[np.ndarray], source: Recording, clips: Sequence[Recording]) -> float:
    known = [clip.embedding for clip in clips if clip.embedding is not None]
    if embedding is None or source.embedding is None or not known:
        return math.nan
    return speaker_leak(embedding, source.embedding, known)


def evaluate_unconverted(sources: Sequence[Recording], clips: Sequence[Recording], judges: Judges,
                         done: Callable[[], object] = lambda: None) -> List[Figures]:
    """The sources as they are, where conversion starts: beside the target's recordings, `to_target` of each, DNSMOS."""
    found: List[Figures] = []
    target = mean_texture([texture(clip.audio, SAMPLE_RATE) for clip in clips]) if sources else None
    for source in sources:
        to_target = _cosine(source.embedding, [clip.embedding for clip in clips])
        found.append({**texture_figures(texture(source.audio, SAMPLE_RATE), target),
                      **_named("to_target", to_target, judges), **judges.rate(source.audio, SAMPLE_RATE)})
        done()
    return found


def _named(key: str, value: float, judges: Judges) -> Figures:
    return {key: value} if judges.encoder is not None else {}


def transposition(source: Recording, clips: Sequence[Recording]) -> float:
    """Semitones from the source's median pitch to the target's over all clips, rounded; 0 where one has no voiced
    frame."""
    target = np.concatenate([clip.voiced for clip in clips])
    if not len(target) or not len(source.voiced):
        return 0.0
    semitones = round(12 * math.log2(np.median(target) / np.median(source.voiced)))
    return float(np.clip(semitones, -MOST_SEMITONES, MOST_SEMITONES))


def _finite(value: Optional[float]) -> bool:
    return value is not None and math.isfinite(value)


def means(clips: Sequence[Figures]) -> Dict[str, Dict[str, float]]:
    """Mean and 95% interval of every figure: {key: {"mean", "low", "high", "clips"}}. Clips without the figure are
    left out and "clips" counts the rest; a figure that no clip has is left out."""
    found: Dict[str, Dict[str, float]] = {}
    for key in dict.fromkeys(key for clip in clips for key in clip):
        values = [clip[key] for clip in clips if _finite(clip.get(key))]
        if values:
            interval = mean_interval(values)
            found[key] = {"mean": interval.value, "low": interval.low, "high": interval.high, "clips": len(values)}
    return found


def differences(clips: Sequence[Figures], first: Sequence[Figures]) -> Dict[str, Dict[str, float]]:
    """Mean of the paired difference to `first` over the same clips, with its 95% interval, as `means` gives it."""
    found: Dict[str, Dict[str, float]] = {}
    for key in dict.fromkeys(key for clip in clips for key in clip):
        pairs = [(ours[key], theirs[key]) for ours, theirs in zip(clips, first) if _finite(ours.get(key))
                 and _finite(theirs.get(key))]
        if pairs:
            interval = difference_interval(*zip(*pairs))
            found[key] = {"mean": interval.value, "low": interval.low, "high": interval.high, "clips": len(pairs)}
    return found
