"""`python -m LoraModel.merge …`: the command of LoraModel/scripts/merge_lora.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.scripts.merge_lora")
