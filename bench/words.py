"""Are the words still there after a conversion? Word error and sharpness of the demo's base and of adapters on it.

python bench/words.py --asr DIR [--adapters demo_output/adapter.safetensors …] [--sentences 48] [--each] [--person DIR]
    [--noise 1 0.45] [--conversions 2] [--together 4] [--json FILE]

Two voices that are not the target's (flite's slt and awb) say half of bench/sentences.txt each (with --each all of it);
they are converted to the demo's target (flite's rms) at its pitch. --person adds recordings of somebody with their
texts beside them (NAME.wav, NAME.txt). --noise measures each adapter at several shares of RVC's noise. --conversions
converts each sentence several times, each time with other random numbers, and counts the mean. `more` is an adapter's
word error less the base's on the same sentences, `than_first` less the first adapter's (paired bootstrap); where there
are several, "all adapters" is the mean over them, such as over several trainings of one voice. DIR is a faster-whisper
model's folder. Needs flite (Debian, Ubuntu: apt install flite) and requirements-asr.txt; similarity and DNSMOS come
from the judges of requirements.txt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
from tqdm import tqdm

from bench.common import arguments, finish, table
from bench.make_recordings import speak
from bench.voices import DEMO_BASE, judged, judges_of
from LoraModel.evaluation.bootstrap import bootstrap, ratio_interval
from LoraModel.evaluation.texture import mean_texture, texture, texture_figures
from LoraModel.evaluation.words import Listener, text_beside, word_edits
from LoraModel.host import find_host, hush_torch
from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.inference.audio import audio_files, read_audio
from LoraModel.inference.convert import convert
from LoraModel.inference.stand_in import coarse_pitch, content_features, median_pitch, pitch
from LoraModel.messages import cli

SENTENCES = Path(__file__).with_name("sentences.txt")
SOURCES, TARGET, RATE = ("slt", "awb"), "rms", 16000
PERSON = "person"
PAUSE = RATE // 2  # samples between sentences that are recognised at once


class Said(NamedTuple):
    """A recording, what it says, and who says it. audio: (samples,) at RATE."""

    audio: np.ndarray
    text: str
    voice: str


def spoken(voice: str, texts: Sequence[str], folder: Path) -> List[np.ndarray]:
    """What flite's `voice` says, kept in `folder`: (samples,) each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        path = folder / f"{voice}-{number:02d}.flac"
        if not path.is_file():
            speak(voice, text, path, RATE)
    paths = [folder / f"{voice}-{number:02d}.flac" for number in range(len(texts))]
    return [soundfile.read(str(path), dtype="float32")[0] for path in paths]


def person(folder: Path) -> List[Said]:
    """Somebody's recordings that have a text beside them."""
    found = [(path, text_beside(path)) for path in audio_files(folder)]
    return [Said(read_audio(path, RATE), " ".join(text.split()), PERSON) for path, text in found if text]


def joined(clips: Sequence[np.ndarray], together: int) -> List[np.ndarray]:
    """The clips, (samples,) each, so many of them one after another with a pause between."""
    pause = np.zeros(PAUSE, dtype=np.float32)
    groups = [clips[first:first + together] for first in range(0, len(clips), together)]
    return [np.concatenate([part for clip in group for part in (clip, pause)][:-1]) for group in groups]


class Counted(NamedTuple):
    """Of each sentence the edits that make its text of what is heard, a mean over conversions, and its words."""

    edits: List[float]
    words: List[float]


def edits_of(listener: Listener, clips: Sequence[np.ndarray], texts: Sequence[str],
             together: int) -> Tuple[List[int], List[int]]:
    """(edits, words) of the clips, so many of them recognised at once."""
    return word_edits(listener, joined(clips, together), RATE,
                      [" ".join(texts[first:first + together]) for first in range(0, len(clips), together)], "en")


def means(counts: Sequence[Sequence[float]]) -> List[float]:
    """Of several counts of the same sentences, each sentence's mean."""
    return [float(np.mean(own)) for own in zip(*counts)]


def words_row(edits: Sequence[float], words: Sequence[float]) -> Dict[str, float]:
    """Word error over all clips, with a bootstrap interval over them."""
    found = ratio_interval(edits, words)
    return {"word_error": found.value, "word_error_low": found.low, "word_error_high": found.high}


