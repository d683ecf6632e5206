"""What the adapter file refuses, and that a kill or a full disk leaves the old file or the new one."""

import errno
import os
import pickle
import random
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from adapter_data import CONFIG, HASH, METADATA, Tiny, parse, saved, tiny
from killing import savers_killed

from LoraModel.lora import load_adapter, save_adapter
from LoraModel.lora.adapter_file import checksum, read_metadata, rounded
from LoraModel.messages import UserError

ROOT = Path(__file__).resolve().parents[2]

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


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_tensor_that_is_no_matrix_is_not_saved_in_8_bits(shape):
    with pytest.raises(UserError, match=r"a.lora_B.weight has shape \(.*\): the adapter is damaged"):
        rounded({"a.lora_B.weight": torch.zeros(shape)}, 8)


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
        "foreign": (foreign, "its format is 'pt'"), "without metadata": (bare, "its format is not named"),
    }
    for _name, (data, message) in cases.items():
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
    (lambda m, t: t.update({"dec.ups.0.lora_A.weight": torch.full((2, 8, 1), float("nan"))}),
     "lora_A.weight is not finite"),
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
    (lambda t: t.update({"flow.flows.0.pre.lora_A.weight": torch.zeros(1, 4, 5)}),
     r"flow.flows.0.pre has .*\(1, 4, 5\)"),
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
    with pytest.raises(UserError,
                       match=r"adapter 'voice_a' was trained on base f0G40k \(3f9c0000…\), the loaded base is "
                             r"f0G48k \(a01b0000…\): choose that base or pass --force"):
        load_adapter(path, "a01b" + "0" * 60, "f0G48k")
    assert load_adapter(path, "a01b" + "0" * 60, "f0G48k", force=True).name == "voice_a"


# Saving is atomic.

SAVER = """
import sys, torch
from LoraModel.lora import LoRAConfig, save_adapter
from LoraModel.lora.targets import Target, define_targets
define_targets({"spk_row": Target("emb_g", form="row")}, {"row": {"spk_row": (1, 1)}}, "row")
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
    path, dice, seen = tmp_path / "a.safetensors", random.Random(1), set()
    for _ in savers_killed(SAVER, path, [dice.uniform(0, 0.03) for _ in range(30)]):
        if path.exists():
            adapter = load_adapter(path)
            row = adapter.tensors["emb_g.lora_row.weight"]
            assert bool((row == float(int(adapter.metadata["steps"]) % 1000)).all())
            seen.add(adapter.metadata["steps"])
    assert len(seen) > 3  # the kills did come at different moments
    _, tensors = tiny()
    save_adapter(path, tensors, CONFIG, METADATA)  # whatever a kill left beside it is in nobody's way
    assert load_adapter(path).name == "voice_a"


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
