"""The adapter file byte by byte, its sizes, and what it refuses."""

import errno
import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from LoraModel.lora import LoRAConfig, extract, inject, load_adapter, save_adapter, tensors_hash
from LoraModel.lora.adapter_file import FIELDS, REQUIRED, checksum, read_metadata
from LoraModel.messages import UserError

ROOT = Path(__file__).resolve().parents[1]
HASH = "3f9c" + "0" * 60
METADATA = dict(name="voice_a", base_hash=HASH, base_name="f0G40k", rvc_version="v2", sample_rate=40000, f0=1, speaker=0)
CONFIG = LoRAConfig(targets={"ups": {"r": 2, "lora_alpha": 4}, "flow": {"r": 1, "lora_alpha": 1}, "spk_row": {"r": 1, "lora_alpha": 1}})


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
        "format": "rvc-lora", "format_version": "1", "name": "voice_a", "base_hash": HASH, "base_name": "f0G40k", "rvc_version": "v2",
        "sample_rate": "40000", "f0": "1", "speaker": "0", "preset": "custom", "notes": "ünï 音色", "lora_config": CONFIG.to_json(),
    }
    # The checksum as docs/phase1_lora_core.md describes it to other programs, worked out here without the library.
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
    # Row 0's largest is 127 * 2^-7, so its scale is exactly 2^-7 = 0.0078125 and values are whole numbers of it: 127, -64, 0, 1.
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
                bound = ((largest / 254) * (1 + 2**-10) + 2**-25).reshape([-1 if d == axis else 1 for d in range(tensor.dim())]).expand_as(tensor)
                bound = bound * (1 + 1e-5)
            assert bool(((found - tensor).abs() <= bound).all()), (bits, name)


def test_metadata_is_complete_and_read_without_tensors(tmp_path):
    everything = {key: f"value of {key}" for key in FIELDS if key not in METADATA and key != "lora_config"}
    path, _ = saved(tmp_path, **everything)
    metadata = read_metadata(path)
    assert set(metadata) == set(FIELDS) | {"format", "format_version", "checksum"}
    assert set(REQUIRED) <= set(metadata) and all(isinstance(value, str) for value in metadata.values())
    adapter = load_adapter(path)
    assert adapter.metadata == metadata and adapter.name == "voice_a" and adapter.speaker == 0


def test_a_loaded_adapter_can_be_saved_again(tmp_path):
    path, _ = saved(tmp_path, notes="kept")
    adapter = load_adapter(path)
    again = load_adapter(save_adapter(tmp_path / "b.safetensors", adapter.tensors, adapter.config, adapter.metadata, 16))
    assert again.metadata == adapter.metadata
    assert all(torch.equal(tensor, adapter.tensors[name]) for name, tensor in again.tensors.items())


def test_names_that_are_no_utf8_are_saved(tmp_path):
    path, _ = saved(tmp_path, author="caf\udce9")
    assert load_adapter(path).metadata["author"] == "caf?"


# Sizes at RVC v2 40k.


@pytest.fixture(scope="module")
def full_sizes(full_network, tmp_path_factory):
    """Bytes of each preset's file at v2 40k: {(preset, bits): bytes}, and of the fp16 tensors of RVC's own small model."""
    network, folder, sizes = full_network("v2", True), tmp_path_factory.mktemp("sizes"), {}
    for preset in ("fast", "balanced", "high_quality"):
        injection = inject(network, LoRAConfig.from_preset(preset))
        for bits in (16, 8):
            path = folder / f"{preset}{bits}.safetensors"
            save_adapter(path, injection.tensors(), injection.config, {
                **METADATA, "heldout": json.dumps({"mel": 0.5123, "kl": 1.234}), "created": "2026-01-01T00:00:00Z", "steps": 2000,
                "epochs": 100, "data_seconds": 600.0, "author": "a person with a long name", "license": "CC-BY-4.0", "notes": "n" * 500,
            }, bits)
            sizes[preset, bits] = path.stat().st_size
        extract(network)
    return sizes, sum(2 * tensor.numel() for name, tensor in network.state_dict().items() if not name.startswith("enc_q."))


def test_default_preset_keeps_its_promise(full_sizes):
    sizes, base = full_sizes
    assert sizes["balanced", 16] <= 387_000
    assert round(base / 1e6, 2) == 55.07
    assert base + 10 * sizes["balanced", 16] <= 58_870_000


