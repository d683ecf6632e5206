"""The benchmarks of conversions and of small indices in their quick form: what it prints is what was measured."""

import json

import pytest
from training_data import one_thread

from bench import compact_index, convert_voice

threads = pytest.fixture(scope="module", autouse=True)(one_thread)


def test_a_made_up_voice_is_trained_converted_and_heard(tmp_path, capsys):
    file = tmp_path / "figures.json"
    convert_voice.main(["--quick", "--no_judges", "--steps", "1", "--lr", "2e-3", "--json", str(file)])
    figures, said = json.loads(file.read_text()), capsys.readouterr().out
    voice = figures["voices"]["tones"]
    for form in convert_voice.FORMS:
        kept = figures[form]
        assert kept["kept_low"] <= kept["kept"] <= kept["kept_high"] and "similarity" not in kept
        assert kept["kept"] == pytest.approx(voice[form]["kept"])  # the mean of one voice
        assert voice["made"][form]["bytes_after"] <= 387_000 < voice["made"][form]["bytes_before"]
        assert f"tones  {form}" in said
    base, full, default = (voice["heard"][name]["errors"] for name in (convert_voice.BASE, convert_voice.FULL,
                                                                       "default"))
    gain = sum(base) - sum(full)
    assert voice["default"]["kept"] == pytest.approx((sum(base) - sum(default)) / gain)
    assert voice["made"]["default"]["steps"] == 1 and voice["made"]["default"]["step_seconds"] > 0
    assert voice["made"]["fast"]["steps"] == 0


def test_the_mean_similarity_is_of_clips_that_hold_speech():
    found = convert_voice.difference([[(0.9, 0.8), (0.7, 0.8)], [(0.5, 0.5)]])
    assert found.value == pytest.approx(0.0) and found.low <= found.value <= found.high


def test_the_compact_index_bench_compares_three_conversions(tmp_path, capsys):
    file = tmp_path / "figures.json"
    compact_index.main(["--quick", "--json", str(file)])
    figures = json.loads(file.read_text())
    assert figures["share"] <= 0.1 and figures["mel_none"] > 0 and figures["mel_compact"] >= 0
    assert f"{figures['bytes_compact']:,} bytes instead of" in capsys.readouterr().out
