"""RVC-LoRA: one frozen RVC base in memory, a small adapter for each voice."""

__version__ = "0.1.0"
