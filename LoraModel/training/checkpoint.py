"""What a run needs to go on after any interruption, in one file that is whole or not there.

It holds only what is trained: the adapter, its average, the optimisers, the random state and where the run stands.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

import torch

from ..files import atomic_write
from ..messages import UserError
from ..models import read_checkpoint

STATE_FILE, RUN_FILE = "state.pt", "run.json"
IDENTITY = ("name", "data_dir", "base_hash")


def random_state(device: torch.device) -> Dict[str, Any]:
    """The state of every generator that a step draws from."""
    state: Dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_state(folder: Path, state: Dict[str, Any]) -> None:
    """Write OUT/state.pt atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write(folder / STATE_FILE, buffer.getvalue())


def load_state(folder: Path) -> Dict[str, Any]:
    """Read OUT/state.pt: tensors and plain types only.

    Raises:
        UserError: damaged, or not written by this program.
    """
    path = folder / STATE_FILE
    try:
        state = read_checkpoint(path)
        if isinstance(state["shape"], dict) and isinstance(state["steps"], int):
            return state
    except (UserError, KeyError):
        pass
    raise UserError(f"{path} is damaged and cannot be gone on with: delete it to begin anew (the adapters beside it are kept until then)",
                    f"{path} 已损坏，无法继续训练：删除它即可重新开始（此前旁边的适配器会保留）")


def write_run(folder: Path, run: Dict[str, Any]) -> None:
    """Write OUT/run.json: which voice, base and settings the folder belongs to, and whether it runs, stopped or is done."""
    atomic_write(folder / RUN_FILE, json.dumps(run, indent=1, ensure_ascii=False, sort_keys=True).encode("utf-8"))


def read_run(folder: Path) -> Optional[Dict[str, Any]]:
    """OUT/run.json, or None where no run was ever started."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        run = None
    if not isinstance(run, dict):
        raise UserError(f"{path} is damaged: choose another --output_dir, or delete this folder if it is not needed",
                        f"{path} 已损坏：请更换 --output_dir，或在不需要时删除该文件夹")
    return run


def check_output(folder: Path, identity: Dict[str, str], resume: bool) -> bool:
    """Whether there is a run to go on with.

    Raises:
        UserError: the folder belongs to another voice, data or base; or to this one and `resume` was not asked for; or it
            cannot be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(str(existing), os.W_OK | os.X_OK):
        raise UserError(f"--output_dir {folder} cannot be written: {existing} is {'no folder' if not existing.is_dir() else 'write-protected'}",
                        f"--output_dir {folder} 无法写入：{existing} {'不是文件夹' if not existing.is_dir() else '没有写权限'}")
    run = read_run(folder)
    if run is None:
        if folder.is_dir() and any(folder.iterdir()) and any(folder.glob("*.safetensors")):
            raise UserError(f"{folder} holds adapters but no run of this program: choose another --output_dir",
                            f"{folder} 中已有适配器，但不是本程序的训练目录：请更换 --output_dir")
        return False
    for key in IDENTITY:
        if run.get(key) != identity[key]:
            raise UserError(
                f"{folder} holds the run of another voice ({key} {run.get(key)!r}, now {identity[key]!r}): choose another --output_dir",
                f"{folder} 属于另一个声音的训练（{key} 为 {run.get(key)!r}，当前为 {identity[key]!r}）：请更换 --output_dir",
            )
    saved = (folder / STATE_FILE).is_file()
    if saved and not resume:
        raise UserError(f"{folder} holds a run of {identity['name']!r} already: pass --resume to go on with it, or choose another --output_dir",
                        f"{folder} 已有 {identity['name']!r} 的训练：使用 --resume 继续，或更换 --output_dir")
    return saved
