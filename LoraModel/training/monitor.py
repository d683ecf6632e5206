"""What a run shows: a progress bar, OUT/train.jsonl, TensorBoard, and audio of held-out clips."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import soundfile
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..faults import check_room_for_a_thread
from ..files import atomic_write
from ..messages import UserError, tr
from .heldout import Reconstructed

LOG_FILE, SAMPLES, TENSORBOARD = "train.jsonl", "samples", "tensorboard"
KEPT_SAMPLES = 10
"""Saves of which the sample clips are kept beside TensorBoard's: the first (the base alone) and the newest."""


BOARD_AUDIO_BYTES = 20 * 2**20
"""For all audio in TensorBoard's files, so that a run's folder stays below 60 MB."""


class Monitor:
    """Args:
        folder: the run's output folder.
        start_step: steps already done; later lines of an interrupted run are dropped, they will be written again.
        total_steps: for the time left. saves: as many are planned. previews: which held-out clips are kept at each
        save.
    """

    def __init__(self, folder: Path, start_step: int, total_steps: int, sample_rate: int, saves: int = 1,
                 previews: Sequence[int] = (0, 1)):
        self._folder, self._sample_rate = folder, sample_rate
        self._path, self._previews = folder / LOG_FILE, previews
        # 2 clips a save, 2 bytes a sample; a second at least, of which saves beyond some hundreds keep only every so
        # many.
        self._board_samples = max(sample_rate, BOARD_AUDIO_BYTES // (4 * (saves + 1)))
        self._board_every = math.ceil(4 * self._board_samples * (saves + 1) / BOARD_AUDIO_BYTES)
        self._saves = 0
        self._shown: Dict[str, str] = {}  # not every step has every loss
        kept = [line for line in read_log(folder) if line["step"] <= start_step] if start_step else []
        atomic_write(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        check_room_for_a_thread()  # TensorBoard writes in one of its own
        self._former_hook, threading.excepthook = threading.excepthook, self._in_thread
        self._log = open(self._path, "a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=start_step + 1 if start_step else None)
        self._bar = tqdm(total=total_steps, initial=start_step, unit=tr("step"), dynamic_ncols=True,
                         desc=tr("training"), file=sys.stderr, mininterval=0.5)

    def step(self, line: Dict[str, Any]) -> None:
        """Record one step: one JSON line, TensorBoard scalars and the bar."""
        self._check_folder()
        with self._naming_the_log():
            self._log.write(json.dumps(line, allow_nan=False) + "\n")
            self._log.flush()
        for key, value in line.items():
            if key not in ("step", "epoch") and value is not None:
                self._board.add_scalar(("heldout/" if key.startswith("heldout") else "train/") + key, value,
                                       line["step"])
        self._shown.update((key, f"{line[key]:.3g}") for key in ("heldout_mel", "mel", "kl")
                           if line.get(key) is not None)
        # what matters most comes first: a narrow terminal cuts the end off
        self._bar.set_postfix_str(", ".join([
            *([tr("held-out {loss}", loss=self._shown["heldout_mel"])] if "heldout_mel" in self._shown else []),
            *(f"{key} {self._shown[key]}" for key in ("mel", "kl") if key in self._shown),
            tr("epoch {number}", number=line["epoch"])]), refresh=False)
        self._bar.update(1)

    def samples(self, step: int, clips: Sequence[Reconstructed]) -> None:
        """Record audio and log-mel of the previews among the held-out clips.

        TensorBoard keeps all it was ever given: what it gets is cut shorter the more saves there will be.
        """
        on_board = self._saves % self._board_every == 0
        self._saves += 1
        self._check_folder()
        folder = self._folder / SAMPLES
        folder.mkdir(exist_ok=True)
        for index, clip in enumerate(clips[place] for place in self._previews if place < len(clips)):
            audio, mel = clip.audio, clip.mel
            if on_board:
                # as long a stretch as of the audio
                frames = max(1, mel.shape[1] * self._board_samples // max(len(audio), 1))
                self._board.add_audio(f"heldout/{index}", np.clip(audio[None, : self._board_samples], -1, 1), step,
                                      self._sample_rate)
                self._board.add_image(f"heldout/{index}", mel_image(mel.cpu().numpy()[:, :frames]), step)
            buffer = io.BytesIO()
            soundfile.write(buffer, np.clip(audio, -1, 1), self._sample_rate, format="FLAC")
            atomic_write(folder / f"step{step:07d}_{index}.flac", buffer.getvalue())
        self._prune(folder)

    def _prune(self, folder: Path) -> None:
        steps = sorted({path.name.split("_")[0] for path in folder.glob("step*_*.flac")})
        for stale in steps[1:-KEPT_SAMPLES]:
            for path in folder.glob(f"{stale}_*.flac"):
                path.unlink()

    def _check_folder(self) -> None:
        """An open log takes lines after its folder is gone, and saves would make the folder anew without what was in
        it."""
        if not self._path.is_file():
            raise UserError("{path} is gone: the output folder was removed or renamed while training. Start again",
                            path=self._path)

    def start(self) -> None:
        """Count the time of steps from now."""
        self._bar.unpause()

    def message(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with self._naming_the_log():
            self._log.flush()
            os.fsync(self._log.fileno())
        self._board.flush()

    def close(self) -> None:
        """End the bar's line and close the files. What the disk does not take is lost; it is for `sync` to tell."""
        self._bar.close()
        for end in (self._log.close, self._board.close):
            with contextlib.suppress(OSError):
                end()
        threading.excepthook = self._former_hook

    @contextlib.contextmanager
    def _naming_the_log(self) -> Iterator[None]:
        """Of what is written little by little, the system's error does not name the file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def _in_thread(self, failure: Any) -> None:
        # TensorBoard writes in a thread of its own, which would print a traceback; the next flush raises the error
        # here.
        if not isinstance(failure.exc_value, OSError):
            self._former_hook(failure)


def read_log(folder: Path) -> List[Dict[str, Any]]:
    """The lines of OUT/train.jsonl; what comes after a line that a crash cut short, or that is damaged, is left out."""
    path = folder / LOG_FILE
    lines: List[Dict[str, Any]] = []
    if path.is_file():
        for text in path.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                break
            lines.append(line)
    return lines


def mel_image(mel: np.ndarray) -> np.ndarray:
    """A log-mel spectrogram (bands, frames) as a grey picture (1, bands, frames) of 0..1, low bands below."""
    low, high = float(mel.min()), float(mel.max())
    return ((mel - low) / max(high - low, 1e-6))[None, ::-1].astype(np.float32)
