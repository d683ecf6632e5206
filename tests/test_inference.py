"""The small conversion: chunks, retrieval, pitch and protection against the network's own inference and by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from voice_data import SOURCE, go

from LoraModel.inference import ConvertOptions, Retrieval, VoiceLoader
from LoraModel.inference import audio as audio_io
from LoraModel.inference import convert as convert_module
from LoraModel.inference import stand_in as features
from LoraModel.messages import UserError


def test_a_short_conversion_is_the_networks_own_infer(voice, speech):
    padded = np.pad(speech, (0, -len(speech) % 320))
    frames = len(padded) // 160
    phone = np.repeat(features.content_features(padded), 2, axis=0)[:frames]
    f0 = features.pitch(padded, frames)
    torch.manual_seed(5)
    with torch.no_grad():
        own = voice.network.infer(torch.from_numpy(phone)[None], torch.tensor([frames]),
                                  torch.from_numpy(features.coarse_pitch(f0))[None],
                                  torch.from_numpy(f0.astype(np.float32))[None], torch.tensor([0]))[0][0, 0].numpy()
    found = go(voice, speech, ConvertOptions(seed=5, rms_mix_rate=1.0), chunk=10**6)
    assert len(found) == len(speech)
    np.testing.assert_allclose(found, own[: len(found)], atol=2e-5)


@pytest.mark.parametrize("chunk", [37, 50, 120])
def test_chunks_are_what_the_whole_is(voice, speech, chunk):
    whole = go(voice, speech, chunk=10**6)
    np.testing.assert_allclose(go(voice, speech, chunk=chunk), whole, atol=2e-5)


def test_sections_differ_from_the_whole_by_little(voice, speech):
    long = np.concatenate([speech] * 3)  # 6 s
    whole = go(voice, long, section=10**6)
    cut = go(voice, long, section=300)
    assert np.sqrt(np.mean((whole - cut) ** 2) / np.mean(whole**2)) < 0.05
    assert not np.array_equal(whole, cut)


def test_a_block_of_excitation_ends_where_there_is_no_voice(voice):
    f0 = np.concatenate([np.full(70, 200.0), np.zeros(10), np.full(60, 150.0)])
    synthesis = convert_module._Synthesis(voice.network, voice.device, 0, f0, features.coarse_pitch(f0))
    starts = []
    real = voice.network.dec.m_source.forward
    voice.network.dec.m_source.forward = lambda f0, upp: (starts.append(f0.shape[1]), real(f0, upp))[1]
    try:
        source = synthesis._excitation(voice.info.hop_length, longest=100)
    finally:
        del voice.network.dec.m_source.forward
    assert starts == [80, 60] and source.shape == (1, 140 * voice.info.hop_length, 1)


def test_equal_seeds_give_equal_audio_and_leave_torchs_own_alone(voice, speech):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = go(voice, speech, ConvertOptions(seed=1))
    assert torch.equal(torch.rand(2), expected)
    assert np.array_equal(first, go(voice, speech, ConvertOptions(seed=1)))
    assert not np.array_equal(first, go(voice, speech, ConvertOptions(seed=2)))


def test_transposition_moves_the_pitch(voice, speech):
    def median(sound):
        f0 = features.pitch(sound, len(sound) // 160)
        return np.median(f0[f0 > 0])

    plain = median(go(voice, speech))
    assert median(go(voice, speech, ConvertOptions(transpose=12))) / plain == pytest.approx(2, rel=0.05)
    assert median(go(voice, speech, ConvertOptions(transpose=-5))) / plain == pytest.approx(2 ** (-5 / 12), rel=0.05)


def flat_index(path, vectors):
    import faiss

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))
    return path


def test_retrieval_is_the_brute_force_mean(tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(60, 12)).astype(np.float32), rng.normal(size=(7, 12)).astype(np.float32)
    retrieval = Retrieval(flat_index(tmp_path / "a.index", vectors), 12)
    for rate in (0.3, 1.0):
        wanted = []
        for query in queries:
            score = ((vectors - query) ** 2).sum(1)
            nearest = np.argsort(score)[:8]
            weight = (1 / score[nearest]) ** 2
            wanted.append(rate * (weight / weight.sum()) @ vectors[nearest] + (1 - rate) * query)
        np.testing.assert_allclose(retrieval.mix(queries, rate), wanted, rtol=1e-4, atol=1e-5)


def test_retrieval_finds_a_frame_that_is_in_the_index_and_survives_small_ones(tmp_path):
    vectors = np.eye(5, dtype=np.float32)
    retrieval = Retrieval(flat_index(tmp_path / "a.index", vectors), 5)
    np.testing.assert_allclose(retrieval.mix(vectors[:2], 1.0), vectors[:2], atol=1e-6)  # RVC divides by zero here
    assert np.isfinite(retrieval.mix(np.zeros((3, 5), np.float32), 1.0)).all()


def test_retrieval_pulls_the_conversion_to_the_index(voice, speech, tmp_path):
    vectors = features.content_features(audio_io.read_audio(SOURCE.parent / "02.flac", 16000))
    index = flat_index(tmp_path / "a.index", vectors)
    plain = go(voice, speech)
    assert np.array_equal(plain, go(voice, speech, ConvertOptions(index=index, index_rate=0.0)))
    assert not np.array_equal(plain, go(voice, speech, ConvertOptions(index=index, index_rate=0.5)))


def test_protect_keeps_unvoiced_frames_of_the_source():
    retrieved, source = np.full((4, 2), 10.0, np.float32), np.zeros((4, 2), np.float32)
    f0 = np.array([0.0, 200.0, 0.0, 90.0])
    np.testing.assert_allclose(convert_module.protected(retrieved, source, f0, 0.2)[:, 0], [2, 10, 2, 10])
    assert convert_module.protected(retrieved, source, f0, 0.5) is retrieved


@pytest.mark.parametrize("text, said", [("not an index", "no faiss index"), (None, "there is no index")])
def test_a_bad_index_is_refused(voice, speech, tmp_path, text, said):
    path = tmp_path / "bad.index"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        go(voice, speech, ConvertOptions(index=path))


def test_an_index_of_another_size_and_a_missing_speaker_are_refused(voice, speech, tmp_path):
    index = flat_index(tmp_path / "a.index", np.zeros((9, 256), np.float32))
    with pytest.raises(UserError, match="256 values, the base needs 768"):
        go(voice, speech, ConvertOptions(index=index))
    with pytest.raises(UserError, match="speaker 99"):
        go(voice, speech, ConvertOptions(speaker=99))


@pytest.mark.parametrize("values",
                         [{"protect": 0.7}, {"index_rate": -0.1}, {"transpose": 100}, {"protect": float("nan")}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        ConvertOptions(**values)


def test_a_base_without_pitch_converts(library, full_network, speech):
    from LoraModel.models.model_utils import Base, BaseInfo, config_list

    config = config_list(library.config_for("v2", 40000))
    info = BaseInfo("nono", Path("nono.pth"), config, "v2", False, 40000, True, "0" * 64)
    voice = VoiceLoader(Base(full_network("v2", False), info), library)
    found = go(voice, speech[:8000])
    assert len(found) == 20000 and np.isfinite(found).all() and np.abs(found).max() > 0


def test_windows_cover_everything_once_but_for_the_overlap():
    for total, size, overlap in [(10, 20, 4), (100, 30, 5), (101, 30, 5), (55, 30, 5), (31, 30, 5), (30, 30, 5)]:
        cut = convert_module.windows(total, size, overlap)
        assert cut[0][0] == 0 and cut[-1][1] == total
        assert all(start == stop - overlap for (_, stop), (start, _) in zip(cut, cut[1:]))
        assert all(0 < stop - start <= size for start, stop in cut)


def test_cross_fading_equal_pieces_changes_nothing():
    whole = torch.arange(40.0)
    out = torch.zeros(40)
    for start, stop in convert_module.windows(40, 15, 4):
        convert_module.fade_in(out, whole[start:stop], start, 4)
    torch.testing.assert_close(out, whole)
