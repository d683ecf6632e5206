"""Merging, and the conversion of model files: what comes out is what RVC's own code loads, and sounds as the adapter
does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from voice_data import BASE, SOURCE, go, make_adapter, run

from LoraModel.host import Host
from LoraModel.inference import VoiceLoader, options, strength
from LoraModel.inference import audio as audio_io
from LoraModel.lora import load_adapter, weight_norm
from LoraModel.lora.voice_pitch import VoicePitch
from LoraModel.messages import cli
from LoraModel.models import load_base
from LoraModel.models.voice_file import save_model, small_model
from LoraModel.scripts import convert_model, merge_lora


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, library):
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / "one.safetensors", library, 1), make_adapter(folder / "two.safetensors", library, 2)]


@pytest.fixture(scope="module")
def merged(tmp_path_factory, adapters):
    """Two adapters merged by the command as a user types it."""
    path = tmp_path_factory.mktemp("merged") / "voice.pth"
    done = run("--base_model", "demo/base/f0G16k.pth", "--lora_weights", adapters[0], "--strength", "0.7",
               "--lora_weights", adapters[1], "--strength", "0.2", "--output", path, script="scripts/merge_lora.py")
    assert done.returncode == 0 and str(path) in done.stdout, done.stderr
    return path


def as_get_vc_loads(path):
    """What RVC's `VC.get_vc` does with a small model, with the host library's class."""
    models = Host("library").module("models")
    checkpoint = torch.load(str(path), map_location="cpu", weights_only=True)
    checkpoint["config"][-3] = checkpoint["weight"]["emb_g.weight"].shape[0]
    classes = {("v1", 1): models.SynthesizerTrnMs256NSFsid, ("v1", 0): models.SynthesizerTrnMs256NSFsid_nono,
               ("v2", 1): models.SynthesizerTrnMs768NSFsid, ("v2", 0): models.SynthesizerTrnMs768NSFsid_nono}
    network = classes[checkpoint["version"], checkpoint["f0"]](*checkpoint["config"], is_half=False)
    del network.enc_q
    result = network.load_state_dict(checkpoint["weight"], strict=False)
    assert not result.missing_keys and not result.unexpected_keys
    return checkpoint, network.eval().float()


def test_merged_model_has_the_shape_of_rvcs_small_files(merged):
    checkpoint, _ = as_get_vc_loads(merged)
    assert set(checkpoint) == {"weight", "config", "info", "sr", "f0", "version"}
    assert (checkpoint["sr"], checkpoint["f0"], checkpoint["version"]) == ("16k", 1, "v2")
    assert len(checkpoint["config"]) == 18 and checkpoint["config"][-1] == 16000 and checkpoint["config"][-3] == 16
    assert all(tensor.dtype == torch.float16 for tensor in checkpoint["weight"].values())
    assert not any(key.startswith("enc_q.") for key in checkpoint["weight"])
    assert any(key.endswith("weight_g") for key in checkpoint["weight"])
    assert "one" in checkpoint["info"] and "two" in checkpoint["info"]


def test_merged_weights_are_base_plus_deltas(merged, adapters, library):
    _, network = as_get_vc_loads(merged)
    voice = VoiceLoader(BASE, library)
    first, second = voice.load(adapters[0]), voice.load(adapters[1])
    deltas = first.deltas(voice.network, 0.7), second.deltas(voice.network, 0.2)
    for path in first.layers():
        wanted = weight_norm.compose(weight_norm.stored_tensors(voice.network.get_submodule(path))) + deltas[0][
            path] + deltas[1][path]
        found = weight_norm.compose(weight_norm.stored_tensors(network.get_submodule(path)))
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-4)
    kept = [name for name, _ in voice.network.named_parameters() if not name.startswith("enc_q.")]
    untouched = [name for name in kept if name.rpartition(".")[0] not in first.layers()]
    mine = dict(network.named_parameters())
    assert untouched
    for name in untouched:
        assert torch.equal(mine[name].half(), dict(voice.network.named_parameters())[name].half())


def test_merged_model_sounds_as_the_adapters_do(merged, adapters, library):
    speech = audio_io.read_audio(SOURCE, 16000)[:32000]
    voice = VoiceLoader(BASE, library)
    plain = go(voice, speech)
    voice.set_adapters([(adapters[0], 0.7), (adapters[1], 0.2)])
    live = go(voice, speech)
    full = go(VoiceLoader(merged, library), speech)
    difference = np.abs(live - full).max()
    assert difference < 0.02, difference
    assert np.abs(live - plain).max() > 10 * difference


def test_strength_0_merges_the_plain_base(adapters, tmp_path, library):
    path = tmp_path / "m.pth"
    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", "0", "--output",
                 str(path)]
    assert cli(merge_lora.main, arguments) == 0
    found = torch.load(str(path), weights_only=True)["weight"]
    base = load_base(BASE, library, config_json=BASE.parent / "config.json").network.state_dict()
    assert all(torch.equal(tensor, base[name].half()) for name, tensor in found.items())


def test_an_existing_file_is_overwritten_only_with_force(adapters, tmp_path, capsys):
    path = tmp_path / "m.pth"
    path.write_bytes(b"mine")
    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--output", str(path)]
    assert cli(merge_lora.main, arguments) == 2
    seen = capsys.readouterr()
    assert "--force" in seen.err and seen.out == "" and path.read_bytes() == b"mine"
    assert cli(merge_lora.main, [*arguments, "--force"]) == 0
    assert as_get_vc_loads(path)


def test_a_base_is_never_overwritten(adapters, tmp_path, capsys):
    base = tmp_path / "base.pth"
    base.write_bytes(BASE.read_bytes())
    (tmp_path / "config.json").write_bytes((BASE.parent / "config.json").read_bytes())
    assert cli(merge_lora.main, ["--base_model", str(base), "--lora_weights", str(adapters[0]), "--output", str(base),
                                 "--force"]) == 2
    assert base.read_bytes() == BASE.read_bytes() and "never overwritten" in capsys.readouterr().err


def test_force_takes_a_wrong_base(tmp_path, library, capsys):
    adapter = make_adapter(tmp_path / "a.safetensors", library, 1, base_hash="0" * 64, base_name="f0G48k")
    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapter), "--output", str(tmp_path / "m.pth")]
    assert cli(merge_lora.main, arguments) == 2
    assert "f0G48k" in capsys.readouterr().err and not (tmp_path / "m.pth").exists()
    assert cli(merge_lora.main, [*arguments, "--force"]) == 0


def test_what_does_not_fit_fp16_is_refused_and_nothing_is_written(adapters, tmp_path, capsys, library, monkeypatch):
    path = tmp_path / "m.pth"
    for module in (strength, options):
        monkeypatch.setattr(module, "FREE_STRENGTH", 1e12)
    assert cli(merge_lora.main, ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", "1e9",
                                 "--any_strength", "--output", str(path)]) == 2
    assert "16 bits" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strength", ["1.51", "-0.1", "30", "1e30"])
def test_a_strength_beyond_the_limits_is_refused_and_named(adapters, tmp_path, capsys, strength):
    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", strength, "--output",
                 str(tmp_path / "m.pth")]
    assert cli(merge_lora.main, arguments) == 2
    said = capsys.readouterr().err
    assert "strength" in said and len(said.splitlines()[-1]) < 300 and not (tmp_path / "m.pth").exists()


def test_any_strength_goes_beyond_the_limits(adapters, tmp_path):
    arguments = ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--strength", "2", "--any_strength",
                 "--output"]
    assert cli(merge_lora.main, [*arguments, str(tmp_path / "m.pth")]) == 0 and (tmp_path / "m.pth").exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m"])
def test_the_output_must_be_a_pth(adapters, tmp_path, capsys, name):
    assert cli(merge_lora.main, ["--base_model", str(BASE), "--lora_weights", str(adapters[0]), "--output",
                                 str(tmp_path / name)]) == 2
    assert ".pth" in capsys.readouterr().err


# ---------------------------------------------------------------- convert_model

def test_small_turns_a_base_into_an_ordinary_model(tmp_path, library):
    config = ["--config_json", str(BASE.parent / "config.json")]
    assert cli(convert_model.main, ["small", str(BASE), "--output", str(tmp_path / "s.pth"), "--name", "plain",
                                    *config]) == 0
    checkpoint, network = as_get_vc_loads(tmp_path / "s.pth")
    base = load_base(BASE, library, config_json=BASE.parent / "config.json").network.state_dict()
    assert checkpoint["info"] == "plain" and all(torch.equal(tensor.half(), base[name].half()) for name,
                                                 tensor in network.state_dict().items())


def test_small_keeps_what_a_merged_voice_tells_of_itself(tmp_path, library):
    base = load_base(BASE, library, config_json=BASE.parent / "config.json")
    save_model(tmp_path / "m.pth", small_model(base.network, base.info, "m", (), VoicePitch(118.2, 90.1, 160.3), 0.6))
    assert cli(convert_model.main, ["small", str(tmp_path / "m.pth"), "--output", str(tmp_path / "s.pth")]) == 0
    info = load_base(tmp_path / "s.pth", library).info
    assert info.pitch == VoicePitch(118.2, 90.1, 160.3) and info.noise == 0.6


def test_info_says_what_files_are(merged, adapters):
    text = "\n".join(convert_model.describe(merged))
    assert "small RVC model" in text and "features: 768" in text and "enc_q: 0" in text and "speakers: 16" in text
    text = "\n".join(convert_model.describe(adapters[0]))
    assert "adapter" in text and "sample_rate: 16000" in text and "base_name: f0G16k" in text
    assert "enc_q: 1" in "\n".join(convert_model.describe(BASE))


def test_adapter_in_8_bits(adapters, tmp_path, capsys):
    small = tmp_path / "a8.safetensors"
    assert cli(convert_model.main, ["adapter", str(adapters[0]), "--output", str(small)]) == 0
    stored = safetensors.torch.load_file(str(small))
    assert {tensor.dtype for name, tensor in stored.items() if name.endswith("lora_A.weight")} == {torch.int8}
    assert small.stat().st_size < Path(adapters[0]).stat().st_size
    before, after = load_adapter(adapters[0]), load_adapter(small)
    described = [{key: value for key, value in adapter.metadata.items() if key != "checksum"}
                 for adapter in (before, after)]
    assert before.config == after.config and described[0] == described[1]
    for name, tensor in before.tensors.items():
        assert (after.tensors[name].float() - tensor.float()).abs().max() <= tensor.abs().max() / 200
    assert cli(convert_model.main, ["adapter", str(adapters[0]), "--output", str(small)]) == 2
    assert "--force" in capsys.readouterr().err


def test_info_as_a_user_types_it_refuses_an_unsafe_file(tmp_path):
    class Trap:
        def __reduce__(self):
            return subprocess.getoutput, (f"{sys.executable} -c 'open({str(tmp_path / 'sprung')!r}, \"w\")'",)

    torch.save({"weight": Trap()}, tmp_path / "bad.pth")
    done = run("info", tmp_path / "bad.pth", script="scripts/convert_model.py")
    assert done.returncode == 2 and "unsafe" in done.stderr and done.stdout == "" and not (tmp_path / "sprung").exists()


def test_a_name_is_stored_on_one_line_without_control_characters(adapters, tmp_path):
    name, base = "\x1b[31mred\nline 2\u202e\ud800" + "x" * 3000, str(BASE)
    for main, given in ((merge_lora.main, ["--base_model", base, "--lora_weights", str(adapters[0])]),
                        (convert_model.main, ["small", base])):
        path = tmp_path / f"{main.__module__}.pth"
        assert main([*given, "--output", str(path), "--name", name]) == 0
        note = torch.load(str(path), weights_only=True)["info"]
        assert note.startswith("[31mred line 2 xxx") and note.isprintable() and len(note) == 1000
