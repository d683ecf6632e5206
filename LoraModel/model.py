"""`python -m LoraModel.model …`: the command of LoraModel/scripts/convert_model.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.scripts.convert_model")
