"""The layouts of RVC: everything that differs between them, one instance of `Layout` for each.

A further layout is one more instance here. Standard library alone, so that the installer can use it.

| layout | what it is |
|---|---|
| classic | an RVC checkout, tag 2.2.231006 or branch 20240604 |
| 2026 | an RVC checkout, tag 2.3.260718 or main |
| library | the package `rvc` 0.3.5 from PyPI: networks and training helpers, no WebUI |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple, Union

from ..messages import Text


@dataclass(frozen=True)
class Layout:
    """Where one layout of RVC keeps what RVC-LoRA uses. Paths are relative to the checkout's root, with forward
    slashes.

    Attributes:
        name: how messages and tests call it.
        modules: RVC's modules, by the key that `Host.module` takes.
        marker: a file that only this layout has; "" for the library, which has no checkout.
        webui_script: the WebUI's script, which the installer adds its lines to; "" where there is none.
        scripts: RVC's scripts for training, by step, as modules seen from the checkout's root: run by its path, 2026's
            train/preprocess.py would take train/train.py for the package `train`.
        f0_script_first: arguments that the pitch script takes before the others.
        f0_training: how the pitch script can find pitch for training, the best first.
        f0_training_cuda: further ways that it has where RVC's page lists graphics cards.
        f0_conversion: how the conversion can find pitch, the best first.
        hubert: the file of HuBERT that must be there.
        hubert_reader: the package that reads HuBERT.
        realtime: the modules whose class RVC the realtime window and the API scripts convert with.
        realtime_network: the module whose get_synthesizer(path) makes that class's network; "" where there is none.
        realtime_window: the script of the realtime window; "" where there is none.
    """

    name: str
    modules: Mapping[str, str]
    marker: str = ""
    webui_script: str = ""
    scripts: Mapping[str, str] = field(default_factory=dict)
    f0_script_first: Tuple[str, ...] = ()
    f0_training: Tuple[str, ...] = ("pm",)
    f0_training_cuda: Tuple[str, ...] = ()
    f0_conversion: Tuple[str, ...] = ("pm",)
    hubert: str = ""
    hubert_reader: str = ""
    realtime: Tuple[str, ...] = ()
    realtime_network: str = ""
    realtime_window: str = ""


@dataclass(frozen=True)
class PageAnchors:
    """Names in RVC's WebUI script that the installer's lines stand beside; the same in every layout that has a page.

    Attributes:
        converter: the variable that holds RVC's converter, converter_class: its class.
        voice_list: the list of voices, below which the panel goes.
        experiment: the experiment's name in RVC's Train tab, after which our tab goes.
        page, tabs, tab: the Gradio classes that hold the page, its tabs and one tab.
    """

    converter: str = "vc"
    converter_class: str = "VC"
    voice_list: str = "sid0"
    experiment: str = "exp_dir1"
    page: Tuple[str, ...] = ("Blocks",)
    tabs: Tuple[str, ...] = ("Tabs",)
    tab: Tuple[str, ...] = ("TabItem", "Tab")


ANCHORS = PageAnchors()

_CLASSIC = Layout(
    name="classic",
    modules={
        "models": "infer.lib.infer_pack.models",
        "commons": "infer.lib.infer_pack.commons",
        "data_utils": "infer.lib.train.data_utils",
        "mel": "infer.lib.train.mel_processing",
        "losses": "infer.lib.train.losses",
        "pipeline": "infer.modules.vc.pipeline",
        "vc": "infer.modules.vc.modules",
        "vc_utils": "infer.modules.vc.utils",
        "audio": "infer.lib.audio",
    },
    marker="infer/lib/infer_pack/models.py",
    webui_script="infer-web.py",
    scripts={
        "slice": "infer.modules.train.preprocess",
        "f0": "infer.modules.train.extract.extract_f0_print",
        "features": "infer.modules.train.extract_feature_print",
        "train": "infer.modules.train.train",
    },
    f0_training=("rmvpe", "pm", "harvest", "dio"),
    f0_training_cuda=("rmvpe_gpu",),
    f0_conversion=("rmvpe", "pm", "harvest", "crepe"),
    hubert="assets/hubert/hubert_base.pt",
    hubert_reader="fairseq",
    realtime=("infer.lib.rtrvc", "tools.rvc_for_realtime"),
    realtime_network="infer.lib.jit.get_synthesizer",
    realtime_window="gui_v1.py",
)

_2026 = Layout(
    name="2026",
    modules={
        "models": "infer.module.models",
        "commons": "infer.module.commons",
        "data_utils": "train.data_utils",
        "mel": "train.mel_processing",
        "losses": "train.losses",
        "pipeline": "infer.vc.pipeline",
        "vc": "infer.vc.modules",
        "vc_utils": "infer.vc.utils",
        "audio": "infer.audio",
    },
    marker="infer/module/models.py",
    webui_script="webui.py",
    scripts={
        "slice": "train.preprocess",
        "f0": "train.dataset.extract_f0",
        "features": "train.dataset.extract_hubert_feature",
        "index": "train.train_index",
        "train": "train.train",
    },
    f0_script_first=("cpu",),
    f0_training=("rmvpe", "pm"),
    f0_conversion=("rmvpe", "pm", "fcpe"),
    hubert="assets/hubert_base/config.json",
    hubert_reader="transformers",
    realtime=("infer.rtrvc",),
    realtime_network="infer.rtrvc",
    realtime_window="realtime_gui.py",
)

_LIBRARY = Layout(
    name="library",
    modules={
        "models": "rvc.lib.infer_pack.models",
        "commons": "rvc.lib.infer_pack.commons",
        "data_utils": "rvc.lib.train.data_utils",
        "mel": "rvc.lib.train.mel_processing",
        "losses": "rvc.lib.train.losses",
    },
)

LAYOUTS: Dict[str, Layout] = {layout.name: layout for layout in (_CLASSIC, _2026, _LIBRARY)}
"""By name, checkouts in the order in which a folder is asked for their marker."""
CHECKOUTS: Tuple[Layout, ...] = tuple(layout for layout in LAYOUTS.values() if layout.marker)
LIBRARY = _LIBRARY.name


def layout_at(root: Path) -> Optional[Layout]:
    """The layout of the RVC checkout in `root`, or None where there is no checkout."""
    return next((layout for layout in CHECKOUTS if (root / layout.marker).is_file()), None)


def markers() -> str:
    """The files by which a checkout is known, for messages."""
    return " / ".join(layout.marker for layout in CHECKOUTS)


def webui_scripts() -> Union[Text, str]:
    """The names of the WebUI scripts, for messages: such as "infer-web.py or webui.py"."""
    one, *others = (layout.webui_script for layout in CHECKOUTS)
    names: Union[Text, str] = one
    for other in others:
        names = Text("{one} or {other}", one=names, other=other)
    return names
