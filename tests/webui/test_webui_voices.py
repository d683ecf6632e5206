"""The inference panel without a page: what it lists, loads, refuses and merges, in both languages."""

import gc
import json
import os
import shutil
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from catalog_data import generator
from panel_data import BASE_NAME, LIBRARY, REFUSED, Converter, files, furnish, voices  # noqa: F401  (fixtures)
from voice_data import BASE, make_adapter

from LoraModel.host.patch import BASE as OURS
from LoraModel.inference import VoiceLoader
from LoraModel.inference.patched import patch
from LoraModel.messages import UserError, tr_in
from LoraModel.models import load_base
from LoraModel.models.catalog import Catalog
from LoraModel.models.model_utils import config_list
from LoraModel.names import plain_name
from LoraModel.webui.panel.adapter_info import describe
from LoraModel.webui.panel.voices import Voices, check_strength
from LoraModel.webui.text import error_text, fields_for_options, translator

english, chinese = tr_in("en"), tr_in("zh_CN")


@pytest.fixture(scope="module")
def expected():
    """expected(adapter, strength) -> the weights that the loader alone gives."""
    def weights(path, strength, base=BASE):
        voice = VoiceLoader(load_base(base, LIBRARY, config_json=BASE.parent / "config.json" if base == BASE else None),
                            LIBRARY)
        if path is not None:
            voice.set_adapters([(path, strength)])
        return {name: tensor.clone() for name, tensor in voice.network.state_dict().items()
                if not name.startswith("enc_q.")}
    return weights


def same(network, weights):
    return all(torch.equal(tensor, weights[name]) for name,
               tensor in network.state_dict().items()) and set(network.state_dict()) == set(weights)


# ---------------------------------------------------------------- lists and names

def test_what_is_listed(files, tmp_path):  # noqa: F811
    catalog = Catalog(files)
    assert catalog.bases() == [BASE_NAME, "weights/fast.pth", "weights/lisa.pth", "weights/other.pth"]
    assert catalog.full_voices() == ["fast.pth", "lisa.pth", "other.pth"]
    assert catalog.adapters() == ["lora/anna.safetensors", "lora/damaged.safetensors", "lora/fast.safetensors",
                                  "lora/homeless.safetensors",
                                "lora/mine/bert.safetensors", "lora/other.safetensors", "weights/lisa_last.safetensors"]
    assert catalog.adapter_path("lora/mine/bert.safetensors") == files / "assets/lora/mine/bert.safetensors"
    assert catalog.base_name(catalog.base_path("weights/lisa.pth")) == "weights/lisa.pth"
    empty = Catalog(tmp_path)
    assert (empty.bases(), empty.full_voices(), empty.adapters()) == ([], [], [])


