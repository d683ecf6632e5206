"""The files that a page may serve and that an event may name: made by this process, or uploaded to it."""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, Optional, Set


class ServedFiles:
    """An allow-list by real path.

    On it are the temporary files that Gradio made for what events gave back and for uploads (`Blocks.temp_file_sets`),
    the files that `/upload` of Gradio 3.34 wrote, and what the script itself names in `launch(allowed_paths=...)`.
    Each is remembered with the real path that it had when it was first seen, so that a link that takes its place later
    is not followed.

    Args:
        page: Gradio's application.
    """

    def __init__(self, page: Any):
        self._page, self._uploads, self._lock = page, set(), threading.Lock()  # type: Any, Set[str], threading.Lock
        self._real: Dict[str, Optional[str]] = {}

    def uploaded(self, path: str) -> None:
        """Remember a file that `/upload` wrote."""
        with self._lock:
            self._uploads.add(path)

    def allows(self, path: str) -> bool:
        """Whether `path` (absolute, or from the working folder) is one of them and a file."""
        try:
            real = os.path.realpath(path)
            return os.path.isfile(real) and (os.path.normcase(real) in self._known() or self._asked_for(real))
        except (ValueError, OSError):  # a NUL, a surrogate, a path that the system refuses
            return False

    def _known(self) -> Set[str]:
        blocks = self._page.blocks
        with self._lock:
            made = set(self._uploads)
            for files in list(getattr(blocks, "temp_file_sets", ())):
                made |= files.copy()  # another thread may add to it meanwhile
            for path in made - self._real.keys():
                self._real[path] = None if os.path.islink(path) else os.path.normcase(os.path.realpath(path))
            return {real for real in (self._real[path] for path in made) if real is not None}

    def _asked_for(self, real: str) -> bool:
        allowed = [os.path.realpath(str(path)) for path in getattr(self._page.blocks, "allowed_paths", None) or ()]
        return any(real == path or real.startswith(path.rstrip(os.sep) + os.sep) for path in allowed)
