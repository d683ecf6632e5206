"""The benchmarks run in their quick form and give what they promise; times are theirs to print, not for a test to
judge."""

import json
import math

import numpy as np
import pytest

from bench import common, realtime, storage, switch_time, train_time


def test_ratio_is_of_pairs():
    assert common.ratio([1.0, 4.0, 3.0], [2.0, 8.0, 6.0], "r") == {"r": 0.5, "r_low": 0.5, "r_high": 0.5}


def test_table_aligns():
    assert common.table([("a", "bb"), ("ccc", 0.5)]) == "a    bb\n---  -----\nccc  0.500"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return storage.measure(tmp_path_factory.mktemp("storage"), quick=True)


def test_storage_keeps_the_promises(stored):
    assert stored["adapter_bytes"] <= 387_000
    assert stored["ten_voices_bytes"] == stored["base_bytes"] + 10 * stored["adapter_bytes"] <= 58_870_000
    assert stored["training_folder_bytes"] <= 60_000_000 < stored["training_save_bytes_rvc"]


def test_a_step_of_rvcs_and_one_of_ours_are_timed(tmp_path):
    figures = train_time.measure_time(tmp_path, quick=True, with_d=False, repeats=1)
    assert figures["ratio_step"] == figures["ratio_step_low"] == figures["ratio_step_high"] > 0
    assert set(figures["parts_rvc"]) == {"G forward", "D forward", "D backward", "D forward again", "G backward",
                                         "optimisers"}
    assert set(figures["parts_ours"]) == {"batch", "prior forward", "prior backward", "decoder forward",
                                          "decoder backward", "optimiser"}
    assert math.isclose(sum(figures["parts_rvc"].values()), figures["seconds_rvc"][0], rel_tol=0.2)
    assert math.isclose(sum(figures["parts_ours"].values()), figures["seconds_ours"][0][0], rel_tol=0.2)
    common.finish(figures, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == json.loads(json.dumps(figures))


def test_rvcs_step_trains_everything(tmp_path):
    """The step that ours is measured against does RVC's work: all of the generator and of the discriminator moves."""
    parts = train_time.build(tmp_path, quick=True, with_d=False)
    batch = train_time.trainer_clips(parts)
    step = train_time.rvc_of(parts, batch.spec.device)
    before = [[p.detach().clone() for p in network.parameters()] for network in (step.generator, step.discriminator)]
    assert math.isfinite(step(batch))
    for network, old in zip((step.generator, step.discriminator), before):
        still = [name for (name, p), q in zip(network.named_parameters(), old) if p.grad is None
                 or not bool((p != q).any())]
        assert [name for name in still if "emb_rel" not in name] == []


def test_voices_change_and_the_base_comes_back(tmp_path):
    figures = switch_time.measure(tmp_path, repeats=2, seconds=0.3)
    assert figures["unload_identical"] and len(figures["switch_ms_all"]) == len(figures["rvc_ms_all"]) == 2
    assert figures["switch_ms_low"] <= figures["switch_ms"] <= figures["switch_ms_high"]
    assert len(figures["convert_seconds_base"]) == len(figures["convert_seconds_adapter"]) == 2
    assert figures["ratio_convert_low"] <= figures["ratio_convert"] <= figures["ratio_convert_high"]


def test_a_stream_with_changes_and_without_and_a_batch(tmp_path):
    figures = realtime.measure(tmp_path, changes=3, seconds=0.6, block=0.1, repeats=1, quick=True, users=2)
    assert len(figures["held_ms_all"]) == 3 and 0 < figures["held_ms"] <= figures["held_ms_most"]
    assert figures["ready_ms"] > 0 and figures["kept_ms"] > 0 and figures["ratio_held"] < 1  # exchanged, not written
    assert figures["plain_blocks"] == figures["changing_blocks"] > 0 and figures["changing_changes_heard"] > 0
    assert figures["joints"] == len(figures["jump_all"]) == 2 and figures["jump"] > 0
    assert figures["jump_beyond_own_most"] <= figures["jump_most"] and len(figures["own_all"]) == 2
    assert figures["batch_apart"] < 1e-4 and figures["ratio_batch"] > 0


def test_flux_is_highest_where_the_sound_jumps():
    sound = np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)
    sound[8000:] = np.sin(2 * np.pi * 1700 * np.arange(8000) / 16000)
    found = realtime.flux(sound)
    assert abs(int(found.argmax()) * realtime.FLUX_HOP - 8000) < 2 * realtime.FLUX_WINDOW
