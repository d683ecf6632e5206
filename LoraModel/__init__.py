"""RVC-LoRA: one frozen RVC base in memory, a small adapter for each voice.

    from LoraModel import train, TrainConfig, Voice

What a program may import stands in `__all__`, and docs/library.md shows each name in use; everything else is this
project's own business. Names are loaded when they are first used, so that `import LoraModel` alone needs nothing but
Python.

More than nine files beside the folders: each is one thing that every folder uses (messages, names, paths, places,
files, arrays, devices, commands, charts, faults and the like), or a command's name (train, convert, merge and the like:
`python -m LoraModel.NAME`).
"""

from importlib import import_module
from typing import Any, List

__version__ = "0.1.0"

_PUBLIC = {
    "Adapter": ".lora",
    "Converted": ".inference.voice",
    "ConvertOptions": ".inference.convert",
    "LoRAConfig": ".lora",
    "RealtimeVoice": ".realtime",
    "Step": ".training.in_programs",
    "SynthesizerLoRA": ".models",
    "TrainConfig": ".training.config",
    "Trained": ".training.in_programs",
    "Trainer": ".training.trainer",
    "UserError": ".messages",
    "Voice": ".inference.voice",
    "VoiceBatch": ".realtime",
    "VoiceLoader": ".inference.model_loader",
    "count_parameters": ".lora",
    "extract": ".lora",
    "find_host": ".host",
    "inject": ".lora",
    "load_adapter": ".lora",
    "load_base": ".models",
    "merge": ".lora",
    "save_adapter": ".lora",
    "rvc_lora_voices": ".realtime.rvc_class",
    "train": ".training.in_programs",
    "unmerge": ".lora",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".models", __name__)  # which defines RVC's targets
    return getattr(import_module(_PUBLIC[name], __name__), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *_PUBLIC])