def test_rvcs_folder_may_lie_elsewhere(tmp_path):
    generator(tmp_path / "my voices/lisa.PTH", posterior=False)
    catalog = Catalog(tmp_path, tmp_path / "my voices")
    assert catalog.bases() == ["weights/lisa.PTH"]
    assert catalog.base_path("weights/lisa.PTH") == tmp_path / "my voices/lisa.PTH"


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_that_lead_out_are_not_listed_and_a_linked_folder_of_rvcs_is(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    generator(outside / "secret.pth")
    (outside / "secret.safetensors").touch()
    for folder in ("assets/weights", "assets/lora"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "assets/weights/out.pth").symlink_to(outside / "secret.pth")
    (tmp_path / "assets/lora/out.safetensors").symlink_to(outside / "secret.safetensors")
    (tmp_path / "assets/lora/folder").symlink_to(outside)
    catalog = Catalog(tmp_path)
    assert catalog.bases() == [] and catalog.adapters() == []
    (tmp_path / "assets/pretrained_v2").symlink_to(outside)  # the whole folder on another disk: the user's own doing
    assert catalog.bases() == ["pretrained_v2/secret.pth"]


@pytest.mark.parametrize("name", [
    "../../secret", "lora/../../../etc/passwd", "/etc/passwd", "C:\\voice.safetensors", "C:voice",
    "\\\\server\\share\\a.safetensors",
    "//server/a", "lora\\anna.safetensors", "lora/anna.safetensors\0", "lora/./anna.safetensors",
    "LORA/anna.safetensors", "weights/anna.safetensors", "anna", "lora/", "x" * 5000, "lora/anna.safetensors\n",
])
def test_no_other_name_reaches_a_file(voices, name):  # noqa: F811
    for call in (lambda: voices.load(BASE_NAME, name), lambda: voices.load(name, "")):
        with pytest.raises(UserError, match="there is no (adapter|base) .*refresh the list and choose one") as caught:
            call()
        assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and len(str(caught.value)) < 250
    assert voices.state is None and voices.vc.net_g is None


@pytest.mark.parametrize("name", ["", "  ", "../up", "a/b", "a\\b", "C:x", "a\0b", ".hidden", "dot.", "con", "NUL",
                                  "com1.voice", "a*b", "x" * 201, "声" * 67, None, "~root", "voice.", "CON", "com1",
                                  "lpt¹.wav", "a\u2028b", "a\u202eb", "a\ud800", "voice\u202a", [1],
                                  {"a": 1}, True, 3, 1e308])
def test_names_that_some_system_cannot_hold(name):
    with pytest.raises(UserError, match="is empty|cannot be a file name on every system|must be text"):
        plain_name(name)


def test_names_that_every_system_holds():
    assert [plain_name(name) for name in ("anna", " anna 2 ", "声音_v2", "a.b",
                                          "console")] == ["anna", "anna 2", "声音_v2", "a.b", "console"]


@pytest.mark.parametrize("strength", [-0.1, 1.51, float("nan"), float("inf"), "much", None, [1]])
def test_strengths_out_of_range(strength):
    with pytest.raises(UserError, match="is not between 0 and 1.5|strength=.* is (a text|no number)"):
        check_strength(strength)


# ---------------------------------------------------------------- loading

def test_a_base_goes_into_the_converter_as_rvcs_own_voice_would(voices, expected):  # noqa: F811
    state = voices.load(BASE_NAME)
    vc, config = voices.vc, config_list(json.loads((BASE.parent / "config.json").read_text(encoding="utf-8")))
    assert (vc.tgt_sr, vc.if_f0, vc.version, vc.n_spk) == (16000, 1, "v2", 16)
    assert vc.cpt["config"] == [*config[:-3], 16, *config[-2:]] and (vc.cpt["f0"], vc.cpt["version"]) == (1, "v2")
    assert vc.pipeline.rate == 16000 and not hasattr(vc.net_g,
                                                     "enc_q") and not vc.net_g.training and getattr(vc,
                                                                                                    OURS) is vc.net_g
    assert state[:3] == (BASE_NAME, "", 1.0) and state.speakers == 16 and state.f0
    assert same(vc.net_g, expected(None, 1))


def test_choosing_strength_and_unloading_act_in_place(voices, files, expected):  # noqa: F811
    anna, bert = files / "assets/lora/anna.safetensors", files / "assets/lora/mine/bert.safetensors"
    assert voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)[:4] == (BASE_NAME, "lora/anna.safetensors", 1.0, 3)
    network, pipeline = voices.vc.net_g, voices.vc.pipeline
    assert same(network, expected(anna, 1.0))
    for path, strength in ((anna, 0.35), (bert, 1.5), (anna, 0.0)):
        adapter = f"lora/{path.relative_to(files / 'assets/lora').as_posix()}"
        assert voices.load(BASE_NAME, adapter, strength)[1:3] == (adapter, strength)
        assert same(network, expected(path, strength))
    voices.load(BASE_NAME, "lora/anna.safetensors", 0.8)
    assert voices.unload()[:2] == (BASE_NAME, "") and same(network, expected(None, 1))
    assert voices.vc.net_g is network and voices.vc.pipeline is pipeline


