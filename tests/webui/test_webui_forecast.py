"""What the tab says before the first step, and the one bar over all steps."""

import json
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from page_runs import BASE, make_root
from voice_data import BASE as BASE_FILE

from LoraModel.doctor.recording import own_rate
from LoraModel.host import find_host
from LoraModel.lora import LoRAConfig
from LoraModel.messages import tr_in
from LoraModel.models import SynthesizerLoRA, load_base_beside_config
from LoraModel.webui.folders import Folders
from LoraModel.webui.preparing.forecast import START_SECONDS, Forecaster, _length
from LoraModel.webui.preparing.paces import Paces
from LoraModel.webui.preparing.preparation_job import Preparation
from LoraModel.webui.runs.run_settings import RunSettings
from LoraModel.webui.runs.runs import Status
from LoraModel.webui.tab import curves
from LoraModel.webui.tab.console import WORDS, page_lines, page_text
from LoraModel.webui.tab.prepare_bar import stage_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("forecast"), clips=4)


def settings(**changed):
    return RunSettings(**{"name": "voice", "sample_rate": "16k", "base_g": BASE, **changed})


@pytest.mark.parametrize("preset, rank", [("balanced", 0), ("high_quality", 0), ("balanced", 40)])
def test_parameters_and_size_are_those_of_the_adapter_that_is_made(root, preset, rank):
    host = find_host()
    found = Forecaster(Folders(root, False), host).size(settings(preset=preset, rank=rank))
    config = LoRAConfig.from_preset(preset, rank or None)
    model = SynthesizerLoRA(load_base_beside_config(BASE_FILE, host), config)
    count, clamped = model.count(), model.injection.clamped()
    assert (found.parameters, found.base, found.clamped) == (count.adapter, count.base, len(clamped))
    assert bool(clamped) == bool(rank)
    shapes = sum(2 * torch.Size(tensor.shape).numel() for tensor in model.injection.tensors().values())
    assert 0 < found.size - shapes < 40_000  # the header


