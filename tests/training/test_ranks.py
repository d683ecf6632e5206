"""One voice in two processes: the losses are those of one process with the same batch."""

import json

import pytest
import torch
from training_data import argv, in_two, log, make_experiment, one_thread, settings

from LoraModel.lora import load_adapter
from LoraModel.training.train_lora import main

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """Clips of two lengths, so that the halves of a batch do not weigh the same."""
    folder = make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=1.0)
    longer = make_experiment(tmp_path_factory.mktemp("more") / "voice", clips=7, seconds=1.4)
    for part in ("0_gt_wavs", "3_feature768", "2a_f0", "2b-f0nsf"):
        for file in (longer / part).iterdir():
            if int(file.name.split("_")[0]) >= 4:
                file.rename(folder / part / file.name)
    return folder


def close(one, two):
    first, second = log(one), log(two)
    assert len(first) == len(second) > 3
    for line, other in zip(first, second):
        assert set(line) == set(other)
        for key, value in other.items():
            near = 1e-2 if key == "grad_norm" else 1e-4  # no loss, and steep where a spectrum is nearly silent
            assert line[key] == pytest.approx(value, rel=near, abs=1e-4), (other["step"], key)
    for name in ("voice.safetensors", "voice_last.safetensors"):
        a, b = load_adapter(one / name), load_adapter(two / name)
        assert all(torch.allclose(a.tensors[key], b.tensors[key], atol=1e-4) for key in b.tensors)


def line_of(voice, output, *flags, **more):
    # Adam moves a weight by the rate however small its gradient, so rounding alone parts two runs within a few steps
    # at the usual rate. At this one the weights stay, and gradients and losses of every batch must agree.
    values = settings(voice, output, epochs=2, batch_size=3, lr=1e-6, **more)
    return argv(values, *flags, config=output.parent / f"{output.name}.json")


def test_the_same_losses_as_one_process(voice, tmp_path):
    """Stopped after an epoch and resumed, too; a batch of 3 is shared as 2 and 1, and the last one as 1 and 0."""
    assert main(line_of(voice, tmp_path / "one")) == 0
    run = in_two(line_of(voice, tmp_path / "two"))
    assert run.returncode == 0, run.stderr
    close(tmp_path / "two", tmp_path / "one")
    assert run.stdout.count("done in") == 1, "only the first process speaks"
    found = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))
    assert found["state"] == "done"
    assert main(line_of(voice, tmp_path / "one", "--epochs", "3", "--resume")) == 0
    run = in_two(line_of(voice, tmp_path / "two", "--epochs", "3", "--resume"))
    assert run.returncode == 0, run.stderr
    close(tmp_path / "two", tmp_path / "one")


def test_what_is_wrong_ends_all_of_them(voice, tmp_path):
    run = in_two(["--base_model", "no.pth", "--data_dir", str(voice), "--output_dir", str(tmp_path / "x")])
    assert run.returncode != 0 and "no.pth" in run.stderr
