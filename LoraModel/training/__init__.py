"""Training an adapter from an RVC experiment folder: `prepare(TrainConfig(...)).run()`.

More than nine files: the settings (`config`), what a folder of a stranger's is checked for before and while it is read
(`data_loader`, `validate`, `agreement`, `levels`, `run_lock`), the step (`objective`, `losses`, `adversary`, `posteriors`,
`speaker`), the loop with what it saves and tells (`build`, `trainer`, `checkpoint`, `heldout`, `monitor`, `signals`), and
the command.
"""

from .build import prepare
from .config import TrainConfig
from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "prepare"]
