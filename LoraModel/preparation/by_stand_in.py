"""An experiment folder without RVC: slices by silence, the demo's stand-in for HuBERT, pitch by Praat."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Callable, List, Tuple

import librosa
import numpy as np
import soundfile
from scipy.io import wavfile

from ..files import replace_file, system_name
from ..host import experiment as layout
from ..host.index import build_index
from ..inference import stand_in as features
from ..inference.audio import read_audio
from ..messages import UserError, tr
from .fingerprint import Settings
from .recordings import Recordings

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


def slice_recordings(recordings: Recordings, experiment: Path, rate: int, progress: Callable[[int], None]) -> None:
    """Write `0_gt_wavs` at `rate` Hz and `1_16k_wavs`, named NUMBER_PART.wav as RVC's script names them.

    A recording that cannot be read is named on standard error and left out.

    Raises:
        UserError: none can be read, or there is nothing but silence. OSError: as the file system gives it.
    """
    own, at_16k = experiment / layout.WAVS, experiment / layout.WAVS_16K
    for folder in (own, at_16k):
        folder.mkdir(parents=True, exist_ok=True)
    count, problems = 0, []
    for number, path in enumerate(recordings.files):
        try:
            audio = read_audio(path, rate)
        except UserError as error:
            problems.append(error)
            print(tr("left out: {error}", error=error), file=sys.stderr)
            continue
        for part, (start, stop) in enumerate(slices(audio, rate) if audio.any() else []):
            piece = audio[start:stop] / (np.abs(audio[start:stop]).max() + 1e-6) * LEVEL
            piece = piece[: len(piece) // (rate // 50) * (rate // 50)]  # whole frames of the features: 20 ms
            low = piece if rate == features.SAMPLE_RATE else librosa.resample(piece, orig_sr=rate,
                                                                              target_sr=features.SAMPLE_RATE)
            _write_wav(at_16k / f"{number}_{part}.wav", features.SAMPLE_RATE, low)
            _write_wav(own / f"{number}_{part}.wav", rate, piece)
            count += 1
        progress(number + 1)
    if problems and len(problems) == len(recordings.files):
        raise problems[0]
    if not count:
        raise UserError("{folder} holds no sound of {shortest} s or more: add recordings of the voice",
                        folder=recordings.folder, shortest=SHORTEST)


def extract_features(experiment: Path, progress: Callable[[int], None]) -> None:
    """Write `3_feature768` for each slice that has none.

    Raises:
        OSError: as the file system gives it.
    """
    for number, name in enumerate(_slice_names(experiment)):
        path = layout.feature_folder(experiment, "v2") / f"{name}.npy"
        if not path.is_file():
            _write_array(path, features.content_features(_slice(experiment, name)))
        progress(number + 1)


def extract_pitch(experiment: Path, progress: Callable[[int], None]) -> None:
    """Write `2a_f0` and `2b-f0nsf` for each slice that lacks one of them.

    Raises:
        OSError: as the file system gives it.
    """
    for number, name in enumerate(_slice_names(experiment)):
        coarse, pitch = layout.clip_files(experiment, name, "v2", True)[2:]
        if not coarse.is_file() or not pitch.is_file():
            audio = _slice(experiment, name)
            hz = features.pitch(audio, len(audio) // features.PITCH_HOP)
            _write_array(coarse, features.coarse_pitch(hz))
            _write_array(pitch, hz)
        progress(number + 1)


class StandInSteps:
    """What `steps.prepare` calls where there is no RVC checkout."""

    features = "stand-in"

    def __init__(self, experiment: Path, settings: Settings):
        self.experiment, self.settings = experiment, settings

    def title(self, step: str) -> str:
        return {"slices": tr("slicing"), "f0": tr("pitch (pm)"),
                "features": tr("features (stand-in)"), "index": tr("index")}[step]

    def slices(self, recordings: Recordings, progress: Callable[[int], None]) -> None:
        slice_recordings(recordings, self.experiment, self.settings.sample_rate, progress)

    def f0(self, progress: Callable[[int], None]) -> None:
        extract_pitch(self.experiment, progress)

    def find_features(self, progress: Callable[[int], None]) -> None:
        extract_features(self.experiment, progress)

    def index(self, progress: Callable[[int], None]) -> None:
        build_index(self.experiment, self.settings.version)
        progress(1)


def _slice_names(experiment: Path) -> List[str]:
    return sorted(layout.stems(experiment / layout.WAVS_16K, ".wav"))


def _slice(experiment: Path, name: str) -> np.ndarray:
    """(samples,) at 16 kHz."""
    return soundfile.read(system_name(experiment / layout.WAVS_16K / f"{name}.wav"), dtype="float32")[0]


def _write_wav(path: Path, rate: int, audio: np.ndarray) -> None:
    data = io.BytesIO()
    wavfile.write(data, rate, audio.astype(np.float32))
    replace_file(path, data.getvalue())


def _write_array(path: Path, array: np.ndarray) -> None:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    replace_file(path, data.getvalue())
