"""`convert_model.py voice`: its options, its progress bar and what it says at the end."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from tqdm import tqdm

from .. import commands
from ..files import atomic_write, check_file_place, check_folder_place
from ..host import find_host, hush_torch
from ..inference.options import WORDS, add_preview_option, add_word_options
from ..inference.preview import SECONDS as PREVIEW_SECONDS
from ..messages import Text, UserError, table, tr
from ..models import PRESETS
from ..paths import printable
from .budget import BITS, MAX_KB, Size
from .files import check_adapter_output
from .folder import Outcome, convert_all, jobs, voices_in
from .match import Match
from .voice import STEPS, Converted, Converter, Progress, VoiceOptions

_SHARES = {"load": (0, 2), "listen": (2, 6), "start": (6, 10), "learn": (10, 90), "judge": (90, 100)}
"""Of a voice's time, in percent: from and to."""
_WORDS = {
    "load": Text("loading"),
    "listen": Text("listening"),
    "start": Text("SVD"),
    "learn": Text("learning"),
    "judge": Text("comparing"),
}


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `voice`; --rvc_root is added by the command."""
    add = p.add_argument
    add("file", type=commands.path, help=tr("a full voice (.pth), or a folder of them"))
    add("--base_model", type=commands.path, required=True, help=tr("the base that it was trained from, or a folder of "
                                                                   "bases: the right one is found"))
    add("--output", type=commands.path, required=True, help=tr("the adapter to write (.safetensors), or a folder; a "
                                                               "relative one lies in the RVC checkout"))
    add("--max_kb", type=commands.number(1, 100_000), help=tr("size of the adapter in KB (1000 bytes); ranks are "
                                                              "made to fill it (default: {max_kb:g})",
                                                              max_kb=MAX_KB))
    add("--preset", choices=list(PRESETS), help=tr("layers and ranks of training (default: those of a conversion)"))
    add("--rank", type=commands.whole(1, 4096), help=tr("one rank for all layers (default: one for each kind)"))
    add("--bits", type=int, choices=(8, 16), default=BITS, help=tr("bits of each number in the file"))
    add("--content", type=commands.path, help=tr("anybody's speech to learn with: recordings, or an experiment folder "
                                                 "(default: the bundled recordings)"))
    add("--steps", type=commands.whole(0, 100_000), default=STEPS, help=tr("steps of distillation"))
    add("--fast", action="store_true", help=tr("the SVD alone: takes seconds and preserves less"))
    add("--speaker", type=commands.whole(0, 10**6), default=0, help=tr("row of the voice's speaker table"))
    add("--force", action="store_true", help=tr("overwrite, convert finished voices again, and accept a base that "
                                                "does not match"))
    add("--report", type=commands.path, help=tr("an HTML page to listen and compare (default: none)"))
    add("--json", type=commands.path, help=tr("a file for the figures (default: none)"))
    add("--seed", type=commands.seed, default=0, help=tr("seed of all random numbers"))
    add("--device", type=commands.device, default="cpu", help=tr("cpu, cuda, cuda:0 …"))
    add_word_options(p)
    add_preview_option(p)


def options_of(args: argparse.Namespace) -> VoiceOptions:
    """What was asked for.

    Raises:
        UserError: options that exclude one another.
    """
    if args.max_kb is not None:
        limit: Optional[int] = int(args.max_kb * 1000)
    else:
        limit = int(MAX_KB * 1000) if args.preset is None and args.rank is None else None
    size = Size(limit, args.preset, args.rank, args.bits)
    fast = args.fast
    return VoiceOptions(
        size,
        0 if fast else args.steps,
        fast,
        args.force,
        args.speaker,
        args.seed,
        "",
        {key: getattr(args, key) for key in WORDS},
        not args.no_preview,
    )


class Bar:
    """One bar over all voices, with the time left."""

    def __init__(self, voices: int):
        self._voices = voices
        self._bar = tqdm(
            total=100 * voices,
            unit="%",
            file=sys.stderr,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        )

    def begin(self, number: int, voice: Path) -> Progress:
        """The progress of the voice `number`."""

        def tell(part: str, share: float) -> None:
            low, high = _SHARES[part]
            name = f"{number + 1}/{self._voices} {printable(voice.stem)[:30]}, " if self._voices > 1 else ""
            self._bar.set_description_str(name + tr(_WORDS[part]), refresh=False)
            self._bar.update(max(0, 100 * number + low + (high - low) * share - self._bar.n))

        return tell

    def finish(self) -> None:
        """All voices are done."""
        self._bar.update(self._bar.total - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def run(args: argparse.Namespace) -> int:
    """Convert a voice or a folder of them. Exit code 1 where some of a folder failed."""
    hush_torch()
    host = find_host(args.rvc_root)
    source, output, options = host.resolve(args.file), host.result(args.output), options_of(args)
    read = [source, host.resolve(args.base_model), args.content and host.resolve(args.content)]
    asked = [(place, option) for place, option in ((args.report, "--report"), (args.json, "--json")) if place]
    files = [check_file_place(place, option, read) for place, option in asked]
    if not source.exists():
        raise UserError("there is no voice {source}: check the path", source=source)
    folder = source.is_dir()
    pairs = _jobs(source, output, args.force)
    for place, option in asked:
        check_file_place(place, option, [voice for voice, _ in pairs])
    if len({output for _, output in pairs} & set(files)):
        raise UserError("--report or --json names an adapter that is to be written: choose another")
    device = _device(args.device)
    converter = Converter(host, host.resolve(args.base_model), args.content, device)
    similarity = None if options.fast else _similarity()
    bar = Bar(len(pairs))
    try:
        if folder:
            outcomes = convert_all(converter, pairs, options, args.force, bar.begin, similarity)
        else:
            made = converter.convert(source, pairs[0][1], options, bar.begin(0, source), similarity)
            outcomes = [Outcome(source, pairs[0][1], "made", made)]
        bar.finish()
    finally:
        bar.close()
    return finish(outcomes, folder, args.report, args.json)


def _jobs(source: Path, output: Path, force: bool) -> List[Tuple[Path, Path]]:
    """(voice, adapter) pairs, their places checked."""
    if source.is_dir():
        if output.is_file():
            raise UserError("{source} is a folder but {output} is a file: give --output a folder", source=source,
                            output=output)
        check_folder_place(output, "--output")
        return jobs(voices_in(source), source, output)
    if output.is_dir():
        output = output / f"{source.stem}.safetensors"
    check_adapter_output(output, force, source)
    return [(source, output)]


def _device(name: str) -> str:
    from ..devices import check_device

    return check_device(name)


def _similarity() -> Optional[Callable[[Any, Any, int], Optional[float]]]:
    """Speaker similarity by Resemblyzer, where it is installed."""
    try:
        from ..judges import SpeakerEncoder, cosine_to_mean

        encoder = SpeakerEncoder()
    except UserError:
        return None

    def similarity(one: Any, other: Any, rate: int) -> Optional[float]:
        pair = [encoder.embedding(audio, rate) for audio in (one, other)]
        return None if pair[0] is None or pair[1] is None else cosine_to_mean(pair[0], [pair[1]])

    return similarity


def finish(outcomes: List[Outcome], folder: bool, report: Optional[str], json_file: Optional[str]) -> int:
    """Say and write what became of the voices; the exit code."""
    figures = [outcome.figures() for outcome in outcomes]
    if json_file:
        atomic_write(
            json_file,
            json.dumps(figures if folder else figures[0], indent=1, ensure_ascii=False).encode(
                "utf-8", "backslashreplace"
            ),
        )
    if report:
        from .report import write_report

        write_report(Path(report), outcomes)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if folder:
        print(printable_table(outcomes))
        for outcome in failed:
            print(printable(f"{outcome.voice.name}: {outcome.error}"), file=sys.stderr)
        if failed:
            print(
                tr("{count} of {count_2} voices were not converted (see above)", count=len(failed),
                   count_2=len(outcomes)),
                file=sys.stderr,
            )
    else:
        for line in lines_of(outcomes[0].converted):
            print(printable(line))
    return 1 if failed else 0


def lines_of(made: Optional[Converted]) -> List[str]:
    """The lines that the terminal shows for one voice."""
    if made is None:
        return []
    lines = [base_line(made.match)]
    judged = made.judgement
    if judged is not None:
        parts = ", ".join(f"{name} {share:.0%}" for name, share in judged.parts.items())
        lines.append(
            tr("kept {kept:.1%} of the way from the base to the full voice, by log-mel L1 on {clips} held-out clips "
               "({base_distance:.3f} to {distance:.3f}; {parts})",
               kept=judged.kept, clips=judged.clips, base_distance=judged.base_distance, distance=judged.distance,
               parts=parts)
        )
        if judged.similarity is not None and judged.base_similarity is not None:
            lines.append(
                tr("similarity to the full voice's speaker: {similarity:.3f} (the base alone {base_similarity:.3f})",
                   similarity=judged.similarity, base_similarity=judged.base_similarity)
            )
    energy = ", ".join(f"{name} {share:.0%}" for name, share in made.energy.items())
    lines.append(tr("the truncated SVD kept {energy} of the weights' change", energy=energy))
    lines.append(
        tr("wrote {path}: {after:.0f} KB instead of {before:.1f} MB, in {seconds:.0f} s", path=made.path,
           after=made.after / 1000, before=made.before / 1000000.0, seconds=made.seconds)
    )
    if made.preview:
        lines.append(tr("with {seconds:.0f} s of the voice in it, {preview:.0f} KB more: --no_preview leaves them out",
                        seconds=PREVIEW_SECONDS, preview=made.preview * 4 / 3000))
    return lines


def base_line(match: Match) -> str:
    """Which base a voice is of, how sure that is, and what else there was."""
    others = [one for one in match.candidates if one.path != match.path]
    listed = ", ".join(
        f"{one.path.name} {one.distance:.3f}" if one.distance is not None else f"{one.path.name} ({one.why})"
        for one in others[:4]
    )
    more = f"; {listed}" if listed else ""
    sure = tr("certain") if match.sure else tr("uncertain")
    return tr("base: {path_name}, {sure} (distance {distance:.3f}{more})", path_name=match.path.name, sure=sure,
              distance=match.distance, more=more)


def printable_table(outcomes: List[Outcome]) -> str:
    """A row for each voice."""
    rows: List[Tuple[Any, ...]] = [
        tuple(
            str(head)
            for head in (
                Text("voice"),
                Text("state"),
                Text("base"),
                Text("MB before"),
                Text("KB after"),
                Text("kept"),
                Text("s"),
            )
        )
    ]
    states: Dict[str, Text] = {
        "made": Text("made"),
        "already done": Text("already done"),
        "failed": Text("failed"),
    }
    for outcome in outcomes:
        made, judged = outcome.converted, outcome.converted.judgement if outcome.converted else None
        cells = (
            (
                made.match.path.name,
                f"{made.before / 1e6:.1f}",
                f"{made.after / 1000:.0f}",
                f"{judged.kept:.1%}" if judged else "–",
                f"{made.seconds:.0f}",
            )
            if made
            else ("–",) * 5
        )
        rows.append((printable(outcome.voice.name), str(states[outcome.state]), *cells))
    return table(rows)
