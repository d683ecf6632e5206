"""`python -m LoraModel.blend …`: the command of LoraModel/scripts/blend_lora.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.scripts.blend_lora")
