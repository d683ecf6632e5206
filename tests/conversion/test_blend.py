"""Blends and other ranks of adapters, by their factors alone: against the dense deltas, and against what
`set_adapters` makes."""

import pytest
import torch
from adapter_data import CONFIG, HASH, METADATA, tiny
from training_data import BASE

from LoraModel.conversion.blend import blend
from LoraModel.conversion.factors import bytes_of, products_of, ranks_within, resized, row_of
from LoraModel.conversion.inspect import changes
from LoraModel.host import Host
from LoraModel.lora import LoRAConfig, load_adapter, save_adapter
from LoraModel.lora.adapter_file import Adapter, adapter_contents
from LoraModel.lora.voice_pitch import VoicePitch
from LoraModel.messages import UserError, cli
from LoraModel.models import load_base_beside_config
from LoraModel.scripts import blend_lora, convert_model


def adapter(seed, **more):
    network, tensors = tiny(seed)
    return network, Adapter(tensors, CONFIG, {key: str(value) for key, value in {**METADATA, **more}.items()})


def write(path, adapter):
    return save_adapter(path, adapter.tensors, adapter.config, adapter.metadata)


def test_products_are_the_deltas():
    network, one = adapter(0)
    dense = one.deltas(network)
    for path, product in products_of(one).items():
        torch.testing.assert_close((product.left @ product.right).reshape(dense[path].shape), dense[path])
        assert product.energy() == pytest.approx(float(dense[path].square().sum()), rel=1e-4)
    torch.testing.assert_close(row_of(one), dense["emb_g"][0])


def test_a_blend_is_the_sum_of_the_deltas_and_fits_the_network():
    network, one = adapter(0)
    _, two = adapter(1, name="voice_b")
    made = blend([(one, 0.7), (two, -0.25)], "both")
    made.check(network)
    wanted = {path: 0.7 * delta - 0.25 * two.deltas(network)[path] for path, delta in one.deltas(network).items()}
    for path, delta in made.deltas(network).items():
        torch.testing.assert_close(delta, wanted[path], atol=1e-6, rtol=1e-5)
    assert {name: target.r for name, target in made.config.targets.items()} == {"ups": 4, "flow": 2, "spk_row": 1}
    assert made.metadata["notes"] == "blend: 0.7 x voice_a + -0.25 x voice_b" and made.name == "both"


def test_voices_of_other_rows_blend_as_the_loader_blends_them():
    network, one = adapter(0, speaker=2)
    _, two = adapter(1)
    table = network.emb_g.weight.detach()
    made = blend([(one, 0.5), (two, 0.5)], "both", table)
    wanted = (
        0.5 * (table[2] - table[0] + one.tensors["emb_g.lora_row.weight"][0])
        + 0.5 * two.tensors["emb_g.lora_row.weight"][0]
    )
    torch.testing.assert_close(made.tensors["emb_g.lora_row.weight"][0], wanted)
    assert made.speaker == 0
    with pytest.raises(UserError, match="row 2 of its base's speakers: name the base"):
        blend([(one, 0.5), (two, 0.5)], "both")


def test_a_blend_tells_the_pitch_between_its_voices():
    _, low = adapter(0, pitch=VoicePitch(100, 80, 160).to_text())
    _, high = adapter(1, pitch=VoicePitch(400, 320, 640).to_text())
    assert blend([(low, 0.5), (high, 0.5)], "both").metadata["pitch"] == VoicePitch(200.0, 160.0, 320.0).to_text()
    _, silent = adapter(1)
    assert blend([(low, 0.5), (silent, 0.5)], "both").metadata["pitch"] == ""
    assert blend([(low, 1.0), (high, -0.5)], "both").metadata["pitch"] == ""


