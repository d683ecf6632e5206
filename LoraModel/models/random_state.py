"""Random numbers that nobody else notices."""

from __future__ import annotations

from typing import ContextManager

import torch


def undisturbed(device: torch.device) -> ContextManager[None]:
    """Leave the random generators of the CPU and of `device` as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
