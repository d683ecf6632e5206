"""The benchmark of many voices in its quick form: what it asserts of itself holds, times are not judged."""

import pytest

from bench import many_voices
from bench.many_voices import measure_batch, measure_time, on_paper


def test_both_ways_take_the_same_steps(tmp_path):
    figures = measure_time(tmp_path, quick=True)
    assert figures["voices"] == 2 and figures["ratio_train_many"] > 0 and len(figures["seconds_to_first_step"]) == 1 \
        and 0 < figures["seconds_to_first_step"][0] < figures["seconds_to_end_of_first_step"][0]


def test_a_batch_is_timed(tmp_path):
    figures = measure_batch(tmp_path, quick=True)
    assert figures["ratio_batch"] > 0 and ("unknown" in str(figures["batch_of_forty_on_a_gpu"])) == \
        (figures["batch_device"] == "cpu")


def test_a_thousand_voices_on_a_hundred_workers(tmp_path):
    """By the state file itself, a twentieth of the attempts killed: all done, none twice, no idle workers."""
    figures = on_paper(tmp_path / "paper", 1000, 100)
    assert figures["paper_done"] == 1000 and 20 < figures["paper_lost"] < 100
    assert figures["paper_time_over_ideal"] < 1.25


def test_by_ray_with_training_that_is_none(tmp_path):
    pytest.importorskip("ray.cluster_utils")
    figures = many_voices.by_ray(tmp_path / "ray", 40, 2)
    assert figures["ray_done"] == 40
