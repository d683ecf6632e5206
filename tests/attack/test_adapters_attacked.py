"""Hostile and damaged adapter files: each is refused in one printable line, or loads as what it was; none takes memory
or a voice along."""

import copy
import json
import random
import struct

import pytest
import safetensors.torch
import torch
from adapter_data import Tiny, parse, saved

from LoraModel.conversion.inspect import describe_adapter
from LoraModel.lora import load_adapter, save_adapter
from LoraModel.lora.adapter_file import checksum, read_metadata
from LoraModel.lora.adapter_metadata import FIELDS, one_line
from LoraModel.messages import UserError, tr
from LoraModel.models.prior_noise import noise_layers, told_targets
from LoraModel.webui.panel import adapter_info

pytestmark = pytest.mark.attack


def container(entries, size=0):
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def with_metadata(path, **fields):
    """The file with other metadata, without those that are None, and a checksum that is right again."""
    metadata, _, _ = parse(path.read_bytes())
    tensors = safetensors.torch.load(path.read_bytes())
    metadata = {key: value for key, value in {**metadata, **fields}.items() if value is not None}
    metadata["checksum"] = checksum(metadata, tensors)
    path.write_bytes(safetensors.torch.save(tensors, metadata))


def refusal(path, read=load_adapter):
    with pytest.raises(UserError) as caught:
        read(path)
    for text in (caught.value.en, caught.value.zh):
        assert len(text) < 1000 and text.isprintable(), text
    return caught.value.en


