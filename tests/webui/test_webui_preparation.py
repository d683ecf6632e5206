"""The Train tab's preparation in a checkout: what it prepared of what, a second try under the same name, and where a
failure is told."""

import json
import os
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import soundfile
import standin_hosts
from page_runs import ended, settings
from voice_data import BASE

from LoraModel.host import Host
from LoraModel.messages import UserError
from LoraModel.paths import plain_in_shell
from LoraModel.preparation.checks import only_preparation
from LoraModel.webui.folders import Folders
from LoraModel.webui.preparing import preparation
from LoraModel.webui.preparing.preparation import Preparer
from LoraModel.webui.runs.run_settings import RunSettings
from LoraModel.webui.runs.runs import Runs

RATE = 16000


@pytest.fixture
def checkout(tmp_path):
    root = standin_hosts.make("2026", tmp_path / "rvc")
    (root / "assets/pretrained_v2").mkdir(parents=True, exist_ok=True)
    for name in ("f0G16k.pth", "config.json"):
        shutil.copy(str(BASE.parent / name), str(root / "assets/pretrained_v2" / name))
    return root


def recordings(folder, *levels):
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        soundfile.write(str(folder / f"{number}.wav"), np.full(RATE // 2, level, dtype=np.float32), RATE,
                        subtype="FLOAT")
    return folder


class Rvc:
    """RVC's own functions, as its extractors are: what is there is skipped. What they make holds the level of its
    recording."""

    def __init__(self, root):
        self.root, self.calls = root / "logs", []

    def preprocess_dataset(self, trainset_dir, exp_dir, sr, n_p):
        self.calls.append("preprocess")
        for path in sorted(os.listdir(trainset_dir)):
            audio, rate = soundfile.read(os.path.join(trainset_dir, path), dtype="float32")
            for folder in ("0_gt_wavs", "1_16k_wavs"):
                target = self.root / exp_dir / folder / f"{path[:-4]}_0.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(str(target), audio, rate, subtype="FLOAT")
        yield "end preprocess"

    def extract_f0_feature(self, gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe):
        self.calls.append("extract")
        for wav in sorted((self.root / exp_dir / "1_16k_wavs").glob("*.wav")):
            audio, _ = soundfile.read(str(wav), dtype="float32")
            frames = len(audio) // 160
            made = (("2a_f0", ".wav.npy", (frames,)), ("2b-f0nsf", ".wav.npy", (frames,)),
                    ("3_feature768", ".npy", (frames // 2, 768)))
            for folder, ending, shape in made:
                target = self.root / exp_dir / folder / f"{wav.stem}{ending}"
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    np.save(str(target), np.full(shape, audio[0], dtype=np.float32))
        yield "all-feature-done"

    def train_index(self, exp_dir1, version19):
        self.calls.append("index")
        if list((self.root / exp_dir1).glob("added_*")):  # as the 2026 layout
            return
        level = np.load(str(sorted((self.root / exp_dir1 / "3_feature768").glob("*.npy"))[0])).flat[0]
        (self.root / exp_dir1 / "added_IVF1_Flat_nprobe_1_voice_v2.index").write_text(str(level))
        yield "index"

    def names(self):
        return {name: getattr(self, name) for name in preparation.FUNCTIONS.values()}


def levels(experiment, folder):
    return sorted({round(float(np.load(str(path)).flat[0]), 3) for path in (experiment / folder).glob("*.npy")})


def test_a_second_try_with_other_recordings_has_nothing_of_the_first(checkout, tmp_path):
    rvc = Rvc(checkout)
    preparer = Preparer(Runs(Folders(checkout), "en"), rvc.names())
    experiment, steps = checkout / "logs/voice", ("preprocess", "extract", "index")
    first, second = recordings(tmp_path / "first", 0.1, 0.1, 0.1), recordings(tmp_path / "second", 0.5, 0.5)
    preparer.begin(steps, settings(), str(first), "pm")
    assert ended(preparer).error is None and levels(experiment, "3_feature768") == [0.1]
    preparer.begin(steps, settings(), str(first), "pm")  # again of the same: nothing is cut anew, nothing set aside
    job = ended(preparer)
    assert job.error is None and rvc.calls.count("preprocess") == 1 and not (experiment
                                                                             / "set_aside").exists() and not job.notes
    for one_by_one in (False, True):
        for part in [(step,) for step in steps] if one_by_one else [steps]:
            preparer.begin(part, settings(), str(first if one_by_one else second), "pm")
            job = ended(preparer)
            assert job.error is None, job.error
            if "preprocess" in part:
                assert "moved to" in job.notes["preprocess"] and "made again" in job.notes["preprocess"]
        wanted = [0.1] if one_by_one else [0.5]
        assert all(levels(experiment, folder) == wanted for folder in ("2a_f0", "2b-f0nsf", "3_feature768"))
        assert len(list((experiment / "0_gt_wavs").glob("*.wav"))) == (3 if one_by_one else 2)
        assert float(next(experiment.glob("added_*")).read_text()) == pytest.approx(wanted[0])
    kept = sorted((experiment / "set_aside").iterdir())
    assert len(kept) == 2 and levels(kept[0], "3_feature768") == [0.1] and levels(kept[1], "3_feature768") == [0.5]


def test_what_rvcs_own_page_made_of_other_recordings_is_found(checkout, tmp_path):
    """RVC's Train tab, or an earlier version of ours, leaves no record; its slices are newer than the features that
    are there."""
    rvc = Rvc(checkout)
    preparer, experiment = Preparer(Runs(Folders(checkout), "en"), rvc.names()), checkout / "logs/voice"
    list(rvc.preprocess_dataset(str(recordings(tmp_path / "first", 0.1, 0.1)), "voice", "16k", 1))
    list(rvc.extract_f0_feature("", 1, "pm", True, "voice", "v2", ""))
    time.sleep(0.02)
    list(rvc.preprocess_dataset(str(recordings(tmp_path / "second", 0.5)), "voice", "16k", 1))
    preparer.begin(("extract", "index"), settings(), "", "pm")
    assert ended(preparer).error is None
    assert np.load(str(experiment / "3_feature768/0_0.npy")).flat[0] == pytest.approx(0.5)
    # of a slice that is as it was
    assert np.load(str(experiment / "3_feature768/1_0.npy")).flat[0] == pytest.approx(0.1)


@pytest.mark.parametrize("again", [("extract", "index"), ("index",)])
def test_an_index_that_is_not_of_all_features_is_built_anew(checkout, tmp_path, again):
    """RVC's Train tab cut the folder again, or extracted as well, after the index was built."""
    rvc = Rvc(checkout)
    preparer, experiment = Preparer(Runs(Folders(checkout), "en"), rvc.names()), checkout / "logs/voice"
    preparer.begin(("preprocess", "extract", "index"), settings(), str(recordings(tmp_path / "first", 0.1, 0.1)), "pm")
    assert ended(preparer).error is None
    index = next(experiment.glob("added_*"))
    assert index.read_text().startswith("0.1")
    time.sleep(0.02)
    list(rvc.preprocess_dataset(str(recordings(tmp_path / "second", 0.5, 0.5)), "voice", "16k", 1))
    if again == ("index",):
        shutil.rmtree(str(experiment / "3_feature768"))
        list(rvc.extract_f0_feature("", 1, "pm", True, "voice", "v2", ""))
    preparer.begin(again, settings(), "", "pm")
    assert ended(preparer).error is None and index.read_text() == "0.5"
    assert next(experiment.glob("set_aside/*/added_*")).read_text().startswith("0.1")
    before = index.stat().st_mtime_ns
    preparer.begin(again, settings(), "", "pm")
    assert ended(preparer).error is None and index.stat().st_mtime_ns == before


def test_another_pitch_algorithm_makes_the_pitch_alone_anew(checkout, tmp_path):
    rvc = Rvc(checkout)
    preparer, experiment = Preparer(Runs(Folders(checkout), "en"), rvc.names()), checkout / "logs/voice"
    source = str(recordings(tmp_path / "first", 0.1))
    preparer.begin(("preprocess", "extract"), settings(), source, "pm")
    ended(preparer)
    before = (experiment / "3_feature768/0_0.npy").stat().st_mtime_ns
    preparer.begin(("extract",), settings(), source, "rmvpe")
    assert ended(preparer).error is None and len(list(experiment.glob("set_aside/*/2b-f0nsf/*.npy"))) == 1
    assert (experiment / "3_feature768/0_0.npy").stat().st_mtime_ns == before and not list(
        experiment.glob("set_aside/*/3_feature768"))


def test_a_rate_that_rvc_does_not_offer_is_prepared_without_its_function(checkout, tmp_path, monkeypatch):
    """The demo's base of 16 kHz: RVC's function fails with KeyError '16k', and RVC has no configuration for it."""
    rvc, sliced = Rvc(checkout), []
    preparer = Preparer(Runs(Folders(checkout), "en"),
                        {**rvc.names(), "sr_dict": {"32k": 32000, "40k": 40000, "48k": 48000}})

    def slice_recordings(host, folder, experiment, rate, workers, progress, names=None):
        sliced.append(rate)
        list(rvc.preprocess_dataset(str(folder), experiment.name, "16k", 1))
        progress(1)

    monkeypatch.setattr(preparation.preprocess, "slice_recordings", slice_recordings)
    monkeypatch.setattr(Host, "config_for", lambda self, version,
                        rate: None if rate == RATE else {"data": {"sampling_rate": rate}})
    preparer.begin(("preprocess", "extract", "index"), settings(), str(recordings(tmp_path / "first", 0.1)), "pm")
    job = ended(preparer)
    assert job.error is None and sliced == [RATE] and rvc.calls == ["preprocess", "extract", "index"]
    assert json.loads((checkout / "logs/voice/config.json").read_text())["data"]["sampling_rate"] == RATE
    (checkout / "assets/pretrained_v2/config.json").unlink()
    shutil.rmtree(str(checkout / "logs/voice"))
    preparer.begin(("preprocess",), settings(), str(tmp_path / "first"), "pm")
    assert "put the config.json that it was trained with beside it" in ended(preparer).error.en


def test_a_rescued_step_does_not_show_the_error_that_it_was_rescued_from(checkout, tmp_path, monkeypatch):
    rvc = Rvc(checkout)

    def fails(trainset_dir, exp_dir, sr, n_p):
        yield "0/1"
        raise RuntimeError("子进程执行失败")

    preparer = Preparer(Runs(Folders(checkout), "en"), {**rvc.names(), "preprocess_dataset": fails})
    monkeypatch.setattr(preparation.preprocess, "slice_recordings",
                        lambda host, folder, experiment, rate, workers, progress, names: (
                            list(rvc.preprocess_dataset(str(folder), experiment.name, "16k", 1)), progress(1)))
    preparer.begin(("preprocess",), settings(), str(recordings(tmp_path / "first", 0.1)), "pm")
    job = ended(preparer)
    assert job.error is None and job.texts["preprocess"] == "repeated by RVC-LoRA: 1"


def test_recordings_in_subfolders_reach_rvcs_function_and_what_is_none_is_named(checkout, tmp_path):
    """RVC's slicing reads one folder alone, and ends with an error at the first file in it that is no audio."""
    rvc, folder = Rvc(checkout), tmp_path / "raw"
    recordings(folder / "one", 0.1, 0.2), recordings(folder / "two" / "deep", 0.3)
    (folder / "cover.jpg").write_bytes(b"a picture")
    (folder / "one" / "half.wav").write_bytes(b"RIFF")
    preparer = Preparer(Runs(Folders(checkout), "en"), rvc.names())
    preparer.begin(("preprocess",), settings(), str(folder), "pm")
    job = ended(preparer)
    assert job.error is None and len(list((checkout / "logs/voice/1_16k_wavs").glob("*.wav"))) == 3
    assert "no audio: cover.jpg" in job.notes["preprocess"] and "left out: one/half.wav" in job.notes["preprocess"]


def test_what_cannot_be_trained_on_is_said_after_its_step(checkout, tmp_path):
    rvc = Rvc(checkout)
    preparer = Preparer(Runs(Folders(checkout), "zh"), rvc.names())
    preparer.begin(("preprocess", "extract"), settings(), str(recordings(tmp_path / "raw", 0.0)), "pm")
    job = ended(preparer)
    assert job.error is None and "只有 1 个切片" in job.notes["preprocess"] and "没有任何浊音帧" in job.notes["extract"]


class Shell(Rvc):
    """RVC's functions as they run their scripts: by the shell's line, in which every name stands between quotes."""

    def _line(self, *names):
        subprocess.run("echo " + " ".join(f'"{name}"' for name in names), shell=True, cwd=str(self.root), check=False)

    def preprocess_dataset(self, trainset_dir, exp_dir, sr, n_p):
        self._line(trainset_dir, f"{self.root}/{exp_dir}")
        yield from super().preprocess_dataset(trainset_dir, exp_dir, sr, n_p)

    def extract_f0_feature(self, gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe):
        self._line(f"{self.root}/{exp_dir}", f0method)
        yield from super().extract_f0_feature(gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe)

    def train_index(self, exp_dir1, version19):
        self._line(exp_dir1)
        yield from super().train_index(exp_dir1, version19)


@pytest.mark.skipif(os.name == "nt", reason="the lines are sh's")
@pytest.mark.parametrize("name, folder, method, root", [
    ("anna$(touch PWNED)", "raw", "pm", "rvc"), ("anna`touch PWNED`", "raw", "pm", "rvc"),
    ("anna", "raw$(touch PWNED)", "pm", "rvc"), ("anna", 'raw";touch PWNED;"', "pm", "rvc"),
    ("anna", "raw", "$(touch PWNED)", "rvc"), ("anna", "raw", "pm", "rvc$(touch PWNED)")])
def test_no_name_is_read_as_a_command_by_the_shell_that_rvc_uses(tmp_path, monkeypatch, name, folder, method, root):
    checkout = standin_hosts.make("2026", tmp_path / root)
    shutil.copytree(str(BASE.parent), str(checkout / "assets/pretrained_v2"), dirs_exist_ok=True)
    rvc, own, plain = Shell(checkout), [], Rvc(checkout)
    monkeypatch.setattr(preparation.preprocess, "slice_recordings", lambda host, source, experiment, *other: (
        own.append("preprocess"), list(plain.preprocess_dataset(str(source), experiment.name, "16k", 1))))
    monkeypatch.setattr(preparation.preprocess, "check_needs", lambda host, method: None)
    monkeypatch.setattr(preparation.preprocess, "extract_f0", lambda host, experiment, *other: (
        own.append("f0"), list(plain.extract_f0_feature("", 1, "pm", True, experiment.name, "v2", ""))))
    monkeypatch.setattr(preparation.preprocess, "extract_features", lambda host, *other: own.append("features"))
    monkeypatch.setattr(preparation.preprocess, "build_host_index", lambda host, *other: own.append("index") or True)
    preparer = Preparer(Runs(Folders(checkout), "en"), rvc.names())
    preparer.begin(("preprocess", "extract", "index"), settings(name=name),
                   str(recordings(tmp_path / folder, 0.1, 0.2)), method)
    job = ended(preparer)
    assert job.error is None and not list(tmp_path.rglob("PWNED"))
    assert len(list((checkout / "logs" / name / "3_feature768").glob("*.npy"))) == 2
    # a folder of recordings has another name for RVC; of all else its functions are not called
    by_us = ["preprocess", "f0", "features", "index"]
    assert (rvc.calls, own) == ((["preprocess", "extract", "index"], []) if folder != "raw" else ([], by_us))


def test_what_the_systems_shells_take_between_quotes():
    for text, sh, cmd in (("anna 1", True, True), ("安娜's & co (2)", True, True), ("a$b", False, True),
                          ("a`b`", False, True), ("a\\b", False, True), ("a%TEMP%", True, False), ("a!b", True, False),
                          ("D:\\", False, False), ('a"b', False, False), ("a\nb", False, False),
                          ("caf\udce9", False, False)):
        assert (plain_in_shell(text, windows=False), plain_in_shell(text, windows=True)) == (sh, cmd), text


def test_where_the_graphics_card_finds_no_pitch_the_processor_does_and_rvcs_reason_is_told(checkout, tmp_path,
                                                                                           monkeypatch):
    class Broken(Rvc):
        def extract_f0_feature(self, gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe):
            yield ("f0fail-0-x.wav-Traceback (most recent call last):\n  File x\nRuntimeError: no kernel image\n\n"
                   "all-feature-done")

    given, plain = [], Rvc(checkout)
    monkeypatch.setattr(preparation.preprocess, "check_needs", lambda host, method: given.append(method))
    monkeypatch.setattr(preparation.preprocess, "extract_f0", lambda host, experiment, method, *other: (
        given.append(method), list(plain.extract_f0_feature("", 1, method, True, experiment.name, "v2", ""))))
    preparer = Preparer(Runs(Folders(checkout), "en"), Broken(checkout).names())
    preparer.begin(("preprocess", "extract"), settings(), str(recordings(tmp_path / "raw", 0.1, 0.2)), "rmvpe_gpu")
    job = ended(preparer)
    assert job.error is None and given == ["rmvpe", "rmvpe"]
    assert "no pitch with rmvpe_gpu (RuntimeError: no kernel image): rmvpe does it" in job.notes["extract"]


def test_another_preparation_of_the_folder_is_waited_for(checkout, tmp_path):
    raw = recordings(tmp_path / "raw", 0.1, 0.2)
    preparer = Preparer(Runs(Folders(checkout), "en"), Rvc(checkout).names())
    with only_preparation(checkout / "logs/voice"):  # as the command's
        preparer.begin(("preprocess",), settings(), str(raw), "pm")
        assert re.search(rf"is being prepared already \(process {os.getpid()}\)", str(ended(preparer).error))
    assert not (checkout / "logs/voice").exists()  # nothing had come into it
    preparer.begin(("preprocess",), settings(), str(raw), "pm")
    assert ended(preparer).error is None and not (checkout / "logs/voice/.preparing").exists()


def test_one_click_tells_its_failure_under_its_own_button(checkout, tmp_path):
    train_tab = pytest.importorskip("LoraModel.webui.tab.train_tab", reason="gradio is not installed")
    page = train_tab._Page({"rvc_lora_root": str(checkout), **Rvc(checkout).names()})
    source = recordings(tmp_path / "first", 0.1)
    page.preparer._namespace["extract_f0_feature"] = lambda other: None  # of an RVC that is not known
    page.preparer.begin(("preprocess", "extract", "index", "train"), settings(), str(source), "pm")
    job = ended(page.preparer)
    told = page.view.values(page.runs.status("voice"))
    for box in ("info2", "info3"):
        assert "asks for 'other'" in told[box]
    lines = told["info3"].splitlines()
    assert lines[0].endswith("done") and "failed: " in lines[1] and lines[2].endswith("not started") and lines[
        3].endswith("not started")
    assert job.failed == "extract"


def test_a_wrong_base_or_rate_is_refused_before_anything_begins(checkout, tmp_path):
    runs = Runs(Folders(checkout), "en")
    preparer, source = Preparer(runs, Rvc(checkout).names()), str(recordings(tmp_path / "first", 0.1))
    for changed, why in (({"sample_rate": "48k"}, "is a 16k base, and the sample rate 48k is chosen: choose the sample "
                          "rate 16k"),
                         ({"version": "v1"}, "is a base of v2, and v1 is chosen"), ({"f0": False}, "takes pitch"),
                         ({"base_d": "assets/pretrained_v2/f0G16k.pth"}, r"is a generator \(G\), and a discriminator"),
                         ({"base_g": ""}, "no base"), ({"preset": "best"}, "unknown preset")):
        with pytest.raises(UserError, match=why):
            preparer.begin(("preprocess", "extract", "index", "train"), settings(**changed), source, "pm")
        with pytest.raises(UserError, match=why):
            runs.start(settings(**changed))
    assert preparer.current is None and not (checkout / "logs/voice").exists()


def test_settings_of_a_file_that_is_damaged_or_older(checkout):
    assert RunSettings.read({"name": "voice", "epochs": 5, "of_tomorrow": 1}).epochs == 5
    for kept in (None, [], "x", {}, {"name": 3}, {"name": "voice", "epochs": "many"}, {"name": "voice", "f0": [1]}):
        with pytest.raises(UserError):
            RunSettings.read(kept)
