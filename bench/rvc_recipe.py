"""Full fine-tuning by RVC's recipe: what the benchmarks measure ours against."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.step_parts import Clock
from LoraModel.host import Host
from LoraModel.host.networks import Mel
from LoraModel.models import load_discriminator
from LoraModel.models.model_utils import config_list
from LoraModel.training import TrainConfig
from LoraModel.training.data_loader import Batch, ClipSet, read_experiment, split
from LoraModel.training.losses import stft_loss


class RVCStep:
    """One step of RVC's train.py in fp32, on whatever networks and losses the host has.

    Args:
        config: of the experiment, in the shape of RVC's configs/*.json.
        discriminator: None trains by our own losses instead, multi-resolution STFT in the discriminator's place.
        lr: in place of the configuration's own.
    """

    def __init__(self, host: Host, config: Dict[str, Any], version: str, generator: Path, discriminator: Optional[Path],
                 device: torch.device, lr: Optional[float] = None):
        self.commons, self.losses, self.mel = host.module("commons"), host.module("losses"), Mel(host, config["data"])
        self.config = config
        self.generator = host.build_synthesizer(config_list(config), version, True).to(device).train()
        self.generator.load_state_dict(torch.load(str(generator), map_location="cpu", weights_only=True)["model"])
        train = config["train"]
        settings = {"lr": lr or train["learning_rate"], "betas": tuple(train["betas"]), "eps": train["eps"]}
        self.optimizer_g = torch.optim.AdamW(self.generator.parameters(), **settings)
        self.optimizers = [self.optimizer_g]
        self.discriminator: Optional[nn.Module] = None
        if discriminator is not None:
            self.discriminator = load_discriminator(discriminator, host,
                                                    version).to(device).train().requires_grad_(True)
            self.optimizer_d = torch.optim.AdamW(self.discriminator.parameters(), **settings)
            self.optimizers.append(self.optimizer_d)
        self.parts: Dict[str, float] = {}

    def end_epoch(self) -> None:
        """RVC lowers its rate a little after each epoch."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= self.config["train"]["lr_decay"]

    def __call__(self, batch: Batch) -> float:
        data, train = self.config["data"], self.config["train"]
        clock = Clock(self.parts, batch.spec.device)
        out = self.generator(batch.phone, batch.lengths, batch.pitch, batch.f0, batch.spec, batch.lengths,
                             batch.speaker)
        audio, starts, _, mask, (_, z_p, mean_p, log_p, _, log_q) = out
        mel = self.mel.of_spectrogram(batch.spec)
        real_mel = self.commons.slice_segments(mel, starts, train["segment_size"] // data["hop_length"])
        made_mel = self.mel.of_audio(audio.squeeze(1))
        wave = self.commons.slice_segments(batch.wave, starts * data["hop_length"], train["segment_size"])
        clock.part("G forward")
        loss = F.l1_loss(real_mel, made_mel) * train["c_mel"] + self.losses.kl_loss(z_p, log_q, mean_p, log_p,
                                                                                    mask) * train["c_kl"]
        if self.discriminator is None:
            loss = loss + TrainConfig.c_stft * stft_loss(audio.squeeze(1), wave.squeeze(1))
        else:
            self._train_discriminator(wave, audio, clock)
            _, made, features_real, features_made = self.discriminator(wave, audio)
            clock.part("D forward again")
            loss = loss + self.losses.feature_loss(features_real, features_made) + self.losses.generator_loss(made)[0]
        self.optimizer_g.zero_grad()
        loss.backward()
        self.commons.clip_grad_value_(self.generator.parameters(), None)
        clock.part("G backward")
        self.optimizer_g.step()
        clock.part("optimisers")
        return float(loss.detach())

    def _train_discriminator(self, wave: Tensor, audio: Tensor, clock: Clock) -> None:
        real, made, _, _ = self.discriminator(wave, audio.detach())
        loss, _, _ = self.losses.discriminator_loss(real, made)
        clock.part("D forward")
        self.optimizer_d.zero_grad()
        loss.backward()
        self.commons.clip_grad_value_(self.discriminator.parameters(), None)  # RVC clips nothing: it computes the norm
        clock.part("D backward")
        self.optimizer_d.step()
        clock.part("optimisers")


def training_clips(host: Host, settings: TrainConfig, info: Any) -> ClipSet:
    """The clips that a run with `settings` trains on, read anew. info: `version` and `f0` of the base."""
    experiment = read_experiment(Path(settings.data_dir), host, info)
    train, _ = split(experiment.clips, settings.valid_fraction, settings.seed)
    return ClipSet(train, host, experiment.data, info.f0, experiment.segment_frames)
