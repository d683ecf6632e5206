"""The model files that the page may name: told by what is in them, one list for loading and training."""

import shutil
import time
from pathlib import Path

import pytest
import torch
from catalog_data import discriminator, generator
from panel_data import LIBRARY
from voice_data import BASE, make_adapter

from LoraModel.lora.adapter_file import read_metadata
from LoraModel.messages import UserError
from LoraModel.models import catalog as catalog_module
from LoraModel.models import load_base_beside_config
from LoraModel.models.catalog import Catalog, check_choice, kind_of


@pytest.fixture
def furnished(tmp_path):
    assets = tmp_path / "assets"
    generator(assets / "pretrained_v2/f0G40k.pth")
    generator(assets / "pretrained_v2/f0G48k.pth", rate="48k")
    generator(assets / "pretrained/f0G40k.pth", version="v1")
    generator(assets / "pretrained/G48k.pth", version="v1", f0=False, rate="48k")
    discriminator(assets / "pretrained_v2/f0D40k.pth")
    generator(assets / "weights/lisa.pth", posterior=False, wrapping="weight")
    generator(tmp_path / "logs/lisa/G_12.pth")
    discriminator(tmp_path / "logs/lisa/D_12.pth")
    (tmp_path / "logs/lisa/lora").mkdir()
    generator(tmp_path / "logs/lisa/lora/hidden.pth")
    generator(tmp_path / "secret.pth")
    (assets / "pretrained_v2/page.pth").write_text("<!DOCTYPE html><html>")
    return tmp_path


def test_what_can_be_trained_can_be_loaded(furnished):
    catalog = Catalog(furnished)
    bases, trainable = catalog.bases(), catalog.trainable()
    assert bases == ["pretrained/f0G40k.pth", "pretrained/G48k.pth", "pretrained_v2/f0G40k.pth",
                     "pretrained_v2/f0G48k.pth", "weights/lisa.pth", "logs/lisa/G_12.pth"]
    assert trainable == [name if name.startswith("logs/") else f"assets/{name}" for name in bases
                         if name != "weights/lisa.pth"]
    for name in trainable:
        path = catalog.training_base(name)
        assert catalog.base_path(catalog.base_name(path)) == path == furnished / name
    assert catalog.discriminators() == ["assets/pretrained_v2/f0D40k.pth", "logs/lisa/D_12.pth"]
    assert catalog.rates("v1") == ["40k", "48k"] and catalog.rates() == ["40k", "48k"]


def test_community_discriminators_are_told_by_their_tensors(tmp_path):
    folder = tmp_path / "assets/pretrained_v2"
    named_d = ["D_RIN_E3.pth", "D-f040k-TITAN-Medium.pth", "D_KLM43_48k.pth", "D_Snowie_RuPretrain_EnP.pth",
               "f0Ov2Super40kD.pth"]
    named_g = ["G_RIN_E3.pth", "f0Ov2Super40kG.pth", "D_is_a_singer.pth", "f0D32k.pth"]
    for name in named_d:
        discriminator(folder / name)
    for name in named_g:
        generator(folder / name)
    catalog = Catalog(tmp_path)
    assert sorted(catalog.discriminators()) == sorted(f"assets/pretrained_v2/{name}" for name in named_d)
    assert sorted(catalog.bases()) == sorted(f"pretrained_v2/{name}" for name in named_g)
    for name in named_d:
        assert catalog.discriminator(f"assets/pretrained_v2/{name}").name == name
        with pytest.raises(UserError, match=r"is a discriminator \(D\), and a base is wanted here"):
            catalog.training_base(f"assets/pretrained_v2/{name}")
    with pytest.raises(UserError, match=r"is a generator \(G\), and a discriminator \(D\) is wanted here"):
        catalog.discriminator("assets/pretrained_v2/f0D32k.pth")


