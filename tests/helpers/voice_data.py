"""Voices on the demo's base in the library layout, with adapters of random tensors: what several tests build on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from LoraModel.inference import ConvertOptions, VoiceLoader
from LoraModel.inference import audio as audio_io
from LoraModel.inference import stand_in as features
from LoraModel.inference.convert import convert
from LoraModel.lora import LoRAConfig, extract, inject, save_adapter, weight_norm
from LoraModel.models import load_base

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "LoraModel" / "demo" / "base" / "f0G16k.pth"
SOURCE = ROOT / "LoraModel" / "demo" / "recordings" / "source" / "01.flac"


def make_adapter(path, host, seed, base=BASE, config=None, **fields):
    """An adapter file of random tensors for the demo's base. config: None for the usual preset."""
    loaded = load_base(base, host, config_json=BASE.parent / "config.json")
    injection = inject(loaded.network, config or LoRAConfig.from_preset())
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.05 * torch.randn(tensor.shape, generator=generator) for name,
               tensor in injection.tensors().items()}
    extract(loaded.network)
    info = loaded.info
    metadata = {"name": Path(path).stem, "base_hash": info.base_hash, "base_name": info.name,
                "rvc_version": info.version,
                    "sample_rate": info.sample_rate, "f0": int(info.f0), "speaker": 0}
    return save_adapter(path, tensors, injection.config, {**metadata, **fields})


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, library):
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / "one.safetensors", library, 1), make_adapter(folder / "two.safetensors", library, 2)]


@pytest.fixture
def voice(library):
    return VoiceLoader(BASE, library)


@pytest.fixture(scope="module")
def speech():
    return audio_io.read_audio(SOURCE, 16000)[:32000]


def go(voice, speech, options=None, **more):
    options = ConvertOptions() if options is None else options
    return convert(voice, speech, options, features.content_features, features.pitch, features.coarse_pitch, **more)


def state(voice):
    return {name: tensor.clone() for name, tensor in voice.network.state_dict().items()}


def weights(voice, adapter):
    """Effective weights of the layers that the adapter changes."""
    return {path: weight_norm.compose(weight_norm.stored_tensors(voice.network.get_submodule(path))).clone()
            for path in adapter.layers()}


def run(*arguments, script="inference/infer_lora.py"):
    """As a user types it, from inside LoraModel/."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RVC_ROOT")}
    return subprocess.run([sys.executable, script, *map(str, arguments)], cwd=ROOT / "LoraModel",
                          env={**environment, "RVC_LORA_LANG": "en"},
                          capture_output=True, text=True, encoding="utf-8", check=False)
