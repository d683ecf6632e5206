"""Content features where there is no RVC: the encoder of OpenAI's Whisper base, MIT licence.

Radford et al. 2022, arXiv:2212.04356.

`content_encoder.npz` beside this file holds its weights as whole numbers of at most 47 either way, a scale for each
row, and the mean and deviation by which the features are standardised. numpy reads it without pickle;
nothing is downloaded.
RVC's own bases expect HuBERT's features and sound like noise with these. The demo's base was trained on exactly these.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Dict, Optional

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = Path(__file__).with_name("content_encoder.npz")
SAMPLE_RATE = 16000  # Hz
HOP = 320  # samples: 50 frames a second
N_FFT, MEL_HOP, N_MELS = 400, 160, 80
WIDTH, HEADS, LAYERS = 512, 8, 6
LIMIT = 6.0  # standard deviations, beyond which a feature is cut off
WINDOW, OVERLAP = 20 * SAMPLE_RATE, 2 * SAMPLE_RATE  # longer audio is cut: attention grows with the square


@lru_cache(maxsize=1)
def weights() -> Dict[str, Tensor]:
    """The network's tensors by name, float32; read once in a process."""
    stored: Dict[str, Tensor] = {}
    with np.load(str(WEIGHTS), allow_pickle=False) as file:
        for name in file.files:
            if name.endswith(".scale"):
                continue
            values = file[name].astype(np.float32)
            if name + ".scale" in file.files:
                values = values * file[name + ".scale"].astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
            stored[name] = torch.from_numpy(values)
    return stored


@lru_cache(maxsize=1)
def _mel_bands() -> Tensor:
    """Mel filter bank: (80, 201)."""
    bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS, fmin=0, fmax=SAMPLE_RATE // 2)  # type: ignore[attr-defined]
    return torch.from_numpy(bands).float()


def log_mel(audio: Tensor) -> Tensor:
    """Whisper's input: audio (batch, samples) -> (batch, 80, samples // 160), base 10, over a range of 8."""
    window = torch.hann_window(N_FFT, dtype=torch.float32, device=audio.device)
    spectrum = torch.stft(audio, N_FFT, MEL_HOP, N_FFT, window, center=True, pad_mode="reflect", return_complex=True)
    power = spectrum.real[..., :-1] ** 2 + spectrum.imag[..., :-1] ** 2
    bands = (_mel_bands().to(audio.device) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(bands, bands.detach().amax((1, 2), keepdim=True) - 8) + 4) / 4


def _positions(frames: int) -> Tensor:
    """Sine and cosine of each frame's position: (frames, 512)."""
    half = WIDTH // 2
    rates = torch.exp(-np.log(10000.0) / (half - 1) * torch.arange(half, dtype=torch.float32, device="cpu"))
    angles = torch.arange(frames, dtype=torch.float32, device="cpu")[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _attend(x: Tensor, w: Dict[str, Tensor], layer: str) -> Tensor:
    """Self-attention of all frames: (batch, frames, 512) -> the same."""
    split = F.linear(x, w[layer + "attention.in.weight"], w[layer + "attention.in.bias"])  # (batch, frames, 3 * 512)
    query, key, value = split.view(*x.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
    scores = torch.softmax(query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5, dim=-1)  # frame by frame
    mixed = (scores @ value).transpose(1, 2).reshape(x.shape)
    return F.linear(mixed, w[layer + "attention.out.weight"], w[layer + "attention.out.bias"])


def _norm(x: Tensor, w: Dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, (WIDTH,), w[name + ".weight"], w[name + ".bias"])


def encode(audio: Tensor, w: Optional[Dict[str, Tensor]] = None, silence: int = SAMPLE_RATE + MEL_HOP) -> Tensor:
    """The encoder's last layer, differentiable.

    Args:
        audio: (batch, samples) at 16 kHz.
        w: the weights, on the audio's device; None takes `weights()`.
        silence: samples of it put at the end: Whisper has learned on recordings that end before their frames do.

    Returns:
        (batch, samples // 320 + 1, 512), standardised: mean 0 and deviation 1 over the speech that the demo's base was
        trained on, none beyond 6 either way.
    """
    w = weights() if w is None else w
    mel = log_mel(F.pad(audio, (0, silence)))
    mel = mel[..., : mel.shape[2] // 2 * 2]  # (batch, 80, frames at 100 a second)
    x = F.gelu(F.conv1d(mel, w["conv1.weight"], w["conv1.bias"], padding=1))
    x = F.gelu(F.conv1d(x, w["conv2.weight"], w["conv2.bias"], stride=2, padding=1)).transpose(1, 2)
    x = x + _positions(x.shape[1]).to(x.device)  # (batch, frames at 50 a second, 512)
    for index in range(LAYERS):
        layer = f"layer{index}."
        x = x + _attend(_norm(x, w, layer + "attention.norm"), w, layer)
        wide = F.gelu(F.linear(_norm(x, w, layer + "mlp.norm"), w[layer + "mlp.in.weight"], w[layer + "mlp.in.bias"]))
        x = x + F.linear(wide, w[layer + "mlp.out.weight"], w[layer + "mlp.out.bias"])
    found = _norm(x, w, "norm")[:, : audio.shape[1] // HOP + 1]
    return ((found - w["mean"]) / w["deviation"]).clamp(-LIMIT, LIMIT)


def standardised(audio: np.ndarray) -> np.ndarray:
    """Features of an utterance with mean 0 and deviation 1 over the speech that the demo's base was trained on.

    Args:
        audio: (samples,) float32 at 16 kHz. Longer than 20 s, it is encoded in stretches that overlap by 2 s.

    Returns:
        (samples // 320 + 1, 512) float32, 50 frames a second, none beyond 6 either way.
    """
    with torch.no_grad():
        parts = []
        step = WINDOW - OVERLAP
        for start in range(0, max(len(audio) - OVERLAP, 1), step):
            stretch = torch.from_numpy(np.ascontiguousarray(audio[start:start + WINDOW], dtype=np.float32))
            piece = encode(stretch[None])[0]
            first = 0 if start == 0 else OVERLAP // 2 // HOP
            last = len(piece) if start + WINDOW >= len(audio) else (step + OVERLAP // 2) // HOP
            parts.append(piece[first:last])
        return torch.cat(parts).numpy()
