"""One preparation at a time in a folder, and what is said of a folder that cannot be trained on."""

import os

import numpy as np
import soundfile
from preparation_data import command

from LoraModel.messages import cli
from LoraModel.preparation import checks
from LoraModel.scripts import prepare_data


def test_one_preparation_at_a_time_and_one_slice_is_not_called_ready(tmp_path, capsys):
    out, one = tmp_path / "logs/voice", tmp_path / "one.wav"
    soundfile.write(str(one), 0.3 * np.sin(np.arange(16000) / 10), 16000)
    with checks.only_preparation(out):  # as the page's
        assert cli(prepare_data.main, command(one, out)) == 2
    assert f"is being prepared already (process {os.getpid()})" in capsys.readouterr().err and not out.exists()
    (out / ".preparing").parent.mkdir(parents=True)
    (out / ".preparing").write_text('{"pid": 1, "started": 0}')  # of one that was killed
    assert cli(prepare_data.main, command(one, out)) == 0
    said = capsys.readouterr().out
    assert "has 1 slice, and training takes 2 at least" in said and "ready" not in said and not (
        out / ".preparing").exists()
