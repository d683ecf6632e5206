"""The list of experiments and adapters: rename, delete into the trash folder; and the clips to listen to."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from LoraModel.messages import UserError, tr_in
from LoraModel.training.publishing import digest
from LoraModel.webui.folders import Folders
from LoraModel.webui.lists.shelf import Shelf
from LoraModel.webui.lists.shelf_view import ShelfView
from LoraModel.webui.preparing.preparation import Preparer
from LoraModel.webui.runs.runs import Runs
from LoraModel.webui.tab.listening import HeldOutClip, held_out_clip


@pytest.fixture
def shelf(tmp_path):
    folders = Folders(tmp_path, False)
    for name in ("anna", "bert"):
        (tmp_path / "logs" / name / "lora").mkdir(parents=True)
        (tmp_path / "logs" / name / "lora" / "job.json").write_text(json.dumps({"settings": {"name": name}}))
    (tmp_path / "logs/of RVC alone").mkdir()
    (tmp_path / "assets/lora").mkdir(parents=True)
    for name in ("anna", "other"):
        (tmp_path / f"assets/lora/{name}.safetensors").write_bytes(name.encode())
    folders.own.mkdir(parents=True)
    folders.published("anna").write_text(json.dumps([digest(b"anna")]))
    runs = Runs(folders, "en")
    return Shelf(runs, Preparer(runs, {}))


def test_what_was_made_here_is_listed_with_its_size(shelf):
    assert shelf.labels() == ["logs/anna", "logs/bert", "lora/anna.safetensors", "lora/other.safetensors"]
    sizes = {item.label: item.size for item in shelf.items()}
    assert sizes["lora/other.safetensors"] == 5 and sizes["logs/anna"] == 30


def test_an_experiment_is_renamed_with_its_adapter(shelf):
    assert shelf.rename("logs/anna", "clara") == "logs/clara"
    folders = shelf.folders
    assert (folders.root / "logs/clara/lora/job.json").is_file() and not (folders.root / "logs/anna").exists()
    assert folders.adapter("clara").read_bytes() == b"anna" and not folders.adapter("anna").exists()
    assert folders.published("clara").is_file() and not folders.published("anna").exists()
    assert shelf.rename("lora/other.safetensors", "mine.safetensors") == "lora/mine.safetensors"
    for label, name, said in (("logs/clara", "bert", "there already"), ("logs/clara", "../x", "cannot be a file name"),
                              ("logs/none", "x", "no experiment or adapter"),
                              ("logs/../logs/clara", "x", "no experiment"),
                              ("lora/mine.safetensors", "clara", "there already"), ("logs/clara", "", "is empty"),
                              (["logs/clara"], "x", "must be text"), ("logs/clara", "other", None)):
        if said is None:  # an adapter of that name stands in the way of none: the experiment's own is renamed
            assert shelf.rename(label, name) == "logs/other"
            continue
        with pytest.raises(UserError, match=said):
            shelf.rename(label, name)
    (folders.root / "assets/lora/bert.safetensors").write_bytes(b"the user's own")
    assert shelf.rename("logs/bert", "dora") == "logs/dora"
    assert (folders.root / "assets/lora/bert.safetensors").read_bytes() == b"the user's own"


def test_the_form_follows_an_experiment_that_is_renamed(shelf):
    view = ShelfView(shelf, tr_in("en"))
    kept = view._renamed("logs/anna", "bert", "anna")  # taken: what was typed stays
    assert "there already" in kept[0] and kept[2]["value"] == "logs/anna" and kept[3:] == [gr.update()] * 2
    status, table, entry, name, experiment = view._renamed("logs/anna", "clara", " anna ")
    assert status == "logs/anna is logs/clara now" and "logs/clara" in table and entry["value"] == "logs/clara"
    assert name["value"] == "" and experiment["value"] == "clara"
    assert view._renamed("logs/clara", "dora", "bert")[4] == gr.update()  # the form names another voice
    assert view._renamed("lora/other.safetensors", "mine", "other")[4] == gr.update()
    assert view._deleted("logs/dora")[2]["value"] is None


def test_what_is_deleted_lies_in_the_trash_folder(shelf):
    places = [shelf.delete("logs/anna"), shelf.delete("lora/other.safetensors")]
    assert all(shelf.trash in place.parents for place in places)
    assert (places[0] / "lora/job.json").is_file() and places[1].read_bytes() == b"other"
    assert shelf.labels() == ["logs/bert", "lora/anna.safetensors"]
    (shelf.folders.root / "assets/lora/other.safetensors").write_bytes(b"again")
    assert shelf.delete("lora/other.safetensors") != places[1] and places[1].read_bytes() == b"other"


def test_recordings_that_are_dropped_into_the_tab_are_kept_for_their_voice(shelf, tmp_path):
    folders = shelf.folders

    def dropped(name, contents):
        path = tmp_path / "uploads" / str(len(contents)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
        return SimpleNamespace(name=str(path), orig_name=name)

    folder, count = folders.take_in([dropped("a.wav", b"one"), dropped("歌 1.flac", b"two!")], "anna")
    assert count == 2 and folder == folders.own / "recordings" / "anna"
    again, count = folders.take_in([dropped("a.wav", b"one"), dropped("a.wav", b"another")], "anna")
    assert again == folder and sorted(path.name for path in folder.iterdir()) == ["a 2.wav", "a.wav", "歌 1.flac"]
    assert (folder / "a.wav").read_bytes() == b"one" and (folder / "a 2.wav").read_bytes() == b"another"
    assert folders.take_in(None, "anna")[1] == 0
    with pytest.raises(UserError, match="cannot be a file name"):
        folders.take_in([SimpleNamespace(name=str(folder / "a.wav"), orig_name="..")], "anna")
    with pytest.raises(UserError, match="cannot be a file name"):
        folders.take_in([dropped("a.wav", b"one")], "../anna")


def test_what_is_under_way_stays(shelf, monkeypatch):
    monkeypatch.setattr(shelf.runs, "going_on", lambda: ["anna"])
    for action in (lambda: shelf.rename("logs/anna", "x"), lambda: shelf.delete("logs/anna")):
        with pytest.raises(UserError, match="anna is under way"):
            action()
    assert (shelf.folders.root / "logs/anna").is_dir()


def test_clips_as_recorded_from_the_base_and_at_each_save(shelf):
    folders = shelf.folders
    run = folders.run("anna")
    assert held_out_clip(folders, "anna", None, None) == HeldOutClip()  # a run that never began has none
    for folder in (run / "samples", run.parent / "0_gt_wavs"):
        folder.mkdir()
    for step in (0, 20, 40):
        for place in (0, 1):
            (run / f"samples/step{step:07d}_{place}.flac").touch()
    for name in ("3_0.wav", "7_1.wav"):
        (run.parent / "0_gt_wavs" / name).touch()
    (run / "run.json").write_text(json.dumps({"previews": ["7_1.wav", "3_0.wav"]}))
    now = held_out_clip(folders, "anna", None, None)
    assert (now.number, now.count, now.step, now.clips) == (2, 2, 40, 2)
    assert now.original.endswith("0_gt_wavs/7_1.wav") and now.base.endswith("step0000000_0.flac")
    first = held_out_clip(folders, "anna", "2", 1)
    assert first.step == 20 and first.voice.endswith("step0000020_1.flac") and first.original.endswith("3_0.wav")
    for wrong in (0, 9, "1", None, [1]):
        assert held_out_clip(folders, "anna", wrong, wrong).step == 40
    (run / "run.json").write_text(json.dumps({"previews": ["../../../secret.wav", 3]}))
    (folders.root / "secret.wav").touch()
    assert held_out_clip(folders, "anna", None, None).original == ""

