"""From a base and adapters to audio: voices on one base in memory, and the conversion where RVC's own cannot run.

More than nine files: recordings in and out (`audio`, `sound`, `marking`), the voice (`adapter_choice`, `model_loader`,
`patched`), the conversion (`convert`, `converter`, `transpose`, `stand_in`), and the commands with their options.
"""

from typing import TYPE_CHECKING

from ..lazy import loader

if TYPE_CHECKING:
    from .convert import ConvertOptions, Retrieval
    from .model_loader import Applied, VoiceLoader

__all__ = ["Applied", "ConvertOptions", "Retrieval", "VoiceLoader"]
__getattr__ = loader(__name__, {"ConvertOptions": ".convert", "Retrieval": ".convert", "Applied": ".model_loader",
                                "VoiceLoader": ".model_loader"})
