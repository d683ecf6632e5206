"""A full voice becomes an adapter: the base is found, the size holds, what is kept is measured, and bad input is one
line."""

import os

import pytest
import torch
from full_voices import command, lab
from model_files import DEMO, demo_weights, new_norm, save, without_posterior
from training_data import BASE, one_thread

from LoraModel.conversion import Converter, Size, VoiceOptions
from LoraModel.conversion.folder import is_done, voices_in
from LoraModel.conversion.match import Bases
from LoraModel.inference import VoiceLoader
from LoraModel.lora import load_adapter
from LoraModel.messages import UserError
from LoraModel.models import load_base_beside_config, read_checkpoint
from LoraModel.training.checkpoint import save_state

STEPS = 2
threads = pytest.fixture(scope="module", autouse=True)(one_thread)
lab = pytest.fixture(scope="module")(lab)


@pytest.fixture(scope="module")
def converted(lab, tmp_path_factory, library):
    """The voice of `lab` after two steps, and what was found of it."""
    output = tmp_path_factory.mktemp("made") / "alice.safetensors"
    made = Converter(library, BASE, lab[1]).convert(lab[0], output, VoiceOptions(steps=STEPS))
    return output, made


def test_an_adapter_of_a_full_voice_is_near_it_and_small(converted, lab, library):
    output, made = converted
    assert output.stat().st_size == made.after <= 387_000 < made.before
    assert (
        made.judgement.kept == pytest.approx(1 - made.judgement.distance / made.judgement.base_distance)
        and made.judgement.kept > 0.3
    )
    assert set(made.judgement.parts) == {"prior", "flow", "decoder"} and min(made.judgement.parts.values()) > 0.2
    figures = made.figures()  # how far the base is from the voice, and how far the sounds are, are two things
    assert figures["base_distance"] == pytest.approx(made.match.distance, abs=1e-4) != figures["base_mel_distance"]
    adapter = load_adapter(output)
    assert adapter.metadata["steps"] == str(STEPS) and "alice.pth" in adapter.metadata["notes"]
    loader = VoiceLoader(BASE, library)
    loader.set_adapters([(output, 1.0)])
    teacher = load_base_beside_config(lab[0], library).network
    mine, full = loader.network.emb_g.weight[0], teacher.emb_g.weight[0]
    torch.testing.assert_close(mine, full, atol=2e-3, rtol=0)


def test_distillation_comes_nearer_than_the_start(lab, library, tmp_path, converted):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    start = Converter(library, BASE, lab[1]).convert(lab[0], tmp_path / "a.safetensors", VoiceOptions(steps=0))
    assert converted[1].judgement.distance < start.judgement.distance
    assert torch.equal(torch.rand(2), expected)  # nobody else's random numbers were taken


def test_fast_is_the_svd_alone_and_needs_no_content(lab, library, tmp_path):
    made = Converter(library, BASE, str(tmp_path / "nowhere")).convert(
        lab[0], tmp_path / "a.safetensors", VoiceOptions(fast=True)
    )
    assert made.judgement is None and made.steps == 0 and set(made.energy) == {"enc_p", "flow", "dec"}
    assert all(0.2 < share <= 1 for share in made.energy.values())


@pytest.mark.parametrize(
    "size, said",
    [
        (Size(60_000), None),
        (Size(387_000), None),
        (Size(250_000), None),
        (Size(None, "fast"), None),
        (Size(None, rank=1, bits=16), None),
        (Size(5_000), "smallest takes"),
        (Size(50_000, "high_quality", bits=16), "in 16 bits on this base"),
    ],
)
def test_sizes_hold_or_are_refused_with_figures(lab, library, tmp_path, size, said):
    converter, output = Converter(library, BASE), tmp_path / "a.safetensors"
    if said:
        with pytest.raises(UserError, match=said):
            converter.convert(lab[0], output, VoiceOptions(size, fast=True))
        assert not output.exists()
        return
    made = converter.convert(lab[0], output, VoiceOptions(size, fast=True))
    if size.max_bytes:
        assert 0.93 * size.max_bytes < made.after <= size.max_bytes
    else:
        assert {target.r for name, target in made.config.targets.items() if name != "spk_row"} == (
            {1} if size.rank else {1, 2, 4}
        )


def test_the_base_is_found_among_others(lab, tmp_path, library):
    bases = tmp_path / "bases"
    bases.mkdir()
    os.link(str(BASE), str(bases / "right.pth"))
    os.link(str(DEMO / "config.json"), str(bases / "config.json"))
    torch.manual_seed(1)
    other = {name: torch.randn_like(value) * value.std().nan_to_num(0) for name, value in demo_weights().items()}
    save(bases / "other.pth", {"model": other})
    save(bases / "discriminator.pth", {"model": {"discriminators.0.convs.0.weight_g": torch.zeros(2)}})
    (bases / "notes.pth").write_text("no model")
    match = Bases(bases).match(lab[0])
    assert match.path.name == "right.pth" and match.sure and match.distance < 0.3
    assert [one.path.name for one in match.candidates] == ["right.pth", "other.pth"] and match.candidates[
        1
    ].distance > 1
    os.unlink(str(bases / "right.pth"))
    with pytest.raises(UserError, match=r"not fine-tuned from these bases: its distance to them is other.pth 1\."):
        Bases(bases).match(lab[0])
    forced = Bases(bases).match(lab[0], force=True)
    assert forced.path.name == "other.pth" and not forced.sure


