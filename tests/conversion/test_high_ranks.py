"""Ranks above a layer's smaller side: such an adapter is whole, and a blend of any ranks fits the base and is exact.

The small base has layers of every kind, whose smaller sides are from 1 to 16.
"""

import math
import os

import pytest
import torch
from panel_data import Converter
from tiny_base import make, shared

from LoraModel.conversion.blend import blend, table_of
from LoraModel.conversion.factors import bytes_of, products_of, ranks_within, resized, row_of
from LoraModel.conversion.inspect import changes
from LoraModel.conversion.noise import share_of, with_noise
from LoraModel.conversion.peft_config import peft_config
from LoraModel.host import Host
from LoraModel.inference import VoiceLoader
from LoraModel.lora import Adapter, LoRAConfig, extract, inject, load_adapter, save_adapter
from LoraModel.lora.adapter_file import adapter_contents
from LoraModel.lora.lora_layer import LoRAConvTranspose1d
from LoraModel.messages import UserError
from LoraModel.models import SynthesizerLoRA, load_base_beside_config
from LoraModel.models.catalog import Catalog
from LoraModel.models.prior_noise import noise_layers
from LoraModel.models.targets import TARGETS
from LoraModel.scripts import blend_lora, convert_model
from LoraModel.training.start import begin_with, check_start
from LoraModel.webui.panel.voices import Voices

LIBRARY = Host("library")
ALL = sorted(set(TARGETS) - {"spk", "disc"})
HIGH = 50
"""Above the smaller side of every layer."""


@pytest.fixture(scope="module")
def base():
    return load_base_beside_config(shared(), LIBRARY)


def made(base, rank, seed=1, targets=ALL, speaker=0, **more):
    """An adapter of random values; what `load_adapter` and the base take."""
    injection = inject(base.network, LoRAConfig(r=rank, lora_alpha=2 * rank, targets=dict.fromkeys(targets, True),
                                                **more))
    extract(base.network)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in injection.tensors().items()}
    info = base.info
    metadata = {"name": f"voice {seed}", "base_hash": info.base_hash, "base_name": info.name, "rvc_version": "v2",
                "sample_rate": str(info.sample_rate), "f0": "1", "speaker": str(speaker)}
    adapter = Adapter(tensors, injection.config, metadata)
    adapter.check(base.network)
    return adapter


def stored(adapter, path, bits=16):
    return load_adapter(save_adapter(path, adapter.tensors, adapter.config, adapter.metadata, bits))


def assert_sum(made, parts, network, exact):
    """Its deltas are the parts' as far as `exact`, relative to each one's size."""
    wanted = [adapter.deltas(network, strength) for adapter, strength in parts]
    for path, delta in made.deltas(network).items():
        total = sum(each[path] for each in wanted)
        assert float((delta - total).norm()) <= exact * float(total.norm()), path


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}])
@pytest.mark.parametrize("rank", [9, 40, HIGH])
def test_an_adapter_of_a_high_rank_is_whole(base, rank, more):
    one = made(base, rank, **more)
    assert inject(base.network, one.config).clamped()
    extract(base.network)
    products, dense = products_of(one), one.deltas(base.network)
    kinds = [(product.kind is LoRAConvTranspose1d, len(product.shapes[0])) for product in products.values()]
    assert set(kinds) == {(True, 2), (False, 2), (False, 1)}  # transposed, convolution, Linear
    for path, product in products.items():
        torch.testing.assert_close((product.left @ product.right).reshape(dense[path].shape), dense[path])
        assert product.rank == min(rank, product.side)
    assert sum(layers for layers, _, _ in changes(one).values()) == len(one.layers())
    same = resized(one, {})
    same.adapter.check(base.network)
    assert same.error == 0 and all(target.r <= rank for target in same.adapter.config.targets.values())
    assert_sum(same.adapter, [(one, 1.0)], base.network, 1e-5)


def test_the_whole_speaker_table_too(base):
    one = made(base, HIGH, targets=["spk", "flow"])
    assert products_of(one)["emb_g"].rank == 8
    torch.testing.assert_close(row_of(one), one.deltas(base.network)["emb_g"][0])
    both = blend([(one, 0.5), (made(base, HIGH, 2), 0.5)], "both")
    both.check(base.network)
    torch.testing.assert_close(both.tensors["emb_g.lora_row.weight"][0], 0.5 * row_of(one) + 0.5 * row_of(made(
        base, HIGH, 2)))
    resized(one, {"spk": 2}).adapter.check(base.network)


