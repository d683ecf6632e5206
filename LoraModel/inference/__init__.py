"""From a base and adapters to audio: voices on one base in memory, and the conversion where RVC's own cannot run."""

from .convert import ConvertOptions, Retrieval, convert
from .model_loader import Applied, VoiceLoader

__all__ = ["Applied", "ConvertOptions", "Retrieval", "VoiceLoader", "convert"]
