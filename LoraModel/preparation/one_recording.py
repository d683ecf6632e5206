"""Content features and pitch of one recording in memory, without an experiment folder: HuBERT's in an RVC checkout,
else the stand-in's."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from ..host import Host
from ..messages import UserError


class Heard(NamedTuple):
    """phone: content features (frames, size) float32, 100 frames a second. f0: (frames,) float32 in Hz, 0 where
    unvoiced; None for a network without pitch."""

    phone: np.ndarray
    f0: Optional[np.ndarray]


def features_of(audio: np.ndarray, host: Host, version: str, f0: bool) -> Heard:
    """What a network of `version` takes for a recording. audio: (samples,) at 16 kHz. The pitch is Praat's.

    Raises:
        UserError: HuBERT or a package is missing; v1 without a checkout.
    """
    try:
        from ..inference import stand_in
    except ImportError as error:
        raise UserError("the package praat-parselmouth, which measures pitch, is not installed ({error})",
                        error=error) from None
    if host.is_checkout:
        from ..host.pipeline import HostPipeline

        found = HostPipeline(host, 16000).content_features(audio, version)
    elif version == "v1":
        raise UserError("a v1 base takes HuBERT's features, which only an RVC checkout has")
    else:
        found = stand_in.content_features(audio)
    phone = np.repeat(found.astype(np.float32), 2, axis=0)
    if not f0:
        return Heard(phone, None)
    return Heard(phone, stand_in.pitch(audio, len(phone)).astype(np.float32))
