"""RVC's own conversion: its Config, its HuBERT and its `Pipeline`, built and called the same way for both checkout
layouts."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import pickle
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np
import torch
from torch import nn

from ..messages import UserError, listing
from .layout import Host, quiet_import
from .safe_types import hubert_allowed

_ENVIRONMENT = {
    "weight_root": "assets/weights", "index_root": "logs", "outside_index_root": "assets/indices",
    "rmvpe_root": "assets/rmvpe",
    "weight_uvr5_root": "assets/uvr5_weights", "weight_pymss_root": "assets/pymss_weights", "RVC_CUDA_GRAPH": "0",
}
WEBUI_RMS_MIX_RATE, WEBUI_FILTER_RADIUS = 0.25, 3


def host_environment(host: Host) -> Dict[str, str]:
    """The variables that RVC reads its folders from: the checkout's own .env, else RVC's defaults."""
    values = dict(_ENVIRONMENT)
    file = Path(host.root or ".") / ".env"
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.strip().startswith("#"):
                values[name.strip()] = value.strip().strip("'\"")
    return values


@contextlib.contextmanager
def at_root(host: Host) -> Iterator[None]:
    """RVC reads `sys.argv`, the working folder and the environment: give it its own while the block runs."""
    folder, path = os.getcwd(), list(sys.path)
    missing = {name: value for name, value in host_environment(host).items() if name not in os.environ}
    os.environ.update(missing)
    os.chdir(str(host.root))
    if str(host.root) not in sys.path:
        sys.path.insert(0, str(host.root))
    try:
        with quiet_import():
            yield
    finally:
        os.chdir(folder)
        sys.path[:] = path
        for name in missing:
            os.environ.pop(name, None)


def rmvpe_model(host: Host, named: bool) -> Path:
    """Where RVC reads rmvpe's model in a checkout.

    Args:
        named: its conversion reads it in the folder that rmvpe_root names; its scripts for training and its realtime
            class, which are asked for with False, always in this one.
    """
    folder = (os.environ.get("rmvpe_root") or host_environment(host)["rmvpe_root"]) if named else "assets/rmvpe"
    return host.checkout / folder / "rmvpe.pt"


def default_f0_method(host: Host, named: bool = True) -> str:
    """rmvpe where its model has been downloaded, else pm. named: as for `rmvpe_model`."""
    return "rmvpe" if host.root is not None and rmvpe_model(host, named).is_file() else "pm"


def check_f0_method(host: Host, method: Optional[str], named: bool = True) -> str:
    """The method to use: `method`, or the default for None. named: as for `rmvpe_model`.

    Raises:
        UserError: the host does not know it.
    """
    if method is None:
        return default_f0_method(host, named)
    if method not in host.layout.f0_conversion:
        raise UserError("this RVC ({host}) has no f0 method {method!r}: choose from {f0_conversion}",
                        host=host.describe(), method=method, f0_conversion=listing(host.layout.f0_conversion))
    return method


def host_config(device: Optional[str]) -> Any:
    """RVC's Config for a device, None for its own choice; only with `at_root`."""
    import importlib

    config = importlib.import_module("configs.config").Config()
    if device is not None and torch.device(device) != torch.device(config.device):
        config.device = device
        if torch.device(device).type == "cpu":
            config.is_half = False
    return config


