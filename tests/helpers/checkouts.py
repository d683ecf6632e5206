"""Copies of real RVC checkouts, for the tests marked `host`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from LoraModel.host import find_host
from LoraModel.host.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[2]
HUBERT = {layout.name: Path(layout.hubert).parent.as_posix() for layout in LAYOUTS.values() if layout.marker}
REAL = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]
each_checkout = pytest.mark.parametrize(
    "checkout", REAL or [pytest.param("", marks=pytest.mark.skip(reason="RVC_HOSTS names no RVC checkout"))],
    ids=[Path(path).name for path in REAL] or None)


def install(folder, *options):
    environment = {**os.environ, "RVC_LORA_LANG": "en", "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, str(ROOT / "install_into_rvc.py"), "--rvc_root", str(folder), *options],
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace")


def copy_of(checkout, target):
    """A checkout without its experiments and voices, HuBERT linked, a made-up base of full size in it."""
    import torch

    from LoraModel.models.model_utils import config_list

    def left_out(folder, names):
        inside = Path(folder).relative_to(checkout).as_posix()
        out = {name for name in names if name in (".git", "__pycache__", "TEMP", "LoraModel")}
        if inside == "logs":
            out |= set(names) - {"mute"}
        if inside in ("assets/lora", "assets/indices", "assets/weights"):
            out |= {name for name in names if name.endswith((".pth", ".safetensors", ".index"))}
        return out | {name for name in names if Path(folder, name).is_file()
                      and Path(folder, name).stat().st_size > 50e6}

    shutil.copytree(str(checkout), str(target), ignore=left_out, symlinks=True)
    host = find_host(target)
    for file in (checkout / HUBERT[host.name]).iterdir():
        copy = target / HUBERT[host.name] / file.name
        if not copy.exists():
            copy.symlink_to(file.resolve())
    torch.manual_seed(0)
    base = target / "assets/pretrained_v2/f0G40k.pth"
    base.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": host.build_synthesizer(config_list(host.config_for("v2", 40000)), "v2", True).state_dict()},
               str(base))
    return host
