"""How RVC's own code is called: its working folder, its arguments, its safe types, its scripts and what they fail
at."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from LoraModel.host import Host, preprocess
from LoraModel.host.layouts import LAYOUTS
from LoraModel.host.pipeline import HostPipeline, at_root, check_f0_method, default_f0_method, host_environment
from LoraModel.host.safe_types import hubert_allowed, hubert_types
from LoraModel.messages import UserError

ROOT = Path(__file__).resolve().parents[2]
safe_globals = pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"),
                                  reason="this PyTorch loads with pickle's own rules")

_MODULES = {"classic": {"pipeline": "infer/modules/vc/pipeline", "utils": "infer/modules/vc/utils",
                        "models": "infer/lib/infer_pack/models"},
            "2026": {"pipeline": "infer/vc/pipeline", "utils": "infer/vc/utils", "models": "infer/module/models"}}
_SIGNATURE = {
    "classic": "model, net_g, sid, audio, input_audio_path, times, f0_up_key, f0_method, file_index, index_rate, "
    "if_f0, filter_radius, tgt_sr, "
               "resample_sr, rms_mix_rate, version, protect, f0_file=None",
    "2026": "model, net_g, sid, audio, times, f0_up_key, f0_method, file_index, index_rate, if_f0, tgt_sr, "
    "resample_sr, rms_mix_rate, "
            "version, protect",
}


@pytest.fixture(params=["classic", "2026"])
def checkout(request, tmp_path, monkeypatch):
    """A checkout that does nothing but record how it is called."""
    root = tmp_path / "rvc"
    files = {
        f"{_MODULES[request.param]['pipeline']}.py":
            "import numpy as np\nimport os\nimport sys\nCALLS = []\n"
            "class Pipeline:\n    def __init__(self, tgt_sr, config):\n        self.tgt_sr = tgt_sr\n"
            f"    def pipeline(self, {_SIGNATURE[request.param]}):\n        values = dict(locals())\n"
            f"        CALLS.append((values, os.getcwd(), os.environ['rmvpe_root'], list(sys.argv)))\n"
            "        return np.full(4, 16384, np.int16)\n",
        f"{_MODULES[request.param]['utils']}.py": "def load_hubert(config):\n    return 'hubert on ' + "
        "str(config.device)\n", f"{_MODULES[request.param]['models']}.py": "",
        "configs/config.py": "import argparse\nclass Config:\n    def __init__(self):\n        "
        "argparse.ArgumentParser().parse_args()\n"
                             "        self.device, self.is_half = 'cpu', False\n        open('configs/inuse', "
                             "'w').close()\n",
        LAYOUTS[request.param].hubert: "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["infer_lora.py", "--input", "x"])
    yield Host(request.param, root)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("infer", "configs"):
            del sys.modules[name]


def test_the_pipeline_gets_its_arguments_by_name_at_its_own_root(checkout):
    folder, environment, argv = os.getcwd(), dict(os.environ), list(sys.argv)
    pipeline = HostPipeline(checkout, 40000)
    assert (checkout.root / "configs/inuse").is_file() and not Path("configs/inuse").exists()
    audio = np.full(16000, 2.0, np.float32)
    sound = pipeline.convert("net", audio, version="v2", f0=True, speaker=3, transpose=5, f0_method="pm",
                             index=Path("/a.index"), index_rate=0.6, protect=0.2)
    assert sound.dtype == np.float32 and np.allclose(sound, 0.5)
    (values, at, rmvpe, seen), = checkout.module("pipeline").CALLS
    assert Path(at).resolve() == checkout.root.resolve() and rmvpe == "assets/rmvpe" and seen == ["infer_lora.py"]
    wanted = {"model": "hubert on cpu", "net_g": "net", "sid": 3, "f0_up_key": 5, "f0_method": "pm",
              "file_index": "/a.index", "index_rate": 0.6,
              "if_f0": 1, "tgt_sr": 40000, "resample_sr": 0, "rms_mix_rate": 0.25, "version": "v2", "protect": 0.2}
    assert {key: values[key] for key in wanted} == wanted
    assert values["audio"].max() == pytest.approx(0.95)  # as VC.vc_single does
    assert (os.getcwd(), dict(os.environ), sys.argv) == (folder, environment, argv)


@pytest.mark.parametrize("version, layer, size", [("v1", 9, 256), ("v2", 12, 768)])
def test_content_features_are_those_that_the_pipeline_takes(checkout, version, layer, size):
    """classic asks HuBERT itself, for the ninth or twelfth layer; 2026 has a function of its own for it."""
    pipeline, asked = HostPipeline(checkout, 40000), []

    class Hubert:
        def extract_features(self, source, padding_mask, output_layer):
            asked.append((tuple(source.shape), padding_mask.any().item(), output_layer))
            return (torch.full((1, 50, 768), 2.0),)

        def final_proj(self, features):
            return features[..., :256]

    def extract_hubert_features(model, source, version, padding_mask=None):
        features = model.extract_features(source, padding_mask, 9 if version == "v1" else 12)[0]
        return model.final_proj(features) if version == "v1" else features

    pipeline.hubert = Hubert()
    if checkout.name == "2026":
        checkout.module("pipeline").extract_hubert_features = extract_hubert_features
    found = pipeline.content_features(np.zeros(16000), version)
    assert found.shape == (50, size) and found.dtype == np.float32 and (found == 2.0).all()
    assert asked == [((1, 16000), False, layer)]


def test_the_seed_decides_and_the_shortest_recordings_are_refused(checkout):
    pipeline = HostPipeline(checkout, 40000)
    pipeline._pipeline.pipeline = lambda audio, tgt_sr: (torch.rand(3).numpy() * 100).astype(np.int16)

    def convert(seed):
        return pipeline.convert("net", np.zeros(16000, np.float32), version="v2", f0=True, f0_method="pm", seed=seed)

    assert np.array_equal(convert(1), convert(1)) and not np.array_equal(convert(1), convert(2))
    with pytest.raises(UserError, match="0.1 s"):
        pipeline.convert("net", np.zeros(100, np.float32), version="v2", f0=True)


def test_a_pipeline_that_asks_for_more_is_told_apart(checkout):
    pipeline = HostPipeline(checkout, 40000)
    pipeline._pipeline.pipeline = lambda audio, formant: None
    with pytest.raises(UserError, match="formant"):
        pipeline.convert("net", np.zeros(16000, np.float32), version="v2", f0=True, f0_method="pm")


def test_missing_hubert_is_said(checkout):
    (checkout.root / checkout.layout.hubert).unlink()
    with pytest.raises(UserError, match="HuBERT is missing"):
        HostPipeline(checkout, 40000)


def test_an_unsafe_hubert_is_not_loaded(checkout, tmp_path):
    utils = checkout.module("vc_utils")

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    torch.save({"model": Trap()}, tmp_path / "hubert.pt")
    utils.load_hubert = lambda config: torch.load(str(tmp_path / "hubert.pt"), weights_only=True)
    with pytest.raises(UserError, match="unsafe.*system"):
        HostPipeline(checkout, 40000)
    assert not (tmp_path / "sprung").exists()


def test_f0_methods_are_the_layouts_own(checkout):
    assert check_f0_method(checkout, None) == "pm"
    (checkout.root / "assets/rmvpe").mkdir(parents=True)
    (checkout.root / "assets/rmvpe/rmvpe.pt").write_bytes(b"")
    assert default_f0_method(checkout) == "rmvpe"
    for method, layout in (("crepe", "classic"), ("fcpe", "2026")):
        if checkout.name == layout:
            assert check_f0_method(checkout, method) == method
        else:
            with pytest.raises(UserError, match=method):
                check_f0_method(checkout, method)


def test_rmvpe_is_looked_for_where_it_will_be_read(checkout, monkeypatch, tmp_path):
    """RVC's conversion reads the folder that rmvpe_root names; its scripts for training, and its realtime class, their
    own."""
    for folder, ways in ((tmp_path / "models", [True]), (checkout.root / "assets/rmvpe", [False])):
        folder.mkdir(parents=True)
        (folder / "rmvpe.pt").write_bytes(b"")
        monkeypatch.setenv("rmvpe_root", str(tmp_path / "models"))
        for named in (True, False):
            method = default_f0_method(checkout, named)
            assert method == check_f0_method(checkout, None, named) == ("rmvpe" if named in ways else "pm")
        if False in ways:
            preprocess.check_needs(checkout, "rmvpe")
        else:
            with pytest.raises(UserError, match="rmvpe is missing"):
                preprocess.check_needs(checkout, "rmvpe")
        (folder / "rmvpe.pt").unlink()


@pytest.mark.parametrize("cuda, half, said", [(True, True, "True"), (True, False, "False"), (False, True, "False")])
def test_features_are_extracted_in_the_precision_that_rvc_chooses_for_the_card(checkout, monkeypatch, cuda, half, said):
    """RVC's Config has fp32 for some cards (GTX 16xx, 10xx, P40), with which fp16 gives noise."""
    config = checkout.root / "configs/config.py"
    config.write_text(config.read_text().replace("'cpu', False", f"'cuda:0', {half}"))
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(preprocess, "_run", lambda _host, _step, arguments, _tick: given.extend(arguments) or (0, ""))
    experiment = checkout.root / "logs/anna"
    preprocess.extract_features(checkout, experiment, "v2", lambda _count: None)
    assert given[0] == ("cuda:0" if cuda else "cpu") and given[-1] == said


