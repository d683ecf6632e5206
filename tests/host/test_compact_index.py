"""An index of a tenth of the size: RVC's three calls work on it, and it finds what the whole one finds."""

import numpy as np
import pytest

from LoraModel.host.compact_index import SHARE, compact, is_compact
from LoraModel.host.index import build_index, open_index
from LoraModel.inference.convert import Retrieval
from LoraModel.messages import UserError
from LoraModel.scripts import compact_index
from LoraModel.scripts.prepare_data import make_compact

faiss = pytest.importorskip("faiss")
SIZE, FRAMES = 256, 4000


def speech_like(frames, seed):
    """Features that move slowly through a few dozen sounds, as speech's do: (frames, SIZE)."""
    sounds = np.random.default_rng(0).normal(size=(40, SIZE))
    rng = np.random.default_rng(seed)
    order = np.repeat(rng.integers(0, 40, frames // 8 + 1), 8)[:frames]
    return (sounds[order] + 0.3 * rng.normal(size=(frames, SIZE))).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    experiment = tmp_path_factory.mktemp("logs") / "anna"
    (experiment / "3_feature256").mkdir(parents=True)
    np.save(str(experiment / "3_feature256" / "0.npy"), speech_like(FRAMES, 1))
    return build_index(experiment, "v1")


def test_a_tenth_that_rvcs_three_calls_take(whole, tmp_path):
    path, before, after = compact(whole, tmp_path / whole.name)
    assert before == whole.stat().st_size and after == path.stat().st_size <= SHARE * before
    index = faiss.read_index(str(path))  # as RVC's Pipeline does it
    vectors = index.reconstruct_n(0, index.ntotal)
    score, found = index.search(speech_like(100, 2), 8)
    assert vectors.shape == (index.ntotal, SIZE) and FRAMES / 5 < index.ntotal < FRAMES / 2
    assert np.isfinite(vectors).all() and (found >= 0).all() and (score >= 0).all()
    np.testing.assert_allclose(np.square(vectors[found[0, 0]] - speech_like(100, 2)[0]).sum(), score[0, 0], rtol=1e-3)
    assert open_index(path, SIZE).ntotal == index.ntotal and is_compact(path) and not is_compact(whole)


def test_what_is_retrieved_is_nearly_the_same(whole, tmp_path):
    path, _, _ = compact(whole, tmp_path / "a.index")
    heard = speech_like(300, 3)
    mine, theirs = (Retrieval(file, SIZE).mix(heard, 1.0) for file in (path, whole))
    apart = np.linalg.norm(mine - theirs, axis=1).mean() / np.linalg.norm(heard - theirs, axis=1).mean()
    assert apart < 0.5


def test_equal_seeds_give_equal_files(whole, tmp_path):
    files = [compact(whole, tmp_path / f"{name}.index")[0].read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_the_command_and_what_it_refuses(whole, tmp_path, capsys):
    copy = tmp_path / "added.index"
    copy.write_bytes(whole.read_bytes())
    assert compact_index.main([str(copy)]) == 0 and "MB instead of" in capsys.readouterr().out
    assert is_compact(copy)
    with pytest.raises(UserError, match="compact already"):
        compact_index.main([str(copy)])
    with pytest.raises(UserError, match="exists"):
        compact_index.main([str(whole), "--output", str(copy)])
    with pytest.raises(UserError, match=r"no index .*aded.index \(the nearest: .*added.index\): check the path$"):
        compact_index.main([str(tmp_path / "aded.index")])
    index = faiss.IndexFlatL2(SIZE)
    index.add(speech_like(50, 1))
    faiss.write_index(index, str(tmp_path / "few.index"))
    with pytest.raises(UserError, match="too few"):
        compact_index.main([str(tmp_path / "few.index")])


def test_every_cut_and_every_changed_number_is_refused_before_faiss_reads_it(whole, tmp_path):
    path, _, _ = compact(whole, tmp_path / "a.index")
    data = path.read_bytes()
    for cut in (10, 60, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.index").write_bytes(data[:cut])
        with pytest.raises(UserError, match="no faiss index that can be used"):
            open_index(tmp_path / "cut.index", SIZE)
    at = data.index(b"ilar")
    for place in (at + 4, at + 12, at - 1 - 8, at - 9 - 4 * 2 * SIZE - 8):  # cells, code size, sizes of the quantizer
        bad = bytearray(data)
        bad[place] ^= 0x55
        (tmp_path / "bad.index").write_bytes(bad)
        with pytest.raises(UserError, match="no faiss index that can be used"):
            open_index(tmp_path / "bad.index", SIZE)


def test_preparing_makes_it_compact_once_and_says_where_it_cannot(whole, tmp_path, capsys):
    copy = tmp_path / "added.index"
    copy.write_bytes(whole.read_bytes())
    for _ in range(2):
        make_compact(copy)
        assert is_compact(copy) and copy.stat().st_size > 0.05 * whole.stat().st_size
    index = faiss.IndexFlatL2(SIZE)
    index.add(speech_like(50, 1))
    faiss.write_index(index, str(tmp_path / "few.index"))
    make_compact(tmp_path / "few.index")
    assert "too few" in capsys.readouterr().err and not is_compact(tmp_path / "few.index")
