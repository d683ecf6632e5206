"""What all commands share: errors in one line, exit codes, output on any console, and the types of options.

Exit codes: 0 done; 1 a fault of this program, with its traceback; 2 something to put right, in one line;
130 stopped by Ctrl-C; 141 whatever read the output has gone. Standard library alone, so that run.py can use it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import re
import signal
import sys
from typing import Any, Callable, List, Mapping, NoReturn, Optional, TextIO, Tuple, Union

from LoraModel.faults import describe_fault, stopped_words
from LoraModel.messages import Text, UserError, tr
from LoraModel.names import shown
from LoraModel.paths import clean_path, printable

Main = Callable[[Optional[list]], Optional[int]]
STOPPED, GONE = 130, 141
RESERVE_BYTES = 2**20
"""Kept for the words, should the memory end; the C library gives so large a piece back to the system at once."""


def run(main: Main, argv: Optional[list] = None, stopped: Optional[UserError] = None) -> int:
    """Run a command's `main` and return its exit code; what the user or the machine did wrong becomes one line on
    standard error.

    Args:
        argv: the options; None for the process's own.
        stopped: what Ctrl-C says; None for the usual words.
    """
    prepare_output()
    reserve = bytearray(RESERVE_BYTES)
    try:
        code = int(main(argv) or 0)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("\n" + (str(stopped) if stopped is not None else stopped_words()))
        return STOPPED
    except BrokenPipeError:
        _discard(sys.stdout)
        return GONE
    except Exception as error:
        del reserve
        words = describe_fault(error)
        if words is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            with contextlib.suppress(OSError, ValueError):
                _flush_or_discard()
        message = str(words) if words.lines else printable(str(words))
    _say(tr("error: ") + shortened(message))
    return 2


def shortened(message: str, most: int = 6000) -> str:
    """A message that a path of megabytes got into, without its middle."""
    return message if len(message) <= most else f"{message[: most // 2]} … {message[-most // 2:]}"


def start(module: str, argv: Optional[list] = None) -> int:
    """Import a command's module and run its `main`: Ctrl-C or too little memory while PyTorch is imported is one line,
    too."""
    return run(lambda options: _imported(module).main(options), argv)


def _imported(module: str) -> Any:
    """Import a module. Ctrl-C that a library swallowed meanwhile, as PyTorch's registrations may, counts afterwards."""
    pressed = []

    def press(_number: int, _frame: Any) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, press)
    try:
        loaded = importlib.import_module(module)
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
    return loaded


def as_command(name: str, module: str) -> None:
    """Be `python -m LoraModel.NAME`: run the command in `module`, as `start` does, and end the process.

    Args:
        name: the calling module's `__name__`.

    Raises:
        ImportError: it is imported, not run. So `LoraModel.train` and `LoraModel.merge` stay the functions.
    """
    if name != "__main__":
        raise ImportError(f"{name} is a command: run it by `python -m {name}`")
    sys.exit(start(module))


def prepare_output() -> None:
    """Let standard output and error take every character and every situation.

    A console of another code page (cp936, cp1252) gets escapes for what it cannot show; a process without them
    (pythonw, a service) gets streams that lead nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (for as long as the process lives)
        elif hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    typed: Any = sys.stdin
    with contextlib.suppress(AttributeError, OSError, ValueError):  # bytes of another code page are no reason to end
        typed.reconfigure(errors="surrogateescape")


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line.lstrip("\n") if not _is_terminal(sys.stderr) else line, file=sys.stderr, flush=True)


def _is_terminal(stream: Any) -> bool:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return bool(stream.isatty())
    return False


def _flush_or_discard() -> None:
    """A full disk under standard output must not be reported a second time when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    """Let what is still to be written to `stream` go nowhere."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Help(argparse.HelpFormatter):
    """Ends an option's text with its default, where the text does not tell it in words."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, value = action.help or "", getattr(action, "shown_default", action.default)
        if "default" in text or tr("default") in text or value is None or value is False:
            return text
        if value in ("", [], argparse.SUPPRESS):
            return text
        shown_value = str(value).replace("%", "%%")
        return f"{text} " + tr("(default: {shown_value})", shown_value=shown_value)


def exit_codes(further: str = "") -> str:
    """What --help says of the exit codes. further: those of this command alone, such as "3 ...; "."""
    return tr("exit codes: 0 done; 1 a fault of this program; 2 something for you to correct, in one line; "
              "{further}130 stopped by Ctrl-C", further=further)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one line, without the whole usage; its help has the exit codes."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"formatter_class": _Help, "epilog": exit_codes(), **kwargs})

    def show_defaults(self, values: Mapping[str, Any]) -> None:
        """Let the help tell defaults that are not the parser's own, by the names of the options' values."""
        for action in self._actions:
            if action.dest in values:
                action.shown_default = values[action.dest]  # type: ignore[attr-defined]

    def error(self, message: str) -> NoReturn:
        if message.startswith(_UNKNOWN):
            self._refuse_unknown(message[len(_UNKNOWN):].split())
        raise UserError("{reason} (--help lists the options)", reason=_own_words(message))

    def _refuse_unknown(self, words: List[str]) -> None:
        """Raise a UserError that proposes the nearest option, if one is near to the first unknown one."""
        word = next((word for word in words if word.startswith("--")), "").partition("=")[0]
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = difflib.get_close_matches(word, known, 1)
        if near:
            raise UserError("there is no option {word}: did you mean {first}? (--help lists the options)",
                            word=shown(word), first=near[0])


