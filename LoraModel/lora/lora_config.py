"""LoRAConfig: which layers get a low-rank adapter, of which rank and strength. The targets are those of `targets.py`."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Optional

from ..messages import UserError
from ..names import bare, shown
from .targets import PRESETS, TARGETS, default_preset, is_row

MAX_RANK = 4096
"""No layer has a smaller side as large; a number above it is a slip or a hostile file."""


@dataclass(frozen=True)
class TargetConfig:
    """Rank and alpha of one target."""

    r: int
    lora_alpha: float

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, int) or not 1 <= self.r <= MAX_RANK:
            raise UserError(
                f"rank r={bare(self.r)} must be a whole number from 1 to {MAX_RANK}: leave the target out to switch it off",
                f"秩 r={bare(self.r)} 必须是 1 到 {MAX_RANK} 之间的整数：若要关闭该目标，请将其移除",
            )
        if isinstance(self.lora_alpha, bool) or not isinstance(self.lora_alpha, (int, float)) or not 0 < self.lora_alpha < 1e6:
            raise UserError(
                f"lora_alpha={bare(self.lora_alpha)} must be a number above 0 and below a million (twice the rank is usual)",
                f"lora_alpha={bare(self.lora_alpha)} 必须大于 0 且小于一百万（通常取秩的两倍）",
            )


@dataclass
class LoRAConfig:
    """What to adapt, and how.

    Attributes:
        r: rank of the targets that name none of their own.
        lora_alpha: alpha of the targets that name none; the delta is scaled by alpha / r.
        lora_dropout: probability of dropping an input of the branch while training, 0 to below 1.
        use_rslora: scale by alpha / sqrt(r) instead (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
        targets: name -> TargetConfig, or a dict with `r` and `lora_alpha` (each may be left out), or True / False.
        preset: name of the preset it came from, for the record.

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
        if isinstance(self.lora_dropout, bool) or not isinstance(self.lora_dropout, (int, float)) or not 0 <= self.lora_dropout < 1:
            raise UserError(
                f"lora_dropout={bare(self.lora_dropout)} must be at least 0 and below 1",
                f"lora_dropout={bare(self.lora_dropout)} 必须在 0（含）到 1（不含）之间",
            )
        if not isinstance(self.use_rslora, bool):
            raise UserError(f"use_rslora={bare(self.use_rslora)} must be true or false", f"use_rslora={bare(self.use_rslora)} 必须是 true 或 false")
        if not isinstance(self.targets, dict):
            raise UserError(f"targets must be an object like {{\"ups\": true}}, not {bare(self.targets)}",
                            f"targets 必须是形如 {{\"ups\": true}} 的对象，而不是 {bare(self.targets)}")
        self.targets = {name: target for name, target in ((n, self._target(n, t)) for n, t in self.targets.items()) if target}
        if not self.targets:
            raise UserError(
                f"no target is switched on: choose at least one of {', '.join(TARGETS)}",
                f"没有启用任何目标层：请至少选择其一：{'、'.join(TARGETS)}",
            )
        for row in filter(is_row, self.targets):
            for whole in self.targets:
                if whole != row and TARGETS[whole].pattern == TARGETS[row].pattern:
                    raise UserError(
                        f"targets {whole} and {row} both change the speaker table: choose one ({row} is the smaller)",
                        f"目标 {whole} 与 {row} 都会修改说话人嵌入：请只选一个（{row} 更小）",
                    )

    def _target(self, name: str, value: Any) -> Optional[TargetConfig]:
        if name not in TARGETS:
            raise UserError(
                f"unknown target {bare(name)}: choose from {', '.join(TARGETS)}",
                f"未知的目标层 {bare(name)}：可选 {'、'.join(TARGETS)}",
            )
        if isinstance(value, TargetConfig):
            value = asdict(value)
        if value is None or value is False:
            return None
        if value is True:
            value = {}
        if not isinstance(value, dict) or set(value) - {"r", "lora_alpha"}:
            raise UserError(
                f"target {shown(name)} takes true, false or {{\"r\": …, \"lora_alpha\": …}}, not {bare(value)}",
                f"目标层 {shown(name)} 只接受 true、false 或 {{\"r\": …, \"lora_alpha\": …}}，而不是 {bare(value)}",
            )
        if is_row(name):
            if value.get("r", 1) != 1 or value.get("lora_alpha", 1) != 1:
                raise UserError(f"target {shown(name)} is one row of a table and has neither rank nor alpha: give true or false",
                                f"目标层 {shown(name)} 是表中的一行，没有秩与 alpha：请给出 true 或 false")
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
            raise UserError(f"unknown preset {shown(name)}: choose from {', '.join(PRESETS)}",
                            f"未知的预设 {shown(name)}：可选 {'、'.join(PRESETS)}")
        if rank is not None or alpha is not None:
            TargetConfig(1 if rank is None else rank, 1 if alpha is None else alpha)
        targets = {}
        for target, (r, alpha_of) in PRESETS[name].items():
            new = r if rank is None or is_row(target) else rank
            given = alpha is not None and not is_row(target)
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
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            named = shown(next(key for key in values if key in unknown))
            known = [f.name for f in fields(cls)]
            raise UserError(f"unknown key {named} in the LoRA configuration: known are {', '.join(known)}",
                            f"LoRA 配置中有未知的键 {named}：可用 {'、'.join(known)}")
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> LoRAConfig:
        """What `to_json` wrote. Older files have a rank and an alpha, without a meaning, for a row as well: they are passed over."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"the LoRA configuration is not JSON: {error}", f"LoRA 配置不是有效的 JSON：{error}") from None
        if not isinstance(values, dict):
            raise UserError(f"the LoRA configuration must be a JSON object, not {type(values).__name__}",
                            f"LoRA 配置必须是 JSON 对象，而不是 {type(values).__name__}")
        targets = values.get("targets")
        if isinstance(targets, dict):
            values["targets"] = {name: True if is_row(name) and isinstance(value, dict) else value for name, value in targets.items()}
        return cls.from_dict(values)
