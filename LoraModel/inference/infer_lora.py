"""Convert recordings with a base and adapters, or with a full voice.

python inference/infer_lora.py --base_model f0G40k.pth --lora_weights voice.safetensors --input in.wav --output out.wav
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.inference.infer_lora"))

import argparse
import os
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Tuple

from tqdm import tqdm

from LoraModel import commands
from LoraModel.faults import describe_fault
from LoraModel.files import check_file_place
from LoraModel.host import find_host
from LoraModel.host.pipeline import check_f0_method
from LoraModel.inference.adapter_choice import find_adapter, paired_strengths, weight_of
from LoraModel.inference.audio import FORMATS, audio_files, check_writable, read_audio, write_audio
from LoraModel.inference.convert import INPUT_RATE, ConvertOptions, check_index
from LoraModel.inference.converter import Converter, choose_device
from LoraModel.inference.marking import mark_of
from LoraModel.inference.model_loader import VoiceLoader
from LoraModel.inference.options import add_adapter_options, add_conversion_options, add_mark_option
from LoraModel.inference.sound import tell_once
from LoraModel.inference.transpose import AUTO, choose_transposition, parse_transpose
from LoraModel.messages import UserError, tr
from LoraModel.names import is_device
from LoraModel.paths import LONGEST_NAME
from LoraModel.places import near_words
from LoraModel.realtime.morph import convert_morphing


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="infer_lora.py", description=tr("Convert recordings with a base and adapters "
                                                             "(--base_model, --lora_weights) or with a full voice "
                                                             "(--model)."))
    p.add_argument("--base_model", type=commands.path,
                   help=tr("the base: a pretrained generator or a full voice, .pth (default: none, --model instead)"))
    add_adapter_options(p)
    p.add_argument("--morph", nargs="+", type=commands.option(weight_of), default=[], metavar="ADAPTER[:STRENGTH]",
                   help=tr("the voice turns from that of --lora_weights into this one along the recording (default: it "
                           "stays)"))
    p.add_argument("--model", type=commands.path, help=tr("a full voice, .pth, instead of base and adapters (default: "
                                                          "none)"))
    p.add_argument("--input", type=commands.path, required=True, help=tr("a recording, or a folder of recordings"))
    p.add_argument("--output", type=commands.path, required=True, help=tr(
        "the file to write (wav, flac, ogg, mp3), or a folder"))
    p.add_argument("--format", default="wav", choices=[end[1:] for end in FORMATS], help=tr(
        "format of the files that are written into a folder"))
    p.add_argument("--index", type=commands.path, help=tr("the index of the voice's features, added_….index (default: "
                                                          "none)"))
    p.add_argument("--transpose", type=commands.option(parse_transpose), default=AUTO, metavar="SEMITONES", help=tr(
        "semitones up or down; auto measures each recording and shifts it to the pitch of the voice that the "
        "adapter's file gives"))
    p.add_argument("--speaker", type=commands.whole(0, 10**6), help=tr("row of the speaker table (default: the "
                                                                       "voice's own)"))
    add_conversion_options(p)
    add_mark_option(p)
    return p


def jobs(source: Path, target: Path, ending: str) -> List[Tuple[Path, Path]]:
    """(input, output) pairs.

    Raises:
        UserError: no input, an output that cannot be written, that would overwrite its input or be taken for one.
    """
    if source.is_dir():
        if target.is_file():
            raise UserError("{source} is a folder but {target} is a file: give --output a folder", source=source,
                            target=target)
        if target.suffix.lower() in FORMATS and not target.is_dir():
            raise UserError("{source} is a folder and {target} is named like a file: give --output a folder",
                            source=source, target=target)
        if target.resolve() == source.resolve():
            raise UserError("{target} is the folder of the recordings: choose another --output, or what is written "
                            "there would be converted the next time", target=target)
        files = audio_files(source)
        pairs = list(zip(files, (target / name for name in output_names(files, ending))))
    else:
        if not source.is_file():
            near = near_words(source)
            raise UserError("there is no input {source}{near}: check the path", source=source,
                            near=near)
        pairs = [(source, target / f"{source.stem}.{ending}" if target.is_dir() else target)]
    inputs = {file.resolve() for file, _ in pairs}
    for _, out in pairs:
        check_writable(out)
        if out.resolve() in inputs:
            raise UserError("{out} is an input: choose another --output, recordings are never overwritten", out=out)
    check_file_place(pairs[0][1])
    for _, out in pairs[1:]:
        if out.is_dir():
            raise UserError("{out} is a folder where a file is to be written: choose another --output", out=out)
    return pairs


def output_names(files: List[Path], ending: str) -> List[str]:
    """A name for each recording's conversion, no two alike on any system, where big and small letters may be the same.

    A recording keeps its old ending in it where another one differs by nothing else, and gets a number where that is
    not enough, or where its name is a device's on Windows. What is too long with its new ending is cut.
    """

    def same(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    stems = [same(file.stem) for file in files]
    names, taken = [], set()
    for file, stem in zip(files, stems):
        wanted = file.name if stems.count(stem) > 1 else file.stem
        wanted = fitting(wanted, LONGEST_NAME - len(f".{ending}"))
        name, number = f"{wanted}.{ending}", 2
        while same(name) in taken or is_device(name):
            name, number = f"{fitting(wanted, LONGEST_NAME - len(f'_{number}.{ending}'))}_{number}.{ending}", number + 1
        taken.add(same(name))
        names.append(name)
    return names


def fitting(name: str, most: int) -> str:
    """The beginning of `name` that takes at most `most` bytes."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def transposition(voice: VoiceLoader, sound: Any, wanted: Any, source: Path) -> float:
    """Semitones for a recording, which are printed where they were chosen by measuring. wanted: a number, or "auto"."""
    if wanted != AUTO:
        return float(wanted)
    chosen = choose_transposition(voice, sound)
    if chosen.words:
        tell_once(f"{source.name}: {chosen.words}" if chosen.semitones else chosen.words)
    return chosen.semitones


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    if bool(args.model) == bool(args.base_model):
        raise UserError("give either --base_model (with --lora_weights) or --model")
    if args.model and args.lora_weights:
        raise UserError("--model is a voice by itself: to put adapters on it, give it as --base_model")
    adapters = paired_strengths(args.lora_weights, args.strength, args.any_strength)
    host = find_host(args.rvc_root)
    check_f0_method(host, args.f0_method)
    index = host.resolve(args.index) if args.index else None
    options = ConvertOptions(0.0 if args.transpose == AUTO else args.transpose, index, args.index_rate, args.protect,
                             args.f0_method, args.rms_mix_rate, args.speaker, args.seed)
    adapters = [(str(find_adapter(path, host.root)), strength) for path, strength in adapters]
    goals = [(str(find_adapter(path, host.root)), strength)
             for path, strength in paired_strengths(args.morph, [], args.any_strength)]
    pairs = jobs(host.resolve(args.input), Path(args.output).absolute(), args.format)
    device = choose_device(args.device, host)
    start = "cpu" if host.is_checkout else device or "cpu"
    voice = VoiceLoader(args.base_model or args.model, host, start, args.sample_rate, args.config_json)
    loaded = [(voice.load(path, args.force), strength) for path, strength in adapters]
    goal = [(voice.load(path, args.force), strength) for path, strength in goals]
    if options.index is not None:
        check_index(options.index, voice.network.enc_p.emb_phone.in_features)
    converter = Converter(voice, device)
    voice.set_adapters(loaded, any_strength=args.any_strength, noise=args.noise)
    if args.transpose != AUTO and args.transpose and not voice.info.f0:
        print(tr("note: --transpose changes nothing: this base has no pitch"), file=sys.stderr)
    failed, ours = [], False
    for source, target in tqdm(pairs, desc=tr("converting"), unit=tr("file"), disable=len(pairs) == 1):
        try:
            with tqdm(total=100, desc=source.name, unit="%", leave=False,
                      disable=len(pairs) > 1 or host.is_checkout) as bar:
                sound = read_audio(source, INPUT_RATE)

                def tell(share: float, bar: tqdm = bar) -> None:
                    bar.update(int(share * 100) - bar.n)

                options = replace(options, transpose=transposition(voice, sound, args.transpose, source))
                title = voice.title
                if goal:
                    try:
                        voice.set_adapters(goal, any_strength=args.any_strength, noise=args.noise)
                        last = transposition(voice, sound, args.transpose, source)
                        title = f"{title} → {voice.title}"
                        audio = convert_morphing(converter, sound, loaded, goal, options, (options.transpose, last),
                                                 tell)
                    finally:  # the next recording begins in the first voice, whatever becomes of this one
                        voice.set_adapters(loaded, any_strength=args.any_strength, noise=args.noise)
                else:
                    audio = converter(sound, options, tell)
            write_audio(target, audio, voice.info.sample_rate, mark_of(title, not args.no_mark))
        except Exception as error:
            if len(pairs) == 1:
                raise
            words = describe_fault(error)
            ours = ours or words is None
            failed.append(f"{source.name}: {words or f'{type(error).__name__}: {error}'}")
    if failed:
        for line in failed:
            print(commands.printable(line), file=sys.stderr)
        summary = UserError("{count} of {count_2} recordings were not converted (see above); the others are in "
                            "{output}", count=len(failed), count_2=len(pairs), output=args.output)
        if not ours:
            raise summary
        print(tr("error: ") + commands.printable(str(summary)), file=sys.stderr)
        return 1
    print(tr("wrote {output}", output=pairs[0][1]) if len(pairs) == 1 else
          tr("wrote {count} files to {folder}", count=len(pairs), folder=args.output))
    return 0
