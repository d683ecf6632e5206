"""One rule for every relative path, the files near one that is not there, and which adapter a path means."""

import argparse
import os

import pytest
from standin_hosts import make

from LoraModel import commands, places
from LoraModel.host import Host
from LoraModel.inference.adapter_choice import best_adapter, find_adapter, paired_strengths, weight_of
from LoraModel.inference.options import add_adapter_options
from LoraModel.messages import UserError, cli
from LoraModel.models import read_checkpoint
from LoraModel.preparation.options import parser as prepare_parser
from LoraModel.preparation.options import plan_from
from LoraModel.scripts import merge_lora
from LoraModel.training.checkpoint import run_folder


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def two(tmp_path, monkeypatch):
    """(checkout, working folder): the second is LoraModel/ in the first, as the README has one type there."""
    work = tmp_path / "RVC" / "LoraModel"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return tmp_path / "RVC", work


def test_what_is_read_is_looked_for_here_and_then_in_the_checkout(two):
    root, work = two
    put(root / "assets/a.pth", root / "both.wav", work / "both.wav")
    host = Host("classic", root)
    assert host.resolve("assets/a.pth") == root / "assets/a.pth" and host.resolve("./both.wav") == work / "both.wav"
    assert host.resolve(root / "x") == root / "x" and Host("library").resolve("assets/a.pth") == work / "assets/a.pth"
    assert host.resolve("logs/new") == root / "logs/new"  # nowhere yet: for the message
    (work / "mine").mkdir()
    assert host.resolve("mine/typo.wav") == work / "mine/typo.wav"


def test_what_rvc_reads_is_written_into_the_checkout(two):
    root, work = two
    (work / "assets/weights").mkdir(parents=True)  # as an earlier version left it: it must not draw voices into itself
    host = Host("classic", root)
    assert (
        host.result("assets/weights/v.pth") == root / "assets/weights/v.pth" and host.result("./out/../o") == root / "o"
    )
    assert host.result(work / "v.pth") == work / "v.pth" and Host("library").result("o") == work / "o"
    assert run_folder(host, "runs/a", False) == run_folder(host, "runs/a", True) == root / "runs/a"
    put(work / "runs/a/run.json")
    assert (
        run_folder(host, "runs/a", False) == root / "runs/a" and run_folder(host, "runs/a", True) == work / "runs/a"
    )  # it goes on where it lies


def test_merging_writes_where_rvc_lists_voices(tmp_path, monkeypatch, capsys, adapters):
    root = make("classic", tmp_path / "RVC")
    work = root / "LoraModel"
    work.mkdir()
    monkeypatch.chdir(work)
    from voice_data import BASE

    assert (
        cli(
            merge_lora.main,
            [
                "--base_model",
                str(BASE),
                "--lora_weights",
                f"{adapters[0]}:0.5",
                str(adapters[1]),
                "--rvc_root",
                "..",
                "--output",
                "assets/weights/NAME.pth",
            ],
        )
        == 0
    ), capsys.readouterr().err
    assert not (work / "assets").exists()
    assert read_checkpoint(root / "assets/weights/NAME.pth")["info"].startswith("0.5 x one + two (RVC-LoRA")


def test_an_experiment_lies_in_the_checkout(two, monkeypatch):
    root = make("classic", two[0])
    monkeypatch.setattr("LoraModel.host.preprocess.check_needs", lambda *_: None)
    put(root / "data/raw/a.wav")
    _, plan = plan_from(
        prepare_parser().parse_args(
            ["--input_dir", "./data/raw", "--output_dir", "./data/processed", "--rvc_root", ".."]
        )
    )
    assert (plan.source, plan.experiment) == (root / "data/raw", root / "data/processed")


def test_near_names(two):
    root, _ = two
    put(
        root / "assets/pretrained_v2/f0G40k.pth",
        root / "assets/pretrained_v2/G40k.pth",
        root / "assets/pretrained/f0G48k.pth",
        root / "assets/other.pth",
        root / "assets/G40k.txt",
        root / ".git/G40k.pth",
    )
    (root / "logs/anna").mkdir(parents=True)
    found = places.near(root / "pretrained" / "G40k.pth")
    assert found[0] == root / "assets/pretrained_v2/G40k.pth" and root / "assets/pretrained_v2/f0G40k.pth" in found
    assert (
        all(file.suffix == ".pth" and ".git" not in file.parts and file.name != "other.pth" for file in found)
        and len(found) <= 3
    )
    assert places.near(root / "logs" / "ana") == [root / "logs/anna"]
    assert places.near(root / "zzz.wav") == [] and places.near(root.anchor / root / "a\0.pth") is not None
    with pytest.raises(
        UserError, match=r"there is no file .*pretrained/G40k.pth \(the nearest: .*pretrained_v2/G40k.pth"
    ) as caught:
        read_checkpoint(root / "pretrained" / "G40k.pth")
    assert "相近的有" in caught.value.zh
    assert str(places.near_words(root / "assets")) == " (it is a folder)"
    assert str(places.near_words(root / "assets/other.pth")) == " (it is a file)"


