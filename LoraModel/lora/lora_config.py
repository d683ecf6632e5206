"""LoRAConfig: which layers get a low-rank adapter, of which rank and strength. The targets are those of
`targets.py`."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Optional

from ..messages import UserError, listing
from ..names import bare, shown
from .adapter_metadata import one_line
from .targets import PRESETS, TARGETS, default_preset, has_rank

MAX_RANK = 4096
"""No layer has a smaller side as large; a number above it is a slip or a hostile file."""


@dataclass(frozen=True)
class TargetConfig:
    """Rank and alpha of one target."""

    r: int
    lora_alpha: float

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, int) or not 1 <= self.r <= MAX_RANK:
            raise UserError("rank r={r} must be a whole number from 1 to {max_rank}: leave the target out to switch "
                            "it off", r=bare(self.r), max_rank=MAX_RANK)
        if isinstance(self.lora_alpha, bool) or not isinstance(self.lora_alpha,
                                                               (int, float)) or not 0 < self.lora_alpha < 1e6:
            raise UserError("lora_alpha={lora_alpha} must be a number above 0 and below a million (twice the rank is "
                            "usual)", lora_alpha=bare(self.lora_alpha))


@dataclass
class LoRAConfig:
    """What to adapt, and how.

    Attributes:
        r: rank of the targets that name none of their own.
        lora_alpha: alpha of the targets that name none; the delta is scaled by alpha / r.
        lora_dropout: probability of dropping an input of the branch while training, 0 to below 1.
        use_rslora: scale by alpha / sqrt(r) instead (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
        targets: name -> TargetConfig, or a dict with `r` and `lora_alpha` (each may be left out), or True / False.
        preset: name of the preset it came from, for the record; on one line, and cut where it is too long.

    Raises:
        UserError: a rank below 1, an unknown target or key, no target at all; the message names the remedy.
    """

    r: int = 4
    lora_alpha: float = 8.0
    lora_dropout: float = 0.0
    use_rslora: bool = False
    targets: Dict[str, Any] = field(default_factory=lambda: dict.fromkeys(PRESETS[default_preset()], True))
    preset: str = "custom"

    def __post_init__(self) -> None:
        TargetConfig(self.r, self.lora_alpha)
        if isinstance(self.lora_dropout, bool) or not isinstance(self.lora_dropout,
                                                                 (int, float)) or not 0 <= self.lora_dropout < 1:
            raise UserError("lora_dropout={lora_dropout} must be at least 0 and below 1",
                            lora_dropout=bare(self.lora_dropout))
        if not isinstance(self.use_rslora, bool):
            raise UserError("use_rslora={use_rslora} must be true or false", use_rslora=bare(self.use_rslora))
        if not isinstance(self.preset, str):
            raise UserError("preset={preset} must be text, the name of a preset", preset=bare(self.preset))
        self.preset = one_line(self.preset)
        if not isinstance(self.targets, dict):
            raise UserError("targets must be an object like {{\"ups\": true}}, not {targets}",
                            targets=bare(self.targets))
        self.targets = {name: target for name, target in ((n, self._target(n, t)) for n, t in self.targets.items())
                        if target}
        if not self.targets:
            raise UserError("no target is switched on: choose at least one of {targets}", targets=listing(TARGETS))
        for row in [name for name in self.targets if not has_rank(name)]:
            for whole in self.targets:
                if whole != row and TARGETS[whole].pattern == TARGETS[row].pattern:
                    raise UserError("targets {whole} and {row} both change the speaker table: choose one ({row} is "
                                    "the smaller)", whole=whole, row=row)

    def _target(self, name: str, value: Any) -> Optional[TargetConfig]:
        if name not in TARGETS:
            raise UserError("unknown target {name}: choose from {targets}", name=bare(name), targets=listing(TARGETS))
        if isinstance(value, TargetConfig):
            value = asdict(value)
        if value is None or value is False:
            return None
        if value is True:
            value = {}
        if not isinstance(value, dict) or set(value) - {"r", "lora_alpha"}:
            raise UserError("target {name} takes true, false or {{\"r\": …, \"lora_alpha\": …}}, not {value}",
                            name=shown(name), value=bare(value))
        if not has_rank(name):
            if value.get("r", 1) != 1 or value.get("lora_alpha", 1) != 1:
                raise UserError("target {name} is one row of a table and has neither rank nor alpha: give true or "
                                "false", name=shown(name))
            return TargetConfig(1, 1)
        r = value.get("r", self.r)
        ratio = self.lora_alpha / self.r
        checked = TargetConfig(r, value.get("lora_alpha", self.lora_alpha))
        return checked if "lora_alpha" in value else TargetConfig(r, r * ratio)

    @classmethod
    def from_preset(cls, name: Optional[str] = None, rank: Optional[int] = None, alpha: Optional[float] = None,
                    **overrides: Any) -> LoRAConfig:
        """A preset, with every rank replaced by `rank` if given (alpha keeps its ratio to the rank) and every alpha by
        `alpha`; a row, which has neither, stays. None is the default preset."""
        name = default_preset() if name is None else name
        if name not in PRESETS:
            raise UserError("unknown preset {name}: choose from {presets}", name=shown(name), presets=listing(PRESETS))
        if rank is not None or alpha is not None:
            TargetConfig(1 if rank is None else rank, 1 if alpha is None else alpha)
        targets = {}
        for target, (r, alpha_of) in PRESETS[name].items():
            new = r if rank is None or not has_rank(target) else rank
            given = alpha is not None and has_rank(target)
            targets[target] = {"r": new, "lora_alpha": alpha if given else alpha_of * (new / r)}
        words = [name] + ([] if rank is None else [f"rank {rank}"]) + ([] if alpha is None else [f"alpha {alpha:g}"])
        return cls(targets=targets, preset=", ".join(words), **overrides)

    def target_of(self, path: str) -> Optional[str]:
        """The target that takes the module at `path`, or None."""
        return next((name for name in self.targets if re.fullmatch(TARGETS[name].pattern, path)), None)

    def scaling(self, target: str) -> float:
        """The factor on B A: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        chosen = self.targets[target]
        return chosen.lora_alpha / (math.sqrt(chosen.r) if self.use_rslora else chosen.r)

    def to_dict(self) -> Dict[str, Any]:
        """Plain types only; `from_dict` gives an equal config back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Dict[str, Any]) -> LoRAConfig:
        """What `to_dict` gave; an unknown key is a UserError."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            named = shown(next(key for key in values if key in unknown))
            known = [f.name for f in fields(cls)]
            raise UserError("unknown key {named} in the LoRA configuration: known are {known}", named=named,
                            known=listing(known))
        return cls(**values)

    def to_json(self) -> str:
        """One line, for an adapter's metadata."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> LoRAConfig:
        """What `to_json` wrote. Older files have a rank and an alpha, without a meaning, for a row as well: they are
        passed over."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError("the LoRA configuration is not JSON: {error}", error=error) from None
        if not isinstance(values, dict):
            raise UserError("the LoRA configuration must be a JSON object, not {name}", name=type(values).__name__)
        targets = values.get("targets")
        if isinstance(targets, dict):
            values["targets"] = {name: True if isinstance(value, dict) and not has_rank(name) else value
                                 for name, value in targets.items()}
        return cls.from_dict(values)