def test_the_other_sizes(full_sizes):
    sizes, _ = full_sizes
    assert sizes["fast", 16] < sizes["balanced", 16] < sizes["high_quality", 16]
    for preset in ("fast", "balanced", "high_quality"):
        assert sizes[preset, 8] < 0.65 * sizes[preset, 16]


# Refusals.


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_are_not_finite_in_fp16_are_not_saved(tmp_path, value, bits):
    path, tensors = saved(tmp_path)
    before = path.read_bytes()
    tensors["dec.ups.0.lora_B.weight"][0, 0, 0] = value
    with pytest.raises(ValueError, match="dec.ups.0.lora_B.weight has values that are not finite in fp16"):
        save_adapter(path, tensors, CONFIG, METADATA, bits)
    assert path.read_bytes() == before and os.listdir(str(tmp_path)) == ["a.safetensors"]


def test_metadata_nonsense_is_not_saved(tmp_path):
    _, tensors = tiny()
    with pytest.raises(ValueError, match=r"unknown \['colour'\]"):
        save_adapter(tmp_path / "a", tensors, CONFIG, {**METADATA, "colour": "red"})
    with pytest.raises(ValueError, match=r"missing \['base_hash'\]"):
        save_adapter(tmp_path / "a", tensors, CONFIG, {k: v for k, v in METADATA.items() if k != "base_hash"})
    with pytest.raises(ValueError, match="bits=4"):
        save_adapter(tmp_path / "a", tensors, CONFIG, METADATA, 4)
    assert os.listdir(str(tmp_path)) == []


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo ran > '{self.path}'",)


def test_files_that_are_no_adapter_are_refused_and_nothing_runs(tmp_path):
    path, marker = tmp_path / "x.safetensors", tmp_path / "ran"
    foreign = safetensors.torch.save({"a": torch.zeros(3)}, {"format": "pt"})
    bare = safetensors.torch.save({"a": torch.zeros(3)})
    torch.save({"a": Evil(str(marker))}, str(tmp_path / "torch.pth"))
    cases = {
        "empty": (b"", "not a usable"), "pickle": (pickle.dumps(Evil(str(marker))), "not a usable"),
        "torch": ((tmp_path / "torch.pth").read_bytes(), "not a usable"), "text": (b"hello" * 100, "not a usable"),
        "zeros": (bytes(1000), "not a usable"), "huge header": (struct.pack("<Q", 2**62) + b"{}", "not a usable"),
        "foreign": (foreign, "its format is 'pt'"), "without metadata": (bare, "its format is 'not named'"),
    }
    for name, (data, message) in cases.items():
        path.write_bytes(data)
        for read in (load_adapter, read_metadata):
            with pytest.raises(UserError, match=message):
                read(path)
    assert not marker.exists()
    with pytest.raises(UserError, match="there is no adapter file .*check the path"):
        load_adapter(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="there is no adapter file"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("bits", [16, 8])
def test_truncated_anywhere_is_refused(tmp_path, bits):
    path, _ = saved(tmp_path, bits)
    data = path.read_bytes()
    for length in sorted({0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1, *range(0, len(data), 97)}):
        path.write_bytes(data[:length])
        with pytest.raises(UserError):
            load_adapter(path)
    path.write_bytes(data + b"x")
    with pytest.raises(UserError):
        load_adapter(path)


@pytest.mark.parametrize("bits", [16, 8])
def test_a_flipped_bit_anywhere_is_refused(tmp_path, bits):
    path, _ = saved(tmp_path, bits)
    data, passed = path.read_bytes(), []
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(flipped))
        try:
            load_adapter(path)
        except UserError:
            continue
        passed.append(position)
    # What may pass changes nothing: blanks that pad the JSON header to a multiple of eight.
    (length,) = struct.unpack("<Q", data[:8])
    assert [p for p in passed if not (8 <= p < 8 + length and data[p : p + 1] == b" ")] == []


def rewritten(path, change):
    """Rewrite a file through `change(metadata, tensors)`, with a checksum that is right again."""
    metadata, _, _ = parse(path.read_bytes())
    tensors = safetensors.torch.load_file(str(path))
    change(metadata, tensors)
    if "checksum" in metadata:
        metadata["checksum"] = checksum(metadata, tensors)
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    return path


