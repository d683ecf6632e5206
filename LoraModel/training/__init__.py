"""Training an adapter: `train(TrainConfig(...))`, or `prepare(TrainConfig(...)).run()` from an RVC experiment folder.

More than nine files: the settings (`config`, `settings_file`), what a folder of a stranger's is checked for before and
while it is read (`filelist`, `data_loader`, `validate`, `agreement`, `levels`, `run_lock`), the step (`step`,
`objective`, `losses`, `adversary`, `posteriors`), where it starts (`speaker`, `start`), how good a save is (`heldout`,
`judge`, `other_speaker`) and when a run ends (`schedule`), the loop with what it saves and tells (`build`, `parts`,
`trainer`, `saved`, `checkpoint`, `record`, `monitor`, `signals`, `estimate`, `device`), several devices for one voice
(`ranks`), the list of adapters (`publishing`), and the commands and the function that run all of it (`train_lora`,
`train_many`, `in_programs`).
"""

from typing import TYPE_CHECKING

from ..lazy import loader

if TYPE_CHECKING:
    from .build import prepare
    from .config import TrainConfig
    from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "prepare"]
__getattr__ = loader(__name__, {"prepare": ".build", "TrainConfig": ".config", "Trainer": ".trainer"})
