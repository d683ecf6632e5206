"""Recipes of training beside each other by what people hear: words, speaker, sharpness; on voices that the base has
never given.

python bench/recipe_words.py --asr DIR --data logs/ALICE logs/BOB --recipes FILE --out DIR [--small_d discriminator.pt]
    [--sentences 24] [--epochs 40] [--no_judges] [--json FILE] [--quick]

FILE is JSON: {"NAME": {settings of the trainer}, ...}. Beside them a recipe may have:
"full": true          full fine-tuning by RVC's recipe, with the small discriminator in the place of RVC's;
"beside": "whole"     our losses beside the small discriminator, which learns ("frozen": its features alone),
"from": 0.8             from that share of the steps on,
"adversarial": 0.5      with that weight;
"variance": 1.0       a loss on the difference of each band's standard deviation;
"content": 8.0        a loss on the words of other speakers' speech, converted while the voice learns: the recordings of
"content_data": [...]   these experiment folders,
"content_every": 2      at every k-th step;
"path": 0.5             at that share of the steps the decoder is given z as a conversion finds it, through enc_p and
                        flow, instead of the posterior's; the gradient goes through the flow, too;
"prior_first": 0.3      until that share of the steps the decoder does not learn.

Two other speakers (flite's slt and awb) say bench/sentences.txt in turn, and are converted to each voice at its pitch.
A recipe's `word_more` is its word error less the base's, its `word_less_than_first` less the first recipe's, on the
same sentences (paired bootstrap). A recipe of a voice that is done is taken from OUT. Recipes are trained one after
another: their seconds are no ratio.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bench.common import finish, table
from bench.remedies import full_training, lora_training, settings_of
from bench.trainings import Training, take_turns
from bench.voices import DEMO_BASE, judged, judges_of, quick_inputs, voice_arguments
from bench.words import RATE, SENTENCES, SOURCES, converted, edits_of, in_turn, spoken, word_difference
from LoraModel.evaluation.bootstrap import Interval, bootstrap, pooled
from LoraModel.evaluation.compare import Judges
from LoraModel.evaluation.texture import mean_texture, texture, texture_figures
from LoraModel.evaluation.words import Listener
from LoraModel.files import atomic_write
from LoraModel.host import find_host, hush_torch
from LoraModel.inference import VoiceLoader
from LoraModel.inference.audio import audio_files, read_audio
from LoraModel.inference.stand_in import median_pitch
from LoraModel.messages import cli
from LoraModel.training import prepare
from LoraModel.training.settings_file import read_config_file

BASE = "base alone"
QUICK = DEMO_BASE.parents[1] / "recordings" / "source"
FIGURES = ("heldout_mel", "word_error", "similarity", "leak", "dnsmos", "global_variance", "frame_contrast",
           "band_contrast", "modulation_db", "high_db", "hnr_db", "steps", "seconds")


class Sentences:
    """What is converted: sentences by two speakers in turn.

    Attributes:
        said: the sentences. pitches: of each speaker, Hz.
        listener: None leaves words out; together: so many sentences are recognised at once.
    """

    def __init__(self, clips: Dict[str, Sequence[np.ndarray]], texts: Sequence[str], asr: Optional[str],
                 together: int):
        self.said = in_turn(clips, texts)
        self.pitches = {voice: median_pitch(own) for voice, own in clips.items()}
        self.listener, self.together = Listener(asr) if asr else None, together

    @classmethod
    def by(cls, args: Any, folder: Path) -> Sentences:
        """What `args` asks for, by flite; with --quick the demo's two source recordings, whatever they say."""
        if args.quick:
            return cls({"demo": [read_audio(path, RATE) for path in audio_files(QUICK)[:2]]}, ["", ""], None, 1)
        texts = SENTENCES.read_text(encoding="utf-8").split("\n")[:args.sentences]
        return cls({voice: spoken(voice, texts, folder) for voice in SOURCES}, texts, args.asr, args.together)


def measured(loader: VoiceLoader, spoken: Sentences, target: Sequence[np.ndarray], judges: Judges,
             label: str) -> Dict[str, Any]:
    """The sentences in the voice that is applied: its figures, and for each sentence edits and words."""
    middle = median_pitch(target)
    semitones = {voice: round(12 * float(np.log2(middle / pitch))) for voice, pitch in spoken.pitches.items()}
    clips = converted(loader, spoken.said, semitones, label)
    found: Dict[str, Any] = {}
    if spoken.listener is not None:
        found["edits"], found["words"] = edits_of(spoken.listener, clips, [one.text for one in spoken.said],
                                                   spoken.together)
        found["word_error"] = sum(found["edits"]) / sum(found["words"])
    row = judged([(clip, None) for clip in clips], target, RATE, judges)
    if "similarity" in row:
        own = [judged([(clip, None) for one, clip in zip(spoken.said, clips) if one.voice == each],
                      [one.audio for one in spoken.said if one.voice == each], RATE, Judges(judges.encoder))
               for each in spoken.pitches]
        row["leak"] = float(np.mean([each["similarity"] for each in own]))
    row.update(texture_figures(mean_texture([texture(clip, RATE) for clip in clips]),
                               mean_texture([texture(clip, RATE) for clip in target])))
    return {**found, **row}


