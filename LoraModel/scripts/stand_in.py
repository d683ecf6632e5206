"""An experiment folder without RVC: slices by silence, the demo's stand-in for HuBERT, pitch by Praat."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Tuple

import librosa
import numpy as np
import soundfile
from scipy.io import wavfile

from ..inference import stand_in as features
from ..inference.audio import read_audio
from ..messages import UserError

LONGEST, SHORTEST = 4.0, 0.5  # seconds of a slice
JOIN = 0.3  # seconds of silence that may stay inside a slice
SILENCE = 40.0  # dB below the loudest
LEVEL = 0.85  # the peak of a slice, as in what the demo's base was trained on


def slices(audio: np.ndarray, rate: int) -> List[Tuple[int, int]]:
    """Where to cut: [(start, stop), …] in samples, at most `LONGEST` and at least `SHORTEST` seconds each.

    Sounds with less than `JOIN` seconds between them go together as long as they fit; a longer sound is cut evenly.
    """
    spans: List[Tuple[int, int]] = []
    for start, stop in librosa.effects.split(audio, top_db=SILENCE, frame_length=rate // 25, hop_length=rate // 100):
        if spans and start - spans[-1][1] <= JOIN * rate and stop - spans[-1][0] <= LONGEST * rate:
            spans[-1] = (spans[-1][0], int(stop))
        else:
            spans.append((int(start), int(stop)))
    cut = []
    for start, stop in spans:
        parts = max(1, int(np.ceil((stop - start) / (LONGEST * rate))))
        edges = np.linspace(start, stop, parts + 1).astype(int)
        cut += [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:])]
    return [(start, stop) for start, stop in cut if stop - start >= SHORTEST * rate]


def slice_recordings(recordings: List[Path], experiment: Path, rate: int, progress: Callable[[int], None]) -> None:
    """Write `0_gt_wavs` at `rate` Hz and `1_16k_wavs`, named NUMBER_PART.wav as RVC's script names them.

    Raises:
        UserError: a recording cannot be read (named), or there is nothing but silence.
    """
    own, at_16k = experiment / "0_gt_wavs", experiment / "1_16k_wavs"
    for folder in (own, at_16k):
        folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, path in enumerate(recordings):
        audio = read_audio(path, rate)
        for part, (start, stop) in enumerate(slices(audio, rate) if audio.any() else []):
            piece = audio[start:stop] / (np.abs(audio[start:stop]).max() + 1e-6) * LEVEL
            piece = piece[: len(piece) // (rate // 50) * (rate // 50)]  # whole frames of the features: 20 ms
            low = piece if rate == features.SAMPLE_RATE else librosa.resample(piece, orig_sr=rate, target_sr=features.SAMPLE_RATE)
            wavfile.write(str(at_16k / f"{number}_{part}.wav"), features.SAMPLE_RATE, low.astype(np.float32))
            wavfile.write(str(own / f"{number}_{part}.wav"), rate, piece.astype(np.float32))
            count += 1
        progress(number + 1)
    if not count:
        raise UserError(f"{recordings[0].parent} holds no sound of {SHORTEST} s or more: add recordings of the voice",
                        f"{recordings[0].parent} 中没有长于 {SHORTEST} 秒的声音：请添加录音")


def extract(experiment: Path, f0: bool, progress: Callable[[int], None]) -> None:
    """Write `3_feature768`, and with `f0` `2a_f0` and `2b-f0nsf`, for each slice."""
    folders = [experiment / name for name in ("3_feature768", "2a_f0", "2b-f0nsf")[: 3 if f0 else 1]]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted((experiment / "1_16k_wavs").glob("*.wav"))):
        audio, _ = soundfile.read(str(path), dtype="float32")
        np.save(str(folders[0] / f"{path.stem}.npy"), features.content_features(audio), allow_pickle=False)
        if f0:
            hz = features.pitch(audio, len(audio) // features.PITCH_HOP)
            np.save(str(folders[1] / f"{path.stem}.wav.npy"), features.coarse_pitch(hz), allow_pickle=False)
            np.save(str(folders[2] / f"{path.stem}.wav.npy"), hz, allow_pickle=False)
        progress(number + 1)
