"""What another plugin may have set in the same process (PyTorch's default type and device) changes nothing of what we
make."""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from training_data import ROOT, SMALL, environment, log, make_experiment, settings
from voice_data import BASE, go, make_adapter, state

from LoraModel.defaults import usual_defaults
from LoraModel.inference import VoiceLoader
from LoraModel.models.synthesizer_lora import infer
from LoraModel.models.voice_file import save_model, small_model
from LoraModel.training import TrainConfig, prepare

pytestmark = pytest.mark.versions
KINDS = ["float64", "float16", "bfloat16", "meta"]


@contextlib.contextmanager
def another_plugin(kind):
    """PyTorch's defaults as another plugin may leave them."""
    device = kind == "meta"
    if device and not hasattr(torch, "set_default_device"):
        pytest.skip("this PyTorch has no default device to set")
    former = torch.get_default_dtype()
    try:
        torch.set_default_device("meta") if device else torch.set_default_dtype(getattr(torch, kind))
        yield
        assert torch.empty(0).device.type == ("meta" if device else "cpu")
        assert torch.get_default_dtype() is (former if device else getattr(torch, kind))
    finally:
        torch.set_default_dtype(former)
        if device:
            torch.set_default_device(None)


def use(library, file, folder, speech):
    """An adapter loaded, applied, converted with, merged and saved: every number of it."""
    folder.mkdir()
    voice = VoiceLoader(BASE, library)
    voice.set_adapters([(file, 0.7), (voice.load(file), 0.2)])
    save_model(folder / "voice.pth", small_model(voice.network, voice.info, "a note"))
    phone, f0 = (torch.ones(size, dtype=torch.float32, device="cpu") for size in ((1, 30, 768), (1, 30)))
    pitch, lengths, speaker = (torch.full(size, value, dtype=torch.int64, device="cpu") for size,
                               value in (((1, 30), 9), ((1,), 30), ((1,), 2)))
    torch.manual_seed(3)
    heard = infer(voice.network, phone, lengths, pitch, f0, speaker)
    return (state(voice), go(voice, speech), heard, (folder / "voice.pth").read_bytes())


@pytest.fixture(scope="module")
def file(library, tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("file") / "voice.safetensors", library, 1, speaker=2)


@pytest.fixture(scope="module")
def usual(library, file, tmp_path_factory, speech):
    return use(library, file, tmp_path_factory.mktemp("usual") / "voice", speech[:8000])


@pytest.mark.parametrize("kind", KINDS)
def test_voices_are_the_same(library, file, tmp_path, speech, usual, kind):
    with another_plugin(kind):
        found = use(library, file, tmp_path / "voice", speech[:8000])
    assert found[0].keys() == usual[0].keys()
    assert all(found[0][name].dtype is tensor.dtype and torch.equal(found[0][name], tensor) for name,
               tensor in usual[0].items())
    assert np.array_equal(found[1], usual[1]) and torch.equal(found[2], usual[2]) and found[3] == usual[3]


def train(experiment, output):
    trainer = prepare(TrainConfig.from_dict(settings(experiment, output, epochs=1, **SMALL)))
    trainer.run()
    tensors = safetensors.torch.load_file(str(trainer.adapter_path))
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes()
                                   for name in sorted(tensors))).hexdigest(), trainer.best


def test_training_is_the_same(tmp_path):
    experiment = make_experiment(tmp_path / "voice", clips=2, seconds=0.7)
    wanted = train(experiment, tmp_path / "usual")
    for kind in ("float64", "meta"):
        if kind == "meta" and not hasattr(torch, "set_default_device"):
            continue
        with another_plugin(kind):
            assert train(experiment, tmp_path / kind) == wanted, kind


def test_uses_that_overlap_set_back_what_was_there():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with usual_defaults():
            inside.set()
            leave.wait(20)

    with another_plugin("float64"):
        with usual_defaults():
            thread = threading.Thread(target=other)
            thread.start()
            assert inside.wait(20) and torch.get_default_dtype() is torch.float32
        assert torch.get_default_dtype() is torch.float32
        leave.set()
        thread.join()
        assert torch.get_default_dtype() is torch.float64


def test_training_runs_rvcs_compiled_function_as_it_is_written(tmp_path):
    """Optimised, it rounds differently on PyTorch 1.13: two runs of one seed would differ."""
    experiment = make_experiment(tmp_path / "voice", clips=2, seconds=0.7)
    trainer = prepare(TrainConfig.from_dict(settings(experiment, tmp_path / "run")))
    optimised, real = [], trainer.model.prior

    def prior(*given):
        optimised.append(torch._C._get_graph_executor_optimize())
        return real(*given)

    trainer.model.prior = prior
    before = torch._C._get_graph_executor_optimize()
    trainer.step([0])
    assert optimised == [False] and torch._C._get_graph_executor_optimize() is before


IN_A_NEW_PROCESS = """
import sys

from training_data import settings

from LoraModel.training import TrainConfig, prepare

experiment, first, second = sys.argv[1:]


def prepared(output):
    return prepare(TrainConfig.from_dict(settings(experiment, output, epochs=2)))


trainer = prepared(first)
trainer.run()
for _ in range(4):  # as a script might: the losses, forward and backward, without what `step` does around them
    drawn = trainer.begin_step([0, 1])
    trainer.backward(trainer.objective.prior_losses(drawn.batch, drawn.z))
    trainer.backward(trainer.objective.decoder_losses(drawn.batch, drawn.z, 0))
prepared(second).run()
"""


def test_what_a_process_computed_before_changes_no_training(tmp_path):
    """RVC's compiled function, once it is optimised, rounds its gradient differently on every version of PyTorch. In a
    process of its own: in this one it might be optimised already."""
    experiment = make_experiment(tmp_path / "voice", clips=4, seconds=0.9)
    places = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers")))
    subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS, str(experiment), str(tmp_path / "1"), str(tmp_path / "2")],
                   env=environment(PYTHONPATH=places), check=True)
    assert log(tmp_path / "1") == log(tmp_path / "2")
