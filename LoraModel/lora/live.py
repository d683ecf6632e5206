"""Adapters on a network that is in use: weights change in place, from a pristine snapshot.

Each change is computed from the snapshot and all deltas at once in fp32 and cast once, so that no rounding adds up over
changes and taking everything off gives the base back bit for bit. Undo by subtraction would not: W + d - d differs
from W in about one weight of nine. Nothing is rebound, so CUDA graphs captured on the network stay valid.
"""

from __future__ import annotations

from typing import Dict

import torch
from torch import Tensor, nn

from . import weight_norm


class LiveWeights:
    """The weights of `network`, to which dense deltas can be added and which can be put back.

    The snapshot holds only layers that a delta has touched. It is taken when the first delta comes: the network must
    hold its pristine weights then, and nobody else may write to these layers until `restore`.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        self._pristine: Dict[str, Dict[str, Tensor]] = {}

    @property
    def touched(self) -> bool:
        """Whether any layer differs from the base."""
        return bool(self._pristine)

    @torch.no_grad()
    def write(self, deltas: Dict[str, Tensor]) -> None:
        """Make every layer base + delta; layers without a delta are put back.

        Args:
            deltas: module path -> dense fp32 delta in the shape of the layer's weight.

        Raises:
            ValueError: a delta of another shape than its layer's weight. Nothing is written then.
        """
        merged: Dict[str, Dict[str, Tensor]] = {}
        layers = {path: self._network.get_submodule(path) for path in deltas}
        for path, delta in deltas.items():
            stored = self._pristine.get(path) or weight_norm.stored_tensors(layers[path])
            weight = weight_norm.compose(stored)
            if weight.shape != delta.shape:
                raise ValueError(f"delta of {path} has shape {tuple(delta.shape)}, the layer's weight {tuple(weight.shape)}")
            merged[path] = weight_norm.decompose(weight + delta.to(weight.device), stored)
        for path in [p for p in self._pristine if p not in deltas]:
            weight_norm.write(self._network.get_submodule(path), self._pristine.pop(path))
        for path, tensors in merged.items():
            if path not in self._pristine:
                stored = weight_norm.stored_tensors(layers[path])
                self._pristine[path] = {name: tensor.detach().clone() for name, tensor in stored.items()}
            weight_norm.write(layers[path], tensors)

    def restore(self) -> None:
        """Put every layer back to the base, bit for bit, and let the snapshot go."""
        self.write({})
