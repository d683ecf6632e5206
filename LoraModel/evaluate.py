"""`python -m LoraModel.evaluate …`: the command of LoraModel/evaluation/evaluate.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.evaluation.evaluate")
