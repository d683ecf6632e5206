"""Training an adapter from an RVC experiment folder: `prepare(TrainConfig(...)).run()`."""

from .build import prepare
from .config import TrainConfig
from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "prepare"]
