"""What the tests of a run's input share: an experiment folder of a test's own, and a command line that is refused."""

import shutil

import pytest
import torch
from training_data import BASE, DEMO, argv, make_experiment

from LoraModel.messages import cli
from LoraModel.training.train_lora import main


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=1.0)


@pytest.fixture
def voice(_made, tmp_path):
    """An experiment folder of this test's own."""
    shutil.copytree(str(_made), str(tmp_path / "voice"))
    return tmp_path / "voice"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """`refused(values, *flags)` runs the command line and returns its error: one line, exit code 2, in both languages,
    nothing written."""

    def run(values, *flags, written=False):
        output = tmp_path / "out"
        line = argv({"output_dir": str(output), **values}, *flags, config=tmp_path / "settings.json")
        before = files(tmp_path)
        texts = {}
        for language, start_of in (("zh", "错误："), ("en", "error: ")):
            monkeypatch.setenv("RVC_LORA_LANG", language)
            assert cli(main, line) == 2
            out, err = capsys.readouterr()
            err = [part for part in err.replace("\r", "\n").splitlines() if part.strip() and "/s]" not in part]
            assert not out and len(err) == 1 and err[0].startswith(start_of), err
            texts[language] = err[0]
        assert any(ord(c) > 0x4E00 for c in texts["zh"][4:])
        assert files(tmp_path) == before and (written or not output.exists())
        return texts["en"]

    return run


def files(folder):
    """What lies in a folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def changed_base(tmp_path, change):
    checkpoint = torch.load(str(BASE), map_location="cpu", weights_only=True)
    change(checkpoint)
    shutil.copyfile(str(DEMO / "base" / "config.json"), str(tmp_path / "config.json"))
    torch.save(checkpoint, str(tmp_path / "G.pth"))
    return str(tmp_path / "G.pth")