def test_the_checkouts_env_file_is_read(checkout, monkeypatch):
    (checkout.root / ".env").write_text("# folders\nrmvpe_root = elsewhere/rmvpe\nweight_root='w'\n")
    assert host_environment(checkout)["rmvpe_root"] == "elsewhere/rmvpe" and host_environment(checkout)[
        "weight_root"] == "w"
    monkeypatch.setenv("index_root", "mine")
    with at_root(checkout):
        assert (os.environ["rmvpe_root"], os.environ["index_root"]) == ("elsewhere/rmvpe", "mine")
    assert "rmvpe_root" not in os.environ and os.environ["index_root"] == "mine"


def test_at_root_gives_everything_back_after_an_error(checkout):
    before = os.getcwd(), dict(os.environ), list(sys.argv), list(sys.path)
    with pytest.raises(RuntimeError):
        with at_root(checkout):
            raise RuntimeError
    assert (os.getcwd(), dict(os.environ), sys.argv, sys.path) == before


# ---------------------------------------------------------------- safe types

@safe_globals
def test_only_huberts_types_are_allowed_and_only_while_it_is_read(tmp_path):
    import typing

    torch.save({"kind": typing.Any, "weights": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"kind": SimpleNamespace(a=1)}, tmp_path / "b.pt")
    with hubert_allowed():
        assert torch.load(str(tmp_path / "a.pt"), weights_only=True)["kind"] is typing.Any
        with pytest.raises(pickle.UnpicklingError, match="SimpleNamespace"):
            torch.load(str(tmp_path / "b.pt"), weights_only=True)
    with pytest.raises(pickle.UnpicklingError, match="Any"):
        torch.load(str(tmp_path / "a.pt"), weights_only=True)


