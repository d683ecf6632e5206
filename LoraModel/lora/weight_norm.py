"""Read and write a layer's effective weight, whichever of the three ways PyTorch stores it.

| stored as | made by |
|---|---|
| `weight` | a plain layer |
| `weight_g`, `weight_v` | `torch.nn.utils.weight_norm`, which RVC uses: `weight` is computed anew in every forward |
| `parametrizations.weight.original0`, `.original1` | `torch.nn.utils.parametrizations.weight_norm` |

Writes go into the existing tensors with `copy_`: nothing is rebound, so captured CUDA graphs, optimisers and
other references stay valid.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple, Union

import torch
from torch import Tensor, nn

from . import functional as LF


def stored_tensors(layer: Union[nn.Module, OneParameter]) -> Dict[str, Tensor]:
    """The parameters that hold the layer's weight, by their names relative to the layer."""
    parameters = dict(layer.named_parameters(recurse=True))
    for names in (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")):
        if all(name in parameters for name in names):
            return {name: parameters[name] for name in names}
    if "weight" in parameters:
        return {"weight": parameters["weight"]}
    raise TypeError(f"{type(layer).__name__} keeps its weight in a form that is not known here: {sorted(parameters)}")


class OneParameter:
    """A parameter that is no weight, such as a bias, seen as a layer whose weight it is."""

    def __init__(self, parameter: nn.Parameter):
        self.parameter = parameter

    def __repr__(self) -> str:
        return f"a parameter of shape {tuple(self.parameter.shape)}"

    def named_parameters(self, recurse: bool = True) -> Iterator[Tuple[str, nn.Parameter]]:
        yield "weight", self.parameter


def layer_at(network: nn.Module, path: str) -> Any:
    """The layer at a module path; at a parameter's path, such as `dec.conv_pre.bias`, that parameter as a layer's
    weight.

    Raises:
        AttributeError: there is neither.
    """
    try:
        return network.get_submodule(path)
    except AttributeError:
        return OneParameter(network.get_parameter(path))


def compose(stored: Dict[str, Tensor]) -> Tensor:
    """The effective weight in fp32 from stored tensors (as `stored_tensors` names them). Shape as the layer's weight.

    Where the weight is stored plain and in fp32 this is the stored tensor itself, not a copy.
    """
    if len(stored) == 1:
        return stored["weight"].detach().float()
    g, v = (tensor.detach() for tensor in stored.values())
    if g.shape != (v.shape[0],) + (1,) * (v.dim() - 1):
        raise ValueError(f"weight norm over a dimension other than 0 (g {tuple(g.shape)}, v {tuple(v.shape)}) is not "
                         f"RVC's")
    return LF.weight_norm_compose(g, v)


def decompose(weight: Tensor, like: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Tensors to store for the effective `weight` (fp32), with the names and types of `like`."""
    if len(like) == 1:
        return {"weight": weight.to(like["weight"].dtype)}
    (g_name, g), (v_name, _) = like.items()
    new_g, new_v = LF.weight_norm_decompose(weight, g.dtype)
    return {g_name: new_g, v_name: new_v}


@torch.no_grad()
def write(layer: Union[nn.Module, OneParameter], tensors: Dict[str, Tensor]) -> None:
    """Copy `tensors` (a result of `decompose`, or a snapshot) into the layer, in place.

    Under the old weight norm this is all there is to do: `weight` itself is computed anew in the next forward.
    """
    stored = stored_tensors(layer)
    for name, tensor in tensors.items():
        stored[name].copy_(tensor)
