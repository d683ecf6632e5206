"""A conversion with the voice that is applied: by RVC's own Pipeline in a checkout, else by `inference.convert`."""

from __future__ import annotations

import sys
from typing import Callable, Optional, Tuple

import numpy as np

from ..devices import best_device, check_device
from ..host import Host
from ..host.pipeline import HostPipeline, check_f0_method
from ..messages import UserError, tr
from .convert import ConvertOptions, Retrieval, check_index, convert
from .model_loader import VoiceLoader

_said_stand_in = False


def say_stand_in() -> None:
    """Say once that the features are no HuBERT's."""
    global _said_stand_in
    if not _said_stand_in:
        _said_stand_in = True
        print(tr("no RVC checkout: content features come from the demo's stand-in, not from HuBERT; only the demo's "
                 "own base was trained on them (name a checkout with --rvc_root)"), file=sys.stderr)


class Converter:
    """Converts with the voice that is applied on `voice`: by RVC's own Pipeline in a checkout, else by
    `inference.convert`.

    In a checkout the network moves to where RVC's Config runs networks, in fp16 if it does, so make the converter
    before adapters are applied.

    Args:
        device: None for RVC's own choice, or in the library layout the voice's.

    Raises:
        UserError: a package or HuBERT is missing; a v1 base without a checkout.
    """

    def __init__(self, voice: VoiceLoader, device: Optional[str] = None):
        self.voice, self.host = voice, voice.host
        self._pipeline: Optional[HostPipeline] = None
        self._retrieval: Optional[Tuple[str, Retrieval]] = None
        if self.host.is_checkout:
            self._pipeline = HostPipeline(self.host, voice.info.sample_rate, device)
            voice.move(self._pipeline.device, self._pipeline.is_half)
            return
        if voice.info.version == "v1":
            raise UserError("base {info_name} is v1, which takes HuBERT features of 256 values: without an RVC "
                            "checkout there are only the demo's stand-ins of 768. Name a checkout with --rvc_root, or "
                            "use a v2 base", info_name=voice.info.name)
        say_stand_in()

    def __call__(self, audio: np.ndarray, options: ConvertOptions,
                 progress: Optional[Callable[[float], None]] = None) -> np.ndarray:
        """audio: (samples,) at 16 kHz -> (samples,) at the base's sample rate."""
        voice, info = self.voice, self.voice.info
        method = check_f0_method(self.host, options.f0_method)
        size = voice.network.enc_p.emb_phone.in_features
        if self._pipeline is None:
            from . import stand_in

            retrieval = self._read_index(options, size)
            return convert(voice, audio, options, stand_in.content_features, stand_in.pitch, stand_in.coarse_pitch,
                           progress=progress, retrieval=retrieval)
        speaker = voice.speaker if options.speaker is None else options.speaker
        if not 0 <= speaker < info.speakers:
            raise UserError("speaker {speaker} is not among the base's {speakers}: choose 0 to {speakers_2}",
                            speaker=speaker, speakers=info.speakers, speakers_2=info.speakers - 1)
        if options.index is not None:
            check_index(options.index, size)
        with voice.lock:
            if options.speaker is None:  # another voice may have been applied since
                speaker = voice.speaker
            return self._pipeline.convert(
                voice.network, audio, version=info.version, f0=info.f0, speaker=speaker, transpose=options.transpose,
                f0_method=method,
                index=options.index, index_rate=options.index_rate, protect=options.protect,
                rms_mix_rate=options.rms_mix_rate, seed=options.seed,
            )

    def content_features(self, audio: np.ndarray) -> np.ndarray:
        """The content features that the network gets: (samples,) at 16 kHz -> (frames, size) float32, 50 a second.
        HuBERT's in a checkout."""
        if self._pipeline is not None:
            return self._pipeline.content_features(audio, self.voice.info.version)
        from . import stand_in

        return stand_in.content_features(audio)

    def _read_index(self, options: ConvertOptions, size: int) -> Optional[Retrieval]:
        if options.index is None or not options.index_rate:
            return None
        stamp = f"{options.index}:{options.index.stat().st_mtime_ns if options.index.is_file() else 0}"
        if self._retrieval is None or self._retrieval[0] != stamp:
            self._retrieval = (stamp, Retrieval(options.index, size))
        return self._retrieval[1]


def choose_device(name: Optional[str], host: Host) -> Optional[str]:
    """The device to ask for; None where RVC's Config decides.

    Raises:
        UserError: PyTorch knows no such device, or it is not here.
    """
    if name is None:
        return None if host.is_checkout else best_device()
    return check_device(name)