def test_no_callable_that_runs_code_is_among_the_types():
    names = Counter(f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}".replace(
        "typing.typing.", "typing.") for kind in hubert_types())  # Python 3.8's Any has no name of its own
    allowed = {"typing.Any", "collections.defaultdict", "builtins.dict", "builtins.list", "builtins.int",
               "fairseq.data.dictionary.Dictionary",
               "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode",
               "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"}
    assert set(names) <= allowed


@safe_globals
def test_launch_runs_a_module_as_main_with_the_types_allowed(tmp_path):
    import typing

    torch.save({"kind": typing.Any}, tmp_path / "a.pt")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "script.py").write_text(
        "import sys, torch\nassert __name__ == '__main__'\nprint(sys.argv[1:], "
        "torch.load('a.pt')['kind'])\nsys.exit(7)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "LoraModel.host.launch", "part.script", "one", "two"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 7 and done.stdout.strip() == "['one', 'two'] typing.Any", done.stderr


# ---------------------------------------------------------------- scripts

def scripted(tmp_path, monkeypatch, text):
    """A classic checkout whose slicing script is `text`."""
    root = tmp_path / "rvc"
    script = root / "infer/modules/train/preprocess.py"
    script.parent.mkdir(parents=True)
    script.write_text(text)
    recordings, experiment = tmp_path / "raw", tmp_path / "exp"
    recordings.mkdir()
    experiment.mkdir()
    for name in ("a.wav", "b.wav"):
        (recordings / name).write_bytes(b"")
    return Host("classic", root), recordings, experiment


WRITE = """import os, sys
raw, rate, workers, out, noparallel, seconds = sys.argv[1:]
assert (rate, workers, noparallel) == ("40000", "2", "False") and os.getcwd().endswith("rvc")
for part in ("0_gt_wavs", "1_16k_wavs"):
    os.makedirs(os.path.join(out, part), exist_ok=True)
    for number in NUMBERS:
        open(os.path.join(out, part, "%d_0.wav" % number), "w").close()
"""


def slice_with(tmp_path, monkeypatch, text):
    host, recordings, experiment = scripted(tmp_path, monkeypatch, text)
    seen = []
    preprocess.slice_recordings(host, recordings, experiment, 40000, 2, seen.append)
    return seen


def test_a_script_that_did_its_work_passes(tmp_path, monkeypatch, capsys):
    assert slice_with(tmp_path, monkeypatch, WRITE.replace("NUMBERS", "(0, 1)"))[-1] == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text, said", [
    ("print('Traceback (most recent call last):\\n  File x\\nOSError: 8192 requested and 0 written\\n')",
     r"the disk is full: .* 2 of 2"),
    ("raise OSError('no disk')", r"2 of 2 .*OSError: no disk"),
    ("print('model is missing')", r"2 of 2 .*model is missing"),  # exit code 0, nothing done
])
def test_a_failure_is_passed_on_though_the_script_exits_with_0(tmp_path, monkeypatch, text, said):
    with pytest.raises(UserError, match=said):
        slice_with(tmp_path, monkeypatch, text)


