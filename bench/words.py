"""Are the words still there after a conversion? Word error and sharpness of the demo's base and of adapters on it.

python bench/words.py --asr DIR [--adapters demo_output/adapter.safetensors …] [--sentences 48] [--json FILE]

Two voices that are not the target's (flite's slt and awb) say half of bench/sentences.txt each; they are converted to
the demo's target (flite's rms) at its pitch. DIR is a faster-whisper model's folder. Needs flite (Debian, Ubuntu:
apt install flite) and requirements-asr.txt; similarity and DNSMOS come from the judges of requirements.txt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
from tqdm import tqdm

from bench.common import arguments, finish, table
from bench.make_recordings import speak
from bench.voices import DEMO_BASE, judged, judges_of
from LoraModel.evaluation.bootstrap import ratio_interval
from LoraModel.evaluation.texture import mean_texture, texture, texture_figures
from LoraModel.evaluation.words import Listener, word_edits
from LoraModel.host import find_host, hush_torch
from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.inference.convert import convert
from LoraModel.inference.stand_in import coarse_pitch, content_features, median_pitch, pitch
from LoraModel.messages import cli

SENTENCES = Path(__file__).with_name("sentences.txt")
SOURCES, TARGET, RATE = ("slt", "awb"), "rms", 16000


def spoken(voice: str, texts: Sequence[str], folder: Path) -> List[np.ndarray]:
    """What flite's `voice` says, kept in `folder`: (samples,) each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        path = folder / f"{voice}-{number:02d}.flac"
        if not path.is_file():
            speak(voice, text, path, RATE)
    paths = [folder / f"{voice}-{number:02d}.flac" for number in range(len(texts))]
    return [soundfile.read(str(path), dtype="float32")[0] for path in paths]


def word_figures(listener: Listener, clips: Sequence[np.ndarray], texts: Sequence[str]) -> Dict[str, float]:
    """Word error over all clips, with a bootstrap interval over them."""
    found = ratio_interval(*word_edits(listener, clips, RATE, texts, "en"))
    return {"word_error": found.value, "word_error_low": found.low, "word_error_high": found.high}


def main(argv: Optional[List[str]] = None) -> int:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--asr", required=True, metavar="DIR", help="folder of a faster-whisper model")
    parser.add_argument("--base", default=str(DEMO_BASE), help="the base")
    parser.add_argument("--adapters", nargs="*", default=[], help="adapters of the demo's target voice (default: none)")
    parser.add_argument("--sentences", type=int, default=48, help="of bench/sentences.txt")
    parser.add_argument("--folder", default="demo_output/words", help="where the recordings are kept")
    parser.add_argument("--no_judges", action="store_true", help="leave out speaker similarity and DNSMOS")
    args = parser.parse_args(argv)
    count = 4 if args.quick else args.sentences
    texts = SENTENCES.read_text(encoding="utf-8").split("\n")[:count]
    listener, judges, folder = Listener(args.asr), judges_of(args), Path(args.folder)
    voices = {voice: spoken(voice, texts, folder) for voice in (*SOURCES, TARGET)}
    target = voices[TARGET]
    semitones = {voice: round(12 * np.log2(median_pitch(target) / median_pitch(voices[voice]))) for voice in SOURCES}
    turns = [SOURCES[number % 2] for number in range(count)]
    sources = [voices[voice][number] for number, voice in enumerate(turns)]
    loader = VoiceLoader(Path(args.base), find_host())
    figures: Dict[str, Any] = {"sentences": count, "semitones": semitones}
    results = {"source": sources, "target": target, "base": converted(loader, sources, turns, semitones, "base")}
    for number, adapter in enumerate(args.adapters, 1):
        loader.set_adapters([(Path(adapter), 1.0)])
        results[f"adapter {number}"] = converted(loader, sources, turns, semitones, adapter)
        loader.unload()
    real = mean_texture([texture(clip, RATE) for clip in target])
    for name, clips in results.items():
        row = word_figures(listener, clips, texts)
        row.update(judged([(clip, None) for clip in clips], target[-6:], RATE, judges))
        row.update(texture_figures(mean_texture([texture(clip, RATE) for clip in clips]), real))
        figures[name] = {key: round(float(value), 4) for key, value in row.items()}
    columns = sorted({key for name in results for key in figures[name]})
    rows = [[key, *(figures[name].get(key, np.nan) for name in results)] for key in columns]
    print(table([["figure", *results], *rows]))
    finish(figures, args.json)
    return 0


def converted(loader: VoiceLoader, sources: Sequence[np.ndarray], turns: Sequence[str], semitones: Dict[str, int],
              label: str) -> List[np.ndarray]:
    """The sources in the voice that is applied."""
    return [convert(loader, clip, ConvertOptions(transpose=semitones[voice]), content_features, pitch, coarse_pitch)
            for clip, voice in zip(tqdm(sources, desc=str(label), unit="clip"), turns)]


if __name__ == "__main__":
    sys.exit(cli(main))