def test_bases_are_named_in_several_ways_and_come_from_their_folders_alone(furnished):
    catalog = Catalog(furnished)
    for good in ("assets/pretrained_v2/f0G40k.pth", "assets\\pretrained_v2\\f0G40k.pth", "pretrained_v2/f0G40k.pth",
                 ' "assets/pretrained_v2/f0G40k.pth" ', str(furnished / "assets/pretrained_v2/f0G40k.pth")):
        assert catalog.training_base(good) == furnished / "assets/pretrained_v2/f0G40k.pth"
    for bad in ("", None, "secret.pth", "../secret.pth", "assets/weights/../../secret.pth", "assets/other/x.pth",
                "logs/lisa/lora/hidden.pth",
                "/etc/passwd", "assets/pretrained_v2/x.txt", "assets/weights/a:b.pth", "assets/weights/\0.pth",
                str(furnished), "~root/x.pth", "assets", "logs", "x" * 5000, ["assets/weights/lisa.pth"], 3, True):
        with pytest.raises(UserError) as caught:
            catalog.training_base(bad)
        assert len(caught.value.en) < 400
    for name, why in (("assets/pretrained_v2/none.pth", "there is no assets/pretrained_v2/none.pth"),
                      ("assets/weights/lisa.pth", "posterior encoder"),
                      ("assets/pretrained_v2/page.pth", "page.pth")):
        with pytest.raises(UserError, match=why):
            catalog.training_base(name)


def test_the_base_that_goes_with_the_form(furnished):
    catalog = Catalog(furnished)
    assert catalog.pretrained("v2", "40k", True) == ("assets/pretrained_v2/f0G40k.pth",
                                                     "assets/pretrained_v2/f0D40k.pth")
    assert catalog.pretrained("v1", "48k", False) == ("assets/pretrained/G48k.pth", "")
    assert catalog.pretrained("v1", "32k", True) == ("", "")
    kind = kind_of(furnished / "assets/pretrained_v2/f0G48k.pth")
    check_choice(kind, "f0G48k", "v2", "48k", True)
    for chosen, why in ((("v1", "48k", True), "is a base of v2, and v1 is chosen"),
                        (("v2", "40k", True), "is a 48k base, and the sample rate 40k"),
                        (("v2", "48k", False), "takes pitch: set the pitch guidance to true")):
        with pytest.raises(UserError, match=why):
            check_choice(kind, "f0G48k", *chosen)


def test_an_adapters_base_is_found_by_its_hash(tmp_path):
    """Two bases of one file name, and the right one under another name."""
    folder = tmp_path / "assets/pretrained_v2"
    folder.mkdir(parents=True)
    other = torch.load(str(BASE), map_location="cpu", weights_only=True)
    other["model"]["dec.conv_pre.bias"] = other["model"]["dec.conv_pre.bias"] + 1
    torch.save(other, str(folder / "f0G16k.pth"))
    shutil.copy(str(BASE.parent / "config.json"), str(folder))
    adapter = make_adapter(tmp_path / "assets/lora/anna.safetensors", LIBRARY, 1)
    catalog = Catalog(tmp_path)
    with pytest.raises(UserError,
                       match=r"needs the base 'f0G16k', which is not below assets/ or logs/ "
                             r"\(pretrained_v2/f0G16k.pth \(v2, .*another"):
        catalog.own_base(read_metadata(adapter))
    (tmp_path / "logs/old").mkdir(parents=True)
    shutil.copy(str(BASE), str(tmp_path / "logs/old/G_1.pth"))
    assert catalog.own_base(read_metadata(adapter)) == "logs/old/G_1.pth"
    assert catalog.hash_of(BASE) == load_base_beside_config(BASE, LIBRARY).info.base_hash
    catalog_module._hashes.clear()  # as after a restart: the hashes are in a file
    reads = catalog_module.ModelKind.tensors_hash
    try:
        catalog_module.ModelKind.tensors_hash = None
        assert catalog.own_base(read_metadata(adapter)) == "logs/old/G_1.pth"
    finally:
        catalog_module.ModelKind.tensors_hash = reads


def test_a_thousand_adapters_are_listed_fast(tmp_path):
    first = make_adapter(tmp_path / "assets/lora/v0.safetensors", LIBRARY, 1)
    data = Path(first).read_bytes()
    for number in range(1, 1000):
        (tmp_path / f"assets/lora/v{number}.safetensors").write_bytes(data)
    catalog = Catalog(tmp_path)
    started = time.process_time()
    assert len(catalog.adapters()) == 1000
    first_time, started = time.process_time() - started, time.process_time()
    assert len(catalog.adapters()) == 1000
    assert time.process_time() - started < 0.5 and first_time < 15


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    path = generator(tmp_path / "assets/pretrained_v2/x.pth")
    catalog = Catalog(tmp_path)
    assert catalog.bases() and kind_of(path) is kind_of(path)
    discriminator(path)
    assert not catalog.bases() and catalog.discriminators()