def test_adapters_of_different_layers_blend():
    network, one = adapter(0)
    two = Adapter(
        {name: tensor for name, tensor in adapter(1)[1].tensors.items() if name.startswith("flow")},
        LoRAConfig(targets={"flow": {"r": 1, "lora_alpha": 1}}),
        dict(one.metadata),
    )
    made = blend([(one, 1.0), (two, 1.0)], "both")
    made.check(network)
    torch.testing.assert_close(made.deltas(network)["dec.ups.0"], one.deltas(network)["dec.ups.0"])


def test_different_bases_are_refused_and_both_named():
    _, one = adapter(0)
    _, two = adapter(1, name="voice_b", base_hash="a" * 64, base_name="f0G48k")
    with pytest.raises(UserError, match=r"voice_a.*f0G40k \(3f9c0000….*voice_b.*f0G48k \(aaaaaaaa….*--force"):
        blend([(one, 1.0), (two, 1.0)], "both")
    assert blend([(one, 1.0), (two, 1.0)], "both", force=True).metadata["base_hash"] == HASH
    _, three = adapter(1, sample_rate=48000)
    with pytest.raises(UserError, match="48000 Hz"):
        blend([(one, 1.0), (three, 1.0)], "both", force=True)


def test_other_ranks_are_the_best_cut_and_the_error_is_what_is_lost():
    network, one = adapter(0)
    made = resized(one, {"ups": 1})
    made.adapter.check(network)
    before, after = one.deltas(network), made.adapter.deltas(network)
    singular = torch.linalg.svdvals(before["dec.ups.0"].flatten(1))
    lost = float((before["dec.ups.0"] - after["dec.ups.0"]).norm())
    assert lost == pytest.approx(float(singular[1]), rel=1e-3)
    whole = sum(float(before[path].square().sum()) for path in ("dec.ups.0", "flow.flows.0.pre")) ** 0.5
    assert made.error == pytest.approx(lost / whole, rel=1e-3) and made.worst[0] == "dec.ups.0"
    torch.testing.assert_close(after["flow.flows.0.pre"], before["flow.flows.0.pre"])
    same = resized(one, {})
    assert same.error == 0
    torch.testing.assert_close(same.adapter.deltas(network)["dec.ups.0"], before["dec.ups.0"], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_size_is_known_before(bits):
    _, one = adapter(0)
    really = len(adapter_contents(one.tensors, one.config, one.metadata, bits))
    assert really <= bytes_of(one, bits) <= really + 400
    ranks = ranks_within(one, bytes_of(one, bits) - 10, bits)
    assert ranks == {"ups": 1, "flow": 1}
    with pytest.raises(UserError, match="cannot be as small as 0.5 KB"):
        ranks_within(one, 500, bits)


def test_the_command_blends_exactly_resizes_and_names_what_is_wrong(tmp_path, capsys):
    network, one = adapter(0)
    _, two = adapter(1, name="voice_b")
    files = [write(tmp_path / "a:b.safetensors", one), write(tmp_path / "b.safetensors", two)]
    output = tmp_path / "c.safetensors"
    assert blend_lora.main([f"{files[0]}:0.7", f"{files[1]}", "--output", str(output)]) == 0
    assert "the blend is exact" in capsys.readouterr().out
    made = load_adapter(output)
    wanted = {path: 0.7 * delta + two.deltas(network)[path] for path, delta in one.deltas(network).items()}
    for path, delta in made.deltas(network).items():
        torch.testing.assert_close(delta, wanted[path], atol=2e-3, rtol=2e-3)
    assert blend_lora.main([*map(str, files), "--output", str(tmp_path / "d.safetensors"), "--rank", "1"]) == 0
    assert (
        "the blend loses" in capsys.readouterr().out
        and load_adapter(tmp_path / "d.safetensors").config.targets["ups"].r == 1
    )
    for line, said in (
        ([f"{files[0]}:x", "--output", "e.safetensors"], "'x' is no number"),
        ([f"{files[0]}:2", "--output", "e.safetensors"], "not between 0 and 1.5"),
        ([str(files[0]), "--output", str(files[1])], "b.safetensors exists: .* pass --force to overwrite it"),
        ([str(files[0]), "--output", str(files[0]), "--force"], "is an input, and inputs are never overwritten"),
        ([str(files[0]), "--output", "Cd"], r"Cd does not end in .safetensors.*did you mean Cd.safetensors\?"),
        ([str(files[0]), "--output", "h.v2.pth"], r"did you mean h.v2.safetensors\?"),
        ([str(tmp_path / "none.safetensors"), "--output", "e.safetensors"], "no adapter file"),
    ):
        with pytest.raises(UserError, match=said):
            blend_lora.main(line)


def test_the_table_is_read_from_the_base_alone(tmp_path):
    from LoraModel.conversion.blend import table_of

    assert table_of(BASE).shape == (16, 256) or table_of(BASE).dim() == 2
    with pytest.raises(UserError):
        table_of(write(tmp_path / "a.safetensors", adapter(0)[1]))


def test_resize_and_info_by_the_command(tmp_path, capsys):
    network, one = adapter(0)
    source, output = write(tmp_path / "a.safetensors", one), tmp_path / "b.safetensors"
    assert convert_model.main(["resize", str(source), "--rank", "1", "--output", str(output)]) == 0
    assert "ups 1" in capsys.readouterr().out
    load_adapter(output).check(network)
    with pytest.raises(UserError, match="one of them"):
        convert_model.main(["resize", str(source), "--output", str(tmp_path / "c.safetensors")])
    convert_model.main(["info", str(source)])
    said = capsys.readouterr().out
    assert (
        "decoder (dec): 1 layers, rank 2" in said
        and "flow (flow): 1 layers, rank 1" in said
        and "speaker (emb_g)" in said
    )
    found = changes(one)
    assert found["dec"][2] == pytest.approx(float(one.deltas(network)["dec.ups.0"].norm()), rel=1e-3)


def damaged(name, shape, **fields):
    """An adapter, whole but for one tensor of another shape."""
    one = adapter(0, **fields)[1]
    one.tensors[name] = torch.zeros(shape)
    return one


def test_hostile_adapters_are_named(tmp_path, capsys):
    base_hash = load_base_beside_config(BASE, Host("library")).info.base_hash
    row = "emb_g.lora_row.weight"
    for files, more, said in (
        ([damaged(row, (0, 8))], [], "emb_g does not fit"),
        ([damaged(row, (1, 5)), adapter(1)[1]], [], "emb_g has other shapes"),
        ([damaged("dec.ups.0.lora_A.weight", (3,))], [], "dec.ups.0 does not fit"),
        ([damaged("nobody.lora_A.weight", (2, 2))], [], "nobody does not fit"),
        ([damaged(row, (1, 8), speaker=3, base_hash=base_hash)], ["--base_model", str(BASE)], "another one"),
        ([damaged(row, (1, 256), speaker=3)], ["--base_model", str(BASE)], "another one: give that base"),
    ):
        paths = [str(write(tmp_path / f"{number}.safetensors", one)) for number, one in enumerate(files)]
        assert cli(blend_lora.main, [*paths, *more, "--output", str(tmp_path / "out.safetensors")]) == 2
        assert said in capsys.readouterr().err
        if not more and len(files) == 1 and "emb_g" not in said:
            assert cli(convert_model.main, ["resize", paths[0], "--max_kb", "50", "--output",
                                            str(tmp_path / "out.safetensors")]) == 2
            assert said in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_what_does_not_fit_16_bits_is_one_line(tmp_path, capsys):
    _, one = adapter(0)
    tensors = {name: tensor * 0 + 6e4 for name, tensor in one.tensors.items()}
    huge = write(tmp_path / "huge.safetensors", Adapter(tensors, one.config, one.metadata))
    out = str(tmp_path / "out.safetensors")
    assert cli(blend_lora.main, [f"{huge}:1.5", "--output", out]) == 2
    said = capsys.readouterr().err
    assert "strength is too high" in said and "Traceback" not in said and not (tmp_path / "out.safetensors").exists()