def test_a_recording_that_rvc_cannot_read_is_named_and_left_out(tmp_path, monkeypatch, capsys):
    slice_with(tmp_path, monkeypatch, WRITE.replace("NUMBERS", "(0,)") + (
        "print('b.wav\\t-> Traceback (most recent call last):\\n  File x\\nRuntimeError: no such codec\\n')"))
    assert "left out 1 of 2: b.wav (RuntimeError: no such codec)" in capsys.readouterr().err


def test_what_rvc_leaves_out_by_its_own_judgement_is_said(tmp_path, monkeypatch, capsys):
    slice_with(tmp_path, monkeypatch, WRITE.replace("NUMBERS", "(0,)") + "print('too quiet')")
    assert "left out 1 of 2: b.wav" in capsys.readouterr().err


def test_half_written_arrays_are_removed(tmp_path):
    (tmp_path / "2a_f0").mkdir()
    np.save(tmp_path / "2a_f0" / "good.wav.npy", np.zeros(5))
    whole = (tmp_path / "2a_f0" / "good.wav.npy").read_bytes()
    (tmp_path / "2a_f0" / "cut.wav.npy").write_bytes(whole[:-9])
    (tmp_path / "2a_f0" / "empty.wav.npy").write_bytes(b"")
    assert sorted(file.name for file in preprocess.remove_broken(tmp_path)) == ["cut.wav.npy", "empty.wav.npy"]
    assert [file.name for file in (tmp_path / "2a_f0").iterdir()] == ["good.wav.npy"]


@pytest.mark.parametrize("name", ["classic", "2026"])
def test_what_the_scripts_need_is_checked_first(tmp_path, name):
    host = Host(name, tmp_path)
    with pytest.raises(UserError, match="HuBERT is missing"):
        preprocess.check_needs(host, "pm")
    hubert = tmp_path / LAYOUTS[name].hubert
    hubert.parent.mkdir(parents=True)
    hubert.write_bytes(b"")
    preprocess.check_needs(host, "pm")
    preprocess.check_needs(host, None)
    with pytest.raises(UserError, match="rmvpe is missing"):
        preprocess.check_needs(host, "rmvpe")
    with pytest.raises(UserError, match="crepe"):
        preprocess.check_needs(host, "crepe")
