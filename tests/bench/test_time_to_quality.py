"""bench/time_to_quality.py: the two ratios worked out by hand, and a whole quick run."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from training_data import ROOT

from bench import time_to_quality, trainings
from LoraModel.lora import load_adapter
from LoraModel.models import load_base


def curves(full, lora):
    """Of one voice; each: points of (seconds, errors of the clips)."""
    return {name: [{"steps": index, "seconds": seconds, "errors": list(errors)} for index,
                   (seconds, errors) in enumerate(points)]
            for name, points in ((trainings.FULL, full), (trainings.LORA, lora))}


SOON = curves([(0, (1.0, 1.0)), (50, (0.8, 0.8)), (100, (0.6, 0.6))],
              [(0, (1.0, 1.0)), (10, (0.7, 0.7)), (20, (0.6, 0.6)), (40, (0.5, 0.5))])
LATE = curves([(0, (1.0,)), (100, (0.5,))], [(0, (1.0,)), (60, (0.5,))])
NEVER = curves([(0, (1.0,)), (100, (0.4,))], [(0, (1.0,)), (10, (0.6,)), (20, (0.5,))])


def test_ratios_by_hand():
    found = time_to_quality.ratios([SOON])
    assert found["ratio_time"] == found["ratio_time_low"] == found["ratio_time_high"] == pytest.approx(0.2)
    assert found["quality_ratio"] == found["quality_ratio_low"] == pytest.approx(1.25)


def test_several_voices_come_to_their_mean():
    found = time_to_quality.ratios([SOON, LATE])
    assert found["ratio_time"] == found["ratio_time_low"] == found["ratio_time_high"] == pytest.approx((0.2 + 0.6) / 2)
    assert found["quality_ratio"] == pytest.approx((1.25 + 1) / 2)


@pytest.mark.parametrize("others", [[], [SOON], [SOON, LATE]])
def test_what_lora_never_reaches_is_infinite(others):
    found = time_to_quality.ratios([*others, NEVER])
    assert math.isinf(found["ratio_time"]) and math.isinf(found["ratio_time_high"])
    assert time_to_quality.ratios([NEVER])["quality_ratio"] == pytest.approx(0.5 / 0.6)


def test_intervals_are_over_the_clips():
    """The first point is as good on one clip of two: some draws cross there, others later."""
    voice = curves([(0, (1.0, 1.0)), (100, (0.5, 0.5))], [(0, (1.0, 1.0)), (10, (0.3, 0.8)), (30, (0.3, 0.4))])
    found = time_to_quality.ratios([voice])
    assert found["ratio_time"] == pytest.approx(0.3)
    assert (found["ratio_time_low"], found["ratio_time_high"]) == (pytest.approx(0.1), pytest.approx(0.3))
    assert found["quality_ratio_low"] < found["quality_ratio"] < found["quality_ratio_high"]
    six = time_to_quality.ratios([voice] * 6)  # six times as many clips: the mean is the same, and surer
    assert six["quality_ratio"] == pytest.approx(found["quality_ratio"])
    assert found["quality_ratio_low"] < six["quality_ratio_low"] < six["quality_ratio_high"] < found[
        "quality_ratio_high"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A run of the command: (figures, its folder)."""
    folder = tmp_path_factory.mktemp("ttq")
    argv, sys.argv = sys.argv, ["time_to_quality.py", "--quick", "--no_judges", "--out", str(folder), "--json",
                                str(folder / "all.json")]
    try:
        time_to_quality.main()
    finally:
        sys.argv = argv
    return json.loads((folder / "all.json").read_text(encoding="utf-8")), folder


def test_a_quick_run_trains_both_and_keeps_both(quick, library):
    figures, folder = quick
    voice = figures["voices"]["tones"]
    assert figures["ratio_time"] == voice["ratio_time"] and figures["recipe"] == "rvc"
    for name, points in voice["curves"].items():
        first, last = points
        assert first["seconds"] == (0
                                    if name != "LoRA" else first["seconds"]) and last["seconds"] > first["seconds"] >= 0
        assert last["steps"] == 1 and len(last["errors"]) == voice["clips_held_out"] == 1
        assert last["errors"] != first["errors"] and all(math.isfinite(error) for error in last["errors"])
    starts = {name: points[0]["errors"] for name, points in voice["curves"].items()}
    assert starts["LoRA"] == pytest.approx(starts["full fine-tuning"], rel=1e-5)  # the same base, the same noise
    assert set(voice["quality"]) == {"LoRA", "full fine-tuning", "the recordings"}
    assert set(voice["quality"]["LoRA"]) == {
        "mel_l1", "mcd_db", "f0_rmse_cents", "pitch_correlation", "voicing_error"}
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    base = load_base(ROOT / "LoraModel/demo/base/f0G16k.pth", library,
                     config_json=ROOT / "LoraModel/demo/base/config.json")
    load_adapter(voice["models"]["LoRA"], base.info.base_hash).check(base.network)
    full = load_base(voice["models"]["full fine-tuning"], library).network.state_dict()
    same = [key for key, value in base.network.state_dict().items() if key in full
            and torch.equal(value.half(), full[key].half())]
    assert len(same) < len(full) / 2  # all of it was trained, though half precision hides the smallest changes


def test_what_is_done_is_not_done_again(quick, monkeypatch, tmp_path):
    _, folder = quick
    monkeypatch.setattr(time_to_quality, "measure_voice", None)
    args = SimpleNamespace(data=[folder / "logs" / "tones"], no_judges=True, recipe="rvc")
    assert set(time_to_quality.measure(args, folder)["voices"]) == {"tones"}