@pytest.mark.parametrize("bits, exact", [(16, 2e-3), (8, 2e-2)])
@pytest.mark.parametrize("first, second", [(1, 1), (6, 6), (3, HIGH), (HIGH, HIGH)])
def test_a_blend_fits_is_exact_and_blends_again(base, tmp_path, first, second, bits, exact):
    one, two = (stored(made(base, rank, seed), tmp_path / f"{seed}.safetensors", bits)
                for seed, rank in ((1, first), (2, second)))
    both = blend([(one, 0.6), (two, 0.5)], "both")
    both.check(base.network)
    assert_sum(both, [(one, 0.6), (two, 0.5)], base.network, 1e-5)
    for path, product in products_of(both).items():
        target = both.config.targets[both.config.target_of(path)]
        assert product.rank == min(target.r, product.side) == min(first + second, product.side)
        assert target.lora_alpha == target.r <= first + second
    file = stored(both, tmp_path / "both.safetensors", bits)
    file.check(base.network)
    assert_sum(file, [(both, 1.0)], base.network, exact)
    again = blend([(file, 0.7), (one, 0.2), (two, -0.3)], "again")
    again.check(base.network)
    assert_sum(again, [(file, 0.7), (one, 0.2), (two, -0.3)], base.network, 1e-5)


def test_adapters_of_different_layers_fit_too(base):
    parts = [(made(base, HIGH, 1, ["ups", "spk_row"]), 0.5), (made(base, 6, 2, ["ups", "flow"]), 0.5)]
    both = blend(parts, "both")
    both.check(base.network)
    assert both.config.targets["flow"].r == 6 and both.config.targets["ups"].r > 8


def test_a_blend_sounds_as_its_parts_do_live(base, tmp_path):
    parts = [(stored(made(base, HIGH, seed, speaker=seed), tmp_path / f"{seed}.safetensors"), strength)
             for seed, strength in ((1, 0.6), (2, 0.5), (3, -0.2))]
    both = stored(blend(parts, "both", table_of(shared())), tmp_path / "both.safetensors")
    voice = VoiceLoader(load_base_beside_config(shared(), LIBRARY), LIBRARY)
    before = {name: value.clone() for name, value in voice.network.state_dict().items()}
    voice.set_adapters(parts, any_strength=True)
    live = {name: value.clone() for name, value in voice.network.state_dict().items()}
    voice.set_adapters([(both, 1.0)])
    for name, value in voice.network.state_dict().items():
        wanted, given = live[name] - before[name], value - before[name]
        if name == "emb_g.weight":  # RVC converts with row 0
            wanted, given = wanted[0], given[0]
        assert float((given - wanted).norm()) <= 2e-3 * float(wanted.norm()), name


def test_the_commands_take_it(tmp_path, capsys):
    path = make(tmp_path / "base" / "f0G16k.pth", noise=True)
    base = load_base_beside_config(path, LIBRARY)
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    parts = [(stored(made(base, HIGH, seed), file), 1.0) for seed, file in enumerate(files, 1)]
    for file in files:
        assert convert_model.main(["info", str(file)]) == 0
    assert "flow (flow): 36 layers, rank 4–16" in capsys.readouterr().out
    out = [tmp_path / f"{name}.safetensors" for name in ("blend", "cut", "resize", "kb", "noise")]
    small = str(bytes_of(parts[0][0], 16) / 2000)
    assert blend_lora.main([*map(str, files), "--output", str(out[0])]) == 0
    assert "the blend is exact" in capsys.readouterr().out
    assert blend_lora.main([*map(str, files), "--output", str(out[1]), "--rank", "8"]) == 0
    assert "the blend loses" in capsys.readouterr().out
    assert convert_model.main(["resize", str(files[0]), "--rank", "12", "--output", str(out[2])]) == 0
    assert "ups 12" in capsys.readouterr().out
    assert convert_model.main(["resize", str(files[0]), "--max_kb", small, "--bits", "16", "--output", str(
        out[3])]) == 0
    assert out[3].stat().st_size <= 1000 * float(small)
    assert convert_model.main(["noise", str(out[0]), "--noise", "0.5", "--base_model", str(path), "--output", str(
        out[4]), "--config_json", str(path.parent / "config.json"), "--bits", "16"]) == 0
    for file in out:
        load_adapter(file).check(base.network)
    assert share_of(load_adapter(out[4]), base.network) == pytest.approx(0.5, rel=2e-3)
    for file, cut in ((out[0], False), (out[1], True)):
        lost = max(float((delta - sum(one.deltas(base.network)[path] for one, _ in parts)).norm())
                   for path, delta in load_adapter(file).deltas(base.network).items())
        assert (lost > 0.1) == cut


@pytest.mark.parametrize("bits", [8, 16])
def test_its_size_is_known_before(base, bits):
    one = made(base, HIGH)
    really = len(adapter_contents(one.tensors, one.config, one.metadata, bits))
    assert really <= bytes_of(one, bits) <= 1.03 * really
    for factor in (1, 0.9, 0.75):
        smaller = resized(one, ranks_within(one, int(factor * really), bits)).adapter
        smaller.check(base.network)
        size = len(adapter_contents(smaller.tensors, smaller.config, smaller.metadata, bits))
        assert 0.85 * factor * really < size <= factor * really
    highest = made(base, 4096)
    assert ranks_within(highest, int(0.75 * really), bits) == ranks_within(one, int(0.75 * really), bits)


