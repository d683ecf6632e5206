"""A small network with RVC's names, an adapter for it, and a reader of safetensors files that is not the library's."""

import json
import struct

import torch
from torch import nn

from LoraModel.lora import LoRAConfig, extract, inject, save_adapter

HASH = "3f9c" + "0" * 60
METADATA = {"name": "voice_a", "base_hash": HASH, "base_name": "f0G40k", "rvc_version": "v2", "sample_rate": 40000,
            "f0": 1, "speaker": 0}
CONFIG = LoRAConfig(targets={"ups": {"r": 2, "lora_alpha": 4}, "flow": {"r": 1, "lora_alpha": 1},
                             "spk_row": {"r": 1, "lora_alpha": 1}})


class Tiny(nn.Module):
    """A network with RVC's names: one transposed convolution, one convolution, the speaker table."""

    def __init__(self):
        super().__init__()
        self.dec = nn.Module()
        self.dec.ups = nn.ModuleList([nn.ConvTranspose1d(8, 4, 4, 2, 1)])
        self.flow = nn.Module()
        self.flow.flows = nn.ModuleList([nn.Module()])
        self.flow.flows[0].pre = nn.Conv1d(4, 6, 3)
        self.emb_g = nn.Embedding(3, 4)


def tiny(seed=0, size=0.1):
    """A network and an adapter's tensors for it."""
    torch.manual_seed(seed)
    network = Tiny()
    injection = inject(network, CONFIG)
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.normal_(0, size)
    tensors = {name: tensor.detach().clone() for name, tensor in injection.tensors().items()}
    extract(network)
    return network, tensors


def parse(data):
    """A safetensors file without the library: 8 bytes of length, a JSON header, then the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    return header.pop("__metadata__"), header, data[8 + length :]


def saved(tmp_path, bits=16, **more):
    _, tensors = tiny()
    return save_adapter(tmp_path / "a.safetensors", tensors, CONFIG, {**METADATA, **more}, bits), tensors
