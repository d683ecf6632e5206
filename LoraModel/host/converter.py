"""RVC's converter, `VC`: the attributes by which its WebUI converts, and the functions of its module.

A `VC` holds one voice: net_g, tgt_sr, if_f0, version, n_spk, cpt, pipeline, hubert_model, and RVC's config.
`patch.BASE` marks the network that our panel put into it. RVC's own unloading deletes net_g and cpt, where `VC` began
with None: what is missing counts as None here.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from torch import nn

from .patch import BASE


class Installed(NamedTuple):
    """What RVC's get_vc would take from a voice's file.

    Attributes:
        config: RVC's list of 18 values. sample_rate: Hz. speakers: rows of the speaker table.
    """

    config: List[Any]
    f0: bool
    version: str
    sample_rate: int
    speakers: int
    name: str


class Converter:
    """RVC's converter as our panel uses it.

    Args:
        vc: an object of RVC's class `VC`, or one with its attributes.
    """

    def __init__(self, vc: Any):
        self.vc = vc

    @property
    def network(self) -> Any:
        """The synthesizer that converts now; None where there is none."""
        return getattr(self.vc, "net_g", None)

    @property
    def ours(self) -> Optional[nn.Module]:
        """The network that our panel put in, if it is the one that converts now."""
        network = getattr(self.vc, BASE, None)
        return network if network is not None and network is self.network else None

    @property
    def device(self) -> Tuple[Any, bool]:
        """Where RVC runs networks: (device, whether in fp16)."""
        return self.vc.config.device, bool(self.vc.config.is_half)

    def install(self, network: nn.Module, info: Installed) -> None:
        """Put a base in: all that RVC's get_vc would set. The pipeline may fail: it is made before anything is set."""
        vc, pipeline = self.vc, getattr(self._module(), "Pipeline", None)
        made = pipeline(info.sample_rate, vc.config) if pipeline is not None else getattr(vc, "pipeline", None)
        self._clear_graphs(self.network)
        vc.cpt = {"config": list(info.config), "f0": int(info.f0), "version": info.version,
                  "sr": f"{info.sample_rate // 1000}k", "info": info.name}
        vc.tgt_sr, vc.if_f0, vc.version, vc.n_spk = info.sample_rate, int(info.f0), info.version, info.speakers
        vc.pipeline, vc.net_g = made, network
        setattr(vc, BASE, network)

    def release(self) -> None:
        """Let the network go, and HuBERT with it, as RVC's own unloading does."""
        vc = self.vc
        self._clear_graphs(self.network, getattr(vc, "hubert_model", None))
        vc.net_g = vc.hubert_model = vc.n_spk = vc.tgt_sr = None
        setattr(vc, BASE, None)

    def index_of(self, name: str) -> str:
        """The index that RVC itself would pick for the voice file `name`; "" where there is none.

        Raises:
            OSError: RVC's search stops at a link in assets/indices whose file is gone.
        """
        search: Callable[[str], str] = getattr(self._module(), "get_index_path_from_model", lambda _name: "")
        return search(name) or ""

    def _module(self) -> Any:
        return sys.modules.get(type(self.vc).__module__)

    def _clear_graphs(self, *networks: Any) -> None:
        clear = getattr(self._module(), "clear_cuda_graph_cache", None)
        for network in networks:
            if clear is not None and network is not None:
                clear(network)
