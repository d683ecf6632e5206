"""The faiss index of a voice's features, by the recipe of RVC's WebUI: kmeans above 200,000 frames, IVF, Flat, nprobe 1."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..messages import UserError

MOST_FRAMES, CENTRES, ADD_AT_ONCE = 200_000, 10_000, 8192


def load_features(folder: Path) -> np.ndarray:
    """All features of `3_feature256` or `3_feature768`: (frames, size) float32."""
    files = sorted(folder.glob("*.npy")) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} holds no features: run prepare_data.py first", f"{folder} 中没有特征：请先运行 prepare_data.py")
    return np.concatenate([np.load(str(file), allow_pickle=False).astype(np.float32) for file in files])


def build_index(experiment: Path, version: str, seed: int = 0) -> Path:
    """Build `added_IVF…_Flat_nprobe_1_NAME_VERSION.index` in an experiment folder, as RVC's WebUI does, and return its path.

    Raises:
        UserError: there are no features.
    """
    import faiss

    vectors = load_features(experiment / ("3_feature256" if version == "v1" else "3_feature768"))
    vectors = vectors[np.random.default_rng(seed).permutation(len(vectors))]
    if len(vectors) > MOST_FRAMES:
        from sklearn.cluster import MiniBatchKMeans

        kmeans = MiniBatchKMeans(n_clusters=CENTRES, batch_size=256 * (os.cpu_count() or 1), compute_labels=False, init="random", random_state=seed)
        vectors = kmeans.fit(vectors).cluster_centers_.astype(np.float32)
    np.save(str(experiment / "total_fea.npy"), vectors, allow_pickle=False)
    cells = max(1, min(int(16 * np.sqrt(len(vectors))), len(vectors) // 39))
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat")
    faiss.extract_index_ivf(index).nprobe = 1
    index.train(vectors)
    name = f"IVF{cells}_Flat_nprobe_1_{experiment.name}_{version}.index"
    faiss.write_index(index, str(experiment / f"trained_{name}"))
    for start in range(0, len(vectors), ADD_AT_ONCE):
        index.add(vectors[start : start + ADD_AT_ONCE])
    added = experiment / f"added_{name}"
    faiss.write_index(index, str(added) + ".tmp")
    os.replace(str(added) + ".tmp", str(added))
    return added


def find_index(experiment: Path) -> Path:
    """The newest `added_….index` of an experiment folder.

    Raises:
        UserError: there is none.
    """
    found = sorted(experiment.glob("added_*.index"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserError(f"{experiment} holds no added_….index: run prepare_data.py on it",
                        f"{experiment} 中没有 added_….index：请运行 prepare_data.py")
    return found[-1]
