"""One embedding of a text from those of its tokens.

The modes are those of sentence-transformers. Sums are in float64 over the tokens of one text, so
that the bits of an embedding do not depend on what else is in the batch. A text without any token
has the embedding 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SMALLEST = 1e-12  # length to divide by, as in PyTorch's normalize

# x (T, E) float64, and where texts of at least one token begin and end -> (texts, E)
Mode = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _sums(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A loop takes a third of the time of `np.add.reduceat`."""
    return np.array([x[a:b].sum(axis=0) for a, b in zip(starts, ends, strict=True)])


def _mean(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return _sums(x, starts, ends) / (ends - starts)[:, None]


def _mean_sqrt_len(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return _sums(x, starts, ends) / np.sqrt(ends - starts)[:, None]


def _weighted_mean(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The n-th token counts n times as much as the first."""
    lengths = ends - starts
    weights = np.arange(1.0, len(x) + 1) - np.repeat(starts, lengths)
    sums = _sums(x * weights[:, None], starts, ends)
    return sums / (lengths * (lengths + 1) / 2)[:, None]


def _max(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.array([x[a:b].max(axis=0) for a, b in zip(starts, ends, strict=True)])


def _first(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return x[starts]


def _last(x: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return x[ends - 1]


MODES: dict[str, Mode] = {
    "mean": _mean,
    "cls": _first,
    "max": _max,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def pooled(
    x: np.ndarray,
    offsets: np.ndarray,
    modes: Sequence[str],
    normalize: bool,
    special: int = 0,
) -> np.ndarray:
    """The embeddings (texts, modes * E) of texts whose tokens are packed in `x` (T, E).

    Parameters
    ----------
    x : ndarray, (T, E)
    offsets : ndarray of int64, (texts + 1,)
        Where the texts begin, and the end of the last.
    modes : sequence of str
        Keys of `MODES`; the results of several are put side by side.
    normalize : bool
        To length 1, unless the embedding is 0.
    special : int
        How many tokens at the beginning of each, as before the patches of an image, "mean" and
        "max" leave out.

    Returns
    -------
    ndarray of float32
    """
    starts, ends = offsets[:-1], offsets[1:]
    some = ends > starts
    embeddings = np.zeros((len(starts), len(modes) * x.shape[1]))
    # Of weights that are NaN or infinite, and of tiny numbers.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if some.any():
            # A sum itself would convert it in pieces of a buffer, and its order could depend on
            # where these begin.
            wide = x.astype(np.float64)
            skipped = [0 if mode == "cls" else special for mode in modes]
            parts = [
                MODES[mode](wide, starts[some] + skip, ends[some])
                for mode, skip in zip(modes, skipped, strict=True)
            ]
            embeddings[some] = np.concatenate(parts, axis=1)
        if normalize:
            lengths = np.sqrt(np.add.reduce(embeddings * embeddings, axis=1, keepdims=True))
            embeddings /= np.maximum(lengths, SMALLEST)
        return embeddings.astype(np.float32)
