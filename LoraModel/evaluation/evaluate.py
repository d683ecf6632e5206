"""How good are these voices? Recordings in, figures with intervals out: a table, JSON, and a report to listen to.

python evaluation/evaluate.py --base f0G40k.pth --adapter voice.safetensors --model full.pth --recordings
OUT/filelists/heldout.txt

Models are compared in the order in which they are named. Each `--base` is a model by itself and what the `--adapter`
after it sit on; each `--model` is a full voice. `--label`, `--strength`, `--noise`, `--index` and `--speaker` belong to
the model named just before.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.evaluation.evaluate"))

import argparse
import json
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Tuple

import numpy as np
from tqdm import tqdm

from LoraModel import commands
from LoraModel.evaluation.abx import MOST_CLIPS, Question, write_abx
from LoraModel.evaluation.compare import (
    Judges,
    Listened,
    Voice,
    evaluate_clips,
    evaluate_real,
    evaluate_sources,
    evaluate_unconverted,
)
from LoraModel.evaluation.recordings import Recording, find, read
from LoraModel.evaluation.report import write_report
from LoraModel.evaluation.results import Result, as_json, summary, versions
from LoraModel.evaluation.words import Listener
from LoraModel.files import atomic_write, check_file_place, check_folder_place
from LoraModel.host import Host, find_host, hush_torch
from LoraModel.host.pipeline import check_f0_method
from LoraModel.inference.adapter_choice import find_adapter
from LoraModel.inference.convert import ConvertOptions, check_index
from LoraModel.inference.converter import Converter, choose_device
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.inference.options import add_conversion_options, add_noise_option
from LoraModel.inference.strength import FREE_STRENGTH, check_strength
from LoraModel.judges import SpeakerEncoder, SpeechQuality
from LoraModel.lora.adapter_file import read_metadata
from LoraModel.messages import Text, UserError, in_every_language, tr
from LoraModel.paths import printable
from LoraModel.places import near_words

STAND_IN = Text("Without an RVC checkout, content features come from the demo's stand-in for HuBERT: only bases "
                "trained on it sound right.")
FEW_CLIPS = 10
PLAYED_SECONDS = 15


@dataclass
class Entry:
    """A model as the command line names it. base: what an adapter sits on."""

    kind: str
    file: str
    base: Optional[str] = None
    label: Optional[str] = None
    strength: float = 1.0
    noise: Optional[float] = None
    index: Optional[str] = None
    speaker: Optional[int] = None

    @property
    def network(self) -> str:
        """The file that the network comes from."""
        return self.base or self.file


class _Opens(argparse.Action):
    """--base, --adapter, --model: a new entry."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option: Optional[str] = None) -> None:
        entries: List[Entry] = namespace.entries
        base = None
        if self.dest == "adapter":
            base = next((entry.file for entry in reversed(entries) if entry.kind == "base"), None)
            if base is None:
                raise UserError("--adapter {values} has no base: give --base before it", values=values)
        entries.append(Entry(self.dest, values, base))


