"""The guard around a web page: who may ask, what may be asked for, and which files a request may name.

Gradio 3 answers every Host and every Origin, takes posts of any type, copies any file of the machine that an event
names into a folder that it serves, and serves the whole working folder, through links too. So a page of any other
site, open in the same browser, could read the user's files through ours. The guard is an ASGI middleware around
Gradio's application, in this project's own page always, and in RVC's page where the plugin is installed.

- `addresses.py`: which Host and Origin headers are answered.
- `served.py`: the files that this process made or was given, by their real paths.
- `events.py`: what the body of an event may be, and which files it may name.
- `middleware.py`: the guard itself.
- here: how it gets around Gradio's application, and its settings.

Settings, read from the environment:

- `RVC_LORA_GUARD=0` leaves RVC's own page without a guard; `python run.py app` is always guarded.
- `RVC_LORA_HOSTS=name,other.example` names further hosts under which an open page may be reached, for one behind a
  proxy.
- `RVC_LORA_UPLOAD_MB=2000` is the most that one request may carry (1024 MB).
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Optional, Tuple

from ...messages import UserError, tr
from .addresses import Addresses
from .middleware import Guard

__all__ = ["Addresses", "Guard", "guard_pages", "guard_rvc", "hosts_named", "upload_limit"]

UPLOAD_MB = 1024
_OFF = {"0", "off", "no", "false"}


def upload_limit() -> int:
    """The most bytes that one request may carry: RVC_LORA_UPLOAD_MB.

    Raises:
        UserError: the setting is no number of megabytes.
    """
    given = os.environ.get("RVC_LORA_UPLOAD_MB", "").strip() or str(UPLOAD_MB)
    if not (given.isascii() and given.isdigit()) or not 1 <= len(given) <= 7 or int(given) < 1:
        raise UserError("RVC_LORA_UPLOAD_MB is {given!r}: give a whole number of megabytes, from 1 to 9999999",
                        given=given[:40])
    return int(given) * 2**20


def hosts_named() -> Tuple[str, ...]:
    """The further host names of RVC_LORA_HOSTS."""
    return tuple(name.strip() for name in os.environ.get("RVC_LORA_HOSTS", "").split(",") if name.strip())


def guard_pages(addresses: Addresses, limit: int, before: Optional[Callable[[Any], None]] = None) -> None:
    """Put the guard around every Gradio application that this process makes from now on.

    Called before `launch`, so that no request is answered without it. Calling it again replaces what was given before.

    Args:
        addresses: which Host and Origin headers are answered.
        limit: bytes that one request may carry.
        before: is given each new application, to add what comes inside the guard.

    Raises:
        UserError: this Gradio makes its application in another way.
    """
    from gradio import routes

    made = getattr(getattr(routes, "App", None), "create_app", None)
    made = getattr(made, "without_guard", made)
    if not callable(made):
        raise UserError("this version of Gradio is not known to the guard: install gradio 3.34.0, or 3.14.0 for RVC "
                        "of 2026")

    def create_app(*given: Any, **named: Any) -> Any:
        app = made(*given, **named)
        if before is not None:
            before(app)
        app.add_middleware(Guard, page=app, addresses=addresses, limit=limit)
        return app

    create_app.without_guard = made  # type: ignore[attr-defined]
    routes.App.create_app = staticmethod(create_app)


def guard_rvc() -> bool:
    """Put the guard around RVC's own page, unless RVC_LORA_GUARD=0; whether it is on.

    RVC's page is meant for the local network (it listens on 0.0.0.0), so it is reached under any address or name of
    this machine.
    """
    if os.environ.get("RVC_LORA_GUARD", "").strip().lower() in _OFF:
        print(tr("RVC-LoRA: RVC_LORA_GUARD=0: the page is not guarded: a web page of any site may read files of this "
                 "machine through it"), file=sys.stderr,
              flush=True)
        return False
    try:
        limit = upload_limit()
    except UserError as error:  # the guard stays, with the usual limit
        print(f"RVC-LoRA: {error}", file=sys.stderr, flush=True)
        limit = UPLOAD_MB * 2**20
    guard_pages(Addresses.open(hosts_named()), limit)
    return True
