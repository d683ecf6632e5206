"""The best adapter of a run under way, put into the list of adapters; a file of the user's own is never replaced."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Optional, Tuple

from ..files import atomic_write, bounded_json
from ..lora.adapter_file import read_metadata
from ..lora.adapter_metadata import losses
from ..messages import UserError, tr

RECORD = "published.json"
"""In a run's folder: what it has put into the list."""
SECONDS = 1.0
"""Between two looks for a new best adapter."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Publisher:
    """Copies the run's adapter to where the list of adapters looks, each time that it has changed.

    Args:
        adapter: the run's best adapter. target: its place in the list.
        record: JSON file with the SHA-256 of what was published last; a target of another content is the user's and
            stays.
        fit: whether the adapter in a file belongs into the list; None publishes each.
    """

    def __init__(self, adapter: Path, target: Path, record: Path, fit: Optional[Callable[[Path], bool]] = None):
        self.adapter, self.target, self.record, self._fit = adapter, target, record, fit
        self._seen: Optional[Tuple[int, int]] = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self.look()
        except OSError as error:  # the run is whole without it
            print(tr("the adapter could not be put into the list ({error}); it is {adapter}", error=error,
                     adapter=self.adapter), file=sys.stderr, flush=True)

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            try:
                self.look()
            except OSError as error:  # tried again in a second
                print(f"{self.target}: {error}", file=sys.stderr, flush=True)

    def look(self) -> None:
        """Publish the adapter if it is new."""
        if not self.adapter.is_file():
            return
        stat = self.adapter.stat()
        if self._seen == (stat.st_mtime_ns, stat.st_size):
            return
        if self._fit is not None and not self._fit(self.adapter):
            pass
        elif not may_replace(self.target, self.record):
            print(tr("{target} is not of this experiment and stays as it is; the adapter is {adapter}",
                     target=self.target, adapter=self.adapter), file=sys.stderr, flush=True)
        else:
            data = self.adapter.read_bytes()
            # First the record: after a crash between the two the old file's content is still known by the second entry.
            former = published(self.record)[:1]
            atomic_write(self.record, json.dumps([digest(data), *former]).encode())
            atomic_write(self.target, data)
        self._seen = (stat.st_mtime_ns, stat.st_size)


def published(record: Path) -> list:
    """SHA-256 of what was published last, and before that."""
    try:
        values = bounded_json(record)
        return values if isinstance(values, list) else []
    except (OSError, ValueError):
        return []


def may_replace(target: Path, record: Path) -> bool:
    """Whether `target` is not there, or is what this experiment published."""
    return not target.exists() or (target.is_file() and digest(target.read_bytes()) in published(record))


def improves(adapter: Path) -> bool:
    """Whether an adapter was evaluated on held-out clips and is better there than the base alone; what is not does not
    belong into the list."""
    try:
        found = losses(read_metadata(adapter).get("heldout", ""))
    except (UserError, ValueError):
        return False
    return "base" in found and "adapter" in found and found["adapter"] < found["base"]


def put_into_list(adapter: Path, root: Path) -> Optional[Path]:
    """Put a finished run's adapter into the list of RVC's page, assets/lora of the checkout `root`.

    Returns:
        Where it lies there; None where it is no better than the base alone, or a file of the user's has its name, which
        standard error says.
    """
    place = root / "assets" / "lora"
    if place.resolve() in adapter.resolve().parents:  # the run lies in the list
        return adapter
    if not improves(adapter):
        return None
    target = place / adapter.name
    Publisher(adapter, target, adapter.with_name(RECORD)).look()
    return target if may_replace(target, adapter.with_name(RECORD)) else None
