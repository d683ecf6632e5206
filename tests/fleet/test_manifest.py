"""Folders of voices and manifests: what is read, and what each fault in them says."""

import json

import pytest
from fleet_data import make_recordings

from LoraModel.fleet.manifest import read_voices
from LoraModel.messages import UserError


@pytest.fixture
def place(tmp_path):
    for name in ("anna", "ben"):
        make_recordings(tmp_path / "recordings" / name, count=1)
    return tmp_path


def names(found):
    return [voice.name for voice in found[0]]


def refused(found):
    return {one.name: str(one.problem) for one in found[1]}


def test_a_folder_with_a_folder_for_each(place):
    (place / "recordings" / "empty").mkdir()
    (place / "recordings" / "notes.txt").write_text("x")
    (place / "recordings" / ".hidden").mkdir()
    (place / "recordings" / "exp" / "0_gt_wavs").mkdir(parents=True)
    found = read_voices(place / "recordings")
    assert names(found) == ["anna", "ben", "exp"]
    assert [voice.experiment for voice in found[0]] == [False, False, True]
    assert list(refused(found)) == ["empty"] and "holds no audio files" in refused(found)["empty"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table(place, separator):
    rows = [["name", "recordings", "epochs", "lr", "network_dim", "author"],
            ["anna", "recordings/anna", "7", "1e-3", "", "A. B."], ["", "recordings/ben", "", "", "3", ""]]
    (place / "m.csv").write_text("\ufeff" + "\n".join(separator.join(row) for row in rows) + "\n\n", encoding="utf-8")
    found = read_voices(place / "m.csv")
    assert names(found) == ["anna", "ben"] and not found[1]
    assert found[0][0].settings == {"epochs": 7, "lr": 0.001, "author": "A. B."}
    assert found[0][1].settings == {"lora_rank": 3}
    assert found[0][0].recordings == str(place / "recordings" / "anna")


@pytest.mark.parametrize("contents", [
    [{"name": "anna", "recordings": "recordings/anna", "epochs": 7}, {"recordings": "recordings/ben"}],
    {"voices": [{"name": "anna", "recordings": "recordings/anna", "epochs": 7}, {"recordings": "recordings/ben"}]},
    {"anna": {"recordings": "recordings/anna", "epochs": 7}, "ben": "recordings/ben"},
])
def test_json(place, contents):
    (place / "m.json").write_text(json.dumps(contents), encoding="utf-8")
    found = read_voices(place / "m.json")
    assert names(found) == ["anna", "ben"] and found[0][0].settings == {"epochs": 7} and not found[1]


def test_one_bad_voice_does_not_harm_the_others(place):
    """Each with its own line: a setting that is none, one that cannot be, no recordings, folders that are not there,
    and two of one name, also where only the case differs."""
    rows = [{"name": "anna", "recordings": "recordings/anna"},
            {"name": "b1", "recordings": "recordings/ben", "epoch": 3},
            {"name": "b2", "recordings": "recordings/ben", "epochs": -3},
            {"name": "b3"}, {"name": "b4", "recordings": "recordings/bem"},
            {"name": "b5/..", "recordings": "recordings/ben"},
            {"name": "b6", "recordings": "recordings/ben", "output_dir": "x"},
            {"name": "Carla", "recordings": "recordings/ben"}, {"name": "carla", "recordings": "recordings/anna"}]
    (place / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    found = read_voices(place / "m.json")
    said = refused(found)
    assert names(found) == ["anna"] and len(said) == 7
    assert "'epoch'" in said["b1"] and "did you mean epochs" in said["b1"]
    assert "epochs=-3" in said["b2"] and "no recordings" in said["b3"]
    assert "there is no folder" in said["b4"] and "ben" in said["b4"]
    assert "cannot be a file name" in said["row 6"] and "output_dir" in said["b6"]
    assert "2 voices have the name" in said.get("Carla", said.get("carla", ""))
    assert all("\n" not in text for text in said.values())


@pytest.mark.parametrize("text, said", [
    ("name,recordings,epoch\nanna,recordings/anna,3\n", "did you mean epochs"),
    ("name,recordings,epochs,epochs\nanna,recordings/anna,3,4\n", "two columns 'epochs'"),
    ("name,recordings\nanna,recordings/anna,extra\n", "row 2"),
    ("", "names no voice"),
])
def test_a_table_that_is_wrong_as_a_whole(place, text, said):
    (place / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_voices(place / "m.csv")


@pytest.mark.parametrize("recordings", ["~nosuchuser/x", "a\0b", "\ud800", "x" * 5000])
def test_hostile_paths_and_cells_are_told_of_one_voice(place, recordings):
    rows = [{"name": "eve", "recordings": recordings}, {"name": "anna", "recordings": "recordings/anna"}]
    (place / "m.json").write_text(json.dumps(rows), encoding="utf-8")
    voices, refused = read_voices(place / "m.json")
    assert [voice.name for voice in voices] == ["anna"] and len(refused) == 1
    (place / "m.csv").write_text("name,recordings,epochs\nanna,recordings/anna," + "[" * 100_000, encoding="utf-8")
    voices, refused = read_voices(place / "m.csv")
    assert not voices and len(refused) == 1


def test_what_is_no_manifest(place):
    (place / "m.json").write_text('{"anna": 3', encoding="utf-8")
    (place / "n.json").write_text("[3]", encoding="utf-8")
    (place / "b.csv").write_bytes(b"name,recordings\n\xff\xfe,x\n")
    (place / "a.flac").write_bytes(b"fLaC\0\0\0\x22")
    for name, said in (("a.flac", "it is a recording"),
                       ("m.json", "is not JSON"), ("n.json", "is no manifest"), ("b.csv", "no UTF-8"),
                       ("recording", "there is no")):
        with pytest.raises(UserError, match=said):
            read_voices(place / name)
    with pytest.raises(UserError, match="holds files and no folders"):
        read_voices(place / "recordings" / "anna")
    with pytest.raises(UserError, match="names no voice"):
        (place / "none").mkdir()
        read_voices(place / "none")
