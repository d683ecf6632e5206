"""Live: a stream converted block by block, whose voice changes between two blocks."""

from .batch import VoiceBatch
from .changes import VoiceChanges
from .voice import RealtimeVoice

__all__ = ["RealtimeVoice", "VoiceBatch", "VoiceChanges"]
