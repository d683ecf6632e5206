"""What a page or a script asks of a training run: every value of it checked, types and limits, before anything is
begun."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any

from ... import entries
from ...devices import device_name
from ...lora import LoRAConfig
from ...lora.targets import has_rank
from ...messages import Text, UserError
from ...models import DEFAULT_PRESET
from ...models.catalog import check_choice, kind_of
from ...names import plain_name
from ...training.config import AUTO, TrainConfig
from ..folders import Folders

LIMITS = {"rank": (0, 64), "alpha": (0, 128), "epochs": (0, 1000), "batch_size": (1, 40), "save_every": (1, 50)}
"""The least and the most of each number, for the page's sliders as for scripts."""
WORDS = {"rank": Text("the LoRA rank"), "alpha": Text("the LoRA alpha"),
         "epochs": Text("the number of epochs"),
         "batch_size": Text("the batch size"), "save_every": Text("the save frequency"),
         "sample_rate": Text("the sample rate"), "base_g": Text("the base model G"),
         "base_d": Text("the base model D"),
         "preset": Text("the preset"), "device": Text("the device"), "version": Text("the version"),
         "f0": Text("pitch guidance")}


@dataclass
class RunSettings:
    """What the page asks of a run.

    Attributes:
        name: of the experiment, the voice and the adapter. sample_rate: "40k" …. base_g, base_d: as `Catalog` names
        them, base_d may be "". rank, alpha: 0 takes the preset's. epochs: 0 trains until
        nothing improves.
    """

    name: str
    sample_rate: str = "40k"
    version: str = "v2"
    f0: bool = True
    base_g: str = ""
    base_d: str = ""
    preset: str = DEFAULT_PRESET
    rank: int = 0
    alpha: float = 0.0
    epochs: int = 0
    batch_size: int = 4
    save_every: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        self.name = plain_name(self.name, Text("the experiment name"))
        for key, (low, high) in LIMITS.items():
            check = entries.number if key == "alpha" else entries.whole
            setattr(self, key, check(getattr(self, key), WORDS[key], low, high))
        for key in ("sample_rate", "preset", "device"):
            setattr(self, key, entries.text(getattr(self, key), WORDS[key], 40))
        for key in ("base_g", "base_d"):
            setattr(self, key, entries.path(getattr(self, key), WORDS[key]))
        if self.device != "auto":
            self.device = device_name(self.device)
        self.version = entries.one_of(self.version, WORDS["version"], ("v1", "v2"))
        self.f0 = entries.flag(self.f0, WORDS["f0"])

    @classmethod
    def read(cls, kept: Any) -> RunSettings:
        """The settings as a file keeps them, which may be of another version of this program or damaged.

        Raises:
            UserError: they are no settings.
        """
        if not isinstance(kept, dict) or "name" not in kept:
            raise UserError("the settings of this run are damaged: fill in the form and start anew")
        return cls(**{field.name: kept[field.name] for field in fields(cls) if field.name in kept})

    def pace_key(self) -> str:
        """What the duration of a training step depends on."""
        return "|".join(["step", PurePath(self.base_g).name, self.preset, str(self.rank), str(self.batch_size),
                         self.device, "D" if self.base_d else ""])

    def lora(self) -> LoRAConfig:
        config = LoRAConfig.from_preset(self.preset, self.rank or None)
        if not self.alpha:
            return config
        targets = {name: {"r": target.r, "lora_alpha": self.alpha if has_rank(name) else target.lora_alpha}
                   for name, target in config.targets.items()}
        return LoRAConfig(targets=targets, preset=f"{config.preset}, alpha {self.alpha:g}")

    def train_config(self, folders: Folders) -> TrainConfig:
        """The trainer's settings; every path is checked, and whether the bases are of the version, rate and kind that
        are chosen.

        Raises:
            UserError: a name, path or number that cannot be.
        """
        base, catalog = folders.catalog.training_base(self.base_g), folders.catalog
        check_choice(kind_of(base), self.base_g, self.version, self.sample_rate, self.f0)
        other = catalog.discriminator(self.base_d) if self.base_d else None
        if other is not None and kind_of(other).version != self.version:
            raise UserError("{base_d} is a discriminator of {version}, and {version_2} is chosen: choose the one that "
                            "fits the base G, or none",
                            base_d=self.base_d, version=kind_of(other).version, version_2=self.version)
        return TrainConfig(
            base_model=str(base), base_d=str(other) if other is not None else None,
            data_dir=str(folders.experiment(self.name)), output_dir=str(folders.run(self.name)),
            name=folders.experiment(self.name).name,
            lora=self.lora().to_dict(), epochs=self.epochs or AUTO, batch_size=self.batch_size,
            save_every=self.save_every, device=self.device,
        )