class HostPipeline:
    """A checkout's conversion for one sample rate.

    Attributes:
        device, is_half: where and how RVC's Config runs networks here; the synthesizer has to be the same.

    Args:
        tgt_sr: the base's sample rate in Hz.
        device: None leaves the choice to RVC.

    Raises:
        UserError: a package or HuBERT is missing, or HuBERT's file is unsafe.
    """

    def __init__(self, host: Host, tgt_sr: int, device: Optional[str] = None):
        if host.root is None:
            raise ValueError("the library layout has no pipeline that can run")
        self.host, self.tgt_sr = host, tgt_sr
        hubert = host.root / host.layout.hubert
        if not hubert.is_file():
            raise UserError("HuBERT is missing ({hubert}): download it as RVC's README says", hubert=hubert)
        with at_root(host):
            module = host.module("pipeline")
            utils = host.module("vc_utils")
            self.config = host_config(device)
            self.hubert = self._load_hubert(utils, hubert)
            self._pipeline = module.Pipeline(tgt_sr, self.config)

    @property
    def device(self) -> torch.device:
        return torch.device(self.config.device)

    @property
    def is_half(self) -> bool:
        return bool(self.config.is_half)

    def _load_hubert(self, utils: Any, path: Path) -> nn.Module:
        try:
            with hubert_allowed():
                return utils.load_hubert(self.config)
        except pickle.UnpicklingError as error:
            reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error).splitlines()[0])
            raise UserError("{path} is unsafe and was not loaded ({reason}): download HuBERT again from RVC's own "
                            "source", path=path, reason=reason.strip()) from None

    def convert(
        self, network: nn.Module, audio: np.ndarray, *, version: str, f0: bool, speaker: int = 0,
        transpose: float = 0.0,
        f0_method: Optional[str] = None, index: Optional[Path] = None, index_rate: float = 0.75, protect: float = 0.33,
        rms_mix_rate: Optional[float] = None, seed: int = 0,
    ) -> np.ndarray:
        """Convert a recording with RVC's own `Pipeline.pipeline`.

        Args:
            network: the synthesizer, on `device` and in fp16 if `is_half`.
            audio: (samples,) at 16 kHz.
            transpose: semitones; the rest as in RVC's WebUI.

        Returns:
            (samples,) float32 at the base's sample rate.

        Raises:
            UserError: the host does not know the f0 method, or the recording is too short for it.
        """
        method = check_f0_method(self.host, f0_method)
        loudest = float(np.abs(audio).max()) / 0.95
        audio = (audio / loudest if loudest > 1 else audio).astype(np.float32)
        if len(audio) < 1600:  # the Pipeline filters there and back: it needs some samples to do so
            raise UserError("the recording is shorter than 0.1 s: choose a longer one")
        known = {
            "model": self.hubert, "net_g": network, "sid": speaker, "audio": audio, "times": [0, 0, 0],
            "f0_up_key": transpose,
            # harvest keeps its results by this name: two recordings must not share one
            "input_audio_path": hashlib.sha1(audio.tobytes()).hexdigest(),
            "f0_method": method, "file_index": str(index) if index is not None else "", "index_rate": index_rate,
            "if_f0": int(f0), "filter_radius": WEBUI_FILTER_RADIUS, "tgt_sr": self.tgt_sr, "resample_sr": 0,
            "rms_mix_rate": WEBUI_RMS_MIX_RATE if rms_mix_rate is None else rms_mix_rate, "version": version,
            "protect": protect, "f0_file": None,
        }
        arguments = {}
        for name, parameter in inspect.signature(self._pipeline.pipeline).parameters.items():
            if name in known:
                arguments[name] = known[name]
            elif parameter.default is inspect.Parameter.empty:
                raise UserError("this RVC's Pipeline asks for {name!r}, which RVC-LoRA does not know: update RVC-LoRA",
                                name=name)
        torch.manual_seed(seed)
        with at_root(self.host):
            result = self._pipeline.pipeline(**arguments)
        return np.asarray(result, dtype=np.float32) / 32768.0

    def content_features(self, audio: np.ndarray, version: str) -> np.ndarray:
        """HuBERT's features of a recording, as the Pipeline takes them: v1 from the ninth layer, projected, v2 from
        the twelfth.

        Args:
            audio: (samples,) at 16 kHz.

        Returns:
            (frames, 256 or 768) float32, 50 frames a second.
        """
        sound = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None].to(self.device)
        sound = sound.half() if self.is_half else sound
        mask = torch.zeros(sound.shape, dtype=torch.bool, device=self.device)
        extract = getattr(self.host.module("pipeline"), "extract_hubert_features", None)
        with torch.no_grad(), at_root(self.host):
            if extract is not None:
                found = extract(self.hubert, sound, version, padding_mask=mask)
            else:
                layer = 9 if version == "v1" else 12
                found = self.hubert.extract_features(source=sound, padding_mask=mask, output_layer=layer)[0]
                found = self.hubert.final_proj(found) if version == "v1" else found
        return found[0].float().cpu().numpy()
