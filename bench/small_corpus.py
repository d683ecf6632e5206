"""Recordings of many voices, a stream each, with pitch and content features: what the demo's base is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from LoraModel.inference import content_encoder
from LoraModel.inference.audio import read_audio
from LoraModel.inference.stand_in import pitch
from LoraModel.messages import UserError

RATE, FRAME = 16000, 320  # Hz; samples a content frame
WINDOW, CONTEXT = 16, 25  # seconds encoded at once; frames on either side that are encoded and left out
SPEEDS = range(16, 26)  # of 20: a copy that is resampled has another speed, pitch and timbre
ENDINGS = (".wav", ".flac")


@dataclass
class Corpus:
    """All voices, one after another.

    Attributes:
        wave: (samples,) int16. f0: (frames at 100 a second,) in Hz, 0 where unvoiced.
        features: (versions, frames at 50 a second, 512) float16; version 0 is of the recordings themselves.
        starts, lengths, rows, medians: of each voice, in content frames, its row of the speaker table, its f0 in Hz.
    """

    wave: Tensor
    f0: Tensor
    features: Tensor
    starts: Tensor
    lengths: Tensor
    rows: Tensor
    medians: Tensor

    def to(self, device: torch.device) -> Corpus:
        return Corpus(**{name: value.to(device) for name, value in vars(self).items()})


def voices_of(folder: Path) -> List[Tuple[int, Path]]:
    """(row, folder) of each voice: its folder's name begins with its row, as in "03-slt".

    Raises:
        UserError: there is none, or one without a number.
    """
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    wrong = [path.name for path in found if not path.name.split("-")[0].isdigit()]
    if wrong or not found:
        raise UserError("{folder} must hold a folder for each voice, named by its row, as 03-slt: {wrong}",
                        folder=folder, wrong=wrong[:3])
    return [(int(path.name.split("-")[0]), path) for path in found]


def read_corpus(folder: Path, versions: int, device: torch.device, seed: int) -> Corpus:
    """Read every voice, find its pitch, encode it `versions` times: once as it is, the others changed."""
    rng = np.random.default_rng(seed)
    encoder = {name: value.to(device) for name, value in content_encoder.weights().items()}
    waves, tracks, features, rows, medians = [], [], [], [], []
    for row, path in tqdm(voices_of(folder), unit="voice", desc="reading"):
        clips = [read_audio(file, RATE) for file in sorted(path.rglob("*")) if file.suffix.lower() in ENDINGS]
        if not clips:
            raise UserError("{path} holds no WAV or FLAC", path=path)
        audio = np.concatenate([clip / max(float(np.abs(clip).max()), 1e-6) * 0.85 for clip in clips])
        audio = audio[: len(audio) // FRAME * FRAME].astype(np.float32)
        f0 = pitch(audio, 2 * (len(audio) // FRAME)).astype(np.float32)
        stream = torch.from_numpy(audio).to(device)
        features.append(torch.stack([encoded(stream, encoder, rng, number > 0) for number in range(versions)]))
        waves.append(torch.from_numpy((audio * 32767).astype(np.int16)))
        tracks.append(torch.from_numpy(f0))
        rows.append(row)
        medians.append(float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 150.0)
    lengths = torch.tensor([len(track) // 2 for track in tracks])
    return Corpus(torch.cat(waves), torch.cat(tracks), torch.cat(features, 1).cpu(), lengths.cumsum(0) - lengths,
                  lengths, torch.tensor(rows), torch.tensor(medians))


@torch.no_grad()
def encoded(stream: Tensor, encoder: dict, rng: np.random.Generator, changed: bool) -> Tensor:
    """Features of a voice's stream, (samples,) -> (samples // 320, 512) float16, window by window.

    changed: each window is encoded at another speed (and so pitch and timbre), with another frequency response, half of
    them with noise, and its features are put back on the recording's time: the words are the same, the voice is not.
    Nansy does so (Choi et al. 2021, arXiv:2110.14513, section 3.1) with formants and pitch apart.
    """
    total = len(stream) // FRAME
    found = torch.empty(total, content_encoder.WIDTH, dtype=torch.float16, device=stream.device)
    at = 0
    while at < total:
        stop = min(at + (WINDOW * 50 if at else int(rng.integers(WINDOW * 25, WINDOW * 50))), total)
        before, after = min(at, CONTEXT), min(total - stop, CONTEXT)
        sound = stream[(at - before) * FRAME:(stop + after) * FRAME]
        speed = int(rng.choice(SPEEDS)) / 20 if changed else 1.0
        if changed:
            sound = _another_voice(sound, speed, rng)
        values = content_encoder.encode(sound[None], encoder)[0]
        places = torch.arange(stop + after - at + before, device=stream.device) * speed
        places = places.clamp(max=len(values) - 1)
        low = places.floor().long()
        values = torch.lerp(values[low], values[(low + 1).clamp(max=len(values) - 1)], (places - low)[:, None])
        found[at:stop] = values[before:before + stop - at].half()
        at = stop
    return found


def _another_voice(sound: Tensor, speed: float, rng: np.random.Generator) -> Tensor:
    """(samples,) -> (samples * speed,): resampled in the frequency domain, with another response and perhaps noise."""
    bins = torch.fft.rfft(sound)
    decibels = torch.from_numpy(rng.normal(0, 5, (1, 1, 9)).astype(np.float32)).to(sound.device)
    response = F.interpolate(decibels, size=len(bins), mode="linear", align_corners=True)[0, 0]
    length = int(len(sound) * speed) // FRAME * FRAME
    bins = bins * 10 ** (response / 20)
    bins = F.pad(bins, (0, max(length // 2 + 1 - len(bins), 0)))[: length // 2 + 1]
    changed = torch.fft.irfft(bins, n=length) * (length / len(sound))
    if rng.random() < 0.5:
        changed = changed + torch.randn_like(changed) * changed.std() * 10 ** (-rng.uniform(20, 45) / 20)
    return changed / changed.abs().max().clamp(min=1e-6) * 0.85
