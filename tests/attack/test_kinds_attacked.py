"""Model files whose tensors have no shape, size or type that a network's have: one of them in a folder is "other" with
a problem, and the lists of the page go on without it."""

import json
import random
import struct
import sys
import time

import pytest
import safetensors.torch
import torch
from catalog_data import discriminator, generator
from model_files import demo_config, save

from LoraModel.conversion.inspect import describe
from LoraModel.messages import UserError
from LoraModel.models import load_base, load_discriminator, model_kind, read_checkpoint, tensor_file
from LoraModel.models.catalog import Catalog
from LoraModel.models.model_form import normalise
from LoraModel.models.model_kind import ADAPTER, BASE, DISCRIMINATOR, OTHER, VOICE, kind_of
from LoraModel.models.model_utils import network_of_shapes
from LoraModel.models.tensor_refs import StorageRef, TensorRef

pytestmark = pytest.mark.attack
KIND = sys.modules["LoraModel.models.model_kind"]

LOOKED_AT = [
    "enc_p.emb_phone.weight", "emb_g.weight", "enc_p.emb_pitch.weight", "enc_q.pre.weight", "dec.noise_convs.0.weight",
    *(f"dec.ups.{at}.{key}" for at in (0, 1) for key in (
        "weight", "weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1")),
    "dec.resblocks.0.convs1.0.weight", "dec.resblocks.0.convs1.0.weight_v", "enc_q.enc.cond_layer.weight",
    "flow.flows.0.enc.in_layers.0.weight", "flow.flows.0.enc.res_skip_layers.0.weight", "dec.mrfs.0.weight",
    "dec.upsample_blocks.0.weight", "discriminators.0.convs.0.weight", "unet.encoder.weight", "x.lora_A.weight",
]
"""Names that say what a file is."""
SHAPES = [(), (0,), (1,), (5,), (0, 0), (3, 0), (0, 3, 4), (3, 0, 4), (2, 3), (192, 768), (2, 3, 4), (2, 3, 4, 5),
          (1,) * 12, (2**47,), (2**47, 2**47), (2**47, 2**47, 2**47), (0, 2**47, 2**47)]
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.uint8, torch.bool]
ODD = [None, [], {}, (), "", b"x", "v2", "v3", 0, -1, 1.5, True, float("nan"), float("inf"), 10**30, -10**30, set(),
       [[]], {"a": [1]}, "x" * 1000, "\ud800", "[" * 1000, "16k", [1] * 18, [None] * 18, [float("inf")] * 18, [{}] * 17,
       torch.zeros(())]
BESIDE = ("config", "version", "sr", "f0", "info", "vocoder", "sample_rate", "metadata", "format", "rvc_version",
          "base_hash", "voice_noise", "voice_pitch", "optimizer", "param_groups")


def ref(shape, dtype=torch.float32):
    """A tensor as a file's description claims it; nothing of it is there."""
    return TensorRef(StorageRef("0", dtype, 1), 0, torch.Size(shape), (1,) * len(shape), dtype)


def small():
    """A generator's first tensors, as far as a kind is told by them."""
    return {"enc_p.emb_phone.weight": (192, 768), "emb_g.weight": (1, 256), "dec.ups.0.weight_v": (8, 4, 16),
            "dec.resblocks.0.convs1.0.weight_v": (4, 4, 3)}


def answered(contents, path="x.pth"):
    """The kind of a file of these contents: whatever it is, it has a problem or can be listed."""
    found = kind_of(path, contents, normalise(contents))
    assert found.kind in (BASE, VOICE, DISCRIMINATOR, ADAPTER, OTHER)
    assert (found.problem is not None) == (found.kind == OTHER)
    assert "\n" not in str(found.problem) and len(str(found.problem)) < 1000
    if found.is_generator:
        assert found.sample_rate is None or 1 <= found.sample_rate < 10**6
        assert type(found.speakers) is int and found.speakers > 0
    return found


@pytest.fixture
def nothing_unforeseen(monkeypatch):
    """The last resort of `kind_of` fails: each check must find what it is there for."""
    def fail(path):
        raise AssertionError(f"not foreseen: {sys.exc_info()[1]!r}") from sys.exc_info()[1]

    monkeypatch.setattr(KIND, "_beyond_all_rules", fail)


@pytest.mark.parametrize("wrapping", ["weight", ""])
def test_every_shape_under_every_name(nothing_unforeseen, wrapping):
    for name in LOOKED_AT:
        for shape in SHAPES:
            weights = {key: ref(value) for key, value in {**small(), name: shape}.items()}
            answered({wrapping: weights} if wrapping else weights)
            answered({"weight": {name: ref(shape)}})


def test_a_generator_is_known_by_two_matrices(tmp_path, library):
    for name in ("enc_p.emb_phone.weight", "emb_g.weight"):
        for shape in ((), (5,), (0, 768), (192, 0), (1, 2, 3)):
            weights = {key: torch.zeros(size) for key, size in {**small(), name: shape}.items()}
            path = save(tmp_path / "x.pth", {"weight": weights, "version": "v2"})
            found = model_kind(path)
            assert found.kind == OTHER and f"{name} has shape {shape}" in str(found.problem)
            with pytest.raises(UserError, match="has shape"):
                load_base(path, library)


def test_every_value_beside_the_tensors(nothing_unforeseen):
    weights = {key: ref(value) for key, value in small().items()}
    adapter = {"x.lora_A.weight": ref((1, 1))}
    for key in BESIDE:
        for value in ODD:
            assert answered({"weight": weights, key: value}).kind == VOICE
            answered({"model": adapter, "metadata": {"format": "rvc-lora", key: value}})
            answered({"model": adapter, "format": "rvc-lora", key: value})
            answered({key: value})
    for value in ODD:
        answered(value)


