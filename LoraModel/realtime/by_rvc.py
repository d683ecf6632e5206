"""One block of a stream by RVC's own realtime class: its HuBERT, its pitch, its index, its network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from ..host.index import check_index
from ..host.pipeline import at_root, check_f0_method, host_config
from ..host.realtime import forget_pitch, make_realtime, rate_of, realtime_module, takes_frames
from ..inference.convert import FRAME
from ..inference.model_loader import VoiceLoader
from ..messages import UserError
from ..models.random_state import undisturbed
from .rvc_class import give, patch_realtime_class


class RvcSynthesis:
    """Generates the sound of a window's last frames, with the voice that is applied to `voice`; called as
    `StandInSynthesis` is.

    Args:
        voice: any base, with no adapter applied: it moves to where RVC's Config runs networks, in fp16 if it does.
        transpose: semitones.
        index, index_rate: a faiss index of the target's features and the share that it has.
        f0_method: how pitch is found; None for the best that is there.
        seed: of all noise; None for other noise each time, as RVC has.

    Raises:
        UserError: the realtime class or HuBERT cannot be used; a bad index; an f0 method that this RVC lacks; tag
            2.2.231006, whose class knows nothing of frames.
    """

    def __init__(self, voice: VoiceLoader, transpose: float = 0.0, index: Union[str, Path, None] = None,
                 index_rate: float = 0.75, f0_method: Optional[str] = None, seed: Optional[int] = 0):
        self.voice, self.seed = voice, seed
        host = patch_realtime_class(voice.host)
        self._method = check_f0_method(host, f0_method, named=False)
        self._root = host
        module = realtime_module(host)
        if not takes_frames(module):
            raise UserError("the realtime class of this RVC ({host}) is older than 2024 and cannot be used from a "
                            "script: take a newer checkout, or leave --rvc_root out", host=host.describe())
        file = ""
        if index is not None and index_rate > 0:
            file = str(host.resolve(index))
            check_index(Path(file), voice.network.enc_p.emb_phone.in_features)
        with at_root(host):
            config = host_config(str(voice.device) if voice.device.type != "cpu" else "cpu")
            give(str(voice.info.path), voice)
            self._rvc: Any = make_realtime(module, config, str(voice.info.path), transpose, file,
                                           index_rate if file else 0.0)
        voice.move(config.device, bool(config.is_half))

    @property
    def sample_rate(self) -> int:
        return rate_of(self._rvc)

    def reset(self) -> None:
        """Forget the pitch of the input."""
        forget_pitch(self._rvc)

    def __call__(self, window: np.ndarray, block: int, skip: int, length: int) -> np.ndarray:
        """Arguments and result as `StandInSynthesis.__call__`."""
        sound = torch.from_numpy(window).to(self.voice.device)
        with undisturbed(self.voice.device) if self.seed is not None else contextlib.nullcontext():
            if self.seed is not None:
                torch.manual_seed(self.seed)
            if self._method == "rmvpe" and not hasattr(self._rvc, "model_rmvpe"):
                with at_root(self._root):  # it is read at the first block, by a path below the root
                    return self._infer(sound, block, skip, length)
            return self._infer(sound, block, skip, length)

    def _infer(self, sound: torch.Tensor, block: int, skip: int, length: int) -> np.ndarray:
        return np.asarray(self._rvc.infer(sound, block * FRAME, skip, length, self._method).float().cpu().numpy())
