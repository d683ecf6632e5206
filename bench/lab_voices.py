"""Recordings of ten voices to measure on: people and synthesizers, 30 seconds to 10 minutes, clean and noisy.

usage: python bench/lab_voices.py FOLDER [--prepare LOGS] [--said FILE]
needs: the programs flite, espeak-ng and ffmpeg; for the people the Debian packages
asterisk-core-sounds-{en,fr,it,ru}-g722 (CC-BY-SA 3.0: nothing of them is in this
project). Voices that cannot be made here are named and left out.

`--prepare` also makes an experiment folder of each in LOGS, with the demo's stand-in for HuBERT.
`--said` makes FOLDER/said instead: sixty sentences of the English speaker with their texts beside them, for
`bench/words.py --person`. FILE is core-sounds-en.txt.gz of the package asterisk-core-sounds-en (in
/usr/share/doc/asterisk-core-sounds-en/).
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile

from LoraModel.commands import Parser
from LoraModel.messages import cli
from LoraModel.preparation.options import options_of, plan_from
from LoraModel.preparation.steps import prepare

RATE = 16000
PEOPLE = Path("/usr/share/asterisk/sounds")
SENTENCES = Path(__file__).with_name("sentences.txt")
LEAST_BYTES = 12000
"""Of a prompt at 8000 bytes a second: shorter ones are single words."""


class Voice(NamedTuple):
    """One of them. source: a folder of PEOPLE, or "flite:NAME", "espeak-ng:NAME". noise: dB below the voice, or
    None."""

    name: str
    source: str
    seconds: float
    noise: Optional[float] = None


VOICES = (
    Voice("it_30s", "it_IT_m_Carlo", 30), Voice("rms_30s", "flite:rms", 30),
    Voice("fr_1m", "fr_CA_f_June", 60), Voice("rms_1m", "flite:rms", 60),
    Voice("ru_1m_noisy", "ru_RU_f_IvrvoiceRU", 60, 20),
    Voice("it_3m", "it_IT_m_Carlo", 180), Voice("slt_3m", "flite:slt", 180),
    Voice("m3_3m_noisy", "espeak-ng:en+m3", 180, 20),
    Voice("ru_5m", "ru_RU_f_IvrvoiceRU", 300), Voice("en_10m", "en_US_f_Allison", 600),
)
"""What `auto_epochs.py` measures on, and `time_to_quality.py` where little data is asked about."""


def _person(folder: Path) -> Iterator[np.ndarray]:
    files = sorted(path for path in folder.rglob("*.g722") if path.stat().st_size > LEAST_BYTES)
    for index in np.random.default_rng(2).permutation(len(files)):
        yield _prompt(files[index])


def _prompt(file: Path) -> np.ndarray:
    """A prompt's sound: (samples,) at RATE."""
    done = subprocess.run(["ffmpeg", "-v", "error", "-f", "g722", "-i", str(file), "-f", "f32le", "-ar", str(RATE),
                           "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


def make_said(texts: Path, folder: Path, most: int = 60) -> int:
    """Write NAME.wav and NAME.txt of the English prompts of seven words or more, without digits, of 2 to 9 seconds;
    return their number.

    Raises:
        OSError, subprocess.CalledProcessError: what it needs is not here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with gzip.open(str(texts), "rt", encoding="utf-8", errors="replace") as file:
        lines = [line.split(":", 1) for line in file if ":" in line and not line.startswith(";")]
    for name, text in ((name.strip(), text.strip()) for name, text in lines):
        prompt = PEOPLE / "en_US_f_Allison" / f"{name}.g722"
        if len(text.split()) < 7 or re.search(r"[0-9\[(]", text) or not prompt.is_file():
            continue
        audio = _prompt(prompt)
        if 2 < len(audio) / RATE < 9:
            soundfile.write(str(folder / f"{count:03d}.wav"), audio, RATE, subtype="PCM_16")
            (folder / f"{count:03d}.txt").write_text(text, encoding="utf-8")
            count += 1
        if count == most:
            break
    return count


def _synthesizer(program: str, voice: str) -> Iterator[np.ndarray]:
    texts = SENTENCES.read_text(encoding="utf-8").split("\n")
    with tempfile.TemporaryDirectory() as folder:
        wav = str(Path(folder) / "spoken.wav")
        for text in filter(None, texts):
            command = (["flite", "-voice", voice, "-t", text, "-o", wav] if program == "flite" else
                       ["espeak-ng", "-v", voice, "-w", wav, text])
            subprocess.run(command, check=True, capture_output=True)
            audio, rate = soundfile.read(wav, dtype="float32")
            if rate != RATE:
                import librosa

                audio = librosa.resample(audio, orig_sr=rate, target_sr=RATE)
            yield audio


def make(voice: Voice, folder: Path) -> float:
    """Write the recordings of one voice into `folder`, and return their seconds.

    Raises:
        OSError, subprocess.CalledProcessError: what it needs is not here.
    """
    if ":" in voice.source:
        clips = _synthesizer(*voice.source.split(":"))
    else:
        if not (PEOPLE / voice.source).is_dir():
            raise FileNotFoundError(str(PEOPLE / voice.source))
        clips = _person(PEOPLE / voice.source)
    folder.mkdir(parents=True, exist_ok=True)
    rng, seconds = np.random.default_rng(0), 0.0
    for number, audio in enumerate(clips):
        if voice.noise is not None:
            audio = audio + rng.normal(0, audio.std() * 10 ** (-voice.noise / 20), len(audio)).astype(np.float32)
        soundfile.write(str(folder / f"{number:03d}.flac"), np.clip(audio, -1, 1), RATE, subtype="PCM_16")
        seconds += len(audio) / RATE
        if seconds >= voice.seconds:
            break
    return seconds


def main(argv: Optional[List[str]] = None) -> int:
    options = Parser(prog="lab_voices.py", description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path, help="where the recordings go, a folder a voice")
    options.add_argument("--prepare", type=Path, metavar="LOGS", help="make experiment folders here as well "
                         "(default: not made)")
    options.add_argument("--said", type=Path, metavar="FILE", help="make sentences with their texts alone "
                         "(default: recordings of all voices)")
    args = options.parse_args(argv)
    if args.said is not None:
        print(f"{make_said(args.said, args.folder / 'said')} sentences")
        return 0
    for voice in VOICES:
        folder = args.folder / voice.name
        try:
            if not folder.is_dir():
                print(f"{voice.name}: {make(voice, folder):.0f} s")
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{voice.name} is left out: {error}", file=sys.stderr)
            continue
        if args.prepare is not None:
            prepare(*plan_from(options_of(
                ["--input_dir", str(folder), "--output_dir", str(args.prepare.absolute() / voice.name)])))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
