"""From full voices to adapters, and adapters into other sizes and blends.

More than nine files, because they are two things: a full voice becomes an adapter (`match` finds its base, `budget` the
ranks, `content` anybody's speech, `start` and `distill` the adapter, `judge` what was kept; `voice` is these together,
`folder` many, `command` and `report` the output), and adapters are changed as files (`factors`, `blend`, `inspect`,
`peft_config`) and shown (`card`).
"""

from .blend import blend
from .budget import Size
from .factors import resized
from .voice import Converted, Converter, VoiceOptions

__all__ = ["Converted", "Converter", "Size", "VoiceOptions", "blend", "resized"]
