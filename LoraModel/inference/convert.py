"""The small conversion for where RVC's own Pipeline cannot run: features, retrieval, pitch, synthesis in overlapping
chunks.

The steps are those of RVC's Pipeline (in a checkout that one is used, see `host.pipeline`): content features at 50 Hz,
blended with their eight nearest neighbours of the index, doubled to 100 Hz, unvoiced frames protected, then the host's
own network. What differs is how long recordings are cut. Three parts of the network look at most so far:

* enc_p attends over all it is given: it runs over sections of half a minute, whose statistics are cross-faded;
* the sine excitation carries its phase on: it is made once for all of the recording and handed to the decoder;
* flow and decoder see less than `CONTEXT` frames: they run in chunks with that much on either side, so that a chunk's
  inside is what an unchunked run gives, and cross-fade over a few frames.

All noise comes from one seed in the order of the host's `infer`: up to one section the result is `network.infer`'s own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from ..commands import MOST_SEED
from ..defaults import usual_defaults
from ..host.index import check_index, open_index  # noqa: F401  check_index: for who converts
from ..host.networks import excitation, given_excitation
from ..messages import UserError
from ..models import GeneratorLoRA
from ..models.random_state import undisturbed
from ..names import bare, check_number
from .loudness import MIX_RATE, follow
from .model_loader import VoiceLoader
from .sound import check_length

INPUT_RATE = 16000  # Hz
FRAME = 160  # samples of input for each frame of the network: 100 frames a second
NOISE_SCALE = 0.66666  # of the prior's noise, as in the host's `infer`
CONTEXT = 64  # frames on either side of a chunk: flow sees 24, the decoder less than 20
FADE = 4  # frames over which neighbouring chunks cross-fade
SECTION_FADE = 100  # frames over which the statistics of neighbouring sections cross-fade
NEIGHBOURS = 8
MOST_SPEAKER = 10**6

FeatureFunction = Callable[[np.ndarray], np.ndarray]
"""(samples,) at 16 kHz -> (samples // 320 + 1 or so, 256 or 768), 50 frames a second."""
PitchFunction = Callable[[np.ndarray, int], np.ndarray]
"""(samples,) at 16 kHz, number of frames -> (frames,) in Hz at 100 frames a second, 0 where unvoiced."""


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        transpose: semitones up or down.
        index: a faiss index of the target's features; None for no retrieval.
        index_rate: share of the retrieved features, 0 to 1.
        protect: 0 to 0.5; below 0.5, unvoiced frames keep all but this share of the source's own features.
        f0_method: how pitch is found; None for the best that is there.
        rms_mix_rate: 1 keeps the network's loudness, 0 gives the source's; None for the WebUI's 0.25.
        speaker: row of the speaker table; None for the voice's own.
        seed: of all noise: equal seeds give equal audio.
    """

    transpose: float = 0.0
    index: Optional[Path] = None
    index_rate: float = 0.75
    protect: float = 0.33
    f0_method: Optional[str] = None
    rms_mix_rate: Optional[float] = None
    speaker: Optional[int] = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("transpose", -48, 48), ("index_rate", 0, 1), ("protect", 0, 0.5)):
            check_between(name, getattr(self, name), low, high)
        check_between("rms_mix_rate", self.rms_mix_rate, 0, 1, optional=True)
        check_between("speaker", self.speaker, 0, MOST_SPEAKER, whole=True, optional=True)
        check_between("seed", self.seed, 0, MOST_SEED, whole=True)


def check_between(name: str, value: Any, low: float, high: float, whole: bool = False, optional: bool = False) -> None:
    """Check an option of a program's. optional: None is left to its default.

    Raises:
        UserError: it is no number, with `whole` no whole one, or out of its limits.
    """
    if optional and value is None:
        return
    check_number(name, value, whole)
    if not low <= value <= high:
        raise UserError("{name}={value} must be between {low} and {high}", name=name, value=bare(value), low=low,
                        high=high)


class Retrieval:
    """A faiss index and its vectors.

    Raises:
        UserError: the file is missing, no index, or of another feature size.
    """

    def __init__(self, path: Union[str, Path], size: int):
        self._index = open_index(path, size)
        self._vectors = self._index.reconstruct_n(0, self._index.ntotal)  # (vectors, size)

    def mix(self, features: np.ndarray, rate: float) -> np.ndarray:
        """`rate` parts of the mean of the eight nearest vectors, weighted by 1 / score^2 as RVC does, to 1 - rate of
        the features.

        features: (frames, size) -> (frames, size). The score is the squared distance. Where a frame is in the index,
        RVC's weight is infinite and its result NaN; here the score has a floor, and the frame finds itself.
        """
        # (frames, 8) each
        score, found = self._index.search(np.ascontiguousarray(features, dtype=np.float32), NEIGHBOURS)
        weight = np.square(1.0 / np.maximum(score.astype(np.float64), 1e-9))
        weight[found < 0] = 0.0  # a cell of the index with fewer than eight vectors
        total = weight.sum(axis=1, keepdims=True)
        mean = np.einsum("fk,fks->fs", weight / np.maximum(total, 1e-30), self._vectors[found])
        mixed = rate * mean + (1.0 - rate) * features
        return np.where(total > 0, mixed, features).astype(np.float32)


def protected(features: np.ndarray, source: np.ndarray, f0: np.ndarray, protect: float) -> np.ndarray:
    """Take unvoiced frames mostly from the source: there, features * protect + source * (1 - protect), as RVC does.

    features, source: (frames, size); f0: (frames,) in Hz. Nothing is changed at protect >= 0.5.
    """
    if protect >= 0.5:
        return features
    share = np.where(f0 < 1, protect, 1.0).astype(np.float32)[:, None]
    return features * share + source * (1 - share)


def windows(total: int, size: int, overlap: int) -> List[Tuple[int, int]]:
    """Cut `total` frames into windows of at most `size` that overlap by `overlap`: [(start, stop), …]."""
    if total <= size:
        return [(0, total)]
    step = size - overlap
    count = -(-(total - overlap) // step)
    return [(k * step, min(k * step + size, total)) for k in range(count)]


def fade_in(out: Tensor, piece: Tensor, start: int, overlap: int) -> None:
    """Write `piece` (..., n) into `out` (..., total) at `start`, cross-fading with what is there over `overlap`
    values."""
    length = piece.shape[-1]
    overlap = min(overlap, length) if start else 0
    if overlap:
        ramp = (torch.arange(overlap, dtype=out.dtype) + 0.5) / overlap
        head = out[..., start : start + overlap]
        out[..., start : start + overlap] = head * (1 - ramp) + piece[..., :overlap] * ramp
    out[..., start + overlap : start + length] = piece[..., overlap:]


@torch.no_grad()
@usual_defaults()
def convert(
    voice: VoiceLoader,
    audio: np.ndarray,
    options: ConvertOptions,
    features: FeatureFunction,
    pitch: PitchFunction,
    coarse: Callable[[np.ndarray], np.ndarray],
    section: int = 3000,
    chunk: int = 500,
    progress: Optional[Callable[[float], None]] = None,
    retrieval: Optional[Retrieval] = None,
) -> np.ndarray:
    """Convert a recording with the voice that is applied.

    Args:
        audio: (samples,) at 16 kHz.
        features, pitch, coarse: content features, f0 in Hz, and f0 on RVC's scale of 1 to 255.
        section, chunk: frames that enc_p, and flow with the decoder, take at once.
        progress: called with the share that is done, 0 to 1.
        retrieval: an index that is read already; None reads `options.index`.

    Returns:
        (samples,) float32 at the base's sample rate, as long as the input.

    Raises:
        UserError: features of another size than the base takes, a bad index, a speaker that the base lacks.
    """
    check_length(audio, INPUT_RATE)
    info, network = voice.info, voice.network
    size = network.enc_p.emb_phone.in_features
    speaker = voice.speaker if options.speaker is None else options.speaker
    if not 0 <= speaker < info.speakers:
        raise UserError("speaker {speaker} is not among the base's {speakers}: choose 0 to {speakers_2}",
                        speaker=speaker, speakers=info.speakers, speakers_2=info.speakers - 1)
    samples = len(audio)
    audio = np.pad(np.asarray(audio, dtype=np.float32), (0, -samples % (2 * FRAME)))
    source = np.asarray(features(audio), dtype=np.float32)  # (frames at 50 Hz, size)
    if source.shape[1] != size:
        raise UserError("the features have {shape} values, the base {info_name} ({version}) takes {size}: use an RVC "
                        "checkout with its HuBERT, or a base of the other version",
                        shape=source.shape[1], info_name=info.name, version=info.version, size=size)
    total = min(len(audio) // FRAME, 2 * len(source))
    f0 = np.asarray(pitch(audio, total),
                    dtype=np.float64) * 2.0 ** (options.transpose / 12) if info.f0 else np.zeros(total)
    if options.index is not None and retrieval is None and options.index_rate > 0:
        retrieval = Retrieval(options.index, size)

    def phone(start: int, stop: int) -> Tensor:
        """Features of the frames start to stop: (1, frames, size)."""
        own = source[start // 2 : -(-stop // 2)]
        mixed = retrieval.mix(own, options.index_rate) if retrieval is not None and options.index_rate > 0 else own
        own, mixed = (np.repeat(part, 2, axis=0)[start % 2 :][: stop - start] for part in (own, mixed))
        if info.f0:
            mixed = protected(mixed, own, f0[start:stop], options.protect)
        return torch.from_numpy(np.ascontiguousarray(mixed)).unsqueeze(0)

    # the speaker and the weights of one moment: another voice may have been applied since the features were begun
    with voice.lock:
        if options.speaker is None:
            speaker = voice.speaker
        synthesis = _Synthesis(network, voice.device, speaker, f0 if info.f0 else None, coarse(f0) if info.f0 else None)
        result = synthesis.run(phone, total, info.hop_length, options.seed, section, chunk, progress)
    wanted = int(round(samples * info.sample_rate / INPUT_RATE))
    result = np.pad(result, (0, max(wanted - len(result), 0)))[:wanted]
    return follow(audio[:samples], INPUT_RATE, result, info.sample_rate,
                  MIX_RATE if options.rms_mix_rate is None else options.rms_mix_rate)


class _Synthesis:
    """One recording through the network.

    Args:
        f0: (frames,) in Hz, coarse: (frames,) of 1 to 255; None for a base without pitch.
    """

    def __init__(self, network: nn.Module, device: torch.device, speaker: int, f0: Optional[np.ndarray],
                 coarse: Optional[np.ndarray]):
        self.network, self.device = network, device
        self.dtype = next(network.parameters()).dtype
        self.decoder = GeneratorLoRA(network.dec)
        self.g = network.emb_g(torch.tensor([speaker], device=device)).unsqueeze(-1)  # (1, gin, 1)
        self.f0 = None if f0 is None else torch.from_numpy(f0.astype(np.float32))
        self.coarse = None if coarse is None else torch.from_numpy(coarse.astype(np.int64))

    def run(
        self, phone: Callable[[int, int], Tensor], total: int, hop: int, seed: int, section: int, chunk: int,
        progress: Optional[Callable[[float], None]],
    ) -> np.ndarray:
        """-> (total * hop,) float32."""
        section, chunk = max(section, 2 * SECTION_FADE), max(chunk, 2 * FADE)
        parts = windows(total, section, SECTION_FADE)
        mean = log_scale = torch.empty(0)
        for start, stop in parts:
            m, s = self._prior(phone(start, stop), start, stop)
            if start == 0:
                mean, log_scale = torch.zeros(1, m.shape[1], total), torch.zeros(1, m.shape[1], total)
            fade_in(mean, m, start, SECTION_FADE)
            fade_in(log_scale, s, start, SECTION_FADE)
        with undisturbed(self.device):
            torch.manual_seed(seed)
            z_p = mean + torch.exp(log_scale) * torch.randn(mean.shape) * NOISE_SCALE  # (1, channels, frames)
            sines = self._excitation(hop)
        del mean, log_scale
        out = torch.zeros(total * hop)
        pieces = windows(total, chunk, FADE)
        for number, (start, stop) in enumerate(pieces):
            before, after = min(CONTEXT, start), min(CONTEXT, total - stop)
            first, last = start - before, stop + after
            piece = self._decode(z_p[:, :, first:last], first, last, sines, hop)
            fade_in(out, piece[before * hop : (last - first - after) * hop], start * hop, FADE * hop)
            if progress is not None:
                progress((number + 1) / len(pieces))
        return out.numpy()

    def _prior(self, phone: Tensor, start: int, stop: int) -> Tuple[Tensor, Tensor]:
        """Mean and log-scale of enc_p: (1, channels, frames) each, fp32 on the CPU."""
        coarse = None if self.coarse is None else self.coarse[None, start:stop].to(self.device)
        lengths = torch.tensor([stop - start], device=self.device)
        mean, log_scale, _ = self.network.enc_p(phone.to(self.device, self.dtype), coarse, lengths)
        return mean.float().cpu(), log_scale.float().cpu()

    def _excitation(self, hop: int, longest: int = 3000) -> Optional[Tensor]:
        """The decoder's sine source over the whole recording, (1, samples, 1), made by the host's own module.

        Blocks of at most `longest` frames end where there is no voice, if there is such a place: the phase starts anew
        there.
        """
        if self.f0 is None:
            return None
        blocks, start, total = [], 0, len(self.f0)
        while start < total:
            stop = min(start + longest, total)
            if stop < total:
                silent = torch.nonzero(self.f0[start + longest // 2 : stop] == 0)
                stop = start + longest // 2 + int(silent[-1]) + 1 if len(silent) else stop
            source = excitation(self.network.dec, self.f0[None, start:stop].to(self.device), hop)
            blocks.append(source.cpu())
            start = stop
        return torch.cat(blocks, dim=1)

    def _decode(self, z_p: Tensor, first: int, last: int, sines: Optional[Tensor], hop: int) -> Tensor:
        """z_p: (1, channels, frames) -> (frames * hop,) fp32 on the CPU."""
        z_p = z_p.to(self.device, self.dtype)
        mask = torch.ones(1, 1, last - first, device=self.device, dtype=self.dtype)
        z = self.network.flow(z_p, mask, g=self.g, reverse=True)
        if sines is None or self.f0 is None:
            return self.decoder(z * mask, None, self.g)[0, 0].float().cpu()
        source = sines[:, first * hop : last * hop].to(self.device)
        with given_excitation(self.network.dec, source):
            return self.decoder(z * mask, self.f0[None, first:last].to(self.device), self.g)[0, 0].float().cpu()
