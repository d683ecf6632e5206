"""Files that are no base, as people have them: each is named as what it is, with what to do next."""

import zipfile

import pytest
import torch
from model_files import DEMO, demo_weights, save, voice, without_posterior
from safetensors.torch import save_file
from voice_data import SOURCE, adapters, run  # noqa: F401  (a fixture)

from LoraModel.lora import load_adapter
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.models.model_kind import model_kind

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 55000000\n"


def refusal(path, library):
    """What loading `path` as a base says; the model's kind says the same of a file that is no model."""
    with pytest.raises(UserError) as caught:
        load_base(path, library)
    assert len(str(caught.value).splitlines()) == 1 and str(path) in caught.value.en and str(path) in caught.value.zh
    return caught.value


def test_a_pointer_of_git_lfs(tmp_path, library):
    path = tmp_path / "f0G40k.pth"
    path.write_bytes(POINTER)
    said = refusal(path, library)
    assert "Git LFS pointer" in said.en and "git lfs pull" in said.en and "Git LFS 指针" in said.zh
    assert "Git LFS pointer" in model_kind(path).problem.en


def test_a_zip_around_a_model(tmp_path, library):
    path = tmp_path / "voice.pth"
    with zipfile.ZipFile(str(path), "w") as archive:
        archive.writestr("voice/readme.txt", "hello")
        archive.write(str(DEMO / "f0G16k.pth"), "voice/inner.pth")
    said = refusal(path, library)
    assert "zip archive that holds voice/inner.pth" in said.en and "unpack it" in said.en
    assert "包含 voice/inner.pth 的 zip 压缩包" in said.zh
    with zipfile.ZipFile(str(path), "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip archive without a model" in refusal(path, library).en


def test_a_torchscript_program_and_half_a_safetensors_file(tmp_path, library):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pth"))
    assert "it is a TorchScript program" in refusal(tmp_path / "a.pth", library).en
    path = tmp_path / "voice.safetensors"
    save_file({"emb_g.weight": torch.zeros(99, 99)}, str(path))
    path.write_bytes(path.read_bytes()[:5000])
    assert "it is cut short" in refusal(path, library).en


def test_an_adapter_given_as_a_base(tmp_path, library, adapters):  # noqa: F811
    said = refusal(adapters[0], library)
    assert "is an adapter, not a base" in said.en and "--lora_weights" in said.en and "是适配器而不是底模" in said.zh
    renamed = tmp_path / "base.pth"  # its ending does not hide it
    renamed.write_bytes(adapters[0].read_bytes())
    assert "is an adapter, not a base" in refusal(renamed, library).en


def test_transpose_on_a_base_without_pitch_is_said_to_change_nothing(tmp_path):
    of_pitch = ("enc_p.emb_pitch.", "dec.m_source.", "dec.noise_convs.")
    weights = {key: value for key, value in without_posterior(demo_weights()).items() if not key.startswith(of_pitch)}
    base = save(tmp_path / "plain.pth", voice(weights, f0=0))
    made = {}
    for semitones in (0, 12):
        output = tmp_path / f"{semitones}.wav"
        done = run("--base_model", base, "--input", SOURCE, "--output", output, "--transpose", semitones)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("--transpose changes nothing: this base has no pitch") == (1 if semitones else 0)
        made[semitones] = output.read_bytes()
    assert made[0] == made[12] and len(made[0]) > 1000


@pytest.mark.parametrize("start, en, zh", [
    (POINTER, "Git LFS pointer", "Git LFS 指针"),
    (b"\xef\xbb\xbf<!DOCTYPE html><title>Not\x1b found</title>", "web page", "网页"),
    (b"Rar!\x1a\x07", "RAR archive: unpack it", "RAR 压缩包"),
    (b"GGUF\x03\0\0\0", "GGUF", "GGUF"),
    (b"OggS\0\2\0\0", "recording", "录音"),
    (b"IxFI" + b"\0" * 40, "faiss index", "faiss"),
    (b"", "it is empty: download it again", "空"),
    (b"{}", "JSON", "JSON"), (b"\0" * 64, "begins with zeros", "全为零"),
])
def test_a_model_and_an_adapter_are_told_alike_what_they_are_not(tmp_path, library, start, en, zh):
    path = tmp_path / "file.pth"
    path.write_bytes(start)
    with pytest.raises(UserError) as adapter:
        load_adapter(path)
    said = refusal(path, library)
    assert zh in adapter.value.zh and zh in said.zh and adapter.value.en.isprintable()
    assert en in adapter.value.en and en.split(":")[0] in said.en
