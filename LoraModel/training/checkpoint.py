"""What a run needs to go on after any interruption, in one file that is whole or not there.

It holds only what is trained: the adapter, its average, the optimisers, the random state and where the run stands.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from ..files import atomic_write, bounded_json, check_folder_place
from ..host import Host
from ..lora.adapter_metadata import one_line
from ..messages import Text, UserError
from ..models import BaseInfo, read_checkpoint
from ..places import to_write
from .config import TrainConfig
from .data_loader import Clip

STATE_FILE, RUN_FILE = "state.pt", "run.json"
MOST_RUN_BYTES = 16 * 2**20
VERSION = 2
"""Of state.pt. Version 1 did not say what it was trained on, and held numbers that PyTorch 1.13 does not read back."""


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


def optimizer_state(optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
    """What an optimiser has learnt of each parameter; its settings are the run's own and differ between versions of
    PyTorch."""
    return {"state": optimizer.state_dict()["state"]}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Dict[str, Any]) -> None:
    """Raises: ValueError: the state is of other parameters."""
    sizes = {index: parameter.shape for index,
             parameter in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    for index, values in state["state"].items():
        if any(values[name].shape != sizes[index] or not torch.isfinite(values[name]).all()
               for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError(f"parameter {index} has another shape")
    optimizer.load_state_dict({"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def save_state(folder: Path, state: Dict[str, Any]) -> None:
    """Write OUT/state.pt atomically. state: tensors, texts, numbers, None, and dictionaries and lists of them."""
    buffer = io.BytesIO()
    torch.save(encoded({"version": VERSION, **state}), buffer)
    atomic_write(folder / STATE_FILE, buffer.getvalue())


def load_state(folder: Path) -> Dict[str, Any]:
    """Read OUT/state.pt: tensors and plain types only.

    Raises:
        UserError: damaged, of another version, or not written by this program.
    """
    path = folder / STATE_FILE
    try:
        state = decoded(read_checkpoint(path))
    except UserError:
        raise damaged_state(folder) from None
    version = state.get("version")
    if isinstance(state.get("shape"), dict) and isinstance(state.get("steps"), int) and version != VERSION:
        raise UserError("{path} was saved by another version of this program and cannot be resumed: finish the run "
                        "with that version, or choose another --output_dir", path=path)
    if version != VERSION or not isinstance(state.get("shape"), dict) or not isinstance(state.get("steps"), int):
        raise damaged_state(folder)
    return state


def damaged_state(folder: Path) -> UserError:
    """What to say of a state that cannot be used."""
    path = folder / STATE_FILE
    return UserError("{path} is damaged and the run cannot be resumed: delete it to begin anew (the adapters beside "
                     "it are kept until then)", path=path)


def encoded(value: Any) -> Any:
    """PyTorch 1.13 reads neither floats nor long integers back with `weights_only`: they become tensors without a
    dimension."""
    if isinstance(value, dict):
        return {key: encoded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(one) for one in value]
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value < 2**31:
        return torch.tensor(value, dtype=torch.int64)
    return value


def decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: decoded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if isinstance(value, torch.Tensor) and value.dim() == 0 and value.dtype in (torch.float64, torch.int64):
        return value.item()
    return value


# What a run was trained on


def describe_clips(clips: Sequence[Clip]) -> List[List[Any]]:
    """What identifies the data: [[name of the clip, bytes, SHA-256], …] without RVC's clips of silence, in the order
    of the names.

    Paths are no part of it: a folder may be renamed, or carried to another machine.
    """
    described = []
    for clip in clips:
        if not clip.mute:
            data = clip.wav.read_bytes()
            described.append([clip.wav.name, len(data), hashlib.sha256(data).hexdigest()])
    return sorted(described)


def check_data(saved: Any, now: List[List[Any]], folder: Path) -> None:
    """Whether the clips are those of the saved run.

    Args:
        saved: what `describe_clips` gave then.

    Raises:
        UserError: they are others; the first difference is named.
    """
    try:
        before = {str(name): (size, digest) for name, size, digest in saved}
    except (TypeError, ValueError):
        before = {}
    if not before:
        raise damaged_state(folder)
    after = {name: (size, digest) for name, size, digest in now}
    changed = sorted(name for name in set(before) & set(after) if before[name] != after[name])
    gone, added = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    if not changed and not gone and not added:
        return
    if changed:
        count, what = len(changed), Text("{first} has another sound now", first=changed[0])
    elif gone:
        count, what = len(gone), Text("{first} is missing", first=gone[0])
    else:
        count, what = len(added), Text("{first} is new", first=added[0])
    raise UserError("{folder} holds a run on other recordings: {count} of its {count_2} clips differ ({reason}). "
                    "Bring the old recordings back, or choose another --output_dir",
                    folder=folder, count=count, count_2=len(before), reason=what)


# The run's folder


def run_folder(host: Host, output_dir: str, resume: bool) -> Path:
    """Where the run is written: in the checkout, as all that RVC reads. A run that is to go on does so where it
    lies."""
    inside, here = host.result(output_dir), to_write(output_dir, None)
    return here if resume and not inside.exists() and (here / RUN_FILE).is_file() else inside


def written(folder: Path) -> Optional[Tuple[int, int]]:
    """When OUT/state.pt was written and its size, which differ from save to save; None where there is none."""
    try:
        stat = (folder / STATE_FILE).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def write_run(folder: Path, run: Dict[str, Any]) -> None:
    """Write OUT/run.json: which voice, base and settings the folder belongs to, and whether it runs, stopped or is
    done."""
    atomic_write(folder / RUN_FILE,
                 json.dumps(run, indent=1, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogateescape"))


def read_run(folder: Path) -> Optional[Dict[str, Any]]:
    """OUT/run.json, or None where no run was ever started."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        run = bounded_json(path, MOST_RUN_BYTES, "surrogateescape")
    except ValueError:
        run = None
    if not isinstance(run, dict):
        raise UserError("{path} is damaged: choose another --output_dir, or delete this folder if it is not needed",
                        path=path)
    return run


