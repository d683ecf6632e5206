"""Recordings as people have them, and the command that prepares them: what its tests share."""

import shutil

import numpy as np
import pytest
import soundfile
from voice_data import ROOT

from LoraModel.inference import audio as audio_io

RECORDINGS = ROOT / "LoraModel" / "demo" / "recordings" / "target"


@pytest.fixture
def raw(tmp_path):
    """Three short recordings, one of them stereo at another rate, and a file that is no audio."""
    folder = tmp_path / "raw voice"
    folder.mkdir()
    for number in (1, 2):
        shutil.copy(RECORDINGS / f"0{number}.flac", folder)
    sound = audio_io.read_audio(RECORDINGS / "03.flac", 22050)
    soundfile.write(str(folder / "03.wav"), np.stack([sound, sound], 1), 22050)
    (folder / "notes.txt").write_text("not audio")
    return folder


def command(raw, out, *more):
    return ["--input_dir", str(raw), "--output_dir", str(out), *map(str, more)]


def contents(folder):
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*")
            if file.is_file()}
