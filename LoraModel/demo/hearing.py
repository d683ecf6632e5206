"""What a listener would say of the demo's conversions: are the words there, does it sound natural, is it sharp?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np

from ..evaluation.judges import SpeechQuality
from ..evaluation.texture import mean_texture, texture, texture_figures
from ..evaluation.words import Listener, content_distance, word_edits
from ..inference.stand_in import content_features

RATE = 16000
SHARPNESS = ("global_variance", "frame_contrast", "band_contrast")


def texts_of(recordings: Path, kind: str) -> List[str]:
    """What is said in the recordings of a kind ("source", "target", "reference")."""
    manifest = json.loads((recordings / "manifest.json").read_text(encoding="utf-8"))
    return list(manifest[kind]["texts"])


def heard(source: Sequence[np.ndarray], made: Dict[str, Sequence[np.ndarray]], reference: Sequence[np.ndarray],
          texts: Sequence[str], asr: Optional[str] = None) -> Dict[str, float]:
    """Figures of conversions of the same recordings.

    Args:
        source: the recordings that were converted; made: name -> their conversions; reference: the target saying the
            first of them. All (samples,) at 16 kHz.
        texts: what the source says. asr: folder of a faster-whisper model; None counts no words.

    Returns:
        for each name `content_distance_NAME` (0: the content encoder hears the same), `dnsmos_NAME` (1 to 5),
        `global_variance_NAME`, `frame_contrast_NAME`, `band_contrast_NAME` (1: as sharp as the target's recordings) and
        with `asr` `word_error_NAME`; what can be said of the source and the reference too.
    """
    figures: Dict[str, float] = {}
    judge, listener = SpeechQuality(), None if asr is None else Listener(asr)
    content = [content_features(clip) for clip in source]
    real = mean_texture([texture(clip, RATE) for clip in reference])
    for name, clips in {"source": source, **made, "reference": reference}.items():
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
