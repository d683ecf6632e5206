"""An index of a tenth of the size that RVC reads as it reads its own.

Vectors that lie close together become their mean: in each cell of the index k-means keeps a third of them (Lloyd 1982).
Values are stored in 8 bits, each dimension over its own range (faiss's scalar quantizer). `faiss.read_index`,
`reconstruct_n` and `search` work on it as on IVF with flat vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ..messages import UserError
from ..places import near_words
from .index import open_index
from .index_file import SMALL, dimensions_of
from .index_names import replace_index

SHARE = 0.1
"""Of the bytes that the index had."""
CELL, SEARCHED = 100, 4
"""Vectors of a cell, and cells that are searched: RVC's own 39 or more, and 1."""
ROUNDS = 5
"""Of k-means."""


def compact(path: Path, output: Optional[Path] = None, seed: int = 0) -> Tuple[Path, int, int]:
    """Write a compact form of an index, whole or not at all.

    Args:
        output: None writes it in place of `path`.

    Returns:
        (its path, bytes before, bytes after).

    Raises:
        UserError: it is no index that RVC can use, or holds too few vectors to become smaller. OSError: as the file
            system gives it.
    """
    if not path.is_file():
        raise UserError("there is no index {path}{near}: check the path", path=path, near=near_words(path))
    index = open_index(path, dimensions_of(path))
    if is_compact(path):
        raise UserError("{path} is compact already", path=path)
    before = path.stat().st_size
    vectors = index.reconstruct_n(0, index.ntotal)
    for share in (1.0, 0.97, 0.9, 0.8):  # what faiss adds to the vectors is not known before
        count = int(share * SHARE * before / (index.d + 8 + 4 * index.d / CELL))
        if not CELL <= count < len(vectors):
            raise UserError("{path} holds {count} vectors: too few to make it smaller", path=path, count=len(vectors))
        kept = _means(vectors, _cells_of(index, vectors), count, seed)
        data = _packed(kept).tobytes()
        if len(data) <= SHARE * before:
            break
    output = output or path
    replace_index(output, data)
    return output, before, len(data)


def is_compact(path: Path) -> bool:
    """Whether an index was made here."""
    with open(str(path), "rb") as stream:
        return stream.read(4) == SMALL


def _cells_of(index: Any, vectors: np.ndarray) -> np.ndarray:
    """Which cell each vector lies in, (vectors,); of a flat index, cells are made."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None and ivf.nlist > 1:
        return ivf.quantizer.search(vectors, 1)[1][:, 0]
    kmeans = faiss.Kmeans(vectors.shape[1], max(1, len(vectors) // CELL), niter=ROUNDS, seed=0,
                          min_points_per_centroid=1)
    kmeans.train(vectors)
    return kmeans.index.search(vectors, 1)[1][:, 0]


def _means(vectors: np.ndarray, cells: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` means, (count, size): each cell has its share of them, and at least one."""
    made: List[np.ndarray] = []
    share, owed = count / len(vectors), 0.0
    for cell in np.unique(cells):
        mine = vectors[cells == cell]
        owed += share * len(mine)
        wanted = min(max(1, int(round(owed))), len(mine))
        owed -= wanted
        made.append(_lloyd(mine, wanted, np.random.default_rng([seed, int(cell)])))
    return np.concatenate(made)


def _lloyd(vectors: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """k-means from vectors chosen at random: (count, size)."""
    means = vectors[random.permutation(len(vectors))[:count]].copy()
    squares = np.square(vectors).sum(1)[:, None]
    for _ in range(ROUNDS):
        nearest = (squares - 2 * vectors @ means.T + np.square(means).sum(1)).argmin(1)
        sums = np.zeros_like(means)
        np.add.at(sums, nearest, vectors)
        counts = np.bincount(nearest, minlength=count)
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], means).astype(np.float32)
    return means


def _packed(vectors: np.ndarray) -> np.ndarray:
    """The bytes of the index's file."""
    import faiss

    index = faiss.index_factory(vectors.shape[1], f"IVF{max(1, len(vectors) // CELL)},SQ8")
    ivf = faiss.extract_index_ivf(index)
    ivf.nprobe = min(SEARCHED, ivf.nlist)
    ivf.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return faiss.serialize_index(index)