def test_mutated_files_are_refused_in_one_printable_line_or_load_as_they_were(tmp_path, attack_rounds):
    path, _ = saved(tmp_path, notes="n")
    whole, dice = path.read_bytes(), random.Random(1)
    tensors = load_adapter(path).tensors
    for _ in range(150 * attack_rounds):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            kind = dice.randrange(4)
            if kind == 0:
                data[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                del data[at:at + dice.randint(1, 40)]
            elif kind == 2:
                data[at:at] = bytes(dice.randrange(256) for _ in range(dice.randint(1, 20)))
            else:
                data[at:at + 8] = struct.pack("<Q", dice.choice([0, 1, 2**31, 2**63, len(whole)]))
        path.write_bytes(bytes(data))
        try:
            adapter = load_adapter(path)
        except UserError as error:
            assert error.en.isprintable() and len(error.en) < 1000
            continue
        assert all(torch.equal(tensor, adapter.tensors[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("field, value", [
    ("speaker", "²"), ("speaker", "１"), ("speaker", "9" * 4000), ("sample_rate", "٣"), ("sample_rate", "0"),
    ("f0", "yes"),
    ("base_hash", "x" * 64), ("rvc_version", "v\x1b[2J"), ("lora_config", "[" * 100_000), ("lora_config", " " * 50_000),
])
def test_a_field_the_program_works_with_must_be_what_it_should(tmp_path, field, value):
    path, _ = saved(tmp_path)
    with_metadata(path, **{field: value})
    assert "not a usable" in refusal(path) and field in refusal(path, read_metadata)


def test_fields_that_describe_are_left_out_or_cut_and_made_printable(tmp_path):
    path, _ = saved(tmp_path)
    with_metadata(path, name="a\x1b[31m\nb" + "x" * 100_000, steps="²", epochs="1e999", data_seconds="１",
                  heldout='{"base": NaN}', author="\u202e evil", notes="y" * 100_000)
    metadata = load_adapter(path).metadata
    assert metadata == read_metadata(path) and all(value.isprintable() for value in metadata.values())
    assert len(metadata["name"]) == 200 and len(metadata["notes"]) == 10_000 and metadata["author"] == "evil"
    assert not {"steps", "epochs", "data_seconds", "heldout"} & set(metadata)


JSON_ODD = [None, True, False, 0, -1, 10**6, 0.5, 1e-320, 1e300, float("nan"), float("inf"), "", "x", "\ud800\n\x1b[2J",
            "y" * 2000, [], [1], [[]], {}, {"r": 1}, {"x": []}, {"clear": {"r": []}}]


def places(tree, at=()):
    """The path of every value in a tree of dictionaries, inner ones first."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from places(value, (*at, key))
        yield (*at, key)


def everything_reads(path, again):
    """Whatever reads an adapter's words, for a page, a terminal, another file: a `UserError`, or text that can be
    shown."""
    for read in (lambda: list(read_metadata(path).values()), lambda: [adapter_info.describe(path, tr)],
                 lambda: describe_adapter(path)):
        try:
            lines = read()
        except UserError as error:
            lines = [str(error)]
            assert str(error).isprintable() and len(str(error)) < 1000
        assert all(line.encode("utf-8") is not None for line in lines)
    try:
        adapter = load_adapter(path)
        told_targets(adapter.config)
        noise_layers(adapter)
        save_adapter(again, adapter.tensors, adapter.config, {
            key: value for key, value in adapter.metadata.items() if key != "preset"})
        assert load_adapter(again).config == adapter.config
        adapter.check(Tiny())
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 1000


def test_any_value_at_any_place_of_the_configuration(tmp_path):
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    config = {**json.loads(parse(whole)[0]["lora_config"]), "unknown": 1}
    for place in places(config):
        for value in JSON_ODD:
            changed = copy.deepcopy(config)
            if place != ("unknown",):
                del changed["unknown"]
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_bytes(whole)
            with_metadata(path, lora_config=json.dumps(changed), preset=None)
            everything_reads(path, tmp_path / "again.safetensors")


TEXT_ODD = ["", " ", "x", "0", "-1", "1e999", "nan", "null", "[]", "{}", "[1]", '{"base": []}',
            '{"base": 1, "adapter": null}', '{"median": 1e999, "low": 2, "high": 3}', '[["a", "b", 1]]', "[" * 400,
            "9" * 400, "²", "\x1b[2J\n", "é" * 500, "A" * 7, "T2dnUw=="]


def test_any_text_in_any_field(tmp_path):
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    for field in (*FIELDS, "format", "format_version", "modelspec.title", "unknown"):
        for value in TEXT_ODD:
            path.write_bytes(whole)
            with_metadata(path, **{field: value})
            everything_reads(path, tmp_path / "again.safetensors")


def test_a_small_file_cannot_claim_much_memory(tmp_path):
    path = tmp_path / "sparse.safetensors"
    size = 2 * 2**30
    path.write_bytes(container({"__metadata__": {"format": "rvc-lora"}, "a.lora_A.weight": {
        "dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}))
    with open(str(path), "r+b") as stream:
        stream.truncate(path.stat().st_size + size)
    assert "at most" in refusal(path)
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    refusal(path)


@pytest.mark.parametrize("dtype, value", [(torch.float64, 1e300), (torch.float64, -1e5), (torch.float32, 1e38),
                                          (torch.bfloat16, 3e38), (torch.float32, float("nan"))])
def test_values_whose_products_no_network_can_hold_are_refused(tmp_path, dtype, value):
    path, _ = saved(tmp_path)
    metadata, _, _ = parse(path.read_bytes())
    tensors = {name: tensor.to(dtype) for name, tensor in safetensors.torch.load(path.read_bytes()).items()}
    for last, makes in ((1.5, load_adapter), (value, refusal)):
        tensors["dec.ups.0.lora_B.weight"].view(-1)[-1] = last
        metadata["checksum"] = checksum(metadata, tensors)
        path.write_bytes(safetensors.torch.save(tensors, metadata))
        found = makes(path)
        if makes is load_adapter:
            assert torch.float64 not in {tensor.dtype for tensor in found.tensors.values()}
        else:
            assert "dec.ups.0.lora_B.weight is not finite" in found


def test_a_file_changed_under_a_loaded_adapter_changes_nothing(tmp_path):
    path, _ = saved(tmp_path)
    adapter = load_adapter(path)
    before = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    with open(str(path), "r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(b"\xff" * 100)
        stream.truncate(64)
    assert all(torch.equal(tensor, adapter.tensors[name]) for name, tensor in before.items())
    adapter.check(Tiny())


@pytest.mark.parametrize("entry", [
    {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]},
    {"dtype": ["F16"], "shape": [1], "data_offsets": [0, 2]},
    {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}, {"dtype": "F16", "shape": [1], "data_offsets": [0, True]},
    3,
])
def test_tensors_of_other_types_and_nonsense_are_refused(tmp_path, entry):
    path = tmp_path / "a.safetensors"
    path.write_bytes(container({"__metadata__": {"format": "rvc-lora"}, "a.lora_A.weight": entry}, 2))
    refusal(path)
    path.write_bytes(container({"__metadata__": {"format": "rvc-lora"}, "n" * 5000 + ".lora_A.weight": entry}, 2))
    refusal(path)


@pytest.mark.parametrize("name, metadata, said", [
    ("lora_unet_down_blocks_0.lora_down.weight", {"ss_network_dim": "4"}, "kohya"),
    ("base_model.model.q_proj.lora_A.weight", {"format": "pt"}, "PEFT"),
    ("cfm.estimator.to_q.lora_A.default.weight", {}, "GPT-SoVITS"), ("emb_g.weight", {}, "full voice"),
])
def test_other_programs_files_are_named_as_what_they_are(tmp_path, name, metadata, said):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.torch.save({name: torch.zeros(2, 2)}, metadata))
    assert said in refusal(path)


def test_one_line():
    assert one_line("a\n\x1b[2J\u202eb") == "a [2J b" and len(one_line("x" * 10**6)) == 200
