"""Where a run computes, and the gradient scaler that fp16 needs there."""

from __future__ import annotations

from typing import Any

import torch

from ..devices import check_device, device_name
from ..messages import UserError
from ..names import shown


def grad_scaler(enabled: bool) -> Any:
    """CUDA's gradient scaler, by its name in old and new torch."""
    if hasattr(torch, "amp") and hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def choose_device(name: str) -> torch.device:
    """"auto" takes CUDA where there is one. UserError where the named device is none, or not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device_name(name)
    except UserError:
        raise UserError("device {name} cannot be used: give auto, cpu, cuda (an NVIDIA or AMD GPU), cuda:1 for the "
                        "second one, mps (Apple) or xpu (Intel)", name=shown(name)) from None
    return torch.device(check_device(name))