@pytest.mark.parametrize("change,message", [
    (lambda m, t: m.update(format_version="2"), "format version '2', this program reads '1': update RVC-LoRA"),
    (lambda m, t: m.pop("base_hash"), "metadata lacks base_hash"),
    (lambda m, t: m.pop("checksum"), "metadata lacks checksum"),
    (lambda m, t: m.update(lora_config="{"), "not JSON"),
    (lambda m, t: m.update(lora_config="[" * 100000), "not JSON"),
    (lambda m, t: m.update(lora_config='{"r": 0}'), "r=0"),
    (lambda m, t: m.update(lora_config='{"targets": {"ups": {"lora_alpha": 1e999}}}'), "lora_alpha=inf"),
    (lambda m, t: m.update(lora_config='{"targets": {"ups": {"r": ' + "9" * 400 + "}}}"), "whole number"),
    (lambda m, t: m.update(speaker="first"), "not a usable"),
    (lambda m, t: m.update(sample_rate="40k"), "not a usable"),
    (lambda m, t: t.update({"dec.ups.0.weight": torch.zeros(1)}), "unknown tensor dec.ups.0.weight"),
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.full((2, 8, 1), float("nan"))}), "lora_A.weight is not finite"),
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.zeros(2, 8, 1, dtype=torch.int8)}), "without its scale"),
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.zeros(2, 8, 1, dtype=torch.int32)}), "not finite"),
    (lambda m, t: t.update({"dec.ups.9.lora_A.weight_scale": torch.zeros(2)}), "without its tensor"),
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.zeros(2, 8, 1, dtype=torch.int8),
                            "dec.ups.0.lora_A.weight_scale": torch.zeros(3)}), r"shape \(2, 8, 1\) but \(3,\) scales"),
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.zeros((), dtype=torch.int8),
                            "dec.ups.0.lora_A.weight_scale": torch.zeros(1)}), r"shape \(\) but \(1,\) scales"),
], ids=[str(i) for i in range(17)])
def test_contents_that_make_no_sense_are_refused(tmp_path, change, message):
    path = rewritten(saved(tmp_path)[0], change)
    with pytest.raises(UserError, match=message):
        load_adapter(path)


def test_other_types_of_tensor_load(tmp_path):
    def change(_metadata, tensors):
        tensors["dec.ups.0.lora_A.weight"] = tensors["dec.ups.0.lora_A.weight"].bfloat16()
        tensors["dec.ups.0.lora_B.weight"] = tensors["dec.ups.0.lora_B.weight"].double()

    adapter = load_adapter(rewritten(saved(tmp_path)[0], change))
    adapter.check(Tiny())
    assert all(delta.dtype == torch.float32 for delta in adapter.deltas(Tiny()).values())


@pytest.mark.parametrize("change,message", [
    (lambda t: t.pop("dec.ups.0.lora_A.weight"), r"dec.ups.0 has \{'lora_B.weight'.*the network wants"),
    (lambda t: [t.pop("dec.ups.0.lora_A.weight"), t.pop("dec.ups.0.lora_B.weight")], "lacks the layer dec.ups.0"),
    (lambda t: t.update({"dec.ups.1.lora_A.weight": torch.zeros(1)}), "does not know, the layer dec.ups.1"),
    (lambda t: t.update({"dec.ups.0.lora_C.weight": torch.zeros(1)}), "dec.ups.0 has .*lora_C"),
    (lambda t: t.update({"flow.flows.0.pre.lora_A.weight": torch.zeros(1, 4, 5)}), r"flow.flows.0.pre has .*\(1, 4, 5\)"),
    (lambda t: t.update({"emb_g.lora_row.weight": torch.zeros(1, 5)}), r"emb_g has .*\(1, 5\)"),
])
def test_check_names_what_is_missing_extra_or_misshapen(tmp_path, change, message):
    network, tensors = tiny()
    load_adapter(save_adapter(tmp_path / "a.safetensors", tensors, CONFIG, METADATA)).check(network)
    change(tensors)
    adapter = load_adapter(save_adapter(tmp_path / "b.safetensors", tensors, CONFIG, METADATA))
    with pytest.raises(UserError, match=message):
        adapter.check(network)


@pytest.mark.parametrize("speaker", [3, -1])
def test_check_refuses_a_speaker_that_the_base_lacks(tmp_path, speaker):
    path, _ = saved(tmp_path, speaker=speaker)
    with pytest.raises(UserError, match=f"adapts speaker {speaker}, the base has 3"):
        load_adapter(path).check(Tiny())


