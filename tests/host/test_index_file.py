"""faiss indexes that RVC can use are taken; all others are refused in one line, before faiss reads them."""

import numpy as np
import pytest

from LoraModel.host import index_file
from LoraModel.host.index import open_index
from LoraModel.host.index_file import check_file
from LoraModel.messages import UserError

faiss = pytest.importorskip("faiss")

SIZE = 12


def vectors(count=200, size=SIZE):
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)


def cells(metric=faiss.METRIC_L2, count=4):
    index = faiss.index_factory(SIZE, f"IVF{count},Flat", metric)
    index.train(vectors())
    return index


def made(kind):
    if kind == "flat":
        index = faiss.IndexFlatL2(SIZE)
        index.add(vectors())
    elif kind == "ivf":
        index = cells()
        index.add(vectors())
    elif kind == "sparse":
        index = cells(count=16)
        index.add(np.repeat(vectors()[:1], 50, axis=0))
    elif kind in ("idmap", "idmap2"):
        index = (faiss.IndexIDMap if kind == "idmap" else faiss.IndexIDMap2)(faiss.IndexFlatL2(SIZE))
        index.add_with_ids(vectors(), np.arange(200, dtype=np.int64) * 7)
    elif kind == "ids":
        index = cells()
        index.add_with_ids(vectors(), np.arange(200, dtype=np.int64) + 1000)
    elif kind == "removed":
        index = cells()
        index.add(vectors())
        index.remove_ids(np.arange(10, dtype=np.int64))
    elif kind == "nprobe":
        index = cells()
        index.add(vectors())
        index.nprobe = 0
    elif kind == "inner":
        index = cells(faiss.METRIC_INNER_PRODUCT)
        index.add(vectors())
    elif kind == "inner flat":
        index = faiss.IndexFlatIP(SIZE)
        index.add(vectors())
    elif kind == "trained":
        index = cells()
    elif kind == "untrained":
        index = faiss.index_factory(SIZE, "IVF4,Flat")
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(SIZE, 8)
        index.add(vectors())
    elif kind == "not a number":
        index = faiss.IndexFlatL2(SIZE)
        index.add(np.full((9, SIZE), np.nan, np.float32))
    elif kind == "empty":
        index = faiss.IndexFlatL2(SIZE)
    else:
        index = faiss.IndexFlatL2(5)
        index.add(vectors(9, 5))
    return faiss.serialize_index(index).tobytes()


@pytest.mark.parametrize("kind", ["flat", "ivf", "sparse", "nprobe"])
def test_what_rvc_makes_is_taken(tmp_path, kind):
    path = tmp_path / "added_a.index"
    path.write_bytes(made(kind))
    assert check_file(path, SIZE) == path
    index = faiss.read_index(str(path))
    assert index.reconstruct_n(0, index.ntotal).shape == (index.ntotal, SIZE)


@pytest.mark.parametrize("kind, said", [
    ("idmap", "ids of its own"), ("idmap2", "ids of its own"), ("ids", "ids of its own"),
    ("removed", "ids of its own|removing"),
    ("inner", "inner product"), ("inner flat", "inner product"), ("trained", "added_"), ("untrained", "added_"),
    ("empty", "no vectors"),
    ("hnsw", "not one that RVC makes"), ("not a number", "not numbers"),
    ("size", "9 vectors of 5 values, the base needs 12"),
])
def test_what_rvc_cannot_use_is_refused_in_words(tmp_path, kind, said):
    path = tmp_path / "a.index"
    path.write_bytes(made(kind))
    with pytest.raises(UserError, match=said) as caught:
        check_file(path, SIZE)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 600


@pytest.mark.parametrize("data, said", [(b"<html><body>", "web page"), (b"PK\3\4", "another format"),
                                        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer")])
def test_what_is_another_file_is_named(tmp_path, data, said):
    path = tmp_path / "added_a.index"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        check_file(path)


def test_a_damaged_total_asks_for_no_memory(tmp_path):
    data = bytearray(made("ivf"))
    data[8:16] = (2**30).to_bytes(8, "little")
    (tmp_path / "a.index").write_bytes(data)
    with pytest.raises(UserError, match="damaged|than it says"):
        check_file(tmp_path / "a.index", SIZE)


def test_a_file_is_looked_at_again_when_it_has_changed(tmp_path):
    path = tmp_path / "a.index"
    path.write_bytes(made("flat"))
    check_file(path, SIZE)
    assert index_file._checked
    path.write_bytes(made("ivf")[:-5])
    with pytest.raises(UserError, match="cut short"):
        check_file(path, SIZE)


def test_whatever_bit_is_turned_the_index_is_refused_or_works(tmp_path):
    """faiss itself would end the process at some of these, so each that is taken is searched and read back here."""
    good, rng = made("ivf"), np.random.default_rng(0)
    places = [*range(120), *rng.integers(0, len(good), 80).tolist()]
    taken = refused = 0
    for number, place in enumerate(places):
        data = bytearray(good)
        data[place] ^= 1 << int(rng.integers(0, 8))
        path = tmp_path / f"{number}.index"
        path.write_bytes(data)
        try:
            index = open_index(path, SIZE)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
            continue
        assert index.reconstruct_n(0, index.ntotal).shape == (200, SIZE)
        assert index.search(vectors(3), 8)[1].shape == (3, 8)
        taken += 1
    assert taken > 20 and refused > 20


def test_the_check_comes_before_faiss(tmp_path, monkeypatch):
    path = tmp_path / "a.index"
    path.write_bytes(made("ivf")[:-5])
    monkeypatch.setattr(faiss, "read_index", lambda *given: pytest.fail("faiss was asked"))
    with pytest.raises(UserError, match="is no faiss index"):
        open_index(path, SIZE)
