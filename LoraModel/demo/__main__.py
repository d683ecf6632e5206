"""`python -m LoraModel.demo …`: the command of LoraModel/demo/demo.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.demo.demo")