_UNKNOWN = "unrecognized arguments: "
_ARGPARSE: Tuple[Tuple[str, Callable[..., Text]], ...] = (
    ("the following arguments are required: (?P<names>.*)",
     lambda **found: Text("the following arguments are required: {names}", **found)),
    (_UNKNOWN + "(?P<names>.*)", lambda **found: Text("unrecognized arguments: {names}", **found)),
    (r"argument (?P<name>\S+): (?P<problem>.*)", lambda **found: Text("argument {name}: {problem}", **found)),
    ("expected one argument", lambda: Text("expected one argument")),
    ("expected at least one argument", lambda: Text("expected at least one argument")),
    (r"invalid choice: (?P<given>.*) \(choose from (?P<choices>.*)\)",
     lambda **found: Text("invalid choice: {given} (choose from {choices})", **found)),
)
"""argparse's own messages, for the catalogue."""


def _own_words(message: str) -> Union[Text, str]:
    for pattern, text in _ARGPARSE:
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found:
            return text(**{key: _own_words(part) if key == "problem" else part
                           for key, part in found.groupdict().items()})
    return message


def option(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """`check` as the `type` of an option: its UserError becomes argparse's, which names the option."""

    def convert(text: str) -> Any:
        try:
            return check(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """The type of an option that takes a number between `low` and `high`."""
    return option(lambda text: parse_number(text, low, high))


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number between `low` and `high`."""
    return option(lambda text: parse_whole(text, low, high))


def parse_number(text: str, low: float, high: float) -> float:
    """A number in ordinary digits.

    Raises:
        UserError: anything else, or out of its limits.
    """
    text = str(text).strip()
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text, re.ASCII) or len(text) > 40:
        raise UserError("{text} is no number: give one between {low:g} and {high:g}, such as {low_2:g}",
                        text=shown(text), low=low, high=high, low_2=_example(low, high))
    value = float(text)
    if not low <= value <= high:
        raise UserError("{text} must be between {low:g} and {high:g}", text=shown(text), low=low, high=high)
    return value


def _example(low: float, high: float) -> float:
    return 1 if low <= 1 <= high else low


def parse_whole(text: str, low: int, high: int) -> int:
    """A whole number in ordinary digits.

    Raises:
        UserError: anything else, or out of its limits.
    """
    text = str(text).strip()
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise UserError("{text} is no whole number: give one between {low} and {high}", text=shown(text), low=low,
                        high=high)
    if len(text) > 40 or not low <= int(text) <= high:
        raise UserError("{text} must be between {low} and {high}", text=shown(text), low=low, high=high)
    return int(text)


def parse_rate(value: Union[str, int, None]) -> Optional[int]:
    """A sample rate in Hz: "40k", "40000" or 40000 -> 40000; None stays None.

    Raises:
        UserError: none of these, or no rate that sound has.
    """
    if value is None:
        return None
    text = str(value).strip().lower()
    found = re.fullmatch(r"(\d{1,6})(\.\d{1,4})?(k?)(hz)?", text, re.ASCII)
    if found is None:
        raise UserError("sample rate {text} is no number: give Hz, such as 40000, or 40k", text=shown(text))
    rate = float(found.group(1) + (found.group(2) or "")) * (1000 if found.group(3) else 1)
    if not 1000 <= rate <= 384000 or rate != int(rate):
        raise UserError("sample rate {text} must be between 1000 and 384000 Hz: give Hz, such as 40000, or 40k",
                        text=shown(text))
    return int(rate)


MOST_SEED = 2**32 - 1
"""What every source of random numbers takes (NumPy's is the narrowest)."""

path = option(clean_path)
"""The type of every option that takes a path: cleaned of what pasting leaves, refused in words where no system can
take it."""

rate = option(parse_rate)
"""The type of --sample_rate: Hz, or 40k."""

seed = whole(0, MOST_SEED)
"""The type of --seed."""


def device(name: str) -> str:
    """The type of --device; whether it is here is for `devices.check_device` to see.

    Raises:
        argparse.ArgumentTypeError: no name of a device that networks can run on.
    """
    return option(_device_name)(name)


def _device_name(name: str) -> str:
    from LoraModel.devices import device_name

    return device_name(name)


def add_any_strength(parser: argparse.ArgumentParser) -> None:
    """The way past the limits of an adapter's strength, for every command that takes one."""
    parser.add_argument("--any_strength", action="store_true", help=tr("allow strengths from -100 to 100; beyond 0 "
                                                                       "to 1.5 the voice soon breaks up into noise"))


def add_rvc_root(parser: argparse.ArgumentParser) -> None:
    """The option of every command that works with an RVC installation."""
    parser.add_argument("--rvc_root", type=path, help=tr("the RVC checkout (default: the environment's RVC_ROOT, else "
                                                         "the folder above LoraModel/)"))


def add_base_form(parser: argparse.ArgumentParser) -> None:
    """The options that say of what form a base is, where its file does not."""
    parser.add_argument("--sample_rate", type=rate, help=tr("sample rate of the base: 32k, 40k, 48k or Hz, where two "
                                                            "of RVC's configurations fit it (default: the base's own)"))
    parser.add_argument("--config_json", type=path, help=tr("config.json of a custom base (default: the one beside "
                                                            "the base, where it is needed)"))
