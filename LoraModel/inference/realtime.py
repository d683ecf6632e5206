"""Convert a recording, or what a microphone hears, block by block, and change voices on the way.

python inference/realtime.py --base_model f0G40k.pth --lora_weights anna.safetensors bob.safetensors --input in.wav
    --output out.wav \\ --switch 2.0:bob 4.0:anna=0.5,bob=0.5
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.inference.realtime"))

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List, Optional

from tqdm import tqdm

from LoraModel import commands
from LoraModel.devices import AUTO
from LoraModel.files import atomic_write, check_file_place
from LoraModel.host import find_host
from LoraModel.host.pipeline import check_f0_method
from LoraModel.inference.adapter_choice import find_adapter, paired_strengths, weight_of
from LoraModel.inference.audio import check_writable, read_audio, write_audio
from LoraModel.inference.marking import mark_of
from LoraModel.inference.options import add_device_options, add_mark_option, add_noise_option
from LoraModel.messages import UserError, tr
from LoraModel.paths import printable
from LoraModel.realtime.plan import Switch, names_of, parse_switch, play
from LoraModel.realtime.voice import RealtimeVoice


def parser() -> argparse.ArgumentParser:
    p = commands.Parser(prog="realtime.py", description=tr("Convert a recording, or what a microphone hears, block by "
                                                           "block; the voice may change between any two blocks."))
    p.add_argument("--base_model", type=commands.path, required=True,
                   help=tr("the base: a pretrained generator or a full voice (.pth)"))
    p.add_argument("--lora_weights", nargs="+", action="extend", type=commands.option(weight_of), default=[],
                   metavar="ADAPTER[:STRENGTH]", help=tr(
                       "adapters (.safetensors), or the folders of their training runs, each with its strength behind "
                       "a colon if it is not 1: A.safetensors:0.7; the first one is applied from the start (default: "
                       "none)"))
    p.add_argument("--input", type=commands.path, help=tr("a recording (default: none, --device_in instead)"))
    p.add_argument("--output", type=commands.path, help=tr("the file to write: wav, flac, ogg, mp3 (default: none, "
                                                           "--device_out instead)"))
    p.add_argument("--switch", nargs="+", action="extend", default=[], metavar=tr("SECONDS:VOICE"),
                   help=tr("changes of voice, such as 2.0:bob 4.0:anna=0.5,bob=0.5 6.0:base; a voice is called by its "
                           "file's name or number (default: none)"))
    p.add_argument("--json", type=commands.path, help=tr("write figures here: seconds a block, what each change took "
                                                         "(default: nowhere)"))
    p.add_argument("--device_in", help=tr("a microphone (its name or number), instead of --input (default: none)"))
    p.add_argument("--device_out", help=tr("a loudspeaker (its name or number), instead of --output (default: none)"))
    p.add_argument("--block", type=commands.number(0.02, 10), default=0.25, help=tr("seconds of a block"))
    p.add_argument("--context", type=commands.number(0.1, 60), default=2.5,
                   help=tr("seconds of context before each block"))
    p.add_argument("--crossfade", type=commands.number(0, 1), default=0.05, help=tr("seconds of the cross-fade"))
    p.add_argument("--rate", type=commands.rate, help=tr("sample rate of the stream in Hz (default: the base's)"))
    p.add_argument("--index", type=commands.path, help=tr("the voice's added_….index (default: none)"))
    p.add_argument("--index_rate", type=commands.number(0, 1), default=0.75, help=tr(
        "share of the features that come from --index: 0 (none) to 1 (all)"))
    p.add_argument("--transpose", type=commands.number(-48, 48), default=0.0, help=tr("semitones up or down"))
    p.add_argument("--f0_method", help=tr("how pitch is found (default: rmvpe if its model is there, else pm)"))
    p.add_argument("--seed", type=commands.seed, default=0, help=tr("seed of all random numbers: the same seed gives "
                                                                    "the same audio again"))
    commands.add_any_strength(p)
    add_noise_option(p)
    add_device_options(p)
    add_mark_option(p)
    return p


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    on_devices = args.device_in is not None or args.device_out is not None
    if on_devices == (args.input is not None or args.output is not None) or (not on_devices
                                                                             and not (args.input and args.output)):
        raise UserError("give either --input and --output, or --device_in and --device_out")
    host = find_host(args.rvc_root)
    check_f0_method(host, args.f0_method)
    own = {find_adapter(path, host.root): strength
           for path, strength in paired_strengths(args.lora_weights, [], args.any_strength)}
    files = list(own)
    names = names_of(files)
    switches = [Switch(0.0, {file: own[file] for file in files[:1]})] if files or args.noise is not None else []
    switches += [parse_switch(text, names, args.any_strength, own) for text in args.switch]
    read = [args.base_model, args.input, args.index, args.config_json]
    inputs = [*files, *(host.resolve(path) for path in read if path is not None)]
    for path, option in ((args.output, "--output"), (args.json, "--json")):
        if path is not None:
            inputs.append(check_file_place(path, option, inputs))
    if args.output is not None:
        check_writable(args.output)
        if args.json is not None and Path(args.json).absolute() == Path(args.output).absolute():
            raise UserError("--output and --json name one file: give --json another name")
    live = RealtimeVoice(
        args.base_model, args.device or AUTO, args.block, args.context, args.crossfade, rate=args.rate,
        transpose=args.transpose, index=args.index,
        index_rate=args.index_rate, f0_method=args.f0_method, seed=args.seed, host=host, sample_rate=args.sample_rate,
        config_json=args.config_json)
    with live:
        for path in files:
            live.voice.load(path, args.force)
        if on_devices:
            return _talk(live, args, names, own)
        return _convert(live, args, switches)


def _convert(live: RealtimeVoice, args: argparse.Namespace, switches: List[Switch]) -> int:
    sound = read_audio(live.voice.host.resolve(args.input), live.rate)
    with tqdm(total=100, desc=Path(args.input).name, unit="%", leave=False) as bar:
        played = play(live, sound, switches, lambda share: bar.update(int(share * 100) - bar.n), args.force,
                      args.any_strength, args.noise)
    for switch in played.unheard:
        print(printable(tr("note: {switch} lies after the recording's end ({seconds:.2f} s)", switch=switch,
                           seconds=len(sound) / live.rate)), file=sys.stderr)
    heard = [switch for switch in switches if switch not in played.unheard]
    voices = " + ".join(dict.fromkeys(file.stem for switch in heard for file in switch.voice))
    write_audio(args.output, played.sound, live.rate, mark_of(voices or live.voice.title, not args.no_mark))
    if args.json:
        atomic_write(Path(args.json), json.dumps(played.figures(live), indent=1, ensure_ascii=False).encode(
            "utf-8", "backslashreplace"))
    print(tr("wrote {output}", output=args.output))
    return 0


def _talk(live: RealtimeVoice, args: argparse.Namespace, names: Dict[str, Path], own: Dict[Path, float]) -> int:
    from LoraModel.realtime.devices import talk

    if args.switch:
        raise UserError("--switch is for a recording: with a microphone, type the voices")
    live.use(list(own.items())[:1], args.force, args.any_strength, args.noise).result()
    stream = talk(live, args.device_in, args.device_out, names, args.any_strength, args.noise, args.force,
                  own=own)
    print(tr("{late} blocks came too late", late=stream.late))
    return 0
