"""The small discriminator beside which the demo's base was trained: six periods, three spectrograms, 0.9 M parameters.

Multi-period discriminator of HiFi-GAN (Kong et al. 2020, arXiv:2010.05646, section 2.3) with fewer channels, and the
multi-resolution one of UnivNet (Jang et al. 2021, arXiv:2106.07889, section 2.2).
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm

PERIODS = (2, 3, 5, 7, 11, 17)
SIZES = (256, 512, 1024)


class Period(nn.Module):
    """Looks at every `period`-th sample: (batch, 1, samples) -> scores (batch, n), features of each layer."""

    def __init__(self, period: int, channels: Sequence[int] = (8, 32, 64, 128, 128)):
        super().__init__()
        self.period = period
        wide = (1, *channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3 if last < len(channels) else 1, 1), (2, 0)))
            for last, (a, b) in enumerate(zip(wide, channels), start=1))
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, x: Tensor) -> Tuple[Tensor, List[Tensor]]:
        x = F.pad(x, (0, -x.shape[-1] % self.period), "reflect")
        return _through(x.view(x.shape[0], 1, -1, self.period), self.layers, self.score)


class Spectrogram(nn.Module):
    """Looks at square roots of magnitudes of windows of `size` samples: as `Period`."""

    def __init__(self, size: int, channels: int = 24):
        super().__init__()
        self.size = size
        shapes = ((1, (3, 9), 1), (channels, (3, 9), 2), (channels, (3, 9), 2), (channels, (3, 3), 1))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, channels, kernel, (1, stride), (kernel[0] // 2, kernel[1] // 2)))
            for a, kernel, stride in shapes)
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, x: Tensor) -> Tuple[Tensor, List[Tensor]]:
        bins = torch.stft(x.squeeze(1), self.size, self.size // 4, self.size, self.window, return_complex=True)
        return _through(bins.abs().clamp(min=1e-5).sqrt()[:, None].transpose(2, 3), self.layers, self.score)


def _through(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> Tuple[Tensor, List[Tensor]]:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        features.append(x)
    return score(x).flatten(1), features


class SmallDiscriminator(nn.Module):
    """(batch, 1, samples) -> for each part its scores and features."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([*(Period(period) for period in PERIODS), *(Spectrogram(size) for size in SIZES)])

    def forward(self, audio: Tensor) -> List[Tuple[Tensor, List[Tensor]]]:
        return [part(audio) for part in self.parts]
