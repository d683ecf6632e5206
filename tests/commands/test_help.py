"""What `--help` says, of every command and every benchmark: a meaning and a default for each option; nothing is
written."""

import argparse
import ast
import importlib
import sys
from pathlib import Path

import pytest

from LoraModel.commands import Parser
from LoraModel.messages import UserError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["LoraModel.training.train_lora", "LoraModel.training.train_many", "LoraModel.inference.infer_lora",
            "LoraModel.inference.realtime",
            "LoraModel.scripts.merge_lora", "LoraModel.scripts.blend_lora", "LoraModel.scripts.prepare_data",
            "LoraModel.scripts.convert_model",
            "LoraModel.evaluation.evaluate", "LoraModel.demo.demo", "LoraModel.examples.infer_example",
            "LoraModel.examples.train_example", "install_into_rvc"]
NO_OPTIONS = ("launch.py", "prepare_step.py", "worker.py", "__main__.py")
"""Three that the program itself starts, and the one that hands its options on to the others."""
BENCHES = [f"bench.{path.stem}" for path in sorted((ROOT / "bench").glob("*.py"))
           if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]


@pytest.fixture
def parsers(monkeypatch):
    """`parsers(main, argv)`: every parser that is made until the options are read, which ends the command."""
    def watch(main, argv=("--help",)):
        made = []
        real = argparse.ArgumentParser.__init__

        def init(self, *args, **kwargs):
            made.append(self)
            real(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "__init__", init)
            with pytest.raises(SystemExit) as ended:
                main(list(argv))
        assert ended.value.code == 0
        return made

    return watch


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("module", COMMANDS + BENCHES)
def test_help_says_what_each_option_means_and_its_default(module, language, parsers, tmp_path, monkeypatch, capsys):
    if module.startswith("bench") and language == "zh":
        return  # benchmarks speak English
    monkeypatch.setenv("RVC_LORA_LANG", language)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    made = parsers(importlib.import_module(module).main)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out.startswith("usage: ")
    assert made and all(isinstance(parser, Parser) for parser in made)
    for parser in made:
        formatter = parser._get_formatter()
        for action in parser._actions:
            if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
                continue
            text = formatter._get_help_string(action) % {"default": "", "prog": "", "type": "", "choices": ""}
            assert text.strip(), f"{action.option_strings or action.dest} has no help"
            if action.required or action.nargs == 0 or "required" in text or "必需" in text:
                continue
            assert "default" in text or "默认" in text, f"{action.option_strings or action.dest}: {text}"
            if language == "zh":
                assert any("\u4e00" <= character <= "\u9fff" for character in text), f"{action.dest}: {text}"


def test_every_file_that_is_run_has_a_parser():
    """`--help` of a file without one runs it: make_recordings.py once wrote into a folder named --help."""
    for path in [*(ROOT / "bench").glob("*.py"), *(ROOT / "LoraModel").rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        if '\nif __name__ == "__main__":' not in source or path.name in NO_OPTIONS:
            continue
        calls = {node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                 for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
        known = {"Parser", "parser", "arguments", "voice_arguments", "start", "options_of"}
        assert calls & known, f"{path} has no parser"
        assert "ArgumentParser" not in calls, f"{path}: commands.Parser says what is wrong in one line"


def test_an_unknown_option_proposes_the_near_one():
    parser = Parser()
    parser.add_argument("--lora_weights")
    with pytest.raises(UserError, match="there is no option '--lora_weihgts': did you mean --lora_weights?"):
        parser.parse_args(["--lora_weihgts=a"])
    with pytest.raises(UserError, match="unrecognized arguments: --zzz"):
        parser.parse_args(["--zzz", "a"])
