"""bench/on_my_machine.py: what it looks for, how it shares the hours out, what its report keeps to itself, and a quick
run on a stand-in host that is killed and goes on."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import standin_hosts
from html_page import Page
from training_data import BASE, ROOT, environment, make_experiment

from bench import machine_report, machine_stages, on_my_machine
from LoraModel.evaluation import page
from LoraModel.messages import UserError, cli

PIPELINE = '''import numpy as np
import torch
import torch.nn as nn


def extract_hubert_features(model, source, version, padding_mask=None):
    sound = torch.nn.functional.pad(source[0], (0, 1536)).unfold(0, 1536, 320)
    return torch.log1p(torch.fft.rfft(sound * torch.hann_window(1536)).abs())[None, :, :768]


class Pipeline:
    def __init__(self, tgt_sr, config):
        self.tgt_sr = tgt_sr

    def pipeline(self, model, net_g, sid, audio, times, f0_up_key, f0_method, file_index, index_rate, if_f0, filter_radius, tgt_sr,
                 resample_sr, rms_mix_rate, version, protect, f0_file=None):
        phone = extract_hubert_features(model, torch.from_numpy(audio)[None], version).repeat_interleave(2, dim=1)
        frames = min(phone.shape[1], len(audio) // 160)
        given = [phone[:, :frames], torch.tensor([frames]), torch.full((1, frames), 100), torch.full((1, frames), 120.0), torch.tensor([sid])]
        with torch.no_grad():
            return (net_g.infer(*given)[0][0, 0].clamp(-1, 1) * 32767).numpy().astype(np.int16)
'''  # noqa: E501
SMALL_DISCRIMINATOR = '''
import torch.nn as nn


class MultiPeriodDiscriminatorV2(nn.Module):
    def __init__(self, use_spectral_norm=False):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(1, 4, 15, 4), nn.Conv1d(4, 1, 15, 4)])

    def one(self, x):
        kept = []
        for conv in self.convs:
            x = conv(x)
            kept.append(x)
        return x.flatten(1), kept

    def forward(self, y, y_hat):
        (real, kept_real), (made, kept_made) = self.one(y), self.one(y_hat)
        return [real], [made], [kept_real], [kept_made]
'''
STEP = {"seconds_rvc": [4.0, 6.0], "seconds_ours": [[1.0, 1.0], [2.0, 0.0]], "ratio_step": 0.2, "ratio_step_low": 0.2,
        "ratio_step_high": 0.3, "ratio_peak_memory": 0.4, "peak_bytes_ours": [1], "peak_bytes_rvc": [2]}
SWITCH = {"switch_ms": 40.0, "switch_ms_low": 39.0, "switch_ms_high": 41.0, "rvc_ms": 400.0, "ratio_switch": 0.1,
          "ratio_convert": 1.0, "unload_identical": True}


def stand_in(folder):
    root = standin_hosts.make("2026", folder)
    (root / "infer/vc/pipeline.py").write_text(PIPELINE, encoding="utf-8")
    (root / "infer/vc/utils.py").write_text("def load_hubert(config):\n    return None\n", encoding="utf-8")
    (root / "assets/hubert_base").mkdir(parents=True)
    (root / "assets/hubert_base/config.json").write_text("{}", encoding="utf-8")
    with open(root / "infer/module/models.py", "a", encoding="utf-8") as file:
        file.write(SMALL_DISCRIMINATOR)
    return root


def task(root, **more):
    settings = {"root": root, "folder": root / "parts", "recordings": None, "base": BASE, "base_d": root / "D.pth",
                "rate": 16000, "version": "v2", "config_json": None, "device": "cpu", "hours": 1.0, "quick": False,
                "data": None, "sources": root}
    return machine_stages.Task(**{**settings, **more})


# Hours --------------------------------------------------------------------------------------------------------------


def test_the_hours_are_shared_out_by_the_measured_steps(tmp_path):
    assert machine_stages.step_seconds(STEP) == (5.0, 1.0)
    # 0.7 of an hour over ten steps an epoch of 5 + 2 * 1 seconds
    assert machine_stages.epochs_for(task(tmp_path), 5.0, 1.0, 40) == int(0.7 * 3600 / 70) == 36
    assert machine_stages.epochs_for(task(tmp_path, hours=0.05), 100.0, 20.0, 4000) == 1
    assert machine_stages.epochs_for(task(tmp_path, hours=100.0), 0.1, 0.02, 4) == machine_stages.MOST_EPOCHS
    assert machine_stages.epochs_for(task(tmp_path, quick=True), 0.1, 0.02, 4) == 1


def test_a_card_is_expected_to_be_faster_and_more_hours_train_longer(tmp_path):
    cpu, card = (on_my_machine.expected(task(tmp_path, device=name), 600.0) for name in ("cpu", "cuda"))
    assert list(cpu) == list(machine_stages.STAGES) and all(card[stage] <= cpu[stage] for stage in cpu)
    assert on_my_machine.expected(task(tmp_path, hours=3.0), 600.0)["train"] == pytest.approx(3 * 60 * 0.7)
    assert on_my_machine.expected(task(tmp_path, data=tmp_path), 600.0)["prepare"] == 0


# What it looks for --------------------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_said_at_once(tmp_path, capsys):
    root = standin_hosts.make("2026", tmp_path / "rvc")
    assert cli(on_my_machine.main, ["--rvc_root", str(root), "--recordings", str(tmp_path / "none"),
                                    "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and not (tmp_path / "out").exists()
    for word in ("HuBERT is missing", "f0G40k.pth", "f0D40k.pth", "there is no folder"):
        assert word in said, word


@pytest.mark.parametrize("given", [[], ["--recordings", "a", "--data", "b"]])
def test_recordings_or_a_prepared_folder(given, tmp_path, capsys):
    root = standin_hosts.make("classic", tmp_path / "rvc")
    assert cli(on_my_machine.main, ["--rvc_root", str(root), *given, "--out", str(tmp_path / "out")]) == 2
    assert "give --recordings" in capsys.readouterr().err


def test_a_voice_that_cannot_be_trained_on_is_refused(tmp_path):
    root = stand_in(tmp_path / "rvc")
    args = on_my_machine.parser().parse_args(["--rvc_root", str(root), "--data", str(tmp_path), "--quick",
                                              "--base", str(ROOT / "LICENSE"), "--base_d", str(BASE)])
    with pytest.raises(UserError, match="LICENSE"):
        on_my_machine.check(args)


# The report ---------------------------------------------------------------------------------------------------------


SECRET = "/home/grace_hopper/recordings/my_secret_voice"


def figures(clip, values=(0.5, 0.4)):
    mean = {"mean": 0.45, "low": 0.4, "high": 0.5, "clips": 2}
    return {"clips": [{"clip": f"{SECRET}/{clip}{place}.wav", "mel_l1": value, "global_variance": 0.9}
                      for place, value in enumerate(values)],
            "means": {"mel_l1": mean, "global_variance": mean}, "difference": {"mel_l1": mean}}


@pytest.fixture
def stages():
    about = {"base_hash": "f" * 64, "file": f"{SECRET}.pth", "base_file": SECRET}
    models = [{"label": f"{SECRET} {kind}", "kind": kind, "about": about, "recordings": figures("a"),
               "sources": figures("b")} for kind in ("real", "base", "adapter", "model")]
    points = [{"steps": 0, "seconds": 0.0, "errors": [1.0, 2.0]}, {"steps": 5, "seconds": 9.0, "errors": [0.5, 0.7]}]
    return {"prepare": {"seconds_stage": 1.0, "clips": 40}, "step": {**STEP, "folder": SECRET}, "switch": SWITCH,
            "train": {"ratio_time": 0.07, "ratio_time_high": float("inf"), "curves": {"LoRA": points,
                                                                                     "full fine-tuning": points},
                      "models": {"LoRA": SECRET}, "clips": 36},
            "judge": {"models": models, "recordings": [{"clip": "x", "path": SECRET}],
                      "settings": {"f0_method": "rmvpe", "host": f"classic, {SECRET}", "seed": 0}}}


def test_the_report_holds_the_figures_and_nothing_of_the_user(stages, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_stages.Task, "__repr__", lambda self: SECRET)
    html, data = machine_report.write_reports(tmp_path, task(Path(SECRET), folder=tmp_path), stages)
    contents = json.loads(data.read_text(encoding="utf-8"))
    for text in (html.read_text(encoding="utf-8"), data.read_text(encoding="utf-8")):
        assert "grace_hopper" not in text and "secret" not in text and str(tmp_path) not in text
    assert [model["label"] for model in contents["models"]] == ["real recordings", "base", "RVC-LoRA", "RVC"]
    assert [clip["clip"] for clip in contents["models"][1]["recordings"]["clips"]] == [1, 2]
    assert contents["models"][2]["recordings"]["means"]["global_variance"]["mean"] == 0.45
    assert contents["training"]["ratio_time"] == 0.07 and contents["training"]["ratio_time_high"] is None
    assert contents["training"]["curves"]["LoRA"][1] == {"steps": 5, "seconds": 9.0, "log_mel_l1": 0.6}
    assert contents["costs"]["switch_ms"] == 40.0 and contents["settings"] == {"f0_method": "rmvpe", "seed": 0}
    assert platform.node() not in contents["machine"].values()
    assert contents["machine"]["cores"] >= 1 and contents["machine"]["device"] == "cpu"
    seen = Page(html.read_text(encoding="utf-8"))
    shown = " ".join(seen.text)
    assert seen.stands_alone() and seen.tags("audio") == []
    for word in ("7%", "40 ms", "global variance", "全局方差", "RVC’s recipe"):
        assert word in shown, word


def test_names_get_in_only_where_they_are_asked_for(stages, tmp_path):
    _, data = machine_report.write_reports(tmp_path, task(tmp_path), stages, with_names=True)
    assert f"{SECRET}/a0.wav" in data.read_text(encoding="utf-8")


def test_audio_gets_in_only_where_it_is_asked_for(stages, tmp_path):
    judged = tmp_path / "parts" / "judged" / "report.html"
    judged.parent.mkdir(parents=True)
    player = page.player(np.sin(np.arange(8000) / 20), 16000, f"{SECRET}/a0.wav", "RVC-LoRA")
    judged.write_text(f"<h3>{SECRET}</h3>{player}", encoding="utf-8")
    html, _ = machine_report.write_reports(tmp_path, task(tmp_path), stages, with_audio=True)
    text = html.read_text(encoding="utf-8")
    assert len(Page(text).tags("audio")) == 1 and "grace_hopper" not in text


# The whole of it ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_quick_run_is_killed_goes_on_and_leaves_no_process(tmp_path):
    root, out = stand_in(tmp_path / "rvc"), tmp_path / "out"
    data = make_experiment(root / "logs" / "voice", clips=6, seconds=1.2)
    work = out / "parts"
    work.mkdir(parents=True)
    for stage, left in (("step", STEP), ("switch", SWITCH)):  # done by an earlier run
        (work / f"{stage}.json").write_text(json.dumps(left), encoding="utf-8")
    command = [sys.executable, "bench/on_my_machine.py", "--rvc_root", str(root), "--data", str(data), "--quick",
               "--out", str(out), "--device", "cpu", "--f0_method", "pm"]

    def start():
        return subprocess.Popen(command, cwd=str(ROOT), env=environment(), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, encoding="utf-8")

    keep = work / "training" / "voice" / "resume.pt"
    first, end = start(), time.time() + 900
    while not keep.is_file():
        assert first.poll() is None, first.communicate()[1]
        assert time.time() < end
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert first.stderr.read() is not None  # it ends when nothing that was started holds it any more
    assert keep.is_file() and not (work / "train.json").exists()
    second = start()
    said, err = second.communicate(timeout=900)
    assert second.returncode == 0, err[-3000:]
    assert "everything is there" in said and "report.json" in said and "its memory: about" not in err
    contents = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert contents["quick"] is True and contents["costs"]["switch_ms"] == 40.0
    for points in contents["training"]["curves"].values():
        assert points[-1]["steps"] > 0 and points[-1]["log_mel_l1"] != points[0]["log_mel_l1"]
    assert [model["label"] for model in contents["models"]] == [
        "real recordings", "base", "RVC-LoRA", "RVC", *(label for label, _ in machine_stages.OTHER_NOISE)]
    ours, theirs = ([contents["models"][at]["recordings"]["means"]["mel_l1"] for at in pair] for pair in ((2, 4),
                                                                                                         (3, 5)))
    assert ours[0] != ours[1] and theirs[0] != theirs[1]
    for model in contents["models"][1:]:
        assert {"mel_l1", "global_variance", "modulation_db", "content"} <= set(model["recordings"]["means"])
        assert {"global_variance", "high_db"} <= set(model["sources"]["means"])
    text = (out / "report.json").read_text(encoding="utf-8") + (out / "report.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text and "0_0.wav" not in text and not keep.exists()


def test_a_benchmark_that_is_broken_off_ends_where_the_whole_one_ends(tmp_path, monkeypatch):
    """The curves of a training that was killed after each turn equal those of one that was not, times aside."""
    from bench import time_to_quality, trainings
    from bench.voices import quick_inputs

    (tmp_path / "inputs").mkdir()
    base, _, data = quick_inputs(tmp_path / "inputs")
    args = Namespace(base=base, base_d=None, recipe="same_losses", lr=None, config=None, epochs=2, lora_epochs=2,
                     points=2, device="cpu", seed=1, valid_fraction=0.3)
    whole = time_to_quality.measure_voice(data[0], args, tmp_path / "whole", time_to_quality.Judges())

    class Killed(BaseException):
        pass

    real, turns = trainings.atomic_file, []

    def killed(path):
        if turns.count("whole") < 1:
            turns.append("whole")
            return real(path)
        raise Killed

    monkeypatch.setattr(trainings, "atomic_file", killed)
    with pytest.raises(Killed):
        time_to_quality.measure_voice(data[0], args, tmp_path / "broken", time_to_quality.Judges())
    monkeypatch.setattr(trainings, "atomic_file", real)
    assert (tmp_path / "broken" / "resume.pt").is_file()
    again = time_to_quality.measure_voice(data[0], args, tmp_path / "broken", time_to_quality.Judges())
    for name, points in whole["curves"].items():
        assert [point["errors"] for point in again["curves"][name]] == [point["errors"] for point in points]
    assert not (tmp_path / "broken" / "resume.pt").exists()


def test_figures_of_another_task_are_never_taken_for_these(tmp_path):
    sounds, work = tmp_path / "anna", tmp_path / "parts"
    sounds.mkdir()
    work.mkdir()
    for file in (sounds / "a.wav", tmp_path / "G.pth", tmp_path / "D.pth"):
        file.write_bytes(b"1")
    mine = {"recordings": sounds, "base": tmp_path / "G.pth", "base_d": tmp_path / "D.pth", "folder": work,
            "sources": sounds}

    def ask(**more):
        one = task(tmp_path, **{**mine, **more})
        on_my_machine.same_task(one, on_my_machine.describe_task(one))

    ask(quick=True)
    ask(quick=True)
    for more, said in (({}, "--quick"), ({"quick": True, "hours": 2.0}, "--hours"),
                       ({"quick": True, "base": tmp_path / "D.pth"}, "--base")):
        with pytest.raises(UserError, match=f"another {said}: choose another --out"):
            ask(**more)
    (sounds / "a.wav").write_bytes(b"2")
    with pytest.raises(UserError, match="another --recordings"):
        ask(quick=True)
    (work / "task.json").write_bytes(b"[" * 100_000)  # damaged: as none
    ask(quick=True)


def test_two_runs_in_one_folder(tmp_path):
    one = task(tmp_path)
    with on_my_machine.only_one(one), pytest.raises(UserError, match=f"process {os.getpid()}"):
        with on_my_machine.only_one(one):
            pass


def test_a_quick_run_leaves_the_users_experiment_as_it_is(tmp_path):
    data = make_experiment(tmp_path / "logs" / "voice", clips=2, seconds=0.6)
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    quick = task(tmp_path, data=data, quick=True)
    assert machine_stages.prepare(quick)["clips"] == 2 and quick.experiment != data
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before
    shortened = json.loads((quick.experiment / "config.json").read_text(encoding="utf-8"))
    assert shortened["train"]["segment_size"] == 16 * shortened["data"]["hop_length"]
    assert task(tmp_path, data=data).experiment == data