def test_a_file_of_several_oddities(tmp_path, attack_rounds, library):
    """At random, and as real files: nothing but a `UserError` comes out of anything that reads a model."""
    chance = random.Random(5)
    for _ in range(60 * attack_rounds):
        sizes = small() if chance.random() < 0.7 else {}
        for name in chance.sample(LOOKED_AT, chance.choice((1, 2, 4))):
            sizes[chance.choice(("", "module.")) + name] = chance.choice(SHAPES[:13])
        weights = {name: torch.zeros(size, dtype=chance.choice(TYPES)) for name, size in sizes.items()}
        beside = {key: chance.choice(ODD) for key in chance.sample(BESIDE, chance.randrange(5))}
        wrapping = chance.choice(("weight", "model", "net_g", "other"))
        path = save(tmp_path / "x.pth", {wrapping: weights, **beside},
                    _use_new_zipfile_serialization=chance.random() < 0.5)
        if chance.random() < 0.3:
            path = tmp_path / "x.safetensors"
            safetensors.torch.save_file(weights, str(path), {key: value for key, value in beside.items()
                                                             if isinstance(value, str) and value.isascii()})
        for read in (lambda file: model_kind(file).tensors_hash(), describe, lambda file: load_base(file, library),
                     lambda file: network_of_shapes(file, library),
                     lambda file: load_discriminator(file, library, "v2")):
            try:
                read(path)
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 1500


@pytest.mark.parametrize("weights", [
    {"dec.ups.0.weight": torch.tensor(1.0)},
    {"dec.ups.0.weight_v": torch.tensor(1.0), "dec.ups.0.weight_g": torch.tensor(1.0)},
    {"dec.resblocks.0.convs1.0.weight": torch.ones(3)}, {"flow.x.cond_layer.weight": torch.zeros(0, 0)}])
def test_one_bad_file_takes_no_list_with_it(tmp_path, weights):
    generator(tmp_path / "assets/pretrained_v2/f0G40k.pth")
    generator(tmp_path / "assets/weights/lisa.pth", posterior=False, wrapping="weight")
    discriminator(tmp_path / "assets/pretrained_v2/f0D40k.pth")
    catalog = Catalog(tmp_path)
    lists = ("bases", "trainable", "discriminators", "adapters", "rates")
    before = {name: getattr(catalog, name)() for name in lists}
    assert [len(before[name]) for name in lists] == [2, 1, 1, 0, 1]
    made = {"enc_p.emb_phone.weight": torch.zeros(192, 768), "emb_g.weight": torch.zeros(1, 256), **weights}
    for wrapping in ("weight", "model"):
        save(tmp_path / "assets/weights/evil.pth", {wrapping: made, "version": "v2", "f0": 1})
        assert {name: getattr(catalog, name)() for name in lists} == before
        assert catalog.hash_of(tmp_path / "assets/weights/evil.pth") == ""


def test_what_nobody_has_thought_of_is_other(tmp_path, monkeypatch):
    path = save(tmp_path / "x.pth", {"weight": {name: torch.zeros(size) for name, size in small().items()}})
    for name in ("_kind", "normalise", "open_checkpoint"):
        with monkeypatch.context() as patch:
            patch.setattr(KIND, name, lambda *_: 1 // 0)
            found = model_kind(path)
            assert found.kind == OTHER and "breaks the rules of the format" in str(found.problem)


def test_a_name_of_a_million_prefixes_takes_no_time():
    started = time.monotonic()
    form = normalise({"weight": {"module._orig_mod." * 300_000 + "emb_g.weight": ref((1, 256))}})
    assert list(form.weights) == ["emb_g.weight"] and time.monotonic() - started < 5


def test_strides_that_no_tensor_has(tmp_path, library):
    """No value at all, in steps beyond all numbers of PyTorch's."""
    header = json.dumps({name: {"dtype": "F16", "shape": [0, 2**47, 2**47, 2**47], "data_offsets": [0, 0]}
                         for name in ("a", "dec.ups.0.weight_v", "x.lora_A.weight")}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert model_kind(path).kind == OTHER
    with pytest.raises(UserError, match="breaks the rules of the format"):
        read_checkpoint(path)


def test_one_storage_that_all_tensors_share_is_no_way_round_the_limit(tmp_path, monkeypatch):
    """A file of a few bytes, as its zeros are packed, would be hashed for hours."""
    shared = torch.zeros(1 << 18)
    path = save(tmp_path / "x.pth", {"model": {f"discriminators.{at}.x": shared[:] for at in range(9)}})
    monkeypatch.setattr(tensor_file, "MAX_TENSOR_BYTES", 4 << 20)
    with pytest.raises(UserError, match="its tensors have more than"):
        read_checkpoint(path)
    monkeypatch.setattr(tensor_file, "MAX_TENSOR_BYTES", 9 << 20)
    assert len(read_checkpoint(path)["model"]) == 9


def test_what_is_whole_is_still_known(nothing_unforeseen):
    weights = {name: ref(size) for name, size in small().items()}
    found = answered({"weight": weights, "config": demo_config()})
    assert (found.kind, found.version, found.speakers, found.sample_rate) == (VOICE, "v2", 1, 16000)
    assert answered({"model": {**weights, "enc_q.pre.weight": ref((1, 1, 1))}}).kind == BASE
