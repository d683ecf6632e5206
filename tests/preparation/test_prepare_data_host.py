"""Experiment folders by RVC's own scripts, where RVC_HOSTS names checkouts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from preparation_data import RECORDINGS, command, contents

from LoraModel.host import find_host
from LoraModel.host.index import find_index
from LoraModel.inference import audio as audio_io
from LoraModel.messages import UserError, cli
from LoraModel.scripts import prepare_data

HOSTS = [Path(root) for root in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if root]
each_host = pytest.mark.parametrize("root",
                                    HOSTS or [pytest.param(None,
                                                           marks=pytest.mark.skip(reason="RVC_HOSTS names no "
                                                                                  "checkout"))], ids=str)


def needs(root):
    """Skip, saying why, where this checkout cannot run under this Python."""
    from LoraModel.host import preprocess

    host = find_host(root)
    try:
        preprocess.check_needs(host, "pm")
        for part in ("pipeline", "vc_utils"):
            from LoraModel.host.pipeline import at_root

            with at_root(host):
                host.module(part)
    except UserError as error:
        pytest.skip(str(error))
    return host


@pytest.mark.host
@each_host
def test_rvcs_own_scripts_prepare_a_voice(root, raw, capsys):
    host = needs(root)
    name = f"rvc-lora-test-{os.getpid()}"
    out = host.root / "logs" / name
    try:
        arguments = command(raw, f"logs/{name}", "--rvc_root", root, "--f0_method", "pm", "--workers", 2)
        assert cli(prepare_data.main, arguments) == 0, capsys.readouterr().err
        rows = [line.split("|") for line in (out / "filelist.txt").read_text(encoding="utf-8").split("\n")]
        own = [row for row in rows if "mute" not in row[0]]
        assert len(own) >= 3 and all(Path(file).is_file() for row in rows for file in row[:-1])
        assert all(np.load(row[1]).shape[1] == 768 and soundfile.info(row[0]).samplerate == 40000 for row in own)
        assert json.loads((out / "config.json").read_text()) == host.config_for("v2", 40000)
        assert find_index(out).name.endswith(f"{name}_v2.index")
        assert len(rows) - len(own) == (2 if (host.root / "logs" / "mute").is_dir() else 0)
        before = contents(out / "3_feature768")
        assert cli(prepare_data.main, command(raw, f"logs/{name}", "--rvc_root", root, "--f0_method", "pm")) == 0
        assert contents(out / "3_feature768") == before
    finally:
        shutil.rmtree(out, ignore_errors=True)
        for link in (host.root / "assets" / "indices").glob(f"{name}_*"):
            link.unlink()


@pytest.mark.host
@each_host
def test_a_broken_recording_is_left_out_by_rvcs_way_too(root, raw, capsys):
    needs(root)
    name = f"rvc-lora-test-bad-{os.getpid()}"
    out = find_host(root).root / "logs" / name
    (raw / "04.wav").write_bytes(b"no audio at all")
    try:
        assert cli(prepare_data.main, command(raw, f"logs/{name}", "--rvc_root", root, "--f0_method", "pm")) == 0
        assert "04.wav" in capsys.readouterr().err and (out / "filelist.txt").exists()
    finally:
        shutil.rmtree(out, ignore_errors=True)


@pytest.mark.host
@each_host
def test_a_voice_converts_in_rvcs_own_pipeline_merged_or_not(root, tmp_path, capsys):
    from LoraModel.host.pipeline import at_root
    from LoraModel.inference import infer_lora
    from LoraModel.lora import LoRAConfig, extract, inject, save_adapter
    from LoraModel.models import load_base
    from LoraModel.models.model_utils import config_list
    from LoraModel.scripts import merge_lora

    host = needs(root)
    with at_root(host):
        network = host.build_synthesizer(config_list(host.config_for("v2", 40000)), "v2", True)
    torch.save({"model": network.state_dict()}, tmp_path / "f0G40k.pth")
    base = load_base(tmp_path / "f0G40k.pth", host)
    injection = inject(base.network, LoRAConfig.from_preset())
    tensors = {key: 0.02 * torch.randn(tensor.shape) for key, tensor in injection.tensors().items()}
    extract(base.network)
    info = base.info
    adapter = save_adapter(tmp_path / "a.safetensors", tensors, injection.config, {
        "name": "a", "base_hash": info.base_hash, "base_name": info.name, "rvc_version": "v2", "sample_rate": 40000,
        "f0": 1, "speaker": 0})
    sound = audio_io.write_audio(tmp_path / "in.wav", audio_io.read_audio(RECORDINGS / "01.flac", 16000)[:24000], 16000)
    common = ["--rvc_root", str(root), "--input", str(sound), "--f0_method", "pm", "--device", "cpu"]
    both = ["--base_model", str(info.path), "--lora_weights", str(adapter)]
    folder = os.getcwd()
    assert cli(infer_lora.main, [*common, *both, "--output", str(tmp_path / "a.wav")]) == 0, capsys.readouterr().err
    assert cli(infer_lora.main, [*common, "--model", str(info.path), "--output", str(tmp_path / "base.wav")]) == 0
    assert cli(merge_lora.main, ["--rvc_root", str(root), *both, "--output", str(tmp_path / "m.pth")]) == 0
    assert cli(infer_lora.main, [*common, "--model", str(tmp_path / "m.pth"), "--output", str(tmp_path / "m.wav")]) == 0
    assert os.getcwd() == folder
    plain, live, merged = (soundfile.read(str(tmp_path / f"{name}.wav"))[0] for name in ("base", "a", "m"))
    assert len(live) == len(merged) and len(live) == pytest.approx(60000, abs=800)
    assert np.abs(live - merged).max() < 0.02 and np.abs(live - plain).max() > 2 * np.abs(live - merged).max()
    # RVC's own loading of the merged model
    with at_root(host):
        os.environ["weight_root"] = str(tmp_path)
        try:
            import importlib

            vc = host.module("vc").VC(importlib.import_module("configs.config").Config())
            vc.get_vc("m.pth")
        finally:
            del os.environ["weight_root"]
    assert vc.tgt_sr == 40000 and vc.version == "v2" and vc.if_f0 == 1
    stored = torch.load(str(tmp_path / "m.pth"), weights_only=True)["weight"]
    assert all(torch.equal(tensor.half().cpu(), stored[key]) for key, tensor in vc.net_g.state_dict().items())
