"""`python -m LoraModel.realtime …`: the command of LoraModel/inference/realtime.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.inference.realtime")
