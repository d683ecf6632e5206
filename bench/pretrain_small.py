"""Train the demo's small base further: RVC's losses, and words that must survive a change of voice.

python bench/pretrain_small.py --voices FOLDER --out DIR [--minutes 480] [--base f0G16k.pth] [--device cuda] [--quick]

FOLDER holds a folder of WAV or FLAC for each voice, named by its row: 03-slt. Beside RVC's losses (mel, KL,
adversarial, feature matching) and multi-resolution STFT, a part of each batch is converted to another row at that row's
pitch: the content encoder must hear in it what it hears in the recording, and the discriminator must take it for
speech.
DIR gets f0G16k.pth (the running average, fp16, in the rows of people the mean of the synthetic ones, where
--synthetic_rows names them), its config.json, discriminator.pt, log.jsonl, and state.pt, from which the same command
goes on.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from bench.common import arguments, finish
from bench.small_corpus import FRAME, Corpus, read_corpus
from bench.small_discriminator import SmallDiscriminator
from bench.voices import DEMO_BASE
from LoraModel.files import atomic_file, atomic_write
from LoraModel.host import find_host, hush_torch
from LoraModel.host.networks import Mel
from LoraModel.inference import content_encoder
from LoraModel.messages import UserError, cli
from LoraModel.models import read_checkpoint
from LoraModel.models.model_utils import config_list
from LoraModel.pitch_scale import F0_BINS, F0_MAX, F0_MIN
from LoraModel.training.losses import slice_frames, stft_loss
from LoraModel.training.signals import handle_signals

HOP, SLICE = 160, 32  # samples a frame; frames that decoder and discriminator take
CONTENT, STFT, ADVERSARIAL = 8.0, 2.0, 0.5
NOISE_SCALE = 0.66666  # of the prior's noise, as RVC's `infer` has it
OWN, CLEAN, MEAN_ROW = 0.3, 0.45, 0.2
"""Shares: of the converted clips that keep their voice, of the clips with features of the recording itself, and of the
converted clips that take the mean of the synthetic rows."""


def coarse(f0: Tensor) -> Tensor:
    """f0 in Hz on RVC's scale of 1 to 255, as `pitch_scale.coarse_pitch`, on the device: no step waits for a copy."""
    low, high = (1127 * math.log(1 + edge / 700) for edge in (F0_MIN, F0_MAX))
    mel = 1127 * torch.log(1 + f0 / 700)
    steps = torch.where(mel > 0, (mel - low) * (F0_BINS - 2) / (high - low) + 1, torch.ones_like(mel))
    return steps.clamp(1, F0_BINS - 1).round().long()