def test_forms_of_the_same_voice_are_the_same(lab, tmp_path, library):
    """fp16 and fp32, Applio's names and extra keys."""
    contents = read_checkpoint(lab[0])
    whole = {name: value.float() for name, value in contents["weight"].items()}
    save(tmp_path / "fp32.pth", {**contents, "weight": whole})
    save(
        tmp_path / "applio.pth",
        {
            **contents,
            "weight": new_norm(whole),
            "vocoder": "HiFi-GAN",
            "embedder_model": "contentvec",
            "speakers_id": 1,
        },
    )
    converter, tensors = Converter(library, BASE), []
    for file in (lab[0], tmp_path / "fp32.pth", tmp_path / "applio.pth"):
        converter.convert(file, tmp_path / f"{file.stem}.safetensors", VoiceOptions(fast=True))
        tensors.append(load_adapter(tmp_path / f"{file.stem}.safetensors").tensors)
    assert all(torch.equal(tensors[0][key], other[key]) for other in tensors[1:] for key in tensors[0])


def test_what_is_damaged_or_older_is_no_finished_adapter(lab, converted, tmp_path):
    copy = tmp_path / "a.safetensors"
    copy.write_bytes(converted[0].read_bytes())
    assert is_done(lab[0], copy)
    os.utime(str(copy), (1, 1))
    assert not is_done(lab[0], copy)
    copy.write_bytes(b"half")
    assert not is_done(lab[0], copy)
    assert not is_done(lab[0], tmp_path / "none.safetensors")


def test_what_is_no_voice_is_named(tmp_path, library, lab):
    converter, output = Converter(library, BASE), tmp_path / "a.safetensors"
    torch.save(
        {"model": {f"discriminators.{n}.convs.0.weight_g": torch.zeros(2) for n in range(9)}}, str(tmp_path / "d.pth")
    )
    with pytest.raises(UserError, match="no RVC generator"):
        converter.convert(tmp_path / "d.pth", output, VoiceOptions(fast=True))
    (tmp_path / "cut.pth").write_bytes(lab[0].read_bytes()[:100_000])
    with pytest.raises(UserError, match="cut.pth"):
        converter.convert(tmp_path / "cut.pth", output, VoiceOptions(fast=True))
    weights = without_posterior(demo_weights())
    weights["dec.conv_pre.weight"] = torch.zeros(
        weights["dec.conv_pre.weight"].shape[0] * 2, *weights["dec.conv_pre.weight"].shape[1:]
    )
    save(tmp_path / "shape.pth", {"weight": weights})
    with pytest.raises(
        UserError, match=r"has the shape of no base .*dec\.conv_pre\.weight is .* in the base and .* in the voice"
    ):
        converter.convert(tmp_path / "shape.pth", output, VoiceOptions(fast=True))
    with pytest.raises(UserError, match="speaker 99 is not among"):
        converter.convert(lab[0], output, VoiceOptions(fast=True, speaker=99))
    with pytest.raises(UserError, match="holds no full voices"):
        voices_in(make_folder(tmp_path / "empty"))
    with pytest.raises(UserError, match=f"{BASE.name} is the base itself, no full voice"):
        converter.convert(BASE, output, VoiceOptions(fast=True))
    with pytest.raises(UserError, match="is no base of its own: give --base_model the base"):
        Converter(library, lab[0]).convert(lab[0], output, VoiceOptions(fast=True))
    assert not output.exists()


def test_the_state_of_a_run_is_passed_over_in_a_folder(tmp_path, lab):
    run = make_folder(tmp_path / "run")
    os.link(str(lab[0]), str(tmp_path / "a.pth"))
    save_state(run, {"shape": {}, "steps": 1})
    assert [file.name for file in voices_in(tmp_path)] == ["a.pth", "state.pt"]  # by its name alone it may be a voice
    (run / "run.json").write_text("{}")
    assert [file.name for file in voices_in(tmp_path)] == ["a.pth"]


def make_folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "line, said",
    [
        (["--steps", "-1"], "between 0 and"),
        (["--max_kb", "nan"], "is no number"),
        (["--content", "nowhere"], "no folder"),
        (["--rank", "0"], "between 1 and"),
        (["--bits", "4"], "invalid choice"),
    ],
)
def test_bad_options_are_one_line(lab, tmp_path, line, said):
    with pytest.raises(UserError, match=said):
        command(lab[0], "--base_model", BASE, "--output", tmp_path / "a.safetensors", *line)
