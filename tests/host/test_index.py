"""Faiss indices that would end the process, or give wrong vectors, are refused by their kind; RVC's own conversion is
guarded by the same check."""

import numpy as np
import pytest

from LoraModel.host.index import check_index, open_index
from LoraModel.host.patch import _patch_vc
from LoraModel.messages import UserError

faiss = pytest.importorskip("faiss")


def written(path, kind):
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    if kind == "inner product":
        index = faiss.IndexFlatIP(8)
    elif kind.startswith("IDMap"):
        index = faiss.index_factory(8, f"{kind},Flat")
    else:
        index = faiss.index_factory(8, "Flat" if kind == "flat" else "IVF4,Flat")
        index.train(vectors)
    if kind.startswith("IDMap") or kind == "ids":
        index.add_with_ids(vectors, np.arange(200, dtype=np.int64) + 7)
    elif kind != "empty":
        index.add(vectors)
    if kind == "removed":
        index.remove_ids(np.array([3, 5], dtype=np.int64))
    if kind == "nprobe 0":
        index.nprobe = 0
    faiss.write_index(index, str(path))
    return path


@pytest.mark.parametrize("kind, why", [("IDMap", "ids of its own"), ("IDMap2", "ids of its own"),
                                       ("ids", "ids of its own"),
                                       ("removed", "ids of its own"), ("empty", "holds no vectors"),
                                       ("inner product", "inner product")])
def test_indices_that_rvc_cannot_work_with(tmp_path, kind, why):
    path = written(tmp_path / "added_x.index", kind)
    with pytest.raises(UserError, match=why):
        check_index(path, 8)

    class VC:
        version = "v2"

        def get_vc(self, sid):
            pass

        def vc_single(self, sid, file_index, file_index2, index_rate):
            raise AssertionError("RVC was asked")

    _patch_vc(VC)
    said, sound = VC().vc_single(0, "", str(path), 0.7)
    assert "added_x.index" in said and sound == (None, None)


@pytest.mark.parametrize("kind", ["flat", "ivf", "nprobe 0"])
def test_indices_that_are_fine(tmp_path, kind):
    index = open_index(written(tmp_path / "x.index", kind), 8)
    assert index.reconstruct_n(0, index.ntotal).shape == (200, 8) and index.search(np.zeros((1, 8), np.float32),
                                                                                   8)[1].min() >= 0
    with pytest.raises(UserError, match="200 vectors of 8 values, the base needs 768"):
        check_index(tmp_path / "x.index", 768)


def test_damaged_indices_are_named(tmp_path):
    good = written(tmp_path / "x.index", "ivf").read_bytes()
    for data in (b"", b"IxFI", good[:100], good[:-50], b"<html>"):
        (tmp_path / "x.index").write_bytes(data)
        with pytest.raises(UserError, match="is no faiss index"):
            check_index(tmp_path / "x.index", 8)
