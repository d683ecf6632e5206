"""Figures of the demo's conversions: words, naturalness, sharpness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np

from ..evaluation.texture import mean_texture, texture, texture_figures
from ..evaluation.words import Listener, content_distance, word_edits
from ..inference.stand_in import content_features
from ..judges import SpeechQuality

RATE = 16000
FRAME = RATE // 50
"""Samples of 20 ms."""
SHARPNESS = ("global_variance", "frame_contrast", "band_contrast")


def texts_of(recordings: Path, kind: str) -> List[str]:
    """The texts of the recordings of a kind ("source", "target", "reference")."""
    manifest = json.loads((recordings / "manifest.json").read_text(encoding="utf-8"))
    return list(manifest[kind]["texts"])


def sound_figures(clips: Sequence[np.ndarray]) -> Dict[str, float]:
    """How loud recordings are, and what is heard in their pauses, as means over them.

    clips: each (samples,), full scale 1.

    Returns:
        `level_db`: root mean square of the frames within 40 dB of the loudest, in dB of full scale; `noise_floor_db`:
        of the quietest twentieth of the frames; `dc_offset`: the distance of the mean from 0.
    """
    found = []
    for clip in clips:
        count = len(clip) // FRAME
        power = np.square(np.asarray(clip[:count * FRAME], np.float64).reshape(count, FRAME)).mean(axis=1) + 1e-12
        loud = power[power > power.max() * 1e-4].mean()
        quiet = np.sort(power)[:max(1, count // 20)].mean()
        found.append((10 * np.log10(loud), 10 * np.log10(quiet), abs(float(np.mean(clip)))))
    level, floor, offset = np.mean(found, axis=0)
    return {"level_db": float(level), "noise_floor_db": float(floor), "dc_offset": float(offset)}


def check_listener(asr: Optional[str]) -> None:
    """Check, before any work, that words can be counted.

    Raises:
        UserError: the folder holds no model, or faster-whisper is not installed.
    """
    if asr is not None:
        Listener(asr)


def conversion_figures(
    source: Sequence[np.ndarray], made: Dict[str, Sequence[np.ndarray]], reference: Sequence[np.ndarray],
    texts: Sequence[str], asr: Optional[str] = None
) -> Dict[str, float]:
    """Figures of conversions of the same recordings.

    Args:
        source: the recordings that were converted; made: name -> their conversions; reference: the target speaking the
            first of them. All (samples,) at 16 kHz.
        texts: of the source. asr: folder of a faster-whisper model; None counts no words.

    Returns:
        for each name those of `sound_figures`, `content_distance_NAME` (0: the same content),
        `dnsmos_NAME` (1 to 5), `global_variance_NAME`, `frame_contrast_NAME`, `band_contrast_NAME` (1: as sharp as the
        target's recordings) and with `asr` `word_error_NAME`; likewise for the source and the reference, where it
        applies.
    """
    figures: Dict[str, float] = {}
    judge, listener = SpeechQuality(), None if asr is None else Listener(asr)
    content = [content_features(clip) for clip in source]
    real = mean_texture([texture(clip, RATE) for clip in reference])
    for name, clips in {"source": source, **made, "reference": reference}.items():
        figures.update({f"{key}_{name}": value for key, value in sound_figures(clips).items()})
        figures[f"dnsmos_{name}"] = float(np.mean([judge.rate(clip, RATE)["dnsmos"] for clip in clips]))
        if listener is not None:
            errors, words = word_edits(listener, clips, RATE, texts, "en")
            figures[f"word_error_{name}"] = sum(errors) / sum(words)
        if name in made:
            distances = [content_distance(one, content_features(clip)) for one, clip in zip(content, clips)]
            figures[f"content_distance_{name}"] = float(np.mean(distances))
            ratios = texture_figures(mean_texture([texture(clip, RATE) for clip in clips[: len(reference)]]), real)
            figures.update({f"{key}_{name}": float(ratios[key]) for key in SHARPNESS})
    return figures