def word_difference(ours: np.ndarray, theirs: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Word error of one less another's on the same sentences: edits and words, (..., sentences) -> (...,)."""
    return (ours.sum(axis=-1) - theirs.sum(axis=-1)) / words.sum(axis=-1)


def difference(one: Sequence[float], other: Sequence[float], words: Sequence[float], name: str) -> Dict[str, float]:
    """Word error of `one` less that of `other` on the same sentences, with its interval."""
    found = bootstrap([list(one), list(other), list(words)], word_difference)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def adapters_of(args: Any) -> Iterator[Tuple[str, Path, Optional[float]]]:
    """Each adapter's name and file, at each share of noise that is asked for; None for its own."""
    for number, file in enumerate(map(Path, args.adapters), 1):
        if not args.noise:
            yield f"adapter {number}", file, None
        for share in args.noise or ():
            yield f"adapter {number}, noise {share:g}", file, share


def in_turn(clips: Dict[str, Sequence[np.ndarray]], texts: Sequence[str]) -> List[Said]:
    """Each text by one of the voices, who take turns. clips: of each voice, what it says of every text."""
    turns = [list(clips)[number % len(clips)] for number in range(len(texts))]
    return [Said(clips[voice][number], texts[number], voice) for number, voice in enumerate(turns)]


def sayings(args: Any, texts: Sequence[str], folder: Path) -> List[Said]:
    """What is converted."""
    own = {voice: spoken(voice, texts, folder) for voice in SOURCES}
    said = in_turn(own, texts)
    if args.each:
        said = [Said(clip, text, voice) for voice in SOURCES for clip, text in zip(own[voice], texts)]
    return said + (person(Path(args.person)) if args.person else [])


def main(argv: Optional[List[str]] = None) -> int:
    hush_torch()
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--asr", required=True, metavar="DIR", help="folder of a faster-whisper model")
    parser.add_argument("--base", default=str(DEMO_BASE), help="the base")
    parser.add_argument("--adapters", nargs="*", default=[], help="adapters of the demo's target voice (default: none)")
    parser.add_argument("--sentences", type=int, default=48, help="of bench/sentences.txt")
    parser.add_argument("--each", action="store_true", help="both voices say all of the sentences")
    parser.add_argument("--person", metavar="DIR", help="recordings with their texts beside them (default: none)")
    parser.add_argument("--noise", type=float, nargs="+", help="shares of RVC's noise at which each adapter is "
                        "measured (default: as the adapter is)")
    parser.add_argument("--conversions", type=int, default=1, help="of each sentence, whose mean counts")
    parser.add_argument("--together", type=int, default=1, help="sentences that the recogniser hears at once: its "
                        "time is that of 30 s of speech, whatever it is given")
    parser.add_argument("--folder", default="demo_output/words", help="where the recordings are kept")
    parser.add_argument("--no_judges", action="store_true", help="leave out speaker similarity and DNSMOS")
    args = parser.parse_args(argv)
    texts = SENTENCES.read_text(encoding="utf-8").split("\n")[:4 if args.quick else args.sentences]
    listener, judges, folder = Listener(args.asr), judges_of(args), Path(args.folder)
    said, target = sayings(args, texts, folder), spoken(TARGET, texts, folder)
    voices = sorted({one.voice for one in said})
    semitones = {voice: round(12 * np.log2(median_pitch(target) / median_pitch(
        [one.audio for one in said if one.voice == voice]))) for voice in voices}
    figures: Dict[str, Any] = {"sentences": len(said), "semitones": semitones}
    rows: Dict[str, Dict[str, float]] = {}
    counted: Dict[str, Counted] = {}
    real = mean_texture([texture(clip, RATE) for clip in target])

    def compared(name: str) -> Dict[str, float]:
        """Its words, and for adapters how many more it loses than the base and than the first adapter."""
        own = counted[name]
        row = words_row(*own)
        if name not in ("source", "target", "base"):
            first = next(key for key in counted if key.startswith("adapter"))
            for other, key in (("base", "more"), (first, "than_first")):
                row.update(difference(own.edits, counted[other].edits, own.words, key))
        return row

    def measure(name: str, rounds: Sequence[Sequence[np.ndarray]], own: Sequence[Said] = said) -> None:
        heard = [edits_of(listener, clips, [one.text for one in own], args.together) for clips in rounds]
        counted[name] = Counted(means([edits for edits, _ in heard]), [float(count) for count in heard[0][1]])
        clips = [clip for each in rounds for clip in each]
        rows[name] = {**compared(name), **judged([(clip, None) for clip in clips], target[-6:], RATE, judges),
                      **texture_figures(mean_texture([texture(clip, RATE) for clip in clips]), real)}

    def all_rounds(name: str) -> List[List[np.ndarray]]:
        return [converted(loader, said, semitones, name, seed) for seed in range(args.conversions)]

    measure("source", [[one.audio for one in said]])
    measure("target", [target], [Said(clip, text, TARGET) for clip, text in zip(target, texts)])
    loader = VoiceLoader(Path(args.base), find_host())
    measure("base", all_rounds("base"))
    for name, file, share in adapters_of(args):
        loader.set_adapters([(file, 1.0)], noise=share)
        measure(name, all_rounds(name))
    ours = [name for name in counted if name.startswith("adapter")]
    if len(ours) > 1 and not args.noise:
        counted["all adapters"] = Counted(means([counted[name].edits for name in ours]), counted["base"].words)
        others = {key: float(np.mean([rows[name][key] for name in ours])) for key in rows[ours[0]]}
        rows["all adapters"] = {**others, **compared("all adapters")}
    rows.update({name: {key: round(float(value), 4) for key, value in row.items()} for name, row in rows.items()})
    columns = sorted({key for row in rows.values() for key in row})
    print(table([["figure", *rows], *([key, *(row.get(key, np.nan) for row in rows.values())] for key in columns)]))
    finish({**figures, **rows}, args.json)
    return 0


def converted(loader: VoiceLoader, said: Sequence[Said], semitones: Dict[str, int], label: str,
              seed: int = 0) -> List[np.ndarray]:
    """What is said, in the voice that is applied. seed: of all noise."""
    return [convert(loader, one.audio, ConvertOptions(transpose=semitones[one.voice], seed=seed), content_features,
                    pitch, coarse_pitch)
            for one in tqdm(said, desc=str(label), unit="clip")]


if __name__ == "__main__":
    sys.exit(cli(main))
