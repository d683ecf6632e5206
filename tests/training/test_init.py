"""--init: a run starts from another adapter, or a blend; what does not fit is one line; resume knows where it began."""

import json

import pytest
import torch
from training_data import argv, log, make_experiment, one_thread
from training_data import tiny_settings as settings

from LoraModel.lora import load_adapter, save_adapter
from LoraModel.messages import UserError, cli
from LoraModel.training import TrainConfig, prepare
from LoraModel.training.start import begin_with
from LoraModel.training.train_lora import main, start_of

one_thread = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("logs") / "voice", clips=4, seconds=1.0)


@pytest.fixture(scope="module")
def first(voice, tmp_path_factory):
    """An adapter of another run."""
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path_factory.mktemp("first") / "out", epochs=1)))
    trainer.run()
    return trainer.adapter_path


def run(voice, output, *flags, **more):
    values = settings(voice, output, epochs=1, **more)
    return cli(main, argv(values, *flags, config=output.parent / f"{output.name}.json"))


def test_it_starts_where_the_other_ended(voice, first, tmp_path):
    adapter = load_adapter(first)
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out")), init=adapter)
    plain = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "plain")))
    for each in (trainer, plain):
        each.choose_start()
    for name, parameter in trainer.model.injection.tensors().items():
        assert torch.equal(parameter.detach(), adapter.tensors[name].float()), name
    assert all(torch.equal(a, b) for a, b in zip(trainer.average, trainer.model.trainable))
    assert trainer.evaluate()[0].error < plain.evaluate()[0].error  # the voice is there before the first step


def test_another_alpha_is_the_same_delta(voice, first, tmp_path):
    lora = {"r": 2, "lora_alpha": 8, "targets": {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}}
    trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / "out", lora=lora)), init=load_adapter(first))
    trainer.choose_start()
    name = next(name for name in trainer.model.injection.tensors() if name.endswith("lora_B.weight"))
    assert torch.allclose(trainer.model.injection.tensors()[name], load_adapter(first).tensors[name].float() / 2)


def test_a_blend_of_one_with_itself_is_itself(voice, first, tmp_path):
    config = TrainConfig.from_dict(settings(voice, tmp_path / "out"))
    made = start_of([f"{first}:0.7", f"{first}:0.3"], config, None)
    one = load_adapter(first)
    trainer = prepare(config, init=made)
    network = trainer.model.network
    for path, delta in one.deltas(network).items():
        assert torch.allclose(made.deltas(network)[path], delta, atol=1e-4), path
    begin_with(trainer.model, made)
    assert start_of([str(first)], config, None).tensors.keys() == made.tensors.keys()


def test_the_command_and_resume_know_the_start(voice, first, tmp_path, capsys):
    out, plain = tmp_path / "out", tmp_path / "plain"
    assert run(voice, out, "--init", str(first)) == 0 and run(voice, plain) in (0, 3)
    assert log(out)[0]["kl"] != log(plain)[0]["kl"]
    capsys.readouterr()
    for flags in (("--resume",), ("--resume", "--init", f"{first}:0.5")):
        assert run(voice, out, *flags) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "--resume" in said and "init" in said
    assert run(voice, out, "--resume", "--init", str(first)) == 0
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["state"] == "done"


def test_what_does_not_fit_is_one_line(voice, first, tmp_path, capsys):
    targets = {"enc_p_ffn": True, "flow": True, "ups": True, "spk_row": True}
    other = load_adapter(first)
    foreign = tmp_path / "foreign.safetensors"
    save_adapter(foreign, other.tensors, other.config, {**other.metadata, "base_hash": "0" * 64})
    for lora, file, words in (
            ({"r": 3, "lora_alpha": 4, "targets": targets}, first, "needs this run's ranks: "),
            ({"r": 2, "lora_alpha": 4, "targets": {**targets, "resblocks": True}}, first, "has no"),
            ({"r": 2, "lora_alpha": 4, "targets": {"ups": True}}, first, "does not train"),
            ({"r": 2, "lora_alpha": 4, "targets": targets}, foreign, "was trained on base"),
            ({"r": 2, "lora_alpha": 4, "targets": targets}, tmp_path / "none.safetensors", "none.safetensors"),
            ({"r": 2, "lora_alpha": 4, "targets": targets}, f"{first}:7", "strength")):
        assert run(voice, tmp_path / "out", "--init", str(file), lora=lora) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert words in said, said
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError):
        start_of([str(first), str(foreign)], TrainConfig(), None)


def test_what_does_not_fit_names_the_file_and_only_a_preset_that_is_one(voice, first, tmp_path, capsys):
    """Of an adapter of a preset, of two of the same, and of what no preset made."""
    made = []
    for preset, rank in (("fast", None), ("fast", None), ("balanced", 1)):
        trainer = prepare(TrainConfig.from_dict(settings(voice, tmp_path / f"p{len(made)}", lora=None, preset=preset,
                                                         lora_rank=rank)))
        made.append(tmp_path / f"{preset}{len(made)}.safetensors")
        made[-1].write_bytes(trainer.adapter_contents())
    fast, same, other = map(str, made)
    for given, words in (([fast], "train with --preset fast, as"),
                         ([f"{fast}:0.7", f"{same}:0.3"], "train with --preset fast, as"),
                         ([other], "train with --preset balanced --lora_rank 1, as"),
                         ([f"{fast}:0.7", f"{other}:0.3"], "(setting lora, docs/settings.md)"),
                         ([str(first)], "(setting lora, docs/settings.md)")):
        assert run(voice, tmp_path / "out", "--init", *given, lora=None, preset="clear") == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "--init needs this run's layers: " in said and words in said and repr(" + ".join(given)) in said, said
    assert run(voice, tmp_path / "out", "--init", fast, lora=None, preset="fast", lora_rank=3) == 2
    assert "train with --preset fast, as" in capsys.readouterr().err
