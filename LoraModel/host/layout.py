"""Find the RVC installation and reach its modules, whichever of the layouts in `layouts.py` it has."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type, Union

from torch import nn

from ..defaults import uncompiled, usual_defaults
from ..files import bounded_json
from ..messages import UserError
from ..paths import clean_path
from ..places import to_read, to_write
from .layouts import LAYOUTS, LIBRARY, Layout, layout_at, markers, webui_scripts

SYNTHESIZERS = {
    ("v1", True): "SynthesizerTrnMs256NSFsid",
    ("v1", False): "SynthesizerTrnMs256NSFsid_nono",
    ("v2", True): "SynthesizerTrnMs768NSFsid",
    ("v2", False): "SynthesizerTrnMs768NSFsid_nono",
}
"""The class of each network, by (RVC version, whether it takes pitch): the same names in every layout."""
FEATURE_SIZES = {"v1": 256, "v2": 768}
"""Values of a HuBERT feature frame, by RVC version."""


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Undo what importing RVC does to this process: it sets the root logger to DEBUG and reads `sys.argv`."""
    root, argv = logging.getLogger(), sys.argv
    level, handlers = root.level, list(root.handlers)
    sys.argv = argv[:1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv = argv
        root.setLevel(level)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)


def hush_torch() -> None:
    """RVC asks torch for what it will no longer offer, and torch says so to the user, who can do nothing about it."""
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module="torch")


@dataclass(frozen=True)
class Host:
    """An RVC installation.

    Attributes:
        name: the layout's name: a key of `layouts.LAYOUTS`.
        root: the checkout's folder; None for the library.
    """

    name: str
    root: Optional[Path] = None

    @property
    def layout(self) -> Layout:
        """All that this host's layout has of its own."""
        return LAYOUTS[self.name]

    @property
    def checkout(self) -> Path:
        """The checkout's folder; only for hosts that are one."""
        assert self.root is not None, "the library has no folder"
        return self.root

    @property
    def is_checkout(self) -> bool:
        return self.root is not None

    def module(self, key: str) -> ModuleType:
        """One of the host's modules by its key here: models, commons, data_utils, mel, losses, pipeline, vc, vc_utils,
        audio.

        Raises:
            UserError: it cannot be imported (a package is missing), or another checkout is loaded in this process.
        """
        path = self.layout.modules[key]
        if self.root is not None and str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        try:
            with quiet_import(), uncompiled():
                module = importlib.import_module(path)
        except ImportError as error:
            raise UserError("the RVC installation ({value}) cannot import {path}: {error}. Install what it needs (its "
                            "requirements file)", value=self.describe(), path=path, error=error) from error
        file = Path(module.__file__ or "").resolve()
        if self.root is not None and self.root.resolve() not in file.parents:
            raise UserError("{path} was loaded from {file}, not from {value}: one process can serve one RVC checkout",
                            path=path, file=file, value=self.root)
        return module

    def describe(self) -> str:
        return f"{self.name}, {self.root}" if self.root else "rvc 0.3.5 (library)"

    # Networks

    def synthesizer_class(self, version: str, f0: bool) -> Type[nn.Module]:
        """The synthesizer class for "v1" or "v2", with or without f0."""
        return getattr(self.module("models"), SYNTHESIZERS[version, bool(f0)])

    @usual_defaults()
    def build_synthesizer(self, config: List[Any], version: str, f0: bool) -> nn.Module:
        """A synthesizer with fresh weights from RVC's list of 18 values ([-1] is the sample rate in Hz)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self.synthesizer_class(version, f0)(*config, is_half=False)
            except TypeError as error:
                if (version, bool(f0)) != ("v2", False) or "super()" not in str(error):
                    raise
                return self._build_v2_without_f0(config)

    def _build_v2_without_f0(self, config: List[Any]) -> nn.Module:
        """Tag 2.2.231006 calls super() the wrong way round in this one class, which cannot be built there.

        Its network is that of v1 without f0 but for the text encoder, and the methods are the same.
        """
        network = self.synthesizer_class("v1", False)(*config, is_half=False)
        # config[2:9]: inter, hidden and filter channels, heads, layers, kernel size, dropout
        network.enc_p = self.module("models").TextEncoder768(*config[2:8], float(config[8]), f0=False)
        network.__class__ = self.synthesizer_class("v2", False)
        return network

    @usual_defaults()
    def build_discriminator(self, version: str) -> nn.Module:
        """The multi-period discriminator that RVC trains with: six periods for v1, nine sub-networks for v2."""
        models = self.module("models")
        cls = models.MultiPeriodDiscriminatorV2 if version == "v2" else models.MultiPeriodDiscriminator
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(False)

    # Training helpers

    def collate(self, f0: bool) -> Any:
        """RVC's own collate function: zero-pads a list of dataset items into a batch."""
        module = self.module("data_utils")
        return module.TextAudioCollateMultiNSFsid() if f0 else module.TextAudioCollate()

    # Files

    def configs(self) -> List[Tuple[str, Dict[str, Any]]]:
        """RVC's own network configurations as ("v1" | "v2", contents), one for each of its config files.

        v2 at 40k uses the v1 file; it is listed for both.
        """
        if self.root is not None:
            folder = self.root / "configs"
        else:
            spec = importlib.util.find_spec("rvc")
            places = list(spec.submodule_search_locations or []) if spec is not None else []
            folder = Path(places[0] if places else ".") / "configs"
        found = []
        for name, versions in (("v1/32k", ("v1",)), ("v1/40k", ("v1", "v2")), ("v1/48k", ("v1",)), ("v2/32k", ("v2",)),
                               ("v2/48k", ("v2",))):
            path = folder / f"{name}.json"
            if path.is_file():
                found += [(version, _configuration(path)) for version in versions]
        return found

    def config_for(self, version: str, sample_rate: int) -> Optional[Dict[str, Any]]:
        """The host's configuration for a version and a sample rate in Hz, or None."""
        return next((c for v, c in self.configs() if v == version and c["data"]["sampling_rate"] == sample_rate), None)

    def resolve(self, path: Union[str, Path]) -> Path:
        """A path to read, as the user means it: from the working folder, or else from the RVC checkout (`places`)."""
        return to_read(path, self.root)

    def result(self, path: Union[str, Path]) -> Path:
        """Where a result that RVC reads is written: in the checkout, where there is one (`places`)."""
        return to_write(path, self.root)