class _Describes(argparse.Action):
    """--label, --strength, --noise, --index, --speaker: of the entry before."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option: Optional[str] = None) -> None:
        if not namespace.entries:
            raise UserError("{option} belongs to a model: give it after the --base, --adapter or --model that it is "
                            "for", option=option)
        entry = namespace.entries[-1]
        if self.dest == "strength" and entry.kind != "adapter":
            raise UserError("--strength is an adapter's: give it after --adapter, not after --{kind}", kind=entry.kind)
        setattr(entry, self.dest, values)


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="evaluate.py", description=tr("Compare voices on recordings kept out of training: a "
                                                           "table, JSON and a report to listen to. Models are "
                                                           "compared in the order in which they are named; --label, "
                                                           "--strength, --noise, --index and --speaker belong to the "
                                                           "model named just before."))
    p.set_defaults(entries=[])
    p.add_argument("--base", action=_Opens, type=commands.path, metavar="B.pth",
                   help=tr("a base: compared by itself, and the one that the --adapter options after it are on "
                           "(default: none)"))
    p.add_argument("--adapter", action=_Opens, type=commands.path, metavar="A.safetensors",
                   help=tr("an adapter on the --base before it (default: none)"))
    p.add_argument("--model", action=_Opens, type=commands.path, metavar="M.pth",
                   help=tr("a full voice, such as RVC's fine-tuned one (default: none)"))
    p.add_argument("--label", action=_Describes, help=tr("what the model is called (default: its file's name)"))
    p.add_argument("--strength", action=_Describes, type=commands.number(-FREE_STRENGTH, FREE_STRENGTH), help=tr(
        "the adapter's strength, 0 to 1.5 (default: 1)"))
    commands.add_any_strength(p)
    add_noise_option(p, _Describes)
    p.add_argument("--index", action=_Describes, type=commands.path, help=tr(
        "the model's added_….index (default: none)"))
    p.add_argument("--speaker", action=_Describes, type=commands.whole(0, 10**6),
                   help=tr("row of the speaker table (default: the voice's own)"))
    p.add_argument("--recordings", type=commands.path, nargs="+", required=True, metavar="PLACE", help=tr(
        "recordings of the target voice, kept out of training: folders, files, or a run's OUT/filelists/heldout.txt"))
    p.add_argument("--sources", type=commands.path, nargs="+", default=[], metavar="PLACE", help=tr(
        "recordings of other speakers, to be converted to the target (default: none)"))
    p.add_argument("--out", type=commands.path, default="quality_report", metavar="DIR",
                   help=tr("where report.html and report.json go"))
    p.add_argument("--json", type=commands.path, metavar="FILE", help=tr(
        "write the figures here as well (default: nowhere else)"))
    p.add_argument("--abx", type=commands.path, metavar="DIR", help=tr("also write DIR/abx.html, a blind listening "
                                                                       "test between the models (default: none)"))
    p.add_argument("--players", type=commands.whole(-1000, 1000), default=4,
                   help=tr("how many recordings and how many sources can be played in the report"))
    p.add_argument("--asr", type=commands.path, metavar="DIR", help=tr("folder of a faster-whisper model: count the "
                                                                       "words that are still understood (pip install "
                                                                       "-r requirements-asr.txt; default: none)"))
    p.add_argument("--no_similarity", action="store_true", help=tr("leave speaker similarity out"))
    p.add_argument("--no_dnsmos", action="store_true", help=tr("leave DNSMOS out, which takes the longest"))
    add_conversion_options(p)
    return p


@dataclass
class Session:
    """What one call works with."""

    args: argparse.Namespace
    host: Host
    device: Optional[str]
    judges: Judges
    clips: List[Recording]
    sources: List[Recording]
    notes: List[Text] = field(default_factory=list)

    def run(self) -> List[Result]:
        """The recordings themselves, then each model."""
        entries: List[Entry] = self.args.entries
        rounds = (len(entries) + 1) * (len(self.clips) + len(self.sources))
        results = []
        with tqdm(total=rounds, unit=tr("clip"), file=sys.stderr) as bar:
            bar.set_description(tr("real recordings"))
            results.append(self._real(bar.update))
            network: Optional[str] = None
            converter: Optional[Converter] = None
            for entry in entries:
                bar.set_description(entry.label)
                if converter is None or entry.network != network:
                    converter = None  # one network in memory at a time
                    converter, network = self._open(entry.network), entry.network
                results.append(self._measure(entry, converter, bar.update))
        rate = max(result.about["sample_rate"] for result in results[1:])
        results[0].own, results[0].other = self._played(self.clips, rate), self._played(self.sources, rate)
        return results

    def _open(self, file: str) -> Converter:
        args = self.args
        start = "cpu" if self.host.is_checkout else self.device or "cpu"
        return Converter(VoiceLoader(file, self.host, start, args.sample_rate, args.config_json), self.device)

    def _real(self, done: Any) -> Result:
        return Result("real", tr("real recordings"), {}, evaluate_real(self.clips, self.judges, done),
                      evaluate_unconverted(self.sources, self.clips, self.judges, done))

    def _played(self, recordings: List[Recording], rate: int) -> Listened:
        listened = Listened(self.args.players)
        for recording in recordings[: listened.most]:
            listened.keep(recording, recording.at(rate), rate)
        return listened

    def _measure(self, entry: Entry, converter: Converter, done: Any) -> Result:
        loader, args = converter.voice, self.args
        loader.set_adapters([(self.host.resolve(entry.file), entry.strength)] if entry.kind == "adapter" else [],
                            args.force, args.any_strength, entry.noise)
        index = self.host.resolve(entry.index) if entry.index else None
        if index is not None:
            check_index(index, loader.network.enc_p.emb_phone.in_features)
        options = ConvertOptions(0.0, index, args.index_rate, args.protect, args.f0_method, args.rms_mix_rate,
                                 entry.speaker, args.seed)
        seconds = 0.0

        def convert(audio: np.ndarray, semitones: float) -> np.ndarray:
            nonlocal seconds
            started = time.perf_counter()
            result = converter(audio, replace(options, transpose=semitones))
            seconds += time.perf_counter() - started
            return result

        info = loader.info
        voice = Voice(convert, info.sample_rate, str(entry.label), converter.content_features)
        most = max(args.players, MOST_CLIPS if args.abx else 0)
        own, other = Listened(most), Listened(most)
        clips = evaluate_clips(voice, self.clips, self.judges, done, own)
        sources = evaluate_sources(voice, self.sources, self.clips, self.judges, done, other)
        about = {"file": entry.file, "base": info.name,
                 "base_file": entry.base or (entry.file if entry.kind == "base" else None),
                 "base_hash": info.base_hash, "sample_rate": info.sample_rate, "rvc_version": info.version,
                 "f0": info.f0, "strength": entry.strength if entry.kind == "adapter" else None,
                 "noise": round(loader.heard_noise, 3), "index": entry.index,
                 "speaker": loader.speaker if entry.speaker is None else entry.speaker,
                 "seconds_converting": round(seconds, 3)}
        return Result(entry.kind, str(entry.label), about, clips, sources, own, other)

    def questions(self, results: List[Result]) -> List[Question]:
        """What the listening test asks. X is the recording itself, or for a source one of the target's recordings
        after the other."""
        models = results[1:]
        rate = max(result.about["sample_rate"] for result in models)
        asked = []
        for part, recordings in (("own", self.clips), ("other", self.sources)):
            for place, recording in enumerate(recordings[:MOST_CLIPS]):
                real = recording if part == "own" else self.clips[place % len(self.clips)]
                sounds = {result.label: getattr(result, part).sounds[place][1:] for result in models}
                asked.append(Question(recording.name, (real.at(rate), rate), sounds))
        return asked


def check_entries(entries: List[Entry], host: Host) -> None:
    """Give every model its label, and see that its files are there before anything is converted.

    Raises:
        UserError: no model, a missing file, an adapter that cannot be read, two equal labels.
    """
    if not entries:
        raise UserError("there is nothing to evaluate: give --base with --adapter, or --model")
    for entry in entries:
        path = find_adapter(entry.file, host.root) if entry.kind == "adapter" else host.resolve(entry.file)
        if not path.is_file():
            near = near_words(path)
            raise UserError("there is no file {path}{near}: check --{kind}", path=path, near=near,
                            kind=entry.kind)
        if entry.kind == "adapter":
            entry.file = str(path)
            read_metadata(path)
        if entry.index is not None and not host.resolve(entry.index).is_file():
            raise UserError("there is no index {index}: check --index", index=entry.index)
        entry.label = printable(entry.label or path.stem)
    labels = [entry.label for entry in entries]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError("two models are called {twice!r}: give each a --label of its own", twice=twice)


def find_judges(args: argparse.Namespace) -> Tuple[Judges, List[Text]]:
    """The networks that are asked for and installed, and a note for each that is missing."""
    judges, notes = Judges(), []
    for wanted, name, make in ((not args.no_similarity, "encoder", SpeakerEncoder),
                               (not args.no_dnsmos, "quality", SpeechQuality)):
        if not wanted:
            continue
        try:
            setattr(judges, name, make())
        except UserError as error:
            notes.append(Text("left out: {problem}", problem=error))
    if args.asr:
        judges.listener = Listener(args.asr)
    return judges, notes


def remarks(session: Session, results: List[Result]) -> List[Text]:
    """What a reader has to know to judge these figures."""
    notes = list(session.notes)
    if len(session.clips) < FEW_CLIPS:
        notes.append(Text("{count} recordings: intervals of fewer than {few} are too narrow, and differences may be "
                          "chance", count=len(session.clips), few=FEW_CLIPS))
    if len(session.clips) == 1 and session.judges.encoder is not None:
        notes.append(Text("one recording: its similarity to the speaker's other recordings cannot be found"))
    if len({result.about["sample_rate"] for result in results[1:]}) > 1:
        notes.append(Text("the models' sample rates differ: log-mel L1 and mel-cepstral distortion reach up to half of "
                          "each and hardly compare"))
    return notes


def prepare(args: argparse.Namespace) -> Session:
    """Check everything that can be checked, and read the recordings."""
    if args.players < 0:
        raise UserError("--players {players} must be 0 or more", players=args.players)
    host = find_host(args.rvc_root)
    check_f0_method(host, args.f0_method)
    ConvertOptions(0.0, None, args.index_rate, args.protect, args.f0_method, args.rms_mix_rate)
    device = choose_device(args.device, host)
    check_entries(args.entries, host)
    for entry in args.entries:
        check_strength(entry.strength, args.any_strength)
    files, others = (find([host.resolve(place) for place in places]) for places in (args.recordings, args.sources))
    judges, notes = find_judges(args)
    for note in notes:
        print(note, file=sys.stderr)
    with tqdm(total=len(files) + len(others), desc=tr("reading"), unit=tr(
        "file"), file=sys.stderr, leave=False) as bar:
        clips, sources = (read(paths, judges.encoder, bar.update) for paths in (files, others))
    return Session(args, host, device, judges, clips, sources, notes)


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    hush_torch()
    out = check_folder_place(args.out, "--out")
    copies = [check_file_place(args.json, "--json")] if args.json else []
    if args.abx and len(args.entries) == 1:
        raise UserError("--abx compares voices: name two models or more")
    blind = check_folder_place(args.abx, "--abx") if args.abx else None
    session = prepare(args)
    if args.json:
        read = [recording.path for recording in [*session.clips, *session.sources]]
        read += [session.host.resolve(file) for entry in args.entries for file in (entry.file, entry.base, entry.index)
                 if file]
        check_file_place(args.json, "--json", read)
    out.mkdir(parents=True, exist_ok=True)
    results = session.run()
    notes = remarks(session, results)
    settings = {name: getattr(args, name) for name in ("index_rate", "protect", "f0_method", "rms_mix_rate", "seed")}
    settings.update(host=session.host.describe(), f0_method=check_f0_method(session.host, args.f0_method),
                    features="HuBERT" if session.host.is_checkout else "stand-in", **versions())
    added = [] if session.host.is_checkout else [STAND_IN]  # on the terminal the converter has printed it itself
    contents = as_json(results, session.clips, session.sources, settings,
                       [in_every_language(note) for note in notes + added])
    data = json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    for path in [out / "report.json", *copies]:
        atomic_write(path, data)
    report = write_report(out / "report.html", results, contents, PLAYED_SECONDS)
    if blind is not None:
        blind.mkdir(parents=True, exist_ok=True)
        page = write_abx(blind, session.questions(results), args.seed)
        print(tr("open {page} to compare by ear, without seeing which is which", page=page))
    print(summary(results))
    for note in notes[len(session.notes):]:
        print(note)
    print(tr("open {report} to listen and compare; figures of every clip: {out}", report=report,
             out=out / "report.json"))
    return 0
