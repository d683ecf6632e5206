"""Where networks run: names of devices, and whether they are here."""

from __future__ import annotations

import re
from typing import List

from .messages import UserError
from .names import shown

KINDS = ("cpu", "cuda", "mps", "xpu", "privateuseone")
"""What PyTorch can compute on in an RVC installation; privateuseone is DirectML."""
AUTO = "auto"
"""The name of the best device that is here."""


def device_name(name: str) -> str:
    """`name` in PyTorch's spelling.

    Raises:
        UserError: it names no device that networks can run on (`gpu`, `meta`, …).
    """
    text = str(name).strip().lower()
    found = re.fullmatch(r"([a-z]+)(:\d{1,3})?", text, re.ASCII)
    if text == AUTO:
        return text
    if found is None or found.group(1) not in KINDS:
        raise UserError("there is no device {name}: give auto, cpu, cuda (an NVIDIA or AMD GPU), cuda:1 for the "
                        "second one, mps (Apple) or xpu (Intel)", name=shown(name))
    return text


def check_device(name: str) -> str:
    """`name` in PyTorch's spelling, tried out.

    Raises:
        UserError: it names no device, or the device is not here.
    """
    import torch

    text = device_name(name)
    if text == AUTO:
        text = best_device()
    try:
        torch.zeros(1, device=torch.device(text))
    except (RuntimeError, AssertionError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        here = ", ".join(available())
        raise UserError("device {text!r} cannot be used here ({reason}): this computer has {here}", text=text,
                        reason=reason[:100], here=here) from None
    return text


def available() -> List[str]:
    """The devices of this computer."""
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda"] + [f"cuda:{number}" for number in range(1, torch.cuda.device_count())]
    found += [kind for kind in ("mps", "xpu") if _has(kind)]
    return found


def best_device() -> str:
    """What "auto" means: CUDA, else MPS, else XPU, else the CPU. DirectML is RVC's to choose, with its own switch."""
    here = available()
    return next((kind for kind in ("cuda", "mps", "xpu") if kind in here), "cpu")


def _has(kind: str) -> bool:
    """Whether PyTorch has an Apple ("mps") or Intel ("xpu") GPU here."""
    import torch

    module = getattr(torch.backends, kind, None) if kind == "mps" else getattr(torch, kind, None)
    try:
        return module is not None and bool(module.is_available())
    except (RuntimeError, AttributeError):  # a driver that is half there
        return False