def test_the_network_itself_takes_adapters_by_name(voices, files):  # noqa: F811
    patch(host=LIBRARY)
    voices.load(BASE_NAME, "lora/anna.safetensors")
    assert [one.adapter.name for one in voices.vc.net_g.adapters()] == ["anna"]


def test_what_is_loaded_already_is_not_loaded_again(voices, monkeypatch):  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors", 0.5)
    network = voices.vc.net_g
    monkeypatch.setattr(VoiceLoader, "set_adapters", None)
    monkeypatch.setattr(Voices, "_read_base", None)
    assert voices.load(BASE_NAME, "lora/anna.safetensors", 0.5).strength == 0.5
    assert voices.load("", "lora/anna.safetensors", 0.5).base == BASE_NAME
    assert voices.load("", "", 1.0).adapter == "lora/anna.safetensors" and voices.vc.net_g is network


def test_a_base_that_changed_on_the_disk_is_read_again(tmp_path, files):  # noqa: F811
    shutil.copytree(str(files / "assets"), str(tmp_path / "assets"))
    voices = Voices(Converter(), LIBRARY, Catalog(tmp_path))  # noqa: F811
    voices.load("weights/lisa.pth")
    before = voices.vc.net_g
    shutil.copy(str(files / "assets/weights/other.pth"), str(tmp_path / "assets/weights/lisa.pth"))
    voices.load("weights/lisa.pth")
    assert voices.vc.net_g is not before and float((voices.vc.net_g.dec.conv_pre.bias
                                                    - before.dec.conv_pre.bias).min()) > 0.9


def test_an_adapter_alone_finds_its_base(voices):  # noqa: F811
    assert voices.load("", "weights/lisa_last.safetensors").base == "weights/lisa.pth"
    # lisa holds the base's weights in fp16, which the hash does not tell from the base: the loaded one stays
    assert voices.load("", "lora/anna.safetensors").base == "weights/lisa.pth"
    assert voices.load("", "lora/other.safetensors").base == "weights/other.pth"
    with pytest.raises(UserError, match="needs the base 'f0Gone', which is not below assets/"):
        voices.load("", "lora/homeless.safetensors")


@pytest.mark.parametrize("base, adapter, en, zh", REFUSED)
@pytest.mark.parametrize("loaded", [True, False])
def test_what_does_not_fit_is_refused_in_both_languages_and_the_voice_before_stays(voices, expected, files, base,  # noqa: F811
                                                                                   adapter, en, zh, loaded):  # noqa: F811
    if loaded:
        voices.load(BASE_NAME, "lora/anna.safetensors", 0.6)
    before, state = dict(vars(voices.vc)), voices.state
    with pytest.raises(UserError, match=en) as caught:
        voices.load(base, adapter, 1.0)
    assert zh in caught.value.zh and "--force" not in caught.value.en
    assert dict(vars(voices.vc)) == before and voices.state == state
    if loaded:
        assert same(voices.vc.net_g, expected(files / "assets/lora/anna.safetensors", 0.6))


def test_a_base_that_is_damaged_is_refused_and_the_voice_before_stays(tmp_path, files):  # noqa: F811
    shutil.copytree(str(files / "assets"), str(tmp_path / "assets"))
    (tmp_path / "assets/weights/broken.pth").write_bytes(b"no model")
    voices = Voices(Converter(), LIBRARY, Catalog(tmp_path))  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors")
    before = dict(vars(voices.vc))
    with pytest.raises(UserError, match="no RVC model or is damaged"):
        voices.load("weights/broken.pth")
    assert dict(vars(voices.vc)) == before


def test_half_precision(files):  # noqa: F811
    voices = Voices(Converter(half=True), LIBRARY, Catalog(files))  # noqa: F811
    voices.load(BASE_NAME)
    before = {name: tensor.clone() for name, tensor in voices.vc.net_g.state_dict().items()}
    voices.load(BASE_NAME, "lora/anna.safetensors", 1.0)
    after = voices.vc.net_g.state_dict()
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    assert not torch.equal(after["dec.ups.0.weight_v"], before["dec.ups.0.weight_v"])
    voices.unload()
    assert same(voices.vc.net_g, before)


