"""What an adapter's file says of itself beside its tensors: ModelSpec's keys, tags, consent, a preview; old files load
as before."""

import base64
import json
import struct

import pytest
import torch
from voice_data import make_adapter

from LoraModel.lora import load_adapter
from LoraModel.lora.adapter_file import checksum, edit_metadata, read_metadata, read_preview
from LoraModel.lora.adapter_metadata import MAX_PREVIEW
from LoraModel.messages import UserError

FLAC = b"fLaC" + bytes(50)


def raw_metadata(path):
    data = path.read_bytes()
    return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]


@pytest.fixture
def adapter(tmp_path, library):
    return make_adapter(tmp_path / "爱丽丝.safetensors", library, 1, created="2026-01-02T03:04:05+00:00",
                        author="A. Nna", license="CC-BY-4.0", notes="a note", tags="woman, calm , calm",
                        language="zh-CN", consent="own voice", consent_note="my own",
                        preview=base64.b64encode(FLAC).decode())


def test_the_standards_keys_stand_beside_our_own(adapter):
    found = raw_metadata(adapter)
    assert {key: value for key, value in found.items() if key.startswith("modelspec.")} == {
        "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "rvc-v2/lora",
        "modelspec.implementation": "rvc-lora", "modelspec.title": "爱丽丝",
        "modelspec.date": "2026-01-02T03:04:05+00:00", "modelspec.author": "A. Nna", "modelspec.license": "CC-BY-4.0",
        "modelspec.description": "a note", "modelspec.tags": "woman, calm , calm"}
    read = load_adapter(adapter).metadata
    assert (read["tags"], read["language"], read["consent"], read["consent_note"]) == (
        "woman, calm", "zh-CN", "own voice", "my own")
    assert not any(key.startswith("modelspec") for key in read)
    assert "preview" not in read_metadata(adapter) and read_preview(adapter) == FLAC


def test_words_change_and_the_tensors_keep_their_bytes(adapter):
    before = load_adapter(adapter).tensors
    edit_metadata(adapter, {"tags": "man", "preview": "", "notes": ""})
    after = load_adapter(adapter)  # checks the checksum, too
    assert all(torch.equal(before[name], after.tensors[name]) for name in before)
    assert after.metadata["tags"] == "man" and after.metadata["author"] == "A. Nna"
    assert not {"preview", "notes"} & set(after.metadata) and read_preview(adapter) == b""
    assert raw_metadata(adapter)["modelspec.tags"] == "man"
    with pytest.raises(UserError, match="language='klingon!' must be a language's code"):
        edit_metadata(adapter, {"language": "klingon!"})


@pytest.mark.parametrize("key, value", [("preview", "no base64!"), ("preview", "A" * 4 * MAX_PREVIEW),
                                        ("preview", base64.b64encode(b"<svg onload=x>").decode()),
                                        ("preview", base64.b64encode(b"OggS" + bytes(MAX_PREVIEW)).decode()),
                                        ("consent", "surely"), ("language", "<b>")])
def test_nonsense_that_only_describes_is_left_out(tmp_path, library, key, value):
    path = make_adapter(tmp_path / "a.safetensors", library, 1, **{key: value})
    assert key not in load_adapter(path).metadata and read_preview(path) == b""


def test_tags_without_end_are_cut(tmp_path, library):
    path = make_adapter(tmp_path / "a.safetensors", library, 1, tags=",".join(str(n) * 99 for n in range(999)))
    tags = load_adapter(path).metadata["tags"].split(", ")
    assert len(tags) <= 20 and max(map(len, tags)) <= 40


def test_a_file_from_before_says_what_it_said(adapter):
    """An older file has none of the new fields, and none of ModelSpec's."""
    data = adapter.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    new = ("tags", "language", "consent", "consent_note", "preview")
    metadata = {key: value for key, value in header["__metadata__"].items()
                if key not in new and not key.startswith("modelspec.")}
    metadata["checksum"] = checksum(metadata, load_adapter(adapter).tensors)
    header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    adapter.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
    assert load_adapter(adapter).metadata["notes"] == "a note" and read_preview(adapter) == b""
