"""`python -m LoraModel.app …`: the command of LoraModel/webui/app.py."""

from LoraModel.commands import as_command

as_command(__name__, "LoraModel.webui.app")
