"""What the body of an event may be: its shape, and the files that it names."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Dict, List, NoReturn

from ...messages import Text, UserError

LONGEST_HASH = 200
"""Characters of a session's name; Gradio's own have eleven."""


def parse(body: Any) -> Any:
    """The JSON of a request, given as bytes or text.

    Raises:
        UserError: it is none.
    """
    def constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise UserError("the request is no JSON that this page takes: reload the page") from error


def check(body: Any, blocks: Any, allows: Callable[[str], bool], called: str = "") -> None:
    """Look through an event's body.

    Args:
        body: what `parse` gave. blocks: Gradio's `Blocks`. allows: whether a path is a file that this page made or was
            given.
        called: the event's name in the address, for a body without a number.

    Raises:
        UserError: its shape is not that of an event, or it names a file that is neither an upload to this page nor
            made by it.
    """
    if not isinstance(body, dict):
        raise _shape(Text("an object"))
    number, count = body.get("fn_index"), len(blocks.dependencies)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < count):
        raise _shape(Text("fn_index from 0 to {count}", count=count - 1))
    name = body.get("session_hash")
    if name is not None and not (isinstance(name, str) and len(name) <= LONGEST_HASH):
        raise _shape(Text("session_hash of at most {most} characters", most=LONGEST_HASH))
    if not isinstance(body.get("data"), (list, type(None))):
        raise _shape(Text("data as a list"))
    if not isinstance(body.get("event_id"), (str, type(None))):
        raise _shape(Text("event_id as text"))
    _look_through([name, body.get("event_id"), body.get("data"), body.get("event_data")], allows)
    if number is None:
        named = [entry for entry in blocks.dependencies if called and entry and entry.get("api_name") == called]
    else:
        named = [blocks.dependencies[number]]
    if named and named[0] and body.get("data") is not None and not body.get("batched"):
        _inputs(body["data"], named[0], blocks)


def _shape(wanted: Text) -> UserError:
    return UserError("the request is not one of this page's events, which have {reason}: reload the page",
                     reason=wanted)


def _inputs(data: List[Any], dependency: Dict[str, Any], blocks: Any) -> None:
    """As many values as the event has fields, and in a field what Gradio does not stumble over before the event itself
    sees it."""
    if dependency.get("cancels"):  # Gradio puts in what such an event needs
        return
    fields = dependency["inputs"]
    if len(data) < len(fields):
        raise _shape(Text("{count} values in data", count=len(fields)))
    for value, field in zip(data, fields):
        kind = blocks.blocks[field].get_block_name()
        if kind == "number" and not (value is None
                                     or (isinstance(value, (int, float)) and not isinstance(value, bool))):
            raise UserError("a field for a number holds something else: enter a number")
        if (kind == "audio" and not isinstance(value, (dict, type(None)))) or (kind == "file"
                                                                               and not isinstance(
                                                                                   value, (dict, list, type(None)))):
            raise UserError("a field for a file holds something else: drop a file into it")


def _look_through(whole: Any, allows: Callable[[str], bool]) -> None:
    """Every value at any depth, without recursion."""
    waiting = [whole]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "name" in value or "is_file" in value:
                _file(value, allows)
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError("the request holds a number that is too large: enter a smaller one")
        elif isinstance(value, str) and not _is_text(value):
            raise UserError("the request holds half a character: enter the text again")


def _is_text(value: str) -> bool:
    try:
        return value.isascii() or bool(value.encode("utf-8"))
    except UnicodeEncodeError:  # a surrogate without its other half
        return False


def _file(value: Any, allows: Callable[[str], bool]) -> None:
    """A file as Gradio's events carry it: its content within (`data` is a data: address), or the name of one that the
    server holds.

    Gradio reads the file `name` of the machine, or fetches it from another one, wherever the content is not within.
    """
    name, data = value.get("name"), value.get("data")
    within = not value.get("is_file") and isinstance(data, str) and data.startswith("data:")
    if within and (name is None or (isinstance(name, str) and "\0" not in name)):
        return
    if name is None and not value.get("is_file") and not data:
        return
    if not (isinstance(name, str) and allows(name)):
        shown = ascii(name)[:200]
        raise UserError("{shown} was neither uploaded to this page nor made by it: drop the file into its field again",
                        shown=shown)
