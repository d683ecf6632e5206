"""Make the demo's recordings again from their manifest, with the speech synthesiser flite.

usage: python bench/make_recordings.py [FOLDER]      (default: LoraModel/demo/recordings)
needs: the program flite with the voices rms and slt (Debian, Ubuntu: `apt install flite`); the Python package soundfile
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from LoraModel.commands import Parser
from LoraModel.messages import cli

FOLDER = Path(__file__).resolve().parents[1] / "LoraModel" / "demo" / "recordings"
GROUPS = ("target", "source", "reference")


def speak(voice: str, text: str, path: Path, sample_rate: int) -> float:
    """Have flite's `voice` say `text`, write it to `path` as 16-bit FLAC, and return its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(wav)], check=True)
        audio, made_at = soundfile.read(str(wav), dtype="int16")
    if made_at != sample_rate or audio.ndim != 1:
        raise RuntimeError(f"flite's voice {voice} gave {made_at} Hz, {audio.ndim} dimensions; the manifest wants mono "
                           f"at {sample_rate} Hz")
    soundfile.write(str(path), audio, sample_rate, subtype="PCM_16")
    return len(audio) / sample_rate


def main(argv: Optional[List[str]] = None) -> int:
    parser = Parser(prog="make_recordings.py", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where they are written")
    folder = parser.parse_args(argv).folder
    if shutil.which("flite") is None:
        print("error: the program flite is not installed (Debian, Ubuntu: apt install flite)", file=sys.stderr)
        return 2
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    total = 0.0
    for group in GROUPS:
        (folder / group).mkdir(parents=True, exist_ok=True)
        seconds = [
            speak(manifest[group]["voice"], text, folder / group / f"{number:02d}.flac", manifest["sample_rate"])
            for number, text in enumerate(manifest[group]["texts"], 1)
        ]
        print(f"{group}: {len(seconds)} recordings, {sum(seconds):.1f} s")
        total += sum(seconds)
    print(f"in all: {total:.1f} s in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
