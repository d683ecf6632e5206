"""RVC's classes after `patch`: the same numbers without an adapter, adapters in place, and files that torch >= 2.6
refuses."""

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import NETWORKS
from voice_data import BASE, make_adapter

from LoraModel.host import layout
from LoraModel.host import patch as patching
from LoraModel.host.layout import quiet_import
from LoraModel.host.patch import BASE as OURS
from LoraModel.host.patch import Use
from LoraModel.inference import VoiceLoader
from LoraModel.inference.patched import patch
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.models.model_utils import config_list
from LoraModel.models.voice_file import small_model

ROOT = Path(__file__).resolve().parents[2]
CHECKOUTS = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]
CONFIG = config_list(json.loads((BASE.parent / "config.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def untouched():
    """RVC's models module, imported a second time under a name that nobody patches."""
    spec = importlib.util.find_spec("rvc.lib.infer_pack.models")
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("untouched_models", spec.origin))
    with quiet_import():
        module.__spec__.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def patched(library):
    patch(host=library)
    return library.module("models")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, library):
    return make_adapter(tmp_path_factory.mktemp("patch") / "voice.safetensors", library, 1)


def make(module, version, f0):
    torch.manual_seed(3)
    network = getattr(module, layout.SYNTHESIZERS[version, f0])(*CONFIG, is_half=False)
    return network.float().eval()


def run(network, version, f0):
    """What the network gives for fixed inputs: `infer`'s audio, and everything that training's `forward` returns."""
    torch.manual_seed(4)
    size, frames = (768 if version == "v2" else 256), 40
    phone, lengths, sid = torch.randn(1, frames, size), torch.tensor([frames]), torch.tensor([1])
    pitch = [torch.randint(1, 255, (1, frames)), 200 + 20 * torch.rand(1, frames)] if f0 else []
    with torch.no_grad():
        audio = network.infer(phone, lengths, *pitch, sid)[0]
        loss_parts = network(phone, lengths, *pitch, torch.rand(1, CONFIG[0], frames), lengths, sid)
    return audio, loss_parts[0]


def made_by_rvc(patched):
    """The demo's base as RVC would hold it: its class, its weights, no knowledge of where they came from."""
    network = patched.SynthesizerTrnMs768NSFsid(*CONFIG[:-3], 16, *CONFIG[-2:], is_half=False)
    network.load_state_dict(torch.load(str(BASE), map_location="cpu", weights_only=True)["model"])
    return network.float().eval()


@pytest.mark.parametrize("version, f0", NETWORKS)
def test_with_no_adapter_every_class_gives_the_same_bits(untouched, patched, version, f0):
    plain, ours = make(untouched, version, f0), make(patched, version, f0)
    assert not hasattr(plain, "set_adapters") and hasattr(ours, "set_adapters")
    assert list(plain.state_dict()) == list(ours.state_dict())
    for one, other in zip(run(plain, version, f0), run(ours, version, f0)):
        assert torch.equal(one, other)
    assert torch.equal(random_numbers_left(untouched, version, f0), random_numbers_left(patched, version, f0))


def random_numbers_left(module, version, f0):
    """Where making a network leaves the random numbers: training with RVC's own script goes on from there."""
    make(module, version, f0)
    return torch.get_rng_state()


def test_a_network_that_rvc_made_takes_adapters_and_gives_its_base_back(patched, library, adapter):
    network = made_by_rvc(patched)
    before, places = copy.deepcopy(network.state_dict()), {name: tensor.data_ptr() for name,
                                                           tensor in network.state_dict().items()}
    assert network.adapters() == []
    network.set_adapters([(adapter, 0.7)])
    voice = VoiceLoader(BASE, library)
    voice.set_adapters([(adapter, 0.7)])
    expected = voice.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert [(one.adapter.name, one.strength) for one in network.adapters()] == [("voice", 0.7)]
    assert not torch.equal(network.state_dict()["dec.ups.0.weight_v"], before["dec.ups.0.weight_v"])
    network.unload_adapters()
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items()) and network.adapters() == []
    # in place: captured CUDA graphs stay valid
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == places


