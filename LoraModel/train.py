"""`python -m LoraModel.train …`: the command of LoraModel/training/train_lora.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.training.train_lora")