def check_output(folder: Path, identity: Dict[str, str], resume: bool) -> bool:
    """Whether there is a run to resume.

    Raises:
        UserError: the folder belongs to another voice or base; or to this one and `resume` was not asked for; or it
            cannot be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError("--output_dir {folder} cannot be written: {existing} is no folder", folder=folder,
                        existing=existing)
    if not os.access(str(existing), os.W_OK | os.X_OK):
        raise UserError("--output_dir {folder} cannot be written: {existing} is write-protected", folder=folder,
                        existing=existing)
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError("--output_dir {folder} is no UTF-8 name, which TensorBoard's files need: choose another",
                        folder=folder) from None
    for part in (folder, *(folder / name for name in ("filelists", "samples", "tensorboard"))):
        check_folder_place(part)
    run = read_run(folder)
    if run is None:
        if folder.is_dir() and any(folder.iterdir()) and any(folder.glob("*.safetensors")):
            raise UserError("{folder} holds adapters but no run of this program: choose another --output_dir",
                            folder=folder)
        return False
    if run.get("name") != identity["name"]:
        raise UserError("{folder} holds the run of another voice ({name!r}, now {now!r}): choose another --output_dir",
                        folder=folder, name=run.get("name"), now=identity["name"])
    if run.get("base_hash") != identity["base_hash"]:
        raise UserError("{folder} holds the run of this voice on another base ({base}, now {now}): give --base_model "
                        "that base, or choose another --output_dir",
                        folder=folder, base=_base_words(run), now=_base_words(identity))
    saved = (folder / STATE_FILE).is_file()
    if saved and not resume:
        raise UserError("{folder} holds a run of {name!r} already: pass --resume to continue it, or choose another "
                        "--output_dir", folder=folder, name=identity["name"])
    return saved


def _base_words(run: Dict[str, Any]) -> str:
    """The base of a run: its name and the beginning of its hash."""
    return f"{one_line(str(run.get('base_name') or '?'))} ({one_line(str(run.get('base_hash')))[:8]}…)"


def run_identity(config: TrainConfig, info: BaseInfo) -> Dict[str, str]:
    """What makes a folder the run of one voice, beside its clips. Where the data lies now, and what the base's file is
    called, are part of it too, but say nothing of that."""
    return {"name": config.name, "data_dir": str(Path(config.data_dir).resolve()), "base_hash": info.base_hash,
            "base_name": info.name}


def _plain_targets(targets: Any) -> bool:
    return targets is None or isinstance(targets, dict) and all(isinstance(one, dict) for one in targets.values())


def lora_difference(saved: Any, now: str) -> Tuple[str, str]:
    """The first thing in which two LoRA configurations (JSON) differ, of each in words."""
    try:
        old = json.loads(saved) if isinstance(saved, str) else {}
    except (ValueError, RecursionError):
        old = {}
    new = json.loads(now)
    old = old if isinstance(old, dict) and _plain_targets(old.get("targets")) else {}
    before, after = old.get("targets") or {}, new.get("targets") or {}
    for name in sorted(set(before) | set(after)):
        a, b = before.get(name), after.get(name)
        if a is None or b is None:
            return (f"without target {name}", "with it") if a is None else (f"with target {name}", "without it")
        for key, word in (("r", "rank"), ("lora_alpha", "alpha")):
            if a.get(key) != b.get(key):
                return f"{word} {a.get(key)} for {name}", f"{word} {b.get(key)}"
    for key in sorted(set(old) | set(new)):
        if old.get(key) != new.get(key):
            return f"{key} {str(old.get(key))[:80]}", f"{key} {str(new.get(key))[:80]}"
    return str(saved)[:80], now[:80]
