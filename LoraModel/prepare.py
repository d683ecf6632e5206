"""`python -m LoraModel.prepare …`: the command of LoraModel/scripts/prepare_data.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.scripts.prepare_data")
