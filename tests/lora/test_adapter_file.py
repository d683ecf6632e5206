"""The adapter file byte by byte, its round trips and its sizes."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from adapter_data import CONFIG, HASH, METADATA, parse, saved, tiny

from LoraModel.lora import LoRAConfig, extract, inject, load_adapter, save_adapter, tensors_hash
from LoraModel.lora.adapter_file import FIELDS, REQUIRED, read_metadata

# The format.


def test_the_file_byte_by_byte(tmp_path):
    path, tensors = saved(tmp_path, notes="ünï 音色")
    metadata, header, body = parse(path.read_bytes())
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "dec.ups.0.lora_A.weight": ("F16", [2, 8, 1]), "dec.ups.0.lora_B.weight": ("F16", [2, 4, 4]),
        "flow.flows.0.pre.lora_A.weight": ("F16", [1, 4, 3]), "flow.flows.0.pre.lora_B.weight": ("F16", [6, 1, 1]),
        "emb_g.lora_row.weight": ("F16", [1, 4]),
    }
    covered = 0
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        covered += end - start
        assert body[start:end] == tensors[name].half().numpy().astype("<f2").tobytes()
    assert covered == len(body) == 2 * sum(t.numel() for t in tensors.values())
    stamp = metadata.pop("checksum")
    assert metadata == {
        "format": "rvc-lora", "format_version": "1", "name": "voice_a", "base_hash": HASH, "base_name": "f0G40k",
        "rvc_version": "v2",
        "sample_rate": "40000", "f0": "1", "speaker": "0", "preset": "custom", "notes": "ünï 音色",
        "lora_config": CONFIG.to_json(),
        "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "rvc-v2/lora",
        "modelspec.implementation": "rvc-lora", "modelspec.title": "voice_a", "modelspec.description": "ünï 音色",
    }
    # The checksum as docs/adapter_format.md describes it to other programs, worked out here without the library.
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        digest.update(f"{name} float16 {header[name]['shape']}\n".encode() + body[start:end])
    assert stamp == digest.hexdigest()


def test_eight_bits_byte_by_byte(tmp_path):
    path, tensors = saved(tmp_path, bits=8)
    _, header, body = parse(path.read_bytes())
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "dec.ups.0.lora_A.weight": ("I8", [2, 8, 1]), "dec.ups.0.lora_A.weight_scale": ("F16", [2]),
        "dec.ups.0.lora_B.weight": ("I8", [2, 4, 4]), "dec.ups.0.lora_B.weight_scale": ("F16", [2]),
        "flow.flows.0.pre.lora_A.weight": ("I8", [1, 4, 3]), "flow.flows.0.pre.lora_A.weight_scale": ("F16", [1]),
        "flow.flows.0.pre.lora_B.weight": ("I8", [6, 1, 1]), "flow.flows.0.pre.lora_B.weight_scale": ("F16", [1]),
        "emb_g.lora_row.weight": ("F16", [1, 4]),
    }

    def array(name, dtype):
        start, end = header[name]["data_offsets"]
        return np.frombuffer(body[start:end], dtype).reshape(header[name]["shape"]).astype(np.float32)

    name = "dec.ups.0.lora_B.weight"
    by_hand = array(name, "i1") * array(name + "_scale", "<f2").reshape(2, 1, 1)
    assert torch.equal(load_adapter(path).tensors[name], torch.from_numpy(by_hand))
    assert np.abs(by_hand - tensors[name].numpy()).max() <= float(array(name + "_scale", "<f2").max()) / 2


def test_eight_bit_quantising_by_hand(tmp_path):
    # Row 0's largest is 127 * 2^-7, so its scale is exactly 2^-7 = 0.0078125 and values are whole numbers of it: 127,
    # -64, 0, 1.
    # Row 1 is zero: scale 0. fp16 holds both scales exactly.
    step = 2.0**-7
    a = torch.tensor([[[127.0], [-64.0], [0.0], [1.4], [0], [0], [0], [0]], [[0.0]] * 8]) * step
    _, tensors = tiny()
    path = save_adapter(tmp_path / "a.safetensors", {**tensors, "dec.ups.0.lora_A.weight": a}, CONFIG, METADATA, 8)
    stored = safetensors.torch.load_file(str(path))
    assert stored["dec.ups.0.lora_A.weight_scale"].tolist() == [step, 0.0]
    assert stored["dec.ups.0.lora_A.weight"][0, :, 0].tolist() == [127, -64, 0, 1, 0, 0, 0, 0]
    assert not stored["dec.ups.0.lora_A.weight"][1].any()
    assert load_adapter(path).tensors["dec.ups.0.lora_A.weight"][0, 3, 0].item() == step


@pytest.mark.parametrize("size", [1e4, 1.0, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_round_trip_keeps_its_error_bound_at_every_size(tmp_path, size):
    network, tensors = tiny(size=size)
    for bits in (16, 8):
        adapter = load_adapter(save_adapter(tmp_path / f"{bits}.safetensors", tensors, CONFIG, METADATA, bits))
        adapter.check(network)
        assert adapter.config == CONFIG and set(adapter.tensors) == set(tensors)
        for name, tensor in tensors.items():
            found = adapter.tensors[name].float()
            if bits == 16 or name.endswith("lora_row.weight"):
                bound = tensor.abs() * 2**-11 + 2**-25  # half a unit of fp16's last place, or of its smallest number
            else:
                axis = 1 if name == "flow.flows.0.pre.lora_B.weight" else 0
                largest = tensor.abs().transpose(0, axis).flatten(1).amax(1)
                # Half a step: 1/254 of the component's largest, rounded up to the next fp16 number.
                bound = ((largest / 254) * (1 + 2**-10)
                         + 2**-25).reshape([-1 if d == axis else 1 for d in range(tensor.dim())]).expand_as(tensor)
                bound = bound * (1 + 1e-5)
            assert bool(((found - tensor).abs() <= bound).all()), (bits, name)


def test_metadata_is_complete_and_read_without_tensors(tmp_path):
    everything = {key: f"value of {key}" for key in FIELDS if key not in METADATA and key != "lora_config"}
    everything.update(steps=480, epochs=40, data_seconds=12.5,
                      pitch=json.dumps({"median": 118.2, "low": 90.1, "high": 160.3}),
                      heldout=json.dumps({"base": 0.861, "adapter": None, "metric": "log-mel L1"}), language="en",
                      consent="yes", parts=json.dumps([["a.safetensors", HASH, 0.7]]), preview="T2dnUw==")
    path, _ = saved(tmp_path, **everything)
    metadata = read_metadata(path)
    assert set(metadata) == set(FIELDS) - {"preview"} | {"format", "format_version", "checksum"}
    assert set(REQUIRED) <= set(metadata) and all(isinstance(value, str) for value in metadata.values())
    adapter = load_adapter(path)
    assert adapter.metadata == {**metadata, "preview": "T2dnUw=="}
    assert adapter.name == "voice_a" and adapter.speaker == 0


def test_a_loaded_adapter_can_be_saved_again(tmp_path):
    path, _ = saved(tmp_path, notes="kept")
    adapter = load_adapter(path)
    again = load_adapter(save_adapter(tmp_path / "b.safetensors", adapter.tensors, adapter.config, adapter.metadata,
                                      16))
    assert again.metadata == adapter.metadata
    assert all(torch.equal(tensor, adapter.tensors[name]) for name, tensor in again.tensors.items())


def test_names_that_are_no_utf8_are_saved(tmp_path):
    path, _ = saved(tmp_path, author="caf\udce9")
    assert load_adapter(path).metadata["author"] == "caf?"


# Sizes at RVC v2 40k.


@pytest.fixture(scope="module")
def full_sizes(full_network, tmp_path_factory):
    """Bytes of each preset's file at v2 40k: {(preset, bits): bytes}, and of the fp16 tensors of RVC's own small
    model."""
    network, folder, sizes = full_network("v2", True), tmp_path_factory.mktemp("sizes"), {}
    for preset in ("fast", "balanced", "clear", "high_quality"):
        injection = inject(network, LoRAConfig.from_preset(preset))
        for bits in (16, 8):
            path = folder / f"{preset}{bits}.safetensors"
            save_adapter(path, injection.tensors(), injection.config, {
                **METADATA, "heldout": json.dumps({"mel": 0.5123, "kl": 1.234}), "created": "2026-01-01T00:00:00Z",
                "steps": 2000,
                "epochs": 100, "data_seconds": 600.0, "author": "a person with a long name", "license": "CC-BY-4.0",
                "notes": "n" * 500,
            }, bits)
            sizes[preset, bits] = path.stat().st_size
        extract(network)
    half = {name: tensor.half() for name, tensor in network.state_dict().items() if not name.startswith("enc_q.")}
    torch.save({"weight": half}, folder / "base.pth")
    return sizes, sum(2 * tensor.numel() for tensor in half.values()), (folder / "base.pth").stat().st_size


def test_default_preset_keeps_its_promise(full_sizes):
    sizes, tensors, file = full_sizes
    assert sizes["balanced", 16] <= 387_000 and sizes["clear", 16] <= 387_000
    assert round(tensors / 1e6, 2) == 55.07  # the base as the promise counts it; its file is a little larger
    assert tensors < file
    assert file + 10 * sizes["balanced", 16] <= 58_870_000


def test_the_other_sizes(full_sizes):
    sizes = full_sizes[0]
    assert sizes["fast", 16] < sizes["balanced", 16] < sizes["high_quality", 16]
    for preset in ("fast", "balanced", "clear", "high_quality"):
        assert sizes[preset, 8] < 0.65 * sizes[preset, 16]


def test_deltas_by_hand(tmp_path):
    network, tensors = tiny()
    adapter = load_adapter(save_adapter(tmp_path / "a.safetensors", tensors, CONFIG, METADATA))
    deltas = adapter.deltas(network, strength=0.5)
    a, b = adapter.tensors["dec.ups.0.lora_A.weight"].float(), adapter.tensors["dec.ups.0.lora_B.weight"].float()
    by_hand = sum(a[k, :, 0, None, None] * b[k][None] for k in range(2)) * 2.0 * 0.5  # alpha / r = 2, strength 0.5
    torch.testing.assert_close(deltas["dec.ups.0"], by_hand)
    assert torch.equal(deltas["emb_g"][0],
                       0.5 * adapter.tensors["emb_g.lora_row.weight"][0].float()) and not deltas["emb_g"][1:].any()
    for path, (left, right) in adapter.products(network).items():
        torch.testing.assert_close((left @ right) * 0.5, deltas[path].flatten(1))


# The base's hash.


def test_tensors_hash():
    one = {"a": torch.randn(3, 4), "b": torch.randn(2)}
    reordered = {"b": one["b"], "a": one["a"]}
    half = {name: tensor.half() for name, tensor in one.items()}
    assert tensors_hash(one.items()) == tensors_hash(reordered.items()) == tensors_hash(half.items())
    changed = {**one, "a": one["a"] + torch.eye(3, 4) * 0.01}
    renamed = {"a": one["a"], "c": one["b"]}
    reshaped = {**one, "a": one["a"].reshape(4, 3)}
    assert len({tensors_hash(x.items()) for x in (one, changed, renamed, reshaped)}) == 4
    by_hand = hashlib.sha256(b"a(2,)" + np.array([1, 2], "<f2").tobytes() + b"b(1,)"
                             + np.array([3], "<f2").tobytes()).hexdigest()
    assert tensors_hash([("b", torch.tensor([3.0])), ("a", torch.tensor([1.0, 2.0]))]) == by_hand
