"""Switch, blend and unload voices on one base, and convert with each:
`python examples/infer_example.py A.safetensors [B.safetensors]`.

Without arguments the adapter of `python run.py demo` is used. Results go to infer_example/ in the working folder.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.examples.infer_example"))

import sys
import time
from pathlib import Path
from typing import List, Optional, Tuple

from LoraModel.commands import Parser, path
from LoraModel.host import Host
from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.inference.audio import read_audio, write_audio
from LoraModel.inference.converter import Converter
from LoraModel.inference.marking import mark_of
from LoraModel.messages import UserError, tr

DEMO = Path(__file__).resolve().parents[1] / "demo"


def main(argv: Optional[list] = None) -> int:
    parser = Parser(prog="infer_example.py", description=tr("Switch, blend and unload voices on one base."))
    parser.add_argument("adapters", nargs="*", type=path,
                        help=tr("adapters of the demo's base (default: the demo's own)"))
    files = parser.parse_args(argv).adapters
    if not files:
        files = [str(file) for file in sorted((DEMO.parents[1] / "demo_output").glob("*.safetensors"))[:1]]
    if not files:
        raise UserError("name an adapter, or run `python run.py demo` first")
    voice = VoiceLoader(DEMO / "base" / "f0G16k.pth", Host("library"))
    for file in files:  # what cannot be used is named before anything is converted
        voice.load(file)
    converter = Converter(voice)
    source = read_audio(DEMO / "recordings" / "source" / "01.flac", 16000)

    voices: List[Tuple[str, List[Tuple[str, float]]]] = [("base", []), ("voice", [(files[0], 1.0)]),
                                                         ("half", [(files[0], 0.5)])]
    if len(files) > 1:
        voices.append(("blend", [(files[0], 0.5), (files[1], 0.5)]))
    voices.append(("base_again", []))
    for name, adapters in voices:
        begun = time.perf_counter()
        voice.set_adapters(adapters)
        switched = 1000 * (time.perf_counter() - begun)
        written = write_audio(Path("infer_example") / f"{name}.wav", converter(source, ConvertOptions(seed=1)),
                              voice.info.sample_rate, mark_of(voice.title))
        print(f"{name}: switched in {switched:.1f} ms, wrote {written}")
    return 0
