"""Training an adapter from an RVC experiment folder: `prepare(TrainConfig(...)).run()`."""

from .config import TrainConfig
from .prepare import prepare
from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "prepare"]
