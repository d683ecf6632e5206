"""Full voices without training one: the demo's base, changed as fine-tuning changes it, and written as RVC writes a
voice."""

import torch
from model_files import demo_weights, save, voice, without_posterior
from training_data import make_experiment

from LoraModel.scripts import convert_model


def full_voice(path, seed=0, size=0.25, noise=0.003):
    """A small RVC model. Every weight moves along a few directions of its own, and a little everywhere.

    size: of the change along the directions, relative to the weight's. noise: of the rest.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in without_posterior(demo_weights()).items():
        value = value.float()
        moved = value + noise * value.abs().mean() * torch.randn(value.shape, generator=generator)
        if name.endswith(("weight_v", ".weight")) and value.dim() > 1 and name != "emb_g.weight":
            rows, columns = value.shape[0], value[0].numel()
            delta = torch.randn(rows, 2, generator=generator) @ torch.randn(2, columns, generator=generator)
            moved = moved + size * value.norm() / delta.norm() * delta.reshape(value.shape)
        if name == "emb_g.weight":
            moved = value.clone()
            moved[0] += 0.1 * torch.randn(value.shape[1], generator=generator)
        weights[name] = moved.half()
    return save(path, voice(weights, info="1epoch"))


def lab(tmp_path_factory):
    """(a full voice's file, an experiment folder of content): for `pytest.fixture(scope="module")`."""
    folder = tmp_path_factory.mktemp("voices")
    return full_voice(folder / "alice.pth"), make_experiment(folder / "content", clips=2, seconds=0.7)


def command(*arguments):
    """`convert_model.py voice` with these arguments: its exit code."""
    return convert_model.main(["voice", *map(str, arguments)])