def test_a_wrong_base_names_both_and_force_is_the_way_past(tmp_path):
    path, _ = saved(tmp_path)
    assert load_adapter(path, HASH, "f0G40k").name == "voice_a"
    with pytest.raises(UserError, match=r"adapter 'voice_a' was trained on base f0G40k \(3f9c0000…\), the loaded base is f0G48k \(a01b0000…\): "
                                        "choose that base or pass --force"):
        load_adapter(path, "a01b" + "0" * 60, "f0G48k")
    assert load_adapter(path, "a01b" + "0" * 60, "f0G48k", force=True).name == "voice_a"


def test_deltas_by_hand(tmp_path):
    network, tensors = tiny()
    adapter = load_adapter(save_adapter(tmp_path / "a.safetensors", tensors, CONFIG, METADATA))
    deltas = adapter.deltas(network, strength=0.5)
    a, b = adapter.tensors["dec.ups.0.lora_A.weight"].float(), adapter.tensors["dec.ups.0.lora_B.weight"].float()
    by_hand = sum(a[k, :, 0, None, None] * b[k][None] for k in range(2)) * 2.0 * 0.5  # alpha / r = 2, strength 0.5
    torch.testing.assert_close(deltas["dec.ups.0"], by_hand)
    assert torch.equal(deltas["emb_g"][0], 0.5 * adapter.tensors["emb_g.lora_row.weight"][0].float()) and not deltas["emb_g"][1:].any()
    for path, (left, right) in adapter.products(network).items():
        torch.testing.assert_close((left @ right) * 0.5, deltas[path].flatten(1))


# Saving is atomic.

SAVER = """
import sys, torch
from LoraModel.lora import LoRAConfig, save_adapter
n = 0
metadata = dict(name="v", base_hash="0" * 64, base_name="b", rvc_version="v2", sample_rate=40000, f0=1, speaker=0)
print("ready", flush=True)
while True:
    n += 1
    save_adapter(sys.argv[1], {"emb_g.lora_row.weight": torch.full((1, 100_000), float(n % 1000))},
                 LoRAConfig(targets={"spk_row": True}), {**metadata, "steps": n})
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_kill_9_while_saving_leaves_the_old_or_the_new_file(tmp_path):
    path, dice, kills, seen = tmp_path / "a.safetensors", random.Random(1), 0, set()
    delays = ",".join(f"{dice.uniform(0, 0.06):.4f}" for _ in range(30))
    # One process imports torch, which takes seconds, and forks the thirty that save and are killed; it goes on when told to.
    with subprocess.Popen([sys.executable, "-c", FORKER, SAVER, str(path), delays], cwd=str(ROOT), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, universal_newlines=True) as forker:
        for line in forker.stdout:
            if line.strip() != "killed":
                continue
            kills += 1
            if path.exists():
                adapter = load_adapter(path)
                row = adapter.tensors["emb_g.lora_row.weight"]
                assert bool((row == float(int(adapter.metadata["steps"]) % 1000)).all())
                seen.add(adapter.metadata["steps"])
            forker.stdin.write("go on\n")
            forker.stdin.flush()
    assert forker.returncode == 0 and kills == 30 and len(seen) > 3  # the kills did come at different moments
    _, tensors = tiny()
    save_adapter(path, tensors, CONFIG, METADATA)  # whatever a kill left beside it is in nobody's way
    assert load_adapter(path).name == "voice_a"


FORKER = """
import os, signal, sys, time
import torch
import LoraModel.lora
saver, path, delays = sys.argv[1], sys.argv[2], [float(d) for d in sys.argv[3].split(",")]
for delay in delays:
    child = os.fork()
    if child == 0:
        sys.argv = ["saver", path]
        torch.set_num_threads(1)
        exec(saver)
    time.sleep(0.02 + delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    path, tensors = saved(tmp_path)
    before = path.read_bytes()

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError):
        save_adapter(path, {name: tensor * 2 for name, tensor in tensors.items()}, CONFIG, METADATA)
    monkeypatch.undo()
    assert path.read_bytes() == before and os.listdir(str(tmp_path)) == ["a.safetensors"]


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
    by_hand = hashlib.sha256(b"a(2,)" + np.array([1, 2], "<f2").tobytes() + b"b(1,)" + np.array([3], "<f2").tobytes()).hexdigest()
    assert tensors_hash([("b", torch.tensor([3.0])), ("a", torch.tensor([1.0, 2.0]))]) == by_hand