def test_the_noise_of_more_voices_than_a_side(tmp_path):
    base = load_base_beside_config(make(tmp_path / "f0G16k.pth", noise=True), LIBRARY)
    parts = [(with_noise(made(base, 1, seed, ["flow", "spk_row"]), base.network, 0.8), 1.0) for seed in range(9)]
    both = blend(parts, "nine")
    both.check(base.network)
    assert noise_layers(both) and both.config.targets["enc_p_io"].r == 8
    assert share_of(both, base.network) == pytest.approx(0.8 ** 9, rel=1e-4)
    learnt = made(base, HIGH, targets=["enc_p_io"])
    for share in (0.5, 2.0):
        learnt = with_noise(learnt, base.network, share)
        learnt.check(base.network)
        assert share_of(learnt, base.network) == pytest.approx(share, rel=1e-4)


def test_the_page_saves_a_blend_that_loads(base, tmp_path):
    bases, loras = tmp_path / "assets" / "pretrained_v2", tmp_path / "assets" / "lora"
    for source in (shared(), shared().parent / "config.json"):
        bases.mkdir(parents=True, exist_ok=True)
        (bases / source.name).write_bytes(source.read_bytes())
    loras.mkdir()
    for seed in (1, 2):
        stored(made(base, 6, seed), loras / f"{seed}.safetensors")
    voices = Voices(Converter(), LIBRARY, Catalog(tmp_path))
    voices.load("pretrained_v2/f0G16k.pth", "lora/1.safetensors", 0.6, [("lora/2.safetensors", 0.5)])
    live = voices.vc.net_g.dec.resblocks[3].convs1[0].weight.detach().clone()
    voices.save_blend("both")
    os.remove(str(loras / "2.safetensors"))  # so that the blend is not loaded as its parts
    state = voices.load("pretrained_v2/f0G16k.pth", "lora/both.safetensors", 1.0, [])
    assert state.adapter == "lora/both.safetensors"
    assert torch.allclose(voices.vc.net_g.dec.resblocks[3].convs1[0].weight, live, atol=1e-4)


@pytest.mark.parametrize("first, second, rank", [(6, 6, 12), (HIGH, HIGH, HIGH), (HIGH, 6, 9), (6, 6, 7)])
def test_a_run_begins_with_a_blend(first, second, rank):
    base = load_base_beside_config(shared(), LIBRARY)
    wanted = LoRAConfig(r=rank, lora_alpha=16, targets=dict.fromkeys(ALL, True))
    start = resized(blend([(made(base, first), 0.5), (made(base, second, 2), 0.5)], "init"),
                    {name: target.r for name, target in wanted.targets.items()}).adapter
    deltas = start.deltas(base.network)
    model = SynthesizerLoRA(base, wanted)
    check_start(start, model, base.info)
    begin_with(model, start)
    for name, layer in model.injection.items():
        assert torch.allclose(layer.delta_weight(), deltas[name], atol=1e-5), name


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}])
def test_pefts_shape_has_each_layers_own_rank_and_scale(base, more):
    one = made(base, 12, **more)
    found = peft_config(one)
    assert set(found["target_modules"]) == set(one.layers()) - {"emb_g"}
    for path in found["target_modules"]:
        rank = found["rank_pattern"].get(path, found["r"])
        alpha = found["alpha_pattern"].get(path, found["lora_alpha"])
        assert rank == products_of(one)[path].rank
        scale = alpha / (math.sqrt(rank) if more else rank)
        assert scale == pytest.approx(one.config.scaling(one.config.target_of(path)), rel=1e-12)
    assert {found["r"], *found["rank_pattern"].values()} >= {4, 8, 12} and found["alpha_pattern"]


@pytest.mark.parametrize("rank, path, a, b", [
    (HIGH, "flow.flows.0.pre", 3, 3),  # its smaller side is 4
    (HIGH, "flow.flows.0.pre", 5, 5),
    (HIGH, "flow.flows.0.pre", 4, 3),
    (HIGH, "flow.flows.0.pre", 0, 0),
    (3, "flow.flows.0.pre", 4, 4),
    (3, "flow.flows.0.pre", 2, 2),
    (HIGH, "dec.ups.3", 1, 1),
    (HIGH, "enc_p.emb_phone", 7, 7),
    (HIGH, "enc_p.emb_phone", HIGH, HIGH),
])
def test_any_other_number_of_components_is_damage(base, rank, path, a, b):
    one = made(base, rank)
    left, right = f"{path}.lora_B.weight", f"{path}.lora_A.weight"
    axis = 0 if path.startswith("dec.ups") else 1
    shapes = list(one.tensors[right].shape), list(one.tensors[left].shape)
    shapes[0][0], shapes[1][axis] = a, b
    one.tensors[right], one.tensors[left] = (torch.zeros(shape) for shape in shapes)
    for use in (products_of, changes, lambda adapter: blend([(adapter, 1.0)], "x"), peft_config):
        with pytest.raises(UserError, match=f"the layer {path} does not fit its configuration"):
            use(one)
