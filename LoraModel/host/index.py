"""The faiss index of a voice's features, by the recipe of RVC's WebUI: kmeans above 200,000 frames, IVF, Flat, nprobe
1."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Union

import numpy as np

from ..arrays import read_array
from ..files import atomic_write
from ..messages import UserError
from .experiment import ALL_FEATURES, feature_folder, find_index, stems
from .index_file import check_file
from .index_names import replace_index

__all__ = ["build_index", "check_index", "find_index", "load_features", "open_index"]

MOST_FRAMES, CENTRES, ADD_AT_ONCE = 200_000, 10_000, 8192


def load_features(folder: Path) -> np.ndarray:
    """All features of `3_feature256` or `3_feature768`: (frames, size) float32.

    Raises:
        UserError: there are none, or a file is no array of features.
    """
    files = [folder / f"{name}.npy" for name in sorted(stems(folder, ".npy"))]
    if not files:
        raise UserError("{folder} holds no features: run prepare_data.py first", folder=folder)
    return np.concatenate([read_array(file, 2).astype(np.float32) for file in files])


def build_index(experiment: Path, version: str, seed: int = 0) -> Path:
    """Build `added_IVF…_Flat_nprobe_1_NAME_VERSION.index` in an experiment folder, as RVC's WebUI does, and return its
    path.

    Raises:
        UserError: there are no features. OSError: as the file system gives it.
    """
    import faiss

    vectors = load_features(feature_folder(experiment, version))
    vectors = vectors[np.random.default_rng(seed).permutation(len(vectors))]
    if len(vectors) > MOST_FRAMES:
        from sklearn.cluster import MiniBatchKMeans

        kmeans = MiniBatchKMeans(n_clusters=CENTRES, batch_size=256 * (os.cpu_count() or 1), compute_labels=False,
                                 init="random", random_state=seed)
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
    # faiss itself says of a full disk what nobody understands
    replace_index(added, faiss.serialize_index(index).tobytes())
    return added


def open_index(path: Union[str, Path], size: int) -> Any:
    """Read a faiss index of vectors of `size` values, and check all that RVC's conversion takes for granted of it.

    Some indices end the whole process where faiss reads or searches them, which no `except` can catch: each byte of the
    file is checked before faiss gets it.

    Raises:
        UserError: missing, damaged, of another kind or size, or empty.
    """
    path = check_file(path, size)
    import faiss

    try:
        index = faiss.read_index(str(path))
        ivf = faiss.try_extract_index_ivf(index)
    except (RuntimeError, OSError, MemoryError, ValueError, IndexError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UserError("{path} is no faiss index ({reason}): choose an added_….index file", path=path,
                        reason=reason) from None
    if ivf is not None and ivf.nprobe < 1:
        ivf.nprobe = 1
    return index


def check_index(path: Union[str, Path], size: int) -> Path:
    """Check that RVC can convert with the index `path` of vectors of `size` values (its Pipeline goes on without one
    that it cannot read).

    Raises:
        UserError: as `open_index`.
    """
    open_index(path, size)
    return Path(path)
