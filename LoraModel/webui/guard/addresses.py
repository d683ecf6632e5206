"""Which Host and Origin headers a page answers.

A page of another site cannot choose them. Under its own name made to point at this machine (DNS rebinding) it sends
that name as Host; asking from where it is, it sends its own Origin.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import FrozenSet, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[^\s:/?#@\[\]\\,]{1,253})(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT = {"http": 80, "https": 443}


def split_host(header: str) -> Optional[Tuple[str, Optional[int]]]:
    """(name in lower case, port or None) of a Host header, None for what is none."""
    found = _HOST.fullmatch(header.strip().lower())
    if found is None:
        return None
    name = found.group(1)[:-1] if found.group(1).endswith(".") else found.group(1)
    return (name, int(found.group(2)) if found.group(2) else None) if name else None


def split_origin(header: str) -> Optional[Tuple[str, str, int]]:
    """(scheme, name, port) of an Origin header, None for "null" and for what is none."""
    scheme, separator, rest = header.strip().partition("://")
    host = split_host(rest) if separator and scheme.lower() in _DEFAULT else None
    return None if host is None else (scheme.lower(), host[0], host[1] or _DEFAULT[scheme.lower()])


def _names(given: Iterable[str]) -> Tuple[str, ...]:
    """The names in settings, as a Host header gives them; an IPv6 address may lack its brackets, and what is no host
    is left out."""
    split = [split_host(f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name) for name in given]
    return tuple(host[0] for host in split if host is not None)


def _own_names() -> Tuple[str, ...]:
    """The machine's own name, as other machines of its network call it."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.split(".")[0]
    return tuple({name, short, f"{short}.local"} - {"", ".local"})


class Addresses(NamedTuple):
    """The hosts that a page answers under.

    Attributes:
        names: host names and addresses, lower case, IPv6 in brackets.
        any_address: any address in figures too. A site that makes its name point here still sends that name; only a
            machine reached under the address itself sends it (also from outside a container or behind a router, where
            the address is not ours).
        own_port: the Host's port must be the one that the server listens on.
    """

    names: FrozenSet[str]
    any_address: bool
    own_port: bool

    @classmethod
    def local(cls, *listening: str) -> Addresses:
        """For a page that this machine alone reaches, under its loopback names and those it is `listening` at."""
        return cls(frozenset([*LOOPBACK, *_names(listening)]), False, True)

    @classmethod
    def open(cls, further: Iterable[str] = ()) -> Addresses:
        """For a page that other machines reach: any address in figures, this machine's names, and `further` names."""
        return cls(frozenset([*LOOPBACK, *_own_names(), *_names(further)]), True, False)

    def answers(self, host: str, port: Optional[int], shared: Optional[str] = None) -> bool:
        """Whether a request with this Host header is answered.

        Args:
            host: the header. port: the port that the server listens on. shared: the address that Gradio's `share=True`
                gave the page.
        """
        split = split_host(host)
        if split is None:
            return False
        name, asked = split
        public = split_origin((shared or "").rstrip("/"))
        if public is not None and name == public[1]:
            return True
        if self.own_port and port is not None and (asked or 80) != port:
            return False
        return name in self.names or (self.any_address and _in_figures(name))


def _in_figures(name: str) -> bool:
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True


def same_origin(origin: str, host: str) -> bool:
    """Whether a request with this Origin header comes from the page that its Host header names."""
    split, asked = split_origin(origin), split_host(host)
    return split is not None and asked is not None and split[1:] == (asked[0], asked[1] or _DEFAULT[split[0]])


def of_another_site(headers: Mapping[str, Sequence[str]], host: str, visit: bool = False, shared: str = "") -> bool:
    """Whether a page of another site asks: by its Origin, or by what the browser says of it.

    Args:
        headers: lists of values by names in lower case. host: the Host header.
        visit: the request may come from a link of another site, which opens the page itself.
        shared: an address beside `host` that is the page's own.
    """
    origins = headers.get("origin", [])
    foreign = len(origins) > 1 or any(not same_origin(origin, host)
                                      and origin.rstrip("/") != shared.rstrip("/") for origin in origins)
    site = (headers.get("sec-fetch-site") or ["none"])[0]
    link = visit and (headers.get("sec-fetch-mode") or [""])[0] == "navigate"
    return foreign or (site not in ("same-origin", "none") and not link)