def test_a_voice_of_rvcs_takes_its_place_and_rvcs_unloading_lets_ours_go(voices):  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors")
    voices.vc.hubert_model = object()
    voices.release()
    assert voices.state is None and (voices.vc.net_g, voices.vc.hubert_model, voices.vc.tgt_sr) == (None, None, None)
    voices.load(BASE_NAME)
    rvcs = voices.vc.net_g = torch.nn.Linear(1, 1)  # what get_vc does
    assert voices.state is None and voices.unload() is None
    voices.release()
    assert voices.vc.net_g is rvcs


def test_after_rvcs_own_unloading_which_deletes_the_network_a_base_is_loaded_again(voices):  # noqa: F811
    voices.vc.net_g, voices.vc.cpt = torch.nn.Linear(1, 1), {}
    del voices.vc.net_g, voices.vc.cpt, voices.vc.hubert_model  # RVC's get_vc("") once HuBERT was loaded
    assert voices.state is None and voices.unload() is None
    voices.release()
    assert voices.load(BASE_NAME, "lora/anna.safetensors")[:2] == (BASE_NAME, "lora/anna.safetensors")
    voices.release()
    assert voices.state is None and voices.vc.net_g is None and voices.vc.hubert_model is None


def test_the_index_is_picked_by_name_as_rvc_picks_it(voices, monkeypatch):  # noqa: F811
    asked = []

    def find(sid):
        asked.append(sid)
        return "logs/lisa/added_lisa_v2.index" if sid == "lisa.pth" else ""

    monkeypatch.setattr(sys.modules[Converter.__module__], "get_index_path_from_model", find, raising=False)
    assert voices.index_for(voices.load("weights/lisa.pth",
                                        "weights/lisa_last.safetensors")) == "logs/lisa/added_lisa_v2.index"
    assert asked == ["lisa_last.pth", "lisa.pth"]
    assert voices.index_for(voices.load("weights/lisa.pth")) == "logs/lisa/added_lisa_v2.index"
    assert voices.index_for(voices.load(BASE_NAME)) == ""


# ---------------------------------------------------------------- merging

def test_merging_writes_what_is_heard_and_refuses_names(tmp_path, files, expected):  # noqa: F811
    shutil.copytree(str(files / "assets"), str(tmp_path / "assets"))
    voices = Voices(Converter(), LIBRARY, Catalog(tmp_path))  # noqa: F811
    with pytest.raises(UserError, match="no adapter is loaded"):
        voices.merge("anna")
    voices.load(BASE_NAME, "lora/anna.safetensors", 0.8)
    before = {name: tensor.clone() for name, tensor in voices.vc.net_g.state_dict().items()}
    path = voices.merge("anna.pth")
    assert path == tmp_path / "assets/weights/anna.pth" and "anna.pth" in voices.catalog.full_voices()
    model = torch.load(str(path), map_location="cpu", weights_only=True)
    assert (model["sr"], model["f0"], model["version"], len(model["config"])) == ("16k", 1, "v2",
                                                                                  18) and "0.8 x anna" in model["info"]
    heard = expected(tmp_path / "assets/lora/anna.safetensors", 0.8)
    assert set(model["weight"]) == set(heard)
    assert all(torch.allclose(tensor.float(), heard[name], atol=1e-3, rtol=2e-3) for name,
               tensor in model["weight"].items())
    assert same(voices.vc.net_g, before)
    voices.load("weights/anna.pth")  # and is a base like any other
    voices.load(BASE_NAME, "lora/anna.safetensors", 0.8)
    listed = sorted(os.listdir(str(path.parent)))
    for name in ("anna", "ANNA", "anna.pth", "../anna2", "C:\\anna2", "", "nul"):
        with pytest.raises(UserError, match="already: choose another name|is empty|cannot be a file name"):
            voices.merge(name)
    assert sorted(os.listdir(str(path.parent))) == listed


# ---------------------------------------------------------------- what the file says of itself