def test_steps_and_time_of_a_form(root):
    forecaster = Forecaster(Folders(root, False), find_host())
    there = forecaster.forecast(settings(epochs=7, batch_size=2), str(root / "recordings"))
    slices = len(list((root / "logs/voice/1_16k_wavs").glob("*.wav")))
    assert there.steps == 7 * -(-round(slices * 9) // 20) and there.preparing == 0 and there.seconds > 0
    new = forecaster.forecast(settings(name="new"), str(root / "recordings"))
    assert new.steps > 0 and new.preparing > 0
    assert forecaster.forecast(settings(name="new"), "/no/such/folder").steps == 0
    assert forecaster.forecast(settings(base_g="assets/pretrained_v2/none.pth"), "").size is None
    forecaster.paces.learn(settings().pace_key(), 3.0)  # a run of these settings had three seconds a step
    known = forecaster.forecast(settings(), "")
    assert known.seconds == START_SECONDS + 3.0 * known.steps
    assert forecaster.ask(settings(), "") in (None, known)  # worked out beside the page
    until = time.monotonic() + 60
    while forecaster.ask(settings(), "") != known:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_recording_that_does_not_tell_its_length_is_not_taken_for_ages(tmp_path):
    noise = np.random.default_rng(0).integers(-2000, 2000, 4 * 16000, dtype=np.int16)
    soundfile.write(str(tmp_path / "piped.flac"), noise, 16000)
    data = bytearray((tmp_path / "piped.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # STREAMINFO: 36 bits of samples, of which 0 says that they were not counted
    (tmp_path / "piped.flac").write_bytes(data)
    assert 2 < _length(tmp_path) < 10
    slow = bytearray()
    slow += b"RIFF" + (36 + 2000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    slow += b"\1\0\1\0" + (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"\2\0\x10\0"
    (tmp_path / "of 1 Hz.wav").write_bytes(slow + b"data" + (2000).to_bytes(4, "little") + bytes(2000))
    assert 2 < _length(tmp_path) < 10  # the preparation leaves it out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_the_length_and_rate_of_a_recording_whose_name_is_no_utf8(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), np.zeros(32000, np.float32), 16000)
    os.rename(str(tmp_path / "a.wav"), os.fsencode(str(tmp_path)) + b"/caf\xe9.wav")
    assert _length(tmp_path) == 2.0 and own_rate(next(tmp_path.iterdir())) == 16000


def test_paces_are_kept_and_a_damaged_file_counts_as_empty(tmp_path):
    paces = Paces(tmp_path / "own" / "paces.json")
    assert paces.of("index") is None
    paces.learn("index", 2.0)
    paces.learn("index", 4.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        paces.learn("index", wrong)
    paces.learn("extract", 12.0 / 1.9e14)  # of a recording that was taken for ages
    paces.learn("extract", 5000.0)
    assert Paces(tmp_path / "own" / "paces.json").of("index") == 3.0 and paces.of("extract") is None
    # as an earlier one may have kept it
    (tmp_path / "own" / "paces.json").write_text(json.dumps({"extract": 6e-14, "step|a": 0.5}))
    assert paces.of("extract") is None and paces.of("step|a") == 0.5
    for damaged in ("[1]", "{", json.dumps({"index": "x", "slices": True})):
        (tmp_path / "own" / "paces.json").write_text(damaged)
        assert paces.of("index") is None and paces.of("slices") is None


def test_one_bar_over_all_steps_goes_forward_and_ends_with_the_run(root):
    folders, status = Folders(root, False), Status("voice", started=5.0, epochs=10)
    job = Preparation(("preprocess", "extract", "index", "train"), settings(), "", "pm", False, None)
    job.expected = {"preprocess": 10.0, "extract": 20.0, "index": 10.0, "train": 60.0}
    job.seconds, job.thread = 60.0, SimpleNamespace(is_alive=lambda: True)
    shares, lefts = [], []
    for step in job.steps:
        job.step = step
        job.begun[step] = time.monotonic()
        found = stage_of(job, folders, status)
        shares.append(found.share)
        lefts.append(found.seconds_left)
    assert shares == sorted(shares) and 0 < shares[0] < 0.1 and shares[-1] == 0.4
    assert lefts == sorted(lefts, reverse=True) and 60 <= lefts[-1] < 61
    job.step, job.thread, job.run_started = "", SimpleNamespace(is_alive=lambda: False), 5.0
    assert stage_of(job, folders, status) is None
    running = replace(status, state="running", step=30, total_steps=60, seconds_left=44.0)
    half = stage_of(job, folders, running)
    assert (half.share, half.seconds_left, half.number, half.count) == (0.7, 44.0, 4, 4)
    shown = curves.progress(running, tr_in("en"), half)
    assert "70%, 44 s left" in shown and "step 30 of 60" in shown
    assert stage_of(job, folders, replace(running, started=6.0)) is None  # resumed by hand since: a bar of its own
    job.step, job.thread = "extract", SimpleNamespace(is_alive=lambda: True)
    said = curves.preparing("voice", stage_of(job, folders, status), "Feature extraction", tr_in("en"))
    assert "voice: step 2 of 4, Feature extraction" in said and "slices)" in said and "left" in said


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_nothing_of_a_terminal_stands_on_the_page(language):
    tr = tr_in(language)
    bars = ["features:  45%|████▌     | 9/20 [00:01<00:02,  5.1it/s]", "training: 0step [00:00, ?step/s]",
            "3it [00:00,  9.1it/s]", "训练:   0%|          | 0/100 [00:00<?, ?step/s]"]
    lines = page_lines([*bars, *(tr(console) for console in WORDS), "left out: cover.jpg"], tr)
    assert len(lines) == len(WORDS) + 1 and lines[-1] == "left out: cover.jpg"
    assert not any(word in line for line in lines for word in ("Ctrl-C", "--", "%|", "it/s"))
    assert page_lines([str(english) for english in WORDS], tr) == lines[:-1]  # of a run in another language, too
    assert page_text("a\n" + bars[0] + "\nb", tr) == "a\nb"
