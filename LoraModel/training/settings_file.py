"""Settings of a run from a file: JSON; TOML where this Python reads it (3.11, or the package tomli); YAML where PyYAML
is installed.

The keys are TrainConfig's fields, or the names that kohya's scripts and PEFT have for them (`ALIASES`). What a value
must be, `TrainConfig` checks.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Union

from ..messages import Text, UserError, listing
from ..names import shown
from ..places import near_words

ALIASES: Dict[str, str] = {
    "network_dim": "lora_rank", "rank": "lora_rank", "network_alpha": "lora_alpha", "learning_rate": "lr",
}
"""kohya's and PEFT's names -> the fields of TrainConfig."""
MOST_BYTES = 2**20


def own_names(values: Dict[str, Any]) -> Dict[str, Any]:
    """`values` with every alias under its field's own name.

    Raises:
        UserError: a setting is given under two names.
    """
    named: Dict[str, Any] = {}
    for key, value in values.items():
        own = ALIASES.get(key, key)
        if own in named:
            raise UserError("{own} is given twice, as {key} too: leave one of them out", own=own, key=shown(key))
        named[own] = value
    return named


def unknown_key(key: Any, known: Iterable[str]) -> UserError:
    """What to say of a key that is none of `known`: the nearest of them is proposed."""
    names = list(known)
    close = difflib.get_close_matches(str(key)[:100], [*names, *ALIASES], 1)
    if close:
        meant = ALIASES.get(close[0], close[0])
        return UserError("unknown setting {key}: did you mean {meant}? docs/settings.md lists them all", key=shown(key),
                         meant=meant)
    return UserError("unknown setting {key}: known are {names}", key=shown(key), names=listing(names))


def read_config_file(path: Union[str, Path]) -> Dict[str, Any]:
    """Settings from a file; its ending tells the format (.toml, .yaml, .yml, else JSON).

    Raises:
        UserError: missing, too large, not of that format, or no table of settings; this Python reads no TOML or YAML.
    """
    file = Path(path)
    if not file.is_file():
        near = near_words(file.absolute())
        raise UserError("there is no configuration file {file}{near}", file=file, near=near)
    with open(str(file), "rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UserError("{file} is larger than {most_bytes:,} bytes: settings are a few lines", file=file,
                        most_bytes=MOST_BYTES)
    name, read = _FORMATS.get(file.suffix.lower(), ("JSON", _json))
    try:
        values = read(data.decode("utf-8-sig"))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        why = Text("it is nested too deep") if deep else " ".join(str(error).split())[:300]
        raise UserError("{file} is not {name}: {why}", file=file, name=name, why=why) from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError("{file} must hold a {name} object: settings by their names", file=file, name=name)
    return values


def _json(text: str) -> Any:
    return json.loads(text)


def _toml(text: str) -> Any:
    for package in ("tomllib", "tomli"):
        try:
            return importlib.import_module(package).loads(text)
        except ImportError:
            continue
    raise UserError("this Python reads no TOML: use Python 3.11 or newer, install the package tomli, or write the "
                    "settings as JSON")


def _yaml(text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise UserError("YAML needs the package PyYAML: install it (pip install pyyaml), or write the settings "
                        "as JSON") from None

    class Loader(yaml.SafeLoader):
        """Plain values alone; no aliases, with which a small file becomes a huge one."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise ValueError("it has an alias (*name), which settings do without")
            return super().compose_node(parent, index)

    # YAML 1.1 takes 5e-3 for a text: it asks for the point of 5.0e-3.
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
                                 list("-+0123456789."))
    try:
        return yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


_FORMATS: Dict[str, Any] = {".toml": ("TOML", _toml), ".yaml": ("YAML", _yaml), ".yml": ("YAML", _yaml)}
