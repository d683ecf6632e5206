"""The faiss index of a voice's features, by the recipe of RVC's WebUI: kmeans above 200,000 frames, IVF, Flat, nprobe 1."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Union

import numpy as np

from ..files import atomic_write
from ..messages import UserError
from .experiment import ALL_FEATURES, feature_folder, find_index, stems

__all__ = ["build_index", "check_index", "find_index", "load_features", "open_index"]

MOST_FRAMES, CENTRES, ADD_AT_ONCE = 200_000, 10_000, 8192


def load_features(folder: Path) -> np.ndarray:
    """All features of `3_feature256` or `3_feature768`: (frames, size) float32."""
    files = [folder / f"{name}.npy" for name in sorted(stems(folder, ".npy"))]
    if not files:
        raise UserError(f"{folder} holds no features: run prepare_data.py first", f"{folder} 中没有特征：请先运行 prepare_data.py")
    return np.concatenate([np.load(str(file), allow_pickle=False).astype(np.float32) for file in files])


def build_index(experiment: Path, version: str, seed: int = 0) -> Path:
    """Build `added_IVF…_Flat_nprobe_1_NAME_VERSION.index` in an experiment folder, as RVC's WebUI does, and return its path.

    Raises:
        UserError: there are no features. OSError: as the file system gives it.
    """
    import faiss

    vectors = load_features(feature_folder(experiment, version))
    vectors = vectors[np.random.default_rng(seed).permutation(len(vectors))]
    if len(vectors) > MOST_FRAMES:
        from sklearn.cluster import MiniBatchKMeans

        kmeans = MiniBatchKMeans(n_clusters=CENTRES, batch_size=256 * (os.cpu_count() or 1), compute_labels=False, init="random", random_state=seed)
        vectors = kmeans.fit(vectors).cluster_centers_.astype(np.float32)
    data = io.BytesIO()
    np.save(data, vectors, allow_pickle=False)
    atomic_write(experiment / ALL_FEATURES, data.getvalue())
    cells = max(1, min(int(16 * np.sqrt(len(vectors))), len(vectors) // 39))
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat")
    faiss.extract_index_ivf(index).nprobe = 1
    index.train(vectors)
    name = f"IVF{cells}_Flat_nprobe_1_{experiment.name}_{version}.index"
    atomic_write(experiment / f"trained_{name}", faiss.serialize_index(index).tobytes())
    for start in range(0, len(vectors), ADD_AT_ONCE):
        index.add(vectors[start : start + ADD_AT_ONCE])
    added = experiment / f"added_{name}"
    atomic_write(added, faiss.serialize_index(index).tobytes())  # faiss itself says of a full disk what nobody understands
    return added


def open_index(path: Union[str, Path], size: int) -> Any:
    """Read a faiss index of vectors of `size` values, and check all that RVC's conversion takes for granted of it.

    Some indices end the whole process where they are asked for their vectors, which no `except` can catch: they are refused by their kind.

    Raises:
        UserError: missing, damaged, of another kind or size, or empty.
    """
    import faiss

    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no index {path}: check the path, or leave --index out", f"找不到索引 {path}：请检查路径，或去掉 --index")
    try:
        index = faiss.read_index(str(path))
        ivf = faiss.try_extract_index_ivf(index)
        kind = type(faiss.downcast_index(index)).__name__
        ids = _ids(ivf) if ivf is not None and not kind.startswith("IndexIDMap") else None
    except (RuntimeError, OSError, MemoryError, ValueError, IndexError, AssertionError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UserError(f"{path} is no faiss index ({said}): choose an added_….index file",
                        f"{path} 不是 faiss 索引（{said}）：请选择 added_….index 文件") from None
    if index.ntotal == 0:
        raise UserError(f"index {path} holds no vectors (a trained_….index is made before they are added): choose the voice's own added_….index",
                        f"索引 {path} 不含向量（trained_….index 尚未加入向量）：请选择该声音的 added_….index")
    if index.d != size:
        raise UserError(f"index {path} holds {index.ntotal} vectors of {index.d} values, the base needs {size}: choose the voice's own added_….index",
                        f"索引 {path} 含 {index.ntotal} 个 {index.d} 维向量，而底模需要 {size} 维：请选择该声音的 added_….index")
    if kind.startswith("IndexIDMap") or ids is not None and not np.array_equal(np.sort(ids), np.arange(index.ntotal)):
        raise UserError(f"index {path} gives its vectors numbers of its own, with which RVC cannot work: build it anew with prepare_data.py",
                        f"索引 {path} 使用自定义编号，RVC 无法使用：请用 prepare_data.py 重新构建")
    if index.metric_type != faiss.METRIC_L2:
        raise UserError(f"index {path} compares by inner product, and RVC weighs by distance: build it anew with prepare_data.py",
                        f"索引 {path} 按内积比较，而 RVC 按距离加权：请用 prepare_data.py 重新构建")
    if ivf is not None and ivf.nprobe < 1:
        ivf.nprobe = 1
    return index


def check_index(path: Union[str, Path], size: int) -> Path:
    """Check that RVC can convert with the index `path` of vectors of `size` values (its Pipeline goes on without one that it cannot read).

    Raises:
        UserError: as `open_index`.
    """
    open_index(path, size)
    return Path(path)


def _ids(ivf: Any) -> np.ndarray:
    """The numbers of all vectors of an IVF index, in the order of its cells."""
    import faiss

    lists = ivf.invlists
    parts = [faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).copy() for cell in range(ivf.nlist) if lists.list_size(cell)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
