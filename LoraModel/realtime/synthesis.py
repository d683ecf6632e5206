"""One block of a stream through the network where there is no RVC checkout: stand-in features, pitch, and the host's
own network.

The steps are those of RVC's realtime class, and so are the parts of the network that run: the text encoder over all of
the context, the flow from 24 frames before what is wanted (as far as it looks back), the decoder over what is wanted
alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch

from ..defaults import usual_defaults
from ..inference import stand_in
from ..inference.convert import FRAME, NOISE_SCALE, Retrieval
from ..inference.converter import say_stand_in
from ..inference.model_loader import VoiceLoader
from ..messages import UserError
from ..models import GeneratorLoRA
from ..models.random_state import undisturbed

FLOW_CONTEXT = 24
"""Frames before a frame that the flow looks at."""
PITCH_CONTEXT = 5
"""Frames before a block whose pitch is found again with it: then they are no longer at the edge of the sound."""
SETTLED = 3
"""Frames at the beginning of what pitch was found in that are not taken: the edge is near."""
EDGE = 480
"""Samples of silence put after the sound, so that pitch can be found up to its end."""


def check_stand_in(voice: VoiceLoader) -> None:
    """Whether the stand-in features fit a base; says once that they are no HuBERT's.

    Raises:
        UserError: a v1 base.
    """
    info = voice.info
    if info.version == "v1":
        raise UserError("base {info_name} is v1, which takes HuBERT features of 256 values: without an RVC checkout "
                        "there are only the demo's stand-ins of 768. Name a checkout with --rvc_root, or use a v2 base",
                        info_name=info.name)
    say_stand_in()


class StandInSynthesis:
    """Generates the sound of a window's last frames, with the voice that is applied to `voice`.

    Args:
        voice: a base of v2, as the stand-in features are.
        frames: of the window, 100 a second.
        transpose: semitones.
        index, index_rate: a faiss index of the target's features and the share that it has.
        seed: of all noise: the same window gives the same sound; None for other noise each time, as RVC has.

    Raises:
        UserError: a v1 base; a bad index.
    """

    def __init__(self, voice: VoiceLoader, frames: int, transpose: float = 0.0, index: Union[str, Path, None] = None,
                 index_rate: float = 0.75, seed: Optional[int] = 0):
        check_stand_in(voice)
        self.voice, self.frames, self.transpose, self.seed = voice, frames, transpose, seed
        size = voice.network.enc_p.emb_phone.in_features
        self._index_rate = index_rate
        self._retrieval = Retrieval(voice.host.resolve(index), size) if index is not None and index_rate > 0 else None
        self._decoder = GeneratorLoRA(voice.network.dec)
        self._f0 = np.zeros(frames)  # Hz, before the transposition

    @property
    def sample_rate(self) -> int:
        """Of the sound that is made, in Hz."""
        return self.voice.info.sample_rate

    def reset(self) -> None:
        """Forget the pitch of the input."""
        self._f0[:] = 0

    def features(self, window: np.ndarray, skip: int) -> np.ndarray:
        """(samples,) at 16 kHz -> (frames, 768), retrieval done from frame `skip` on."""
        content = np.array(stand_in.content_features(window), dtype=np.float32)
        if self._retrieval is not None:
            content[skip // 2:] = self._retrieval.mix(content[skip // 2:], self._index_rate)
        return np.repeat(content, 2, axis=0)[:self.frames]

    def pitch(self, window: np.ndarray, block: int) -> np.ndarray:
        """(frames,) in Hz of the window, of which the last `block` frames are new."""
        count = min(block + PITCH_CONTEXT + SETTLED, self.frames)
        tail = np.pad(window[-count * FRAME:], (0, EDGE))
        found = stand_in.pitch(tail, count + EDGE // FRAME)[:count]
        self._f0[:-block] = self._f0[block:].copy()
        self._f0[-(count - SETTLED):] = found[SETTLED:]
        return self._f0 * 2.0 ** (self.transpose / 12)

    def __call__(self, window: np.ndarray, block: int, skip: int, length: int) -> np.ndarray:
        """Generate `length` frames from frame `skip` of the window on.

        Args:
            window: (frames * 160,) at 16 kHz.
            block: how many of its last frames are new.

        Returns:
            (length * hop,) float32 at `sample_rate`.
        """
        content = self.features(window, skip)
        f0 = self.pitch(window, block) if self.voice.info.f0 else None
        with self.voice.lock:
            return self._generate(content, f0, skip, length)

    @torch.no_grad()
    @usual_defaults()
    def _generate(self, content: np.ndarray, f0: Optional[np.ndarray], skip: int, length: int) -> np.ndarray:
        network, device = self.voice.network, self.voice.device
        dtype = next(network.parameters()).dtype
        phone = torch.from_numpy(content)[None].to(device, dtype)  # (1, frames, size)
        lengths = torch.tensor([phone.shape[1]], device=device)
        coarse = None if f0 is None else torch.from_numpy(stand_in.coarse_pitch(f0))[None].to(device)
        pitch = None if f0 is None else torch.from_numpy(f0.astype(np.float32))[None, skip:skip + length].to(device)
        g = network.emb_g(torch.tensor([self.voice.speaker], device=device)).unsqueeze(-1)  # (1, gin, 1)
        mean, log_scale, mask = network.enc_p(phone, coarse, lengths)  # (1, channels, frames) each
        first = max(skip - FLOW_CONTEXT, 0)
        mean, log_scale, mask = (part[:, :, first:] for part in (mean, log_scale, mask))
        with undisturbed(device) if self.seed is not None else contextlib.nullcontext():
            if self.seed is not None:
                torch.manual_seed(self.seed)
            z_p = (mean + torch.exp(log_scale) * torch.randn_like(mean) * NOISE_SCALE) * mask
            z = network.flow(z_p, mask, g=g, reverse=True)[:, :, skip - first:skip - first + length]
            # the excitation's noise is the same whatever came before: `VoiceBatch` makes it alone
            if self.seed is not None:
                torch.manual_seed(self.seed)
            sound = self._decoder(z * mask[:, :, skip - first:skip - first + length], pitch, g)
        return sound[0, 0].float().cpu().numpy()


def light(voice: VoiceLoader) -> VoiceLoader:
    """Take off the network what only training needs: the posterior encoder, and weight norm, as RVC's realtime class
    does.

    Only with no adapter applied.
    """
    network = voice.network
    if hasattr(network, "enc_q"):
        del network.enc_q
    with contextlib.suppress(ValueError):  # it is off already
        network.dec.remove_weight_norm()
        network.flow.remove_weight_norm()
    return voice

