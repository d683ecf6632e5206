"""What RVC's WebUI script calls: `setup`, `inference_panel`, `train_tab`, each with the script's own `globals()`.

`LoraModel/install/webui_script.py` says what is in that dictionary at each moment.
"""

from __future__ import annotations

from typing import Any, Dict


def setup(namespace: Dict[str, Any]) -> None:
    """At module level, before `vc = VC(config)`: guard the page that RVC will make, and patch RVC's classes. Makes no
    component."""
    from ..host import find_host
    from ..inference.patched import patch
    from .folders import root_of
    from .guard import guard_rvc

    guard_rvc()
    patch(namespace["VC"], find_host(root_of(namespace)))


def inference_panel(namespace: Dict[str, Any]) -> None:
    """Inside the first tab, below RVC's voice list."""
    from .panel import inference_panel as panel

    panel.build(namespace)


def train_tab(namespace: Dict[str, Any]) -> None:
    """Inside `with gr.Tabs():`, after RVC's Train tab: make our tab, then join the panel to what came after it."""
    from .panel import inference_panel as panel

    try:
        from .tab import train_tab as tab

        tab.build(namespace)
    finally:
        panel.attach(namespace)
