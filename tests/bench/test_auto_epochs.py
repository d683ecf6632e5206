"""bench/auto_epochs.py: what it counts, from runs that are made up; the voices of lab_voices.py are what they are said
to be."""

from types import SimpleNamespace

import pytest

from bench import auto_epochs, lab_voices


def test_the_goals_are_counted_and_what_is_there_is_not_trained_again(tmp_path, monkeypatch, capsys):
    runs = []

    def trained(data, folder, args, epochs):
        runs.append((data.name, epochs))
        steps, best = {"a": ((40, 0.500), (100, 0.499)), "b": ((60, 0.400), (100, 0.390)),
                       "c": ((80, 0.300), (100, 0.310))}[data.name][epochs != "auto"]
        return {"steps": steps, "best": best, "seconds_data": 30.0}

    monkeypatch.setattr(auto_epochs, "trained", trained)
    args = SimpleNamespace(data=[tmp_path / name for name in "abc"], epochs=20)
    found = auto_epochs.measure(args, tmp_path)
    assert (found["count"], found["within_one_percent"], found["at_most_half_the_steps"], found["both"]) == (3, 2, 1, 1)
    assert found["voices"]["b"]["within"] == pytest.approx(0.4 / 0.39 - 1) and len(runs) == 6
    auto_epochs.show(found)
    assert "within one percent: 2 of 3" in capsys.readouterr().out
    assert auto_epochs.measure(args, tmp_path) == found and len(runs) == 6


def test_the_voices_are_people_and_synthesizers_short_and_long_clean_and_noisy():
    voices = lab_voices.VOICES
    assert len(voices) == len({voice.name for voice in voices}) == 10
    assert {30, 60, 180, 300, 600} == {voice.seconds for voice in voices}
    assert 3 <= sum(":" in voice.source for voice in voices) <= 7
    assert sum(voice.noise is not None for voice in voices) == 2
