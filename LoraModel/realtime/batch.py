"""`VoiceBatch`: several users, each with a voice of their own, in one forward of one base."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..commands import MOST_SEED
from ..defaults import usual_defaults
from ..devices import check_device
from ..host import Host, find_host
from ..host.networks import excitation, given_excitation
from ..inference import stand_in
from ..inference.adapter_choice import pairs_of
from ..inference.convert import FRAME, INPUT_RATE, NOISE_SCALE, check_between
from ..inference.model_loader import Adapters, VoiceLoader
from ..inference.sound import as_floats, check_length
from ..lora.rows import Products, rows_adapted
from ..messages import Text, UserError
from ..models import Base, GeneratorLoRA
from ..models.random_state import undisturbed
from .changes import key_of
from .synthesis import FLOW_CONTEXT, check_stand_in, light

STEP = 50
"""Frames: recordings are filled up with silence to a multiple of this, so that those of nearly one length go
together."""
KEPT = 64
"""Voices whose factors are kept; each is as small as its file."""


class VoiceBatch:
    """Converts for several users at once; each hears what it would hear alone, to 1e-4.

    Args:
        base: a base's file, a loaded one, or a `VoiceLoader` with no adapter applied.
        device: "cpu", "cuda", … or "auto".
        seed: of all noise, the same for each row.
        host: the RVC installation; None finds it.

    Raises:
        UserError: the base or the device cannot be used; a v1 base, whose features are in a checkout only.
    """

    def __init__(self, base: Union[str, Path, Base, VoiceLoader], device: str = "cpu", seed: int = 0,
                 host: Optional[Host] = None):
        if not isinstance(base, VoiceLoader):
            base = light(VoiceLoader(base, host or find_host(), check_device(device)))
        check_between("seed", seed, 0, MOST_SEED, whole=True, optional=True)
        self.voice, self.seed = base, seed
        self._decoder = GeneratorLoRA(base.network.dec)
        # the adapters beside what was made of them: an adapter is known by its id, which must stay its own
        self._kept: OrderedDict[Any, Tuple[Products, List[Any]]] = OrderedDict()

    def convert(self, recordings: Sequence[np.ndarray], voices: Sequence[Adapters],
                transpose: Sequence[float] = ()) -> List[np.ndarray]:
        """Convert recordings, each with its own voice.

        Args:
            recordings: (samples,) at 16 kHz each, of any lengths. Those of one length, to half a second, go together.
            voices: for each {adapter or file: strength}, pairs of them, or an adapter; {} for the plain base.
            transpose: semitones for each; none for 0.

        Returns:
            (samples,) float32 at the base's sample rate, as long as its recording, for each.

        Raises:
            UserError: a recording that is too short, or an adapter that cannot be used: nothing is converted then.
        """
        check_stand_in(self.voice)
        info, shifts = self.voice.info, list(transpose) or [0.0] * len(recordings)
        if isinstance(voices, (str, Mapping)):
            raise UserError("this is one voice: give a list with a voice for each recording")
        if not len(recordings) == len(voices) == len(shifts):
            raise UserError("{recordings} recordings, {voices} voices and {shifts} transpositions: give as many of "
                            "each", recordings=len(recordings), voices=len(voices), shifts=len(shifts))
        for shift in shifts:
            check_between("transpose", shift, -48, 48)
        recordings = [as_floats(sound, Text("the recording")) for sound in recordings]
        for sound in recordings:
            if sound.ndim != 1:
                raise UserError("the recording has shape {shape}: give (samples,) at 16 kHz", shape=sound.shape)
        products = [self.products(voice) for voice in voices]
        groups: OrderedDict[int, List[int]] = OrderedDict()
        for index, sound in enumerate(recordings):
            check_length(sound, INPUT_RATE)
            groups.setdefault(-(-len(sound) // (STEP * FRAME)) * STEP, []).append(index)
        done: List[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(recordings)
        for frames, members in groups.items():
            content, f0 = [], []
            for index in members:
                sound = np.pad(recordings[index], (0, frames * FRAME - len(recordings[index])))
                content.append(np.repeat(np.asarray(stand_in.content_features(sound), dtype=np.float32), 2,
                                         axis=0)[:frames])
                f0.append(stand_in.pitch(sound, frames) * 2.0 ** (shifts[index] / 12) if info.f0 else np.zeros(frames))
            for index, sound in zip(members, self._generate(content, f0, [products[index] for index in members], 0,
                                                            frames)):
                done[index] = sound[:int(round(len(recordings[index]) * info.sample_rate / INPUT_RATE))]
        return done

    def generate(self, content: Sequence[np.ndarray], f0: Sequence[np.ndarray],
                 voices: Sequence[Adapters], skip: int, length: int) -> np.ndarray:
        """`length` frames from frame `skip` on, for each row with its own voice.

        Args:
            content: (frames, size of a feature) for each row, all of one length.
            f0: (frames,) in Hz for each row; 0 where unvoiced.

        Returns:
            (rows, length * hop) float32 at the base's sample rate.

        Raises:
            UserError: an adapter that cannot be used.
        """
        return self._generate(content, f0, [self.products(voice) for voice in voices], skip, length)

    def products(self, voice: Adapters) -> Products:
        """The factors of a blend, kept for the next time."""
        chosen = pairs_of(voice)
        key = key_of(self.voice.host, chosen)
        if key not in self._kept:
            self._kept[key] = self.voice.factors(chosen), chosen
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    @torch.no_grad()
    @usual_defaults()
    def _generate(self, content: Sequence[np.ndarray], f0: Sequence[np.ndarray], rows: Sequence[Products], skip: int,
                  length: int) -> np.ndarray:
        network, device, info = self.voice.network, self.voice.device, self.voice.info
        dtype = next(network.parameters()).dtype
        phone = torch.from_numpy(np.stack(content)).to(device, dtype)  # (rows, frames, size)
        count, frames = phone.shape[:2]
        hertz = np.stack(f0)
        coarse = torch.from_numpy(np.stack([stand_in.coarse_pitch(one) for one in hertz])).to(
            device) if info.f0 else None
        pitch = torch.from_numpy(hertz.astype(np.float32))[:, skip:skip + length].to(device)
        first = max(skip - FLOW_CONTEXT, 0)
        with self.voice.lock:
            if not self.voice.plain:
                raise UserError("a voice is applied to this base: unload it before batches are converted on it")
            with rows_adapted(network, rows):
                # (rows, gin, 1)
                g = network.emb_g(torch.zeros(count, 1, dtype=torch.long, device=device)).transpose(1, 2)
                mean, log_scale, mask = network.enc_p(phone, coarse, torch.full((count,), frames, device=device))
                mean, log_scale, mask = (part[:, :, first:] for part in (mean, log_scale, mask))
                noise, sines = self._noise(mean[:1], pitch, info.hop_length)
                z_p = (mean + torch.exp(log_scale) * noise * NOISE_SCALE) * mask
                z = network.flow(z_p, mask, g=g, reverse=True)[:, :, skip - first:skip - first + length]
                if sines is None:
                    sound = self._decoder(z, None, g)
                else:
                    with given_excitation(network.dec, sines):
                        sound = self._decoder(z, pitch, g)
        return np.asarray(sound[:, 0].float().cpu().numpy())

    def _noise(self, like: Tensor, pitch: Tensor, hop: int) -> Tuple[Tensor, Optional[Tensor]]:
        """Noise of the prior, (1, channels, frames), and each row's excitation, (rows, samples, 1): as for the row
        alone."""
        with undisturbed(self.voice.device):
            torch.manual_seed(self.seed)
            noise = torch.randn_like(like)
            if not self.voice.info.f0:
                return noise, None
            rows = []
            for row in pitch:
                torch.manual_seed(self.seed)
                rows.append(excitation(self.voice.network.dec, row[None], hop))
            return noise, torch.cat(rows)
