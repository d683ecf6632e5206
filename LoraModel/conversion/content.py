"""Anybody's speech as the networks take it: what the full voice and its adapter both say while the one learns from
the other."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..arrays import read_array
from ..host import FEATURE_SIZES, Host, experiment
from ..host.pipeline import default_f0_method
from ..inference.stand_in import coarse_pitch
from ..messages import Text, UserError, tr
from ..models import BaseInfo

BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "recordings"
"""Speech that lies with the program, for who names none: synthetic, of a man and a woman."""
PARTS = ("target", "source")
MOST_SECONDS = 300.0
"""Of content that is taken: more says the same again and takes memory."""
SHORTEST = 40
"""Frames of the shortest clip that is taken; 100 are a second."""


class Piece(NamedTuple):
    """Some clips cut to one length. phone: (batch, frames, features), lengths: (batch,); pitch (coarse), f0 (Hz):
    (batch, frames) or None."""

    phone: Tensor
    lengths: Tensor
    pitch: Optional[Tensor]
    f0: Optional[Tensor]


class Content:
    """Clips of speech.

    Args:
        phones: (frames, features) each, 100 frames a second. f0s: (frames,) in Hz, 0 where unvoiced; None for
            networks without pitch.
    """

    def __init__(self, phones: List[Tensor], f0s: Optional[List[Tensor]]):
        self.phones, self.f0s = phones, f0s

    def __len__(self) -> int:
        return len(self.phones)

    @property
    def seconds(self) -> float:
        return sum(map(len, self.phones)) / 100

    def apart(self, share: float = 0.1, most: int = 8) -> Tuple[Content, Content]:
        """(to learn from, to judge with): every k-th clip is kept apart, at least one of at least two."""
        count = min(max(1, round(share * len(self))), most, max(1, len(self) - 1))
        held = {(2 * k + 1) * len(self) // (2 * count) for k in range(count)} if len(self) > 1 else set()
        return (
            (self._some([index for index in range(len(self)) if index not in held]), self._some(sorted(held)))
            if held
            else (self, self)
        )

    def _some(self, indices: List[int]) -> Content:
        return Content(
            [self.phones[index] for index in indices],
            None if self.f0s is None else [self.f0s[index] for index in indices],
        )

    def draw(self, count: int, frames: int, shift: float, generator: torch.Generator) -> Piece:
        """`count` stretches of `frames` (of less where no clip is as long) from clips chosen at random.

        shift: of the pitch, in semitones.
        """
        weights = torch.tensor([float(len(phone)) for phone in self.phones])
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
        frames = min(frames, min(len(self.phones[index]) for index in chosen))
        phones, f0s = [], []
        for index in chosen:
            start = int(torch.randint(len(self.phones[index]) - frames + 1, (), generator=generator))
            phones.append(self.phones[index][start : start + frames])
            if self.f0s is not None:
                f0s.append(self.f0s[index][start : start + frames])
        return piece(torch.stack(phones), torch.stack(f0s) if f0s else None, shift)

    def one(self, index: int, shift: float = 0.0) -> Piece:
        """One whole clip."""
        return piece(self.phones[index][None], None if self.f0s is None else self.f0s[index][None], shift)


def piece(phone: Tensor, f0: Optional[Tensor], shift: float) -> Piece:
    """phone: (batch, frames, features), f0: (batch, frames) in Hz; shift: of the pitch, in semitones."""
    lengths = torch.full((len(phone),), phone.shape[1], dtype=torch.long)
    if f0 is None:
        return Piece(phone, lengths, None, None)
    f0 = f0 * 2 ** (shift / 12)
    return Piece(phone, lengths, torch.from_numpy(coarse_pitch(f0.numpy())), f0)


def read_content(place: Union[str, Path, None], host: Host, info: BaseInfo) -> Content:
    """Speech for a network.

    Args:
        place: an experiment folder in RVC's layout, or a folder of recordings or one of them; None for the bundled
            recordings.
        info: of the network.

    Raises:
        UserError: there is nothing to take, or recordings cannot become features here.
    """
    if place is not None:
        folder = host.resolve(place)
        if (folder / experiment.FEATURES[info.version]).is_dir():
            return _of_experiment([folder], info)
        other = next(
            (version for version in experiment.FEATURES if (folder / experiment.FEATURES[version]).is_dir()), None
        )
        if other is not None:
            raise UserError("{folder} has the features of {other}, the voice takes those of {version}: give "
                            "recordings, or an experiment folder of {version}",
                            folder=folder, other=other, version=info.version)
        sources = [folder]
    else:
        sources = [BUNDLED / part for part in PARTS]
    if not host.is_checkout and info.version == "v1":
        raise UserError("without an RVC checkout there are only the demo's stand-in features of 768 values, and a v1 "
                        "voice takes 256: name a checkout with --rvc_root, give --content an experiment folder of v1, "
                        "or convert with --fast")
    with tempfile.TemporaryDirectory(prefix="rvc-lora-content-") as name:
        made = [_prepared(source, Path(name) / str(number), host, info) for number, source in enumerate(sources)]
        return _of_experiment(made, info)


def _prepared(source: Path, folder: Path, host: Host, info: BaseInfo) -> Path:
    from ..preparation.fingerprint import Settings
    from ..preparation.steps import Plan, prepare

    method = (default_f0_method(host, named=False) if host.is_checkout else "pm") if info.f0 else None
    settings = Settings(info.version, info.sample_rate, method, "HuBERT" if host.is_checkout else "stand-in")
    prepare(host, Plan(source, folder, settings, {}), until="features")
    return folder


def _of_experiment(folders: List[Path], info: BaseInfo) -> Content:
    phones: List[Tensor] = []
    f0s: List[Tensor] = []
    seconds, size = 0.0, FEATURE_SIZES[info.version]
    for folder in folders:
        names = experiment.stems(folder / experiment.FEATURES[info.version], ".npy")
        if info.f0:
            names &= experiment.stems(folder / experiment.PITCH, ".wav.npy")
        for name in sorted(names):
            files = experiment.clip_files(folder, name, info.version, info.f0)
            values = read_array(files[1], 2)
            if values.shape[1] != size:
                raise UserError("{files} has {shape} values a frame, {version} takes {size}: extract it again",
                                files=files[1], shape=values.shape[1], version=info.version, size=size)
            phone = torch.from_numpy(np.repeat(values.astype(np.float32), 2, axis=0))
            frames = len(phone)
            if info.f0:
                f0 = torch.from_numpy(read_array(files[3], 1).astype(np.float32))
                frames = min(frames, len(f0))
            if frames < SHORTEST:
                continue
            phones.append(phone[:frames])
            if info.f0:
                f0s.append(f0[:frames])
            seconds += frames / 100
            if seconds >= MOST_SECONDS:
                print(
                    tr("note: only the first {most_seconds:.0f} s of the content are used", most_seconds=MOST_SECONDS),
                    file=sys.stderr,
                )
                return Content(phones, f0s if info.f0 else None)
    if not phones:
        what = Text("features and pitch") if info.f0 else Text("features")
        raise UserError("{folder} holds no clip with {what} of {seconds} s or more: give --content recordings, or a "
                        "folder that prepare_data.py made", folder=folders[0], what=what, seconds=SHORTEST / 100)
    return Content(phones, f0s if info.f0 else None)
