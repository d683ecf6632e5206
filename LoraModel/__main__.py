"""All commands under one name: `rvc-lora train …` where the package is installed, `python -m LoraModel train …`
elsewhere.

Each runs by its module too, as `python -m LoraModel.train …` and `python -m LoraModel.training.train_lora …`. A
further command is one line in COMMANDS and a file LoraModel/NAME.py beside the others.
"""

from __future__ import annotations

import difflib
import sys
from typing import Dict, List, Optional, Tuple

from LoraModel import __version__
from LoraModel.commands import prepare_output, run, start
from LoraModel.messages import Text, UserError, listing

COMMANDS: Dict[str, Tuple[str, Text]] = {
    "prepare": ("LoraModel.scripts.prepare_data", Text("recordings into an experiment folder")),
    "train": ("LoraModel.training.train_lora", Text("an experiment folder into an adapter")),
    "train-many": ("LoraModel.training.train_many", Text("many voices, one after another or at once")),
    "convert": ("LoraModel.inference.infer_lora", Text("recordings into the voice of an adapter")),
    "realtime": ("LoraModel.inference.realtime", Text("a microphone or a recording, block by block")),
    "merge": ("LoraModel.scripts.merge_lora", Text("base and adapters into an RVC model")),
    "blend": ("LoraModel.scripts.blend_lora", Text("adapters into one adapter")),
    "model": ("LoraModel.scripts.convert_model",
              Text("inspect and convert model files")),
    "card": ("LoraModel.card", Text("a model card and a page for a folder of adapters")),
    "evaluate": ("LoraModel.evaluation.evaluate", Text("compare voices on recordings")),
    "demo": ("LoraModel.demo.demo", Text("the whole chain on bundled recordings")),
    "app": ("LoraModel.webui.app", Text("the web page")),
}
"""Name -> (module, what it makes)."""


def usage() -> str:
    lines = [f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([f"rvc-lora {__version__}: rvc-lora COMMAND [--help]", *lines])


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command that the first argument names; the others are its options."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] and argv[0] in COMMANDS:
        return start(COMMANDS[argv[0]][0], argv[1:])
    prepare_output()
    if argv[:1] in ([], ["-h"], ["--help"], ["--version"]):
        print(usage())
        return 0
    return run(_unknown, argv)


def _unknown(argv: Optional[List[str]]) -> int:
    name = (argv or [""])[0][:40]
    near = difflib.get_close_matches(name, COMMANDS, 1)
    if near:
        raise UserError("there is no command {name!r}: choose from {commands}. Did you mean {near}?", name=name,
                        commands=listing(COMMANDS), near=near[0])
    raise UserError("there is no command {name!r}: choose from {commands}", name=name, commands=listing(COMMANDS))


if __name__ == "__main__":
    sys.exit(main())
