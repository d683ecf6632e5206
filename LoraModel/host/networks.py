"""RVC's own spectrograms and the excitation of its decoder, as training and conversion use them."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator

import torch
from torch import Tensor, nn

from .layout import Host


class Mel:
    """The host's own log-mel spectrogram (natural logarithm), for one experiment.

    Args:
        data: the "data" part of the experiment's config.json.
    """

    def __init__(self, host: Host, data: Dict[str, Any]):
        self._module = host.module("mel")
        self._data = data

    def _fresh_cache(self) -> None:
        # The host keeps its mel filters by fmax alone: filters of another sample rate would be taken for ours.
        key = tuple(sorted((k, str(v)) for k, v in self._data.items()))
        if getattr(self._module, "_rvc_lora_mel_of", key) != key:
            self._module.mel_basis.clear()
        self._module._rvc_lora_mel_of = key  # type: ignore[attr-defined]

    def of_audio(self, audio: Tensor) -> Tensor:
        """audio: (batch, samples) -> (batch, bands, frames)."""
        self._fresh_cache()
        d = self._data
        return self._module.mel_spectrogram_torch(
            audio.float(), d["filter_length"], d["n_mel_channels"], d["sampling_rate"], d["hop_length"],
            d["win_length"], d["mel_fmin"], d["mel_fmax"],
        )

    def of_spectrogram(self, spec: Tensor) -> Tensor:
        """spec: (batch, bins, frames), linear amplitude -> (batch, bands, frames)."""
        self._fresh_cache()
        d = self._data
        return self._module.spec_to_mel_torch(
            spec, d["filter_length"], d["n_mel_channels"], d["sampling_rate"], d["mel_fmin"], d["mel_fmax"]
        )


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """RVC's networks give the same numbers at every call, within it.

    For networks whose modules RVC itself imported: it has one function of theirs compiled by TorchScript, whose first
    calls run as it is written and later ones in a form that PyTorch has optimised meanwhile, which rounds differently.
    What this project imports is not compiled (`defaults.uncompiled`). A run of training that is resumed in a new
    process must go on as if nothing had been.
    """
    with torch.jit.optimized_execution(False):
        yield


def takes_pitch(decoder: nn.Module) -> bool:
    """Whether a decoder of RVC's takes f0: the one that does makes a sine excitation of it."""
    return hasattr(decoder, "m_source")


def excitation(decoder: Any, f0: Tensor, hop: int) -> Tensor:
    """The decoder's own sine excitation. f0: (batch, frames) in Hz -> (batch, frames * hop, 1)."""
    source: Tensor = decoder.m_source(f0, hop)[0]
    return source


@contextlib.contextmanager
def given_excitation(decoder: Any, source: Tensor) -> Iterator[None]:
    """While the block runs, the decoder takes `source` (1, samples, 1) instead of making its own excitation."""
    module = decoder.m_source
    module.forward = lambda *_args, **_kwargs: (source, None, None)
    try:
        yield
    finally:
        del module.forward