def measure_recipe(data: Path, name: str, recipe: Dict[str, Any], args: Any, spoken: Sentences, judges: Judges,
                   folder: Path) -> Dict[str, Any]:
    """Train by one recipe on one voice, and listen."""
    settings = settings_of(recipe, data, folder / name, args)
    trainer = prepare(settings)
    small = Path(args.small_d) if args.small_d else None
    if recipe.get("full"):
        config = json.loads((data / "config.json").read_text(encoding="utf-8"))
        training: Training = full_training(trainer, settings, config, small, args.points)
    else:
        training = lora_training(trainer, recipe, small, args.points, name)
    take_turns([training], data.name)
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = training.save(folder / name)
    if recipe.get("full"):
        loader = VoiceLoader(path, find_host())
    else:
        loader = VoiceLoader(Path(args.base), find_host())
        loader.set_adapters([(path, 1.0)])
    return {"steps": training.total, "seconds": training.seconds, "heldout_mel": training.points[-1].loss,
            **measured(loader, spoken, target_of(data), judges, name)}


def target_of(data: Path) -> List[np.ndarray]:
    """The recordings of the voice as they were prepared, (samples,) each: at most a dozen, spread over all."""
    paths = sorted((data / "0_gt_wavs").glob("*.wav"))
    return [read_audio(path, RATE) for path in paths[:: -(-len(paths) // 12)]]


def measure(args: Any, recipes: Dict[str, Dict[str, Any]], folder: Path) -> Dict[str, Any]:
    """Every recipe on every voice; what `folder` has already is taken from there."""
    judges = judges_of(args)
    spoken = Sentences.by(args, folder / "sentences")
    voices: Dict[str, Dict[str, Any]] = {}
    for data in map(Path, args.data):
        for name, recipe in {BASE: None, **recipes}.items():
            record = folder / data.name / f"{name}.json"
            if not record.is_file():
                begun = time.perf_counter()
                record.parent.mkdir(parents=True, exist_ok=True)
                if recipe is None:
                    found = measured(VoiceLoader(Path(args.base), find_host()), spoken, target_of(data), judges, name)
                else:
                    found = measure_recipe(data, name, recipe, args, spoken, judges, record.parent)
                atomic_write(record, json.dumps({**found, "recipe": recipe, "in_all": time.perf_counter() - begun},
                                                indent=1).encode())
            voices.setdefault(data.name, {})[name] = json.loads(record.read_text(encoding="utf-8"))
    return {"voices": voices, "more": {name: more_errors(voices, name, BASE) for name in recipes},
            "more_than_first": {name: more_errors(voices, name, next(iter(recipes))) for name in recipes}}


def more_errors(voices: Dict[str, Dict[str, Any]], name: str, other: str) -> Optional[Interval]:
    """Word error of a recipe less another's, of all voices' sentences, paired; None where words were left out."""
    pairs = [(recipes[name], recipes[other]) for recipes in voices.values()
             if "edits" in recipes[name] and "edits" in recipes[other]]
    if not pairs:
        return None

    groups = [([one["edits"], two["edits"], one["words"]], word_difference) for one, two in pairs]
    return pooled(groups) if len(groups) > 1 else bootstrap(*groups[0])


def show(figures: Dict[str, Any]) -> None:
    """A table for each voice, and the differences in words over all of them."""
    for voice, recipes in figures["voices"].items():
        keys = [key for key in FIGURES if any(key in recipe for recipe in recipes.values())]
        print(table([(voice, *keys), *([name, *(recipe.get(key, float("nan")) for key in keys)]
                                       for name, recipe in recipes.items())]))
    rows: List[Sequence[Any]] = [("recipe", "word_more", "low", "high", "more than the first", "low", "high")]
    rows += [(name, *more, *figures["more_than_first"][name]) for name, more in figures["more"].items() if more]
    if len(rows) > 1:
        print(table(rows))


def quick_recipes(args: Any, folder: Path) -> Dict[str, Dict[str, Any]]:
    """Two recipes on a made-up voice, two sentences, no words."""
    args.base, _, args.data = quick_inputs(folder)
    args.epochs = args.points = 1
    args.no_judges = True
    return {"clear": {"preset": "clear"}, "hold": {"preset": "clear", "c_hold": 10.0, "variance": 1.0}}


def main(argv: Optional[List[str]] = None) -> int:
    hush_torch()
    parser = voice_arguments(__doc__.splitlines()[0])
    parser.set_defaults(base=str(DEMO_BASE))
    parser.add_argument("--asr", metavar="DIR", help="folder of a faster-whisper model (default: words are left out)")
    parser.add_argument("--recipes", help="JSON, TOML or YAML file: name -> settings (default: with --quick two)")
    parser.add_argument("--small_d", help="discriminator.pt of bench/pretrain_small.py, for the recipes that name it "
                        "(default: none)")
    parser.add_argument("--sentences", type=int, default=24, help="of bench/sentences.txt")
    parser.add_argument("--together", type=int, default=1, help="sentences that the recogniser hears at once: its "
                        "time is that of 30 s of speech, whatever it is given")
    parser.add_argument("--epochs", type=int, default=40, help="of each recipe")
    parser.add_argument("--points", type=int, default=2, help="times that the held-out clips are measured")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if args.quick:
            recipes = quick_recipes(args, Path(temporary))
        elif not (args.data and args.recipes):
            parser.error("--data and --recipes are needed (or --quick)")
        else:
            recipes = read_config_file(args.recipes)
        figures = measure(args, recipes, Path(args.out or temporary))
    show(figures)
    finish(figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
