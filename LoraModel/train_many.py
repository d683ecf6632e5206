"""`python -m LoraModel.train_many …`: the command of LoraModel/training/train_many.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.training.train_many")
