"""What `convert_model.py info` says of a model file: in both languages, whatever is in the file."""

import re

import pytest
import torch
from adapter_data import saved
from model_files import save

from LoraModel.conversion.inspect import describe, describe_adapter
from LoraModel.lora import load_adapter
from LoraModel.scripts import convert_model

WEIGHTS = {"enc_p.emb_phone.weight": torch.zeros(4, 768), "emb_g.weight": torch.zeros(3, 2),
           "enc_p.emb_pitch.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("contents, english, chinese", [
    ({"weight": WEIGHTS}, "small RVC model: 3 tensors", "RVC 小模型：3 个张量，3082 个数值"),
    ({"model": WEIGHTS}, "pretrained base or training checkpoint: 3 tensors", "预训练底模或训练检查点：3 个张量"),
    ({"epoch": 3}, "unknown: 0 tensors, 0 values", "未知：0 个张量，0 个数值"),
])
def test_a_model_in_both_languages(tmp_path, monkeypatch, capsys, contents, english, chinese):
    path = save(tmp_path / "x.pth", contents)
    for language, said, more in (("en", english, ["features: 768", "f0: 1", "speakers: 3", "enc_q: 0"]),
                                 ("zh", chinese, ["特征维数：768", "f0: 1", "说话人数：3", "enc_q: 0"])):
        monkeypatch.setenv("RVC_LORA_LANG", language)
        assert convert_model.main(["info", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(said) and f"{path.stat().st_size}" in lines[0]
        assert lines[1:] == (more if "epoch" not in contents else ["epoch: 3"])


def test_an_adapter_in_both_languages(tmp_path, monkeypatch):
    path, tensors = saved(tmp_path)
    found = describe_adapter(path)
    count = sum(tensor.numel() for tensor in tensors.values())
    assert found[0] == f"adapter: 3 layers, {count} values, {path.stat().st_size} bytes"
    monkeypatch.setenv("RVC_LORA_LANG", "zh")
    chinese = describe_adapter(path)
    assert chinese[0] == f"适配器：3 层，{count} 个数值，{path.stat().st_size} 字节"
    fields = [line for line in found if re.match(r"[a-z0-9_]+: ", line)][1:]
    left = [line for line in chinese if line not in fields]  # the file's own fields are shown as they stand in it
    assert fields and not any(re.search("[A-Za-z]{3}", re.sub(r"flow|（\w+）", "", line)) for line in left)


def test_a_files_tensors_come_in_the_order_of_their_names(tmp_path):
    """safetensors gives them as its table of hashes has them: other lines, and sums, in each process."""
    path, _ = saved(tmp_path, bits=8)
    names = list(load_adapter(path).tensors)
    assert names == sorted(names)
    assert [line.split("(")[1].split(")")[0] for line in describe_adapter(path) if line.startswith("  ")] == [
        "dec", "flow", "emb_g"]


@pytest.mark.parametrize("weights", [
    {**WEIGHTS, "enc_p.emb_phone.weight": torch.tensor(1.0), "emb_g.weight": torch.zeros(5)},
    {"enc_p.emb_phone.weight": torch.zeros(1, 2, 3), 7: torch.zeros(1), None: 4},
])
def test_sides_that_are_not_there(tmp_path, weights):
    lines = describe(save(tmp_path / "x.pth", {"weight": weights}))
    assert "features: ?" in lines and "speakers: ?" in lines
