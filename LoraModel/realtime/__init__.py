"""Live: a stream converted block by block, whose voice changes between two blocks.

More than nine files: the voice and its changes (`voice`, `changes`, `plan`, `synthesis`, `joining`, `morph`), several
voices at once (`batch`, `batcher`), what it runs in (`devices`, `by_rvc`, `rvc_class`) and RVC's own window
(`window`).
"""

from typing import TYPE_CHECKING

from ..lazy import loader

if TYPE_CHECKING:
    from .batch import VoiceBatch
    from .changes import VoiceChanges
    from .voice import RealtimeVoice

__all__ = ["RealtimeVoice", "VoiceBatch", "VoiceChanges"]
__getattr__ = loader(__name__, {"VoiceBatch": ".batch", "VoiceChanges": ".changes", "RealtimeVoice": ".voice"})