class Batch:
    """A stretch of `frames` from random voices: phone (batch, frames, 768), f0, wave, and which voice."""

    def __init__(self, corpus: Corpus, size: int, frames: int):
        device = corpus.wave.device
        weights = corpus.lengths.float().sqrt()  # between one share a voice and one a second
        self.voice = torch.multinomial(weights, size, replacement=True)
        room = (corpus.lengths[self.voice] - frames // 2).clamp(min=1)
        first = (torch.rand(size, device=device) * room).long() + corpus.starts[self.voice]
        version = (torch.rand(size, device=device) - CLEAN).clamp(min=0) / (1 - CLEAN) * (len(corpus.features) - 1)
        content = corpus.features[version.ceil().long()[:, None], first[:, None]
                                  + torch.arange(frames // 2, device=device)].float()
        self.phone = F.pad(content.repeat_interleave(2, 1), (0, 768 - content.shape[2]))
        self.f0 = corpus.f0[2 * first[:, None] + torch.arange(frames, device=device)]
        wave = corpus.wave[FRAME * first[:, None] + torch.arange(frames * HOP, device=device)].float() / 32768
        self.wave = wave * (0.5 + 0.5 * torch.rand(size, 1, device=device))
        self.lengths = torch.full((size,), frames, device=device)


class SmallPretraining:
    """Networks, optimisers, running average, and where the run stands; goes on from `folder`.

    Raises:
        UserError: `folder` holds a run on other voices.
    """

    def __init__(self, args: Any, folder: Path, device: torch.device):
        host = find_host()
        self.args, self.folder, self.device = args, folder, device
        self.config = json.loads((Path(args.base).parent / "config.json").read_text(encoding="utf-8"))
        self.mel = Mel(host, self.config["data"])
        self.losses, self.spectrogram = host.module("losses"), host.module("mel").spectrogram_torch
        torch.manual_seed(args.seed)
        self.generator = host.build_synthesizer(config_list(self.config), "v2", True).float()
        known = read_checkpoint(args.base)["model"]
        self.generator.load_state_dict({key: value.float() for key, value in known.items()})
        self.generator = self.generator.to(device)
        self.discriminator = SmallDiscriminator().to(device)
        self.corpus = read_corpus(Path(args.voices), args.versions, device, args.seed).to(device)
        self.encoder = {name: value.to(device) for name, value in content_encoder.weights().items()}
        settings: Dict[str, Any] = {"lr": args.lr, "betas": (0.8, 0.99)}
        self.optimizer_g = torch.optim.AdamW(self.generator.parameters(), **settings)
        self.optimizer_d = torch.optim.AdamW(self.discriminator.parameters(), **settings)
        self.average = {key: value.detach().clone() for key, value in self.generator.state_dict().items()}
        self.steps, self.seconds, self.stop_asked = 0, 0.0, False
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").is_file():
            self._restore(read_checkpoint(folder / "state.pt"))

    def _parts(self) -> Dict[str, Any]:
        return {"generator": self.generator, "discriminator": self.discriminator, "optimizer_g": self.optimizer_g,
                "optimizer_d": self.optimizer_d}

    def _restore(self, state: Dict[str, Any]) -> None:
        if state["rows"] != self.corpus.rows.tolist() or state["lengths"] != self.corpus.lengths.tolist():
            raise UserError("{folder} holds a run on other voices: give another --out, or the same voices",
                            folder=self.folder)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.average = {key: value.to(self.device) for key, value in state["average"].items()}
        self.steps, self.seconds = state["steps"], state["seconds"]
        torch.manual_seed(self.args.seed + self.steps)

    def _converted(self, batch: Batch) -> Tuple[Tensor, Tensor]:
        """Some clips in another voice at its pitch: (clips, samples), and how far its words are from the clips'."""
        g, frames, clips = self.generator, self.args.converted_frames, self.args.converted
        own_row, chance = self.corpus.rows[batch.voice[:clips]], torch.rand(clips, device=self.device)
        other = torch.randint(len(self.corpus.rows), (clips,), device=self.device)
        own, mean = chance < OWN, chance > 1 - MEAN_ROW
        rows = g.emb_g(torch.where(own, own_row, self.corpus.rows[other]))
        if self.args.synthetic_rows:
            middle = g.emb_g(torch.tensor(self.args.synthetic_rows, device=self.device)).mean(0)
            rows = torch.where(mean[:, None], middle, rows)
        medians = self.corpus.medians[batch.voice[:clips]]
        octaves = torch.where(own, torch.zeros_like(chance), 0.1 * torch.randn_like(chance))
        wanted = torch.where(own, medians, self.corpus.medians[other]) * torch.exp2(octaves)
        f0 = (batch.f0[:clips, :frames] * (wanted / medians)[:, None]).clamp(max=900)
        lengths = torch.full((clips,), frames, device=self.device)
        mean_p, log_p, mask = g.enc_p(batch.phone[:clips, :frames], coarse(f0), lengths)
        z_p = (mean_p + torch.randn_like(mean_p) * torch.exp(log_p) * NOISE_SCALE) * mask
        vector = rows[:, :, None]
        audio = g.dec(g.flow(z_p, mask, g=vector, reverse=True) * mask, f0, g=vector).squeeze(1)
        with torch.no_grad():
            wanted_content = content_encoder.encode(batch.wave[:clips, :frames * HOP], self.encoder, 3200)
        return audio, F.l1_loss(content_encoder.encode(audio, self.encoder, 3200), wanted_content)

    def step(self) -> Dict[str, float]:
        """One step of both networks: the losses."""
        args, g, data = self.args, self.generator, self.config["data"]
        batch = Batch(self.corpus, args.batch_size, args.frames)
        speaker = g.emb_g(self.corpus.rows[batch.voice]).unsqueeze(-1)
        spec = self.spectrogram(batch.wave, data["filter_length"], data["sampling_rate"], HOP, data["win_length"])
        mean_p, log_p, mask = g.enc_p(batch.phone, coarse(batch.f0), batch.lengths)
        z, _, log_q, _ = g.enc_q(spec, batch.lengths, g=speaker)
        named = {"kl": self.losses.kl_loss(g.flow(z, mask, g=speaker), log_q, mean_p, log_p, mask)}
        starts = torch.randint(args.frames - SLICE + 1, (args.batch_size,))
        audio = g.dec(slice_frames(z, starts, SLICE), slice_frames(batch.f0, starts, SLICE), g=speaker)
        real = slice_frames(batch.wave, starts * HOP, SLICE * HOP)
        wanted = slice_frames(self.mel.of_spectrogram(spec), starts, SLICE)
        named["mel"] = F.l1_loss(self.mel.of_audio(audio.squeeze(1)), wanted)
        named["stft"] = stft_loss(audio.squeeze(1), real)
        converted, named["content"] = self._converted(batch)
        pieces = converted.reshape(-1, SLICE * HOP)
        pieces = pieces[torch.randperm(len(pieces), device=self.device)[: max(args.batch_size // 2, 1)]]
        made = torch.cat([audio.squeeze(1), pieces])[:, None]
        named["disc"] = self._train_discriminator(real[:, None], made.detach())
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        with torch.no_grad():
            known = self.discriminator(real[:, None])
        judged, own = self.discriminator(made), len(real)
        named["gen"] = sum(((1 - score[:own]) ** 2).mean() + 0.5 * ((1 - score[own:]) ** 2).mean()
                           for score, _ in judged)
        named["fm"] = 2 * sum((a - b[:own]).abs().mean() for (_, one), (_, two) in zip(known, judged)
                              for a, b in zip(one, two))
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        weights = {"kl": 1.0, "mel": 45.0, "stft": STFT, "content": CONTENT, "gen": ADVERSARIAL, "fm": ADVERSARIAL}
        self.optimizer_g.zero_grad()
        sum(weight * named[name] for name, weight in weights.items()).backward()
        torch.nn.utils.clip_grad_norm_(g.parameters(), 50.0)
        self.optimizer_g.step()
        with torch.no_grad():
            for key, value in g.state_dict().items():
                self.average[key].lerp_(value, 0.001)
        self.steps += 1
        return {name: float(value.detach()) for name, value in named.items()}

    def _train_discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        loss = sum(((1 - one) ** 2).mean() + (two**2).mean()
                   for (one, _), (two, _) in zip(self.discriminator(real), self.discriminator(made)))
        self.optimizer_d.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), 50.0)
        self.optimizer_d.step()
        return loss

    def run(self) -> List[Dict[str, float]]:
        """Train until `args.minutes` are used, all calls together; the rate falls along a cosine over the last 80%."""
        total, lines, last = self.args.minutes * 60, [], time.perf_counter()
        with tqdm(total=round(total), initial=round(self.seconds), unit="s", desc="pretraining") as bar:
            while self.seconds < total and not self.stop_asked:
                share = self.seconds / total
                rate = self.args.lr * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * max(0.0, (share - 0.2) / 0.8))))
                for optimizer in (self.optimizer_g, self.optimizer_d):
                    optimizer.param_groups[0]["lr"] = rate
                lines.append(self.step())
                now = time.perf_counter()
                self.seconds, last = self.seconds + now - last, now
                bar.n = min(round(self.seconds), bar.total)
                if self.steps % self.args.log_every == 0:
                    self._log(lines[-self.args.log_every:], bar)
                if self.steps % self.args.save_every == 0:
                    self.save()
        self.save()
        return lines

    def _log(self, lines: List[Dict[str, float]], bar: Any) -> None:
        means = {name: round(float(np.mean([line[name] for line in lines])), 4) for name in lines[0]}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": self.steps, "seconds": round(self.seconds, 1), **means}) + "\n")
        bar.set_postfix(step=self.steps, **{name: means[name] for name in ("mel", "content")})

    def save(self) -> None:
        """State, base and discriminator; each file is whole or the old one."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state.update(average=self.average, steps=self.steps, seconds=self.seconds, rows=self.corpus.rows.tolist(),
                     lengths=self.corpus.lengths.tolist())
        base = {key: value.detach().half().cpu().clone() for key, value in self.average.items()}
        if self.args.synthetic_rows:
            table = self.average["emb_g.weight"].cpu()
            people = [row for row in range(len(table)) if row not in self.args.synthetic_rows]
            base["emb_g.weight"][people] = table[self.args.synthetic_rows].mean(0).half()
        small = {key: value.half().cpu() for key, value in self.discriminator.state_dict().items()}
        contents = {"state.pt": state, "f0G16k.pth": {"model": base}, "discriminator.pt": {"model": small}}
        for name, content in contents.items():
            with atomic_file(self.folder / name) as stream:
                torch.save(content, stream)
        atomic_write(self.folder / "config.json", json.dumps(self.config, indent=2).encode())


def made_up_voices(folder: Path) -> Path:
    """Two voices of gliding tones, for --quick."""
    for row, pitch in enumerate((120.0, 210.0)):
        seconds = np.arange(4 * 16000) / 16000
        phase = 2 * np.pi * np.cumsum(pitch + 30 * np.sin(3 * seconds)) / 16000
        path = folder / f"{row:02d}-tones" / "one.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.1
        soundfile.write(str(path), sound, 16000)
    return folder


def main(argv: Optional[List[str]] = None) -> int:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--voices", help="a folder with a folder of recordings for each voice, named by its row "
                        "(default: none; needed unless --quick)")
    parser.add_argument("--out", help="where everything goes, and is found again (default: none; it is needed)")
    parser.add_argument("--base", default=str(DEMO_BASE), help="the base to go on from")
    parser.add_argument("--minutes", type=float, default=480.0, help="of training, all calls together")
    parser.add_argument("--batch_size", type=int, default=32, help="clips a step")
    parser.add_argument("--frames", type=int, default=256, help="of 10 ms a clip")
    parser.add_argument("--converted", type=int, default=8, help="clips of a batch that are converted")
    parser.add_argument("--converted_frames", type=int, default=192, help="of these")
    parser.add_argument("--versions", type=int, default=6, help="of the features: the first is unchanged")
    parser.add_argument("--synthetic_rows", type=int, nargs="*", default=[2, 3, 4, 5, 6, 7, 8],
                        help="rows that may be offered as they are; the others get their mean")
    parser.add_argument("--lr", type=float, default=2e-4, help="learning rate")
    parser.add_argument("--log_every", type=int, default=100, help="steps between lines of the log")
    parser.add_argument("--save_every", type=int, default=500, help="steps between saves")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="the device to compute on")
    parser.add_argument("--seed", type=int, default=1234, help="seed of all random numbers")
    args = parser.parse_args(argv)
    if not args.out or not (args.voices or args.quick):
        parser.error("--voices and --out are needed (--out alone with --quick)")
    if args.quick:
        args.voices = str(made_up_voices(Path(args.out) / "voices"))
        args.minutes, args.batch_size, args.converted, args.versions = 0.05, 2, 1, 2
        args.frames = args.converted_frames = 64
        args.log_every = 1
    run = SmallPretraining(args, Path(args.out), torch.device(args.device))
    undo = handle_signals(run)
    begun = run.steps
    try:
        lines = run.run()
    finally:
        undo()
    figures = {"steps": run.steps, "seconds": round(run.seconds, 1)}
    if lines:
        figures.update({name: round(float(np.mean([line[name] for line in lines[-100:]])), 4) for name in lines[0]})
    print(f"{run.steps - begun} steps in this call; {Path(args.out) / 'f0G16k.pth'} is the base")
    finish(figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