def test_a_folder_that_is_misspelt(two):
    _, work = two
    put(work / "output/processed.safetensors", work / "pretrained/G40k.pth", work / "logs/anna/clip.flac")
    assert places.near(work / "outputs/lora.pth") == [work / "output"]  # which stands for its best adapter
    assert places.near(work / "pretraned/G40k.pth") == [work / "pretrained/G40k.pth"]
    assert places.near(work / "log/anna") == [work / "logs/anna"]
    assert places.near(work / "elsewhere/lora.pth") == []


def test_a_name_without_its_ending_and_a_slip_in_the_ending(two):
    _, work = two
    put(work / "base.pth", work / "f0G16k.pth", work / "rms.safetensors", work / "anna/notes.txt", work / ".basex")
    assert places.near(work / "base") == [work / "base.pth"]
    assert places.near(work / "f0G16k")[0] == places.near(work / "f0g16K.pt")[0] == work / "f0G16k.pth"
    assert places.near(work / "rms.safetensor") == [work / "rms.safetensors"]
    assert places.near(work / "ana") == [work / "anna"]
    put(work / "rmsx.safetensor")
    assert places.near(work / "rms.safetensor") == [work / "rmsx.safetensor"]  # with its ending where there is one
    with pytest.raises(UserError, match=r"there is no file .*f0G16k \(the nearest: .*f0G16k.pth"):
        read_checkpoint(work / "f0G16k")


def test_near_looks_at_a_bounded_number_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MOST_SEEN", 20)
    for number in range(40):
        put(tmp_path / f"voice_{number:02d}.wav")
    put(tmp_path / "z" / "voice_99.wav")
    assert len(places.near(tmp_path / "voice_aa.wav")) == 3 and places.near(tmp_path / "voice_99x.wav") != [
        tmp_path / "z" / "voice_99.wav"
    ]


def test_a_run_stands_for_its_best_adapter(two, capsys):
    root, work = two
    put(root / "output/anna.safetensors", root / "output/anna_last.safetensors")
    for name in ("output", "./output/lora.pth", "output/lora.safetensors", "output/LORA.pth"):
        assert find_adapter(name, root) == root / "output/anna.safetensors"
        assert (
            f"{name}: taking the best adapter of this run, {root / 'output/anna.safetensors'}"
            in capsys.readouterr().err
        )
    assert (
        find_adapter("output/anna_last.safetensors", root) == root / "output/anna_last.safetensors"
        and capsys.readouterr().err == ""
    )
    put(work / "output/lora.pth")  # a file of that name is that file
    assert find_adapter("output/lora.pth", root) == work / "output/lora.pth"
    put(root / "output/other.safetensors")
    with pytest.raises(UserError, match="several adapters .*anna.safetensors, other.safetensors"):
        best_adapter(root / "output")
    (root / "output/run.json").write_text('{"name": "other"}', encoding="utf-8")
    assert best_adapter(root / "output") == root / "output/other.safetensors"
    (root / "output/run.json").write_text('{"name": "../../output/other"}', encoding="utf-8")
    with pytest.raises(UserError, match="several"):
        best_adapter(root / "output")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="holds no adapter"):
        find_adapter("empty", root)
    put(root / "first/a_last.safetensors")
    assert best_adapter(root / "first") == root / "first/a_last.safetensors"
    assert find_adapter("none/lora.pth", root) == root / "none/lora.pth"


def test_adapters_and_strengths_as_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = commands.Parser()
    add_adapter_options(parser)

    def read(*argv):
        args = parser.parse_args(argv)
        return paired_strengths(args.lora_weights, args.strength)

    assert read("--lora_weights", "A:0.7", "B:0.3") == [("A", 0.7), ("B", 0.3)]
    assert (
        read("--lora_weights", "A", "B")
        == [("A", 1.0), ("B", 1.0)]
        == read("--lora_weights", "A", "--lora_weights", "B")
    )
    assert read("--lora_weights", "A:.5", "B") == [("A", 0.5), ("B", 1.0)]
    assert read("--lora_weights", "A", "B", "--strength", "0.2", "--strength", "0.4") == [("A", 0.2), ("B", 0.4)]
    assert read("--lora_weights", "A", "B", "--strength", "0.2", "0.4") == [("A", 0.2), ("B", 0.4)]
    assert read() == []
    assert weight_of(r"C:\voices\a.safetensors") == (r"C:\voices\a.safetensors", None) and weight_of(r"C:\a:1e-1") == (
        r"C:\a",
        0.1,
    )
    if os.name == "posix":
        put(tmp_path / "take:2")
        assert weight_of("take:2") == ("take:2", None)
    with pytest.raises(UserError, match="given twice"):
        read("--lora_weights", "A:0.7", "--strength", "1")
    with pytest.raises(UserError, match="2 adapters but 1 strengths"):
        read("--lora_weights", "A", "B", "--strength", "1")
    for wrong in ("A:1e999", "A:--1", "A:1.2.3", "\0:1"):
        with pytest.raises((UserError, argparse.ArgumentTypeError)):
            commands.option(weight_of)(wrong) if wrong != "A:--1" else parser.parse_args(
                ["--lora_weights", "A", "--strength", "--1"]
            )