def _configuration(path: Path) -> Dict[str, Any]:
    """A configuration of RVC's own.

    Raises:
        UserError: it is damaged.
    """
    try:
        contents = bounded_json(path)
        if isinstance(contents["data"]["sampling_rate"], int):
            return contents
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError("{path}, which is RVC's own, is damaged: restore it from RVC's repository", path=path)


def find_checkout(rvc_root: Union[str, Path, None] = None) -> Optional[Host]:
    """The RVC checkout to use: `rvc_root`, else the environment's RVC_ROOT, else the folder above LoraModel/;
    None where that is none.

    Raises:
        UserError: a named folder is no RVC checkout.
    """
    named = rvc_root or os.environ.get("RVC_ROOT")
    if named:
        root = Path(clean_path(str(named))).resolve()
        layout = layout_at(root)
        if layout is None:
            raise UserError("{root} is no RVC checkout (it has none of {markers}): give --rvc_root the folder that "
                            "holds {scripts}", root=root, markers=markers(), scripts=webui_scripts())
        return Host(layout.name, root)
    above = Path(__file__).resolve().parents[2]
    layout = layout_at(above)
    return None if layout is None else Host(layout.name, above)


def find_host(rvc_root: Union[str, Path, None] = None) -> Host:
    """The RVC installation to use: a checkout (`find_checkout`), else the library.

    Raises:
        UserError: a named folder is no RVC checkout, or there is no RVC at all.
    """
    checkout = find_checkout(rvc_root)
    if checkout is not None:
        return checkout
    if importlib.util.find_spec("rvc") is not None:
        return Host(LIBRARY)
    raise UserError("no RVC was found: put LoraModel/ into an RVC checkout, name one with --rvc_root or RVC_ROOT, run "
                    "`python run.py demo` once, or install RVC's own library: pip install --no-deps "
                    "--ignore-requires-python rvc==0.3.5")
