"""`python -m LoraModel.convert …`: the command of LoraModel/inference/infer_lora.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.inference.infer_lora")