def test_details_in_both_languages(files):  # noqa: F811
    text = describe(files / "assets/lora/anna.safetensors", english)
    for part in ("Voice: anna (speaker 3)", "Base: f0G16k (", "v2, 16 kHz, with pitch", "Rank: balanced: ",
                 "40 epochs, 480 steps",
                 "Held-out loss: 0.524 (the base alone: 0.861)", "Date: 2026-11-22 21:14:05+00:00", "Size: "):
        assert part in text
    assert "音色：anna（说话人 3）" in describe(files / "assets/lora/anna.safetensors", chinese)
    with pytest.raises(UserError):
        describe(files / "assets/weights/lisa.pth", english)


def test_a_strangers_metadata_stays_text_on_its_line(tmp_path):
    path = make_adapter(tmp_path / "x.safetensors", LIBRARY, 1, name="a\nBase: forged\u202e" + "x" * 500,
                        notes="<script>\0</script>", heldout="[" * 5000)
    lines = describe(path, english).splitlines()
    assert sum(line.startswith("Base:") for line in lines) == 1 and max(map(len, lines)) < 230
    assert "Notes: <script> </script>" in lines and "\u202e" not in "".join(lines)


@pytest.mark.parametrize("heldout, shown", [
    ('{"base": 0.9, "adapter": null, "metric": "log-mel L1"}', "Held-out loss: never evaluated on held-out "
     "clips"),
    ('{"base": 0.87, "adapter": 5.33}', "Held-out loss: 5.330 (the base alone: 0.870): WORSE than the base alone"),
    ('{"base": [1], "adapter": {"a": 1}}', None), ("nonsense", None), ('{"base": 1e999, "adapter": true}', None),
    ("[" * 3000, None), ("7", None),
])
def test_what_was_measured_is_said_in_words_and_nonsense_is_left_out(tmp_path, heldout, shown):
    path = make_adapter(tmp_path / "x.safetensors", LIBRARY, 1, heldout=heldout)
    found = [line for line in describe(path, english).splitlines() if line.startswith("Held-out loss")]
    assert found == ([shown] if shown else [])


def test_the_language_is_the_pages(monkeypatch):
    for language, word in (("zh_CN", "已完成"), ("zh_TW", "已完成"), ("en_US", "done"), ("ja_JP", "done")):
        monkeypatch.setenv("RVC_LORA_LANG", "zh" if word == "done" else "en")  # RVC's own setting counts, not ours
        assert translator({"i18n": SimpleNamespace(language=language)})("done") == word
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    assert translator({})("done") == "已完成"


def test_a_message_names_the_pages_fields_and_no_option_that_the_page_lacks():
    error = UserError("choose another folder with --output_dir, or --f0_method pm; lower --lr")
    assert error_text(error, english) == (
        "choose another folder with “experiment name”, or “pitch extraction algorithm” pm; "
        "lower --lr (an option of the command line, not of this page)")
    assert error_text(error, chinese) == ("choose another folder with “实验名”, or “音高提取算法” pm; lower --lr"
                                          "（命令行选项，本页面没有）")
    assert fields_for_options("a--b -- c ---d", english) == "a--b -- c ---d"


def test_rvcs_own_voice_leaves_nothing_of_ours_in_memory(files):  # noqa: F811
    """Two networks at a time are what a GPU has no room for."""
    voices = Voices(Converter(), LIBRARY, Catalog(files))  # noqa: F811
    voices.load(BASE_NAME, "lora/anna.safetensors")
    ours = weakref.ref(voices.vc.net_g)
    gc.collect()
    assert ours() is not None and voices.state.adapter == "lora/anna.safetensors"
    voices.vc.net_g = torch.nn.Linear(1, 1)  # as RVC's get_vc leaves it, and the patch around that
    setattr(voices.vc, OURS, None)
    gc.collect()
    assert ours() is None and voices.state is None
    assert voices.unload() is None and voices.set_noise(0) is None
    assert voices.load(BASE_NAME, "lora/anna.safetensors").adapter == "lora/anna.safetensors"
