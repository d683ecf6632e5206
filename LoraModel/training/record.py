"""What is written of a run: into its run.json, and into the metadata of its adapters."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Dict, Optional

from .heldout import Score, for_adapter

if TYPE_CHECKING:
    from .trainer import Trainer


def adapter_fields(trainer: Trainer, score: Optional[Score]) -> Dict[str, Any]:
    """Metadata of the adapter as it is now. score: how good it is on the held-out clips, where that is known."""
    c, info = trainer.config, trainer.info
    return {
        "name": c.name, "base_hash": info.base_hash, "base_name": info.name, "rvc_version": info.version,
        "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": trainer.model.speaker,
        "steps": trainer.done_steps,
        "epochs": -(-trainer.done_steps // trainer.steps_per_epoch), "data_seconds": round(trainer.train.seconds, 1),
        "heldout": for_adapter(trainer.base_heldout, trainer.base_sharp, score),
        "pitch": "" if trainer.pitch is None else trainer.pitch.to_text(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "author": c.author, "license": c.license, "notes": c.notes,
        **{key: value for key, value in (("tags", c.tags), ("language", c.language), ("consent", c.consent),
                                         ("consent_note", c.consent_note)) if value},
    }


def of_run(trainer: Trainer) -> Dict[str, Any]:
    """What run.json says beside whose run it is, and its state."""
    count, judged = trainer.model.count(), trainer.best_judged
    return {
        "base_name": trainer.info.name, "config": trainer.config.to_dict(), "steps": trainer.done_steps,
        "total_steps": trainer.total_steps, "steps_per_epoch": trainer.steps_per_epoch,
        "sample_rate": trainer.info.sample_rate, "base_heldout": trainer.base_heldout,
        "best_heldout": None if math.isinf(trainer.best) else trainer.best, "best_step": trainer.best_step,
        "base_sharpness": trainer.base_sharp, "best_sharpness": trainer.best_sharp,
        "best_similarity": judged.similarity, "best_dnsmos": judged.dnsmos, "best_leak": judged.leak,
        "judge_seconds": round(trainer.judge.seconds, 2) if trainer.judge is not None else 0.0,
        "train_seconds": round(trainer.train_seconds, 2), "train_clips": len(trainer.train),
        "heldout_clips": [clip.wav.name for clip in trainer.held.clips],
        "previews": [trainer.held.clips[place].wav.name for place in trainer.heldout.previews],
        "parameters": {"base": count.base, "adapter": count.adapter}, "seconds_to_go": trainer.seconds_to_go,
    }
