"""All commands under one name: `rvc-lora train …` where the package is installed, `python -m LoraModel train …`
elsewhere.

Each runs by its module too, as `python -m LoraModel.training.train_lora …`. A further command is one line in COMMANDS.
"""

from __future__ import annotations

import sys
from typing import Dict, List, Optional, Tuple

from LoraModel import __version__
from LoraModel.commands import prepare_output, run, start
from LoraModel.messages import Text, UserError, listing

COMMANDS: Dict[str, Tuple[str, Text]] = {
    "prepare": ("LoraModel.scripts.prepare_data", Text("recordings into an experiment folder", "由录音生成实验文件夹")),
    "train": ("LoraModel.training.train_lora", Text("an experiment folder into an adapter", "由实验文件夹训练适配器")),
    "convert": ("LoraModel.inference.infer_lora", Text("recordings into the voice of an adapter", "用适配器转换录音")),
    "realtime": ("LoraModel.inference.realtime", Text("a microphone or a recording, block by block", "实时逐块转换")),
    "merge": ("LoraModel.scripts.merge_lora", Text("base and adapters into an RVC model", "合并底模与适配器")),
    "model": ("LoraModel.scripts.convert_model",
              Text("look into model files, change their form", "查看并转换模型文件")),
    "evaluate": ("LoraModel.evaluation.evaluate", Text("compare voices on recordings", "用录音比较多个声音")),
    "demo": ("LoraModel.demo.demo", Text("the whole chain on bundled recordings", "用自带录音演示完整流程")),
    "app": ("LoraModel.webui.app", Text("the web page", "网页界面")),
}
"""Name -> (module, what it makes)."""


def usage() -> str:
    lines = [f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()]
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
    raise UserError("there is no command {name!r}: choose from {commands}", "没有命令 {name!r}：可选 {commands}",
                    name=(argv or [""])[0][:40], commands=listing(COMMANDS))


if __name__ == "__main__":
    sys.exit(main())
