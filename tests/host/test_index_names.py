"""An index that is set aside, deleted, renamed or made anew: RVC finds the one that there is, and no other."""

import os
import types

import pytest

from LoraModel.host import find_host, preprocess
from LoraModel.host.index_names import put_away_all, replace_index, second_names
from LoraModel.host.layouts import CHECKOUTS, LAYOUTS
from LoraModel.messages import UserError
from LoraModel.preparation.fingerprint import set_aside
from LoraModel.webui.folders import Folders
from LoraModel.webui.lists.shelf import Shelf

LINKS = {"link": os.symlink, "hard link": os.link}


def furnished(layout, root, monkeypatch):
    """An RVC checkout as far as indexes are concerned."""
    monkeypatch.delenv("outside_index_root", raising=False)
    for place in (LAYOUTS[layout].marker, "logs/anna/prepared.json", "logs/bert/prepared.json",
                  "assets/indices/.gitignore"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


@pytest.fixture(params=[layout.name for layout in CHECKOUTS])
def checkout(request, tmp_path, monkeypatch):
    return furnished(request.param, tmp_path, monkeypatch)


@pytest.fixture
def shelf(checkout):
    runs = types.SimpleNamespace(folders=Folders(checkout, True), lock=checkout / "logs/lock", going_on=lambda: [])
    return Shelf(runs, types.SimpleNamespace(current=None))


def found(checkout, name):
    """The names that RVC's searches would take into account: every index below both folders that has the voice's name
    in its path. 2026's search asks each of them for its time."""
    taken = []
    for folder in ("logs", "assets/indices"):
        for path in sorted((checkout / folder).rglob("*")):
            inside = path.relative_to(checkout).as_posix()
            if path.name.endswith(".index") and "trained" not in path.name and name in inside:
                assert path.stat().st_mtime
                taken.append(inside)
    return taken


def index(checkout, contents="an index", name="anna", kind="link", cells=15):
    """An index as RVC leaves it, with its second name."""
    file = f"added_IVF{cells}_Flat_nprobe_1_{name}_v2.index"
    path, second = checkout / "logs" / name / file, checkout / "assets/indices" / f"{name}_{file}"
    path.write_text(contents)
    (path.parent / file.replace("added", "trained")).write_text("trained")
    LINKS[kind](str(path), str(second))
    return path, second


@pytest.mark.parametrize("kind", LINKS)
def test_an_index_that_is_set_aside_is_not_found_and_can_be_had_back(checkout, kind):
    old, _ = index(checkout, "old", kind=kind)
    bert = index(checkout, "bert's", "bert", kind)
    moved = set_aside(checkout / "logs/anna", ("index",))
    assert found(checkout, "anna") == []
    new, second = index(checkout, "new", kind=kind, cells=23)
    assert found(checkout, "anna") == [str(path.relative_to(checkout).as_posix()) for path in (new, second)]
    assert sorted(path.name for path in moved.iterdir()) == [f"{name}_IVF15_Flat_nprobe_1_anna_v2.index.old"
                                                             for name in ("added", "trained")]
    assert (moved / f"{old.name}.old").read_text() == "old"
    assert all(path.read_text() == "bert's" for path in bert)


@pytest.mark.parametrize("kind", LINKS)
def test_an_index_in_the_trash_folder_is_not_found(checkout, shelf, kind):
    index(checkout, kind=kind)
    set_aside(checkout / "logs/anna", ("index",))
    index(checkout, kind=kind)
    place = shelf.delete("logs/anna")
    assert found(checkout, "anna") == [] and len(list(place.glob("*.index.old"))) == 2
    assert [path.name for path in (checkout / "assets/indices").iterdir()] == [".gitignore"]


@pytest.mark.parametrize("kind", LINKS)
def test_the_index_of_a_renamed_voice_is_found_by_its_new_name(checkout, shelf, kind):
    index(checkout, kind=kind)
    shelf.rename("logs/anna", "clara")
    assert found(checkout, "anna") == []
    file = "added_IVF15_Flat_nprobe_1_clara_v2.index"
    assert found(checkout, "clara") == [f"logs/clara/{file}", f"assets/indices/clara_{file}"]
    assert all((checkout / path).read_text() == "an index" for path in found(checkout, "clara"))


def test_what_leads_elsewhere_stays(checkout):
    experiment, outside = checkout / "logs/anna", checkout / "assets/indices"
    (checkout / "mine.index").write_text("the user's")
    os.symlink(str(checkout / "mine.index"), str(outside / "anna_mine.index"))
    os.symlink(str(checkout / "gone.index"), str(outside / "anna_gone.index"))
    (outside / "added_own.index").write_text("alone")
    os.symlink(str(outside / "added_own.index"), str(experiment / "added_own.index"))
    os.symlink(str(experiment / "added_before.index"), str(outside / "anna_before.index"))  # set aside, deleted by hand
    assert second_names(experiment) == [outside / "anna_before.index"]
    assert second_names(checkout / "elsewhere/logs/anna") == []


def test_names_that_are_taken_in_the_trash_folder_keep_both(tmp_path):
    for name in ("a.index", "a.index.old", "B.INDEX", "c.txt"):
        (tmp_path / name).write_text(name)
    put_away_all(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.index.old": "a.index.old", "a.index.2.old": "a.index", "B.INDEX.old": "B.INDEX", "c.txt": "c.txt"}


@pytest.mark.parametrize("kind", LINKS)
def test_an_index_that_is_written_anew_has_its_second_name(checkout, kind):
    path, second = index(checkout, "large", kind=kind)
    replace_index(path, b"small")
    assert second.read_text() == "small" and os.path.samefile(str(path), str(second))


# ---------------------------------------------------------------- RVC 2026's own script

@pytest.fixture
def script(tmp_path, monkeypatch):
    """What RVC 2026's script does: where there is a second name of the experiment's index, it takes that for the index
    and ends well -> (the checkout, what it says and ends with)."""
    root, answers = furnished("2026", tmp_path, monkeypatch), types.SimpleNamespace(text="", code=0)

    def run(_host, _step, arguments, _tick):
        name, version, outside, _count = arguments
        taken = list((root / outside).glob(f"{name}_*added_IVF*_Flat_nprobe_*_{name}_{version}.index"))
        if not taken and not answers.code:
            index(root, "made by RVC", cells=23)
        return answers.code, answers.text

    monkeypatch.setattr(preprocess, "_run", run)
    return root, answers


@pytest.mark.parametrize("left", ["hard link", "link", "alone"])
def test_a_second_name_that_was_left_behind_does_not_keep_rvc_from_building(script, left):
    root, _ = script
    path, second = index(root, "old", kind="link" if left == "link" else "hard link")
    path.unlink() if left == "alone" else path.rename(path.with_name("kept"))
    assert preprocess.build_host_index(find_host(root), root / "logs/anna", "v2")
    assert sorted(path.read_text() for path in (root / "logs/anna").glob("added_*")) == ["made by RVC"]
    assert not os.path.lexists(str(second))
    alone = second.with_name(f"{second.name}.old")
    assert alone.exists() is (left == "alone") and (left != "alone" or alone.read_text() == "old")


def test_where_rvc_builds_none_it_is_built_here(script, capsys):
    root, answers = script
    other = root / "assets/indices/anna_b_anna_added_IVF15_Flat_nprobe_1_anna_b_anna_v2.index"
    other.write_text("another voice's, which RVC's script takes for this one's")
    answers.text = "[index] there already\n"
    assert not preprocess.build_host_index(find_host(root), root / "logs/anna", "v2") and other.is_file()
    assert "built no index ([index] there already)" in capsys.readouterr().err
    other.unlink()
    answers.code, answers.text = 1, "Traceback (most recent call last):\n  File x\nModuleNotFoundError: no sklearn\n\n"
    assert not preprocess.build_host_index(find_host(root), root / "logs/anna", "v2")
    assert "(ModuleNotFoundError: no sklearn)" in capsys.readouterr().err
    answers.text = ""
    assert not preprocess.build_host_index(find_host(root), root / "logs/anna", "v2")
    assert "(exit code 1)" in capsys.readouterr().err
    answers.text = "OSError: [Errno 28] No space left on device\n"
    with pytest.raises(UserError, match="the disk is full"):
        preprocess.build_host_index(find_host(root), root / "logs/anna", "v2")