def test_the_realtime_classes_network_without_weight_norm_takes_them_too(patched, adapter):
    network, realtime = made_by_rvc(patched), made_by_rvc(patched)
    realtime.remove_weight_norm()
    del realtime.enc_q
    plain = run_infer(realtime)
    network.set_adapters([(adapter, 1.0)])
    realtime.set_adapters([(adapter, 1.0)])
    assert torch.allclose(run_infer(network), run_infer(realtime),
                          atol=1e-4) and not torch.allclose(run_infer(realtime), plain, atol=1e-2)
    realtime.unload_adapters()
    assert torch.equal(run_infer(realtime), plain)


def run_infer(network):
    torch.manual_seed(4)
    pitch = [torch.full((1, 40), 100), torch.full((1, 40), 200.0)]
    with torch.no_grad():
        return network.infer(torch.randn(1, 40, 768), torch.tensor([40]), *pitch, torch.tensor([0]))[0]


def test_half_precision(patched, library, adapter):
    network = made_by_rvc(patched).half()
    before = copy.deepcopy(network.state_dict())
    network.set_adapters([(adapter, 1.0)])
    voice = VoiceLoader(BASE, library)
    voice.set_adapters([(adapter, 1.0)])
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float16 and torch.allclose(tensor.float(), voice.network.state_dict()[name],
                                                                atol=2e-3, rtol=2e-3), name
    network.unload_adapters()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_another_base_is_refused_and_nothing_changes(patched, adapter):
    network = made_by_rvc(patched)
    with torch.no_grad():
        network.dec.conv_pre.bias += 1
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match="was trained on base f0G16k .* the loaded base is SynthesizerTrnMs768NSFsid"):
        network.set_adapters([(adapter, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_with_adapters_can_be_copied_and_pickled(patched, adapter):
    network = made_by_rvc(patched)
    del network.enc_q
    network.set_adapters([(adapter, 1.0)])
    run_infer(network)  # leaves plain tensors where weight norm keeps its results: RVC's networks can be copied only so
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert again.adapters() == [] and torch.equal(run_infer(again), run_infer(network))


def test_patching_twice_changes_nothing(patched, library):
    cls = patched.SynthesizerTrnMs768NSFsid
    before = dict(vars(cls))
    patch(host=library)
    assert dict(vars(cls)) == before


# ---------------------------------------------------------------- the converter

def converter():
    """A class with the two methods of RVC's VC that the patch wraps; `loads` replaces what get_vc does."""
    class VC:
        def __init__(self):
            self.net_g, self.log = None, []

        def get_vc(self, sid, *protect):
            self.log.append(sid)
            if sid == "broken":
                self.tgt_sr = "half done"
                raise ValueError("broken")
            if sid.endswith(".pth"):
                self.cpt = torch.load(sid, map_location="cpu", weights_only=True)
            self.net_g = torch.nn.Linear(1, 1) if sid else None
            return "answer"

        def vc_single(self, seconds):
            time.sleep(seconds)
            self.log.append("converted")
            return "Success."

    return VC


def test_rvcs_emptied_list_does_not_unload_our_base(library):
    VC = converter()
    patch(VC, library)
    vc = VC()
    ours = vc.net_g = torch.nn.Linear(1, 1)
    vc.tgt_sr = 40000
    setattr(vc, OURS, ours)
    assert vc.get_vc("", 0.5, 0.33) == ({"__type__": "update"},) * 5 and vc.net_g is ours and vc.log == []
    with pytest.raises(ValueError, match="broken"):
        vc.get_vc("broken")
    assert vc.net_g is ours and vc.tgt_sr == 40000 and getattr(vc, OURS) is ours
    assert vc.get_vc("lisa") == "answer" and vc.net_g is not ours and getattr(vc, OURS) is None
    assert vc.get_vc("") == "answer" and vc.net_g is None  # RVC's own voice goes as ever


def test_a_change_of_weights_waits_for_conversions_and_they_for_it():
    use, order, started = Use(), [], threading.Event()

    def convert(name, seconds):
        with use.conversion():
            order.append(f"{name} begins")
            started.set()
            time.sleep(seconds)
            order.append(f"{name} ends")

    def change():
        with use.change(), use.change():  # entered again by its own thread
            order.append("change")

    first = threading.Thread(target=convert, args=("a", 0.3))
    first.start()
    started.wait(5)
    side = threading.Thread(target=convert, args=("b", 0.1))  # side by side
    side.start()
    side.join(5)
    changing = threading.Thread(target=change)
    changing.start()
    time.sleep(0.05)
    later = threading.Thread(target=convert, args=("c", 0))
    later.start()
    for thread in (first, changing, later):
        thread.join(5)
        assert not thread.is_alive()
    assert order == ["a begins", "b begins", "b ends", "a ends", "change", "c begins", "c ends"]


def test_a_conversion_that_fails_lets_go(library):
    VC = converter()
    patch(VC, library)
    with pytest.raises(TypeError):
        VC().vc_single("no number")
    with patching.in_use.change():
        pass


# ---------------------------------------------------------------- what torch refuses

class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"),
                    reason="this PyTorch knows no list of types that are allowed beside tensors (since 2.5)")
def test_older_voices_with_numbers_of_numpy_are_read_and_nothing_else(library, tmp_path):
    VC = converter()
    patch(VC, library)
    numbers = {"f0": np.int64(1), "lr": np.float64(0.5), "half": np.float16(2), "flag": np.bool_(True),
               "single": np.float32(3)}
    torch.save(numbers, str(tmp_path / "old.pth"))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(str(tmp_path / "old.pth"), weights_only=True)
    vc = VC()
    vc.get_vc(str(tmp_path / "old.pth"))
    assert vc.cpt == numbers
    for bad in (Evil(), types.SimpleNamespace(a=1), np.zeros(3)):
        torch.save({"f0": bad}, str(tmp_path / "bad.pth"))
        with pytest.raises(pickle.UnpicklingError):
            vc.get_vc(str(tmp_path / "bad.pth"))
    with pytest.raises(pickle.UnpicklingError):  # allowed while a voice is read, and not after
        torch.load(str(tmp_path / "old.pth"), weights_only=True)


# ---------------------------------------------------------------- real checkouts

CONVERT = '''
import os, sys, numpy, torch
root, project, voice, audio, base, adapter, out, patched = sys.argv[1:]
sys.argv = sys.argv[:1]
sys.path[:0] = [root]
os.environ.update(weight_root=os.path.dirname(voice), index_root="logs", outside_index_root="assets/indices", rmvpe_root="assets/rmvpe",
                  RVC_CUDA_GRAPH="0")
import logging
sys.path.append(project)
from LoraModel.host import find_host
from LoraModel.host.safe_types import hubert_allowed
host = find_host(root)
VC = host.module("vc").VC
if patched == "1":
    from LoraModel.inference.patched import patch
    patch(VC, host)
import configs.config, importlib, soundfile
host.module("vc").load_audio = lambda path, rate: soundfile.read(path, dtype="float32")[0]  # tag 2.2.231006 cannot read with a new PyAV
config = configs.config.Config()
vc = VC(config)
new = host.layout.hubert_reader == "transformers"
def convert():
    torch.manual_seed(0)
    given = (0, audio, 0, "pm", "", 0, 0, 1, 0.33) if new else (0, audio, 0, None, "pm", "", "", 0, 3, 0, 1, 0.33)
    info, (rate, sound) = vc.vc_single(*given)
    assert sound is not None, info
    return sound
if patched == "1":
    vc.get_vc(os.path.basename(voice))
    convert()  # the first one loads HuBERT, which takes random numbers
    first = convert()
    vc.net_g.set_adapters([(adapter, 1.0)])
    changed = convert()
    vc.net_g.unload_adapters()
    again = convert()
    vc.get_vc("")  # RVC's own unloading deletes the network: the next voice is loaded all the same, and HuBERT with it
    vc.get_vc(os.path.basename(voice))
    convert()
    assert numpy.array_equal(convert(), first)
    # the realtime class makes its network with this function, and takes weight norm off it
    try:
        import torchaudio
    except (ImportError, OSError):  # missing, or built for another torch; what follows resamples nothing
        import types
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        sys.modules["torchaudio.transforms"] = types.SimpleNamespace(Resample=None)
    realtime = importlib.import_module(host.layout.realtime_network).get_synthesizer(voice)[0]
    def say(network):
        torch.manual_seed(0)
        with torch.no_grad():
            pitch = torch.full((1, 50), 100), torch.full((1, 50), 200.0)
            return network.infer(torch.randn(1, 50, 768), torch.tensor([50]), *pitch, torch.tensor([0]))[0]
    before = say(realtime)
    realtime.set_adapters([(adapter, 1.0)])
    vc.net_g.set_adapters([(adapter, 1.0)])
    assert torch.allclose(say(realtime), say(vc.net_g), atol=1e-3) and not torch.allclose(say(realtime), before, atol=1e-2)
    realtime.unload_adapters()
    assert torch.equal(say(realtime), before)
    numpy.savez(out, plain=first, changed=changed, again=again)
else:
    with hubert_allowed():  # else this torch reads no HuBERT there at all
        vc.get_vc(os.path.basename(voice))
        convert()
        numpy.savez(out, plain=convert())
'''  # noqa: E501


@pytest.mark.host
@pytest.mark.skipif(not CHECKOUTS, reason="RVC_HOSTS names no checkout")
@pytest.mark.parametrize("root", CHECKOUTS, ids=[Path(path).name for path in CHECKOUTS])
def test_a_whole_conversion_of_a_real_checkout_is_bit_identical(tmp_path, library, root):
    host = layout.find_host(root)
    package, hubert = host.layout.hubert_reader, Path(root) / host.layout.hubert
    if importlib.util.find_spec(package) is None or not hubert.is_file():
        pytest.skip(f"{root}: this Python has no {package}, or HuBERT is not at {hubert}: run the tests with the "
                    f"Python that runs this RVC")
    base = load_base(BASE, library, config_json=BASE.parent / "config.json")
    (tmp_path / "weights").mkdir()
    torch.save(small_model(base.network, base.info, "demo"), str(tmp_path / "weights" / "demo.pth"))
    adapter = make_adapter(tmp_path / "voice.safetensors", library, 1, base=tmp_path / "weights" / "demo.pth")
    audio = tmp_path / "in.wav"
    speech, rate = soundfile.read(str(BASE.parents[1] / "recordings" / "source" / "01.flac"), stop=32000)
    assert rate == 16000
    soundfile.write(str(audio), speech, rate)
    found = {}
    for patched in ("0", "1"):
        given = [root, ROOT, tmp_path / "weights" / "demo.pth", audio, BASE, adapter, tmp_path / f"{patched}.npz",
                 patched]
        done = subprocess.run([sys.executable, "-c", CONVERT, *map(str, given)], cwd=root, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found[patched] = dict(np.load(str(tmp_path / f"{patched}.npz")))
    assert len(found["0"]["plain"]) > 16000
    assert np.array_equal(found["0"]["plain"], found["1"]["plain"]) and np.array_equal(found["1"]["again"],
                                                                                       found["1"]["plain"])
    assert not np.array_equal(found["1"]["changed"], found["1"]["plain"])
