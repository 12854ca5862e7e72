"""`pyattn.dask.encode`: texts in partitions to embeddings, a model once in every process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import dask.array as da
import numpy as np
from dask.bag import Bag
from dask.base import is_dask_collection, tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.utils import is_series_like

from pyattn import _check, _check_dask, _check_numbers
from pyattn.models import TextEncoder, _check_files, _check_models
from pyattn.models._config import Config
from pyattn.models._directory import model_files
from pyattn.models._pooling import MODES
from pyattn.models._sentence import SentenceConfig

FUNCTION = "dask.encode"
KEPT = 2  # models in a process: that of one job and of the next


def encode(
    model_dir: str | os.PathLike[str],
    texts: Any,
    *,
    storage: str | None = None,
    batch_tokens: int | None = None,
    pooling: str | Sequence[str] | None = None,
    normalize: bool | None = None,
    dim: int | None = None,
) -> da.Array:
    """The embeddings of texts in partitions, lazily: `pyattn.models.TextEncoder.encode` of each.

    A process loads the model with its first partition and keeps it for the others, until a file of
    it changes. Of the texts a worker holds one partition per thread; some thousands of them in a
    partition are enough to make all else cheap.

    Parameters
    ----------
    model_dir : path
        As for `TextEncoder.from_pretrained`, where the workers find it.
    texts : dask Bag of str, or dask Series of str
        A Series is a column of a dask DataFrame, ``frame["text"]``.
    storage
        As for `TextEncoder.from_pretrained`.
    batch_tokens, pooling, normalize
        As for `TextEncoder.encode`.
    dim : int, optional
        Numbers of an embedding. By default `model_dir` is asked, which must then be found here too.

    Returns
    -------
    dask array of float32, (n, dim)
        A chunk for each partition, in their order and in that of the texts in each. How many texts
        there are is not known before they are there: see `docs/scaling.md`.

    Raises
    ------
    TypeError
        Texts that are no dask collection, or several columns. In the tasks: what is not a string,
        with its number in the partition.
    ValueError
        An unknown pooling or storage, a budget below 1. In the tasks: another `dim` than the model
        has.
    ModelError
        No model in `model_dir`, here or in the tasks.

    Notes
    -----
    The bits of an embedding depend on the model and the text: not on partitions or workers.

    Examples
    --------
    >>> import dask.bag, pyattn.dask
    >>> texts = dask.bag.from_sequence(["one text", "another"], npartitions=2)
    >>> pyattn.dask.encode("all-MiniLM-L6-v2", texts).compute().shape  # doctest: +SKIP
    (2, 384)
    """
    if not isinstance(texts, Bag) and not (is_dask_collection(texts) and is_series_like(texts)):
        _check_dask.not_texts(FUNCTION, texts)
    if pooling is not None:
        pooling = _check_models.pooling(FUNCTION, pooling, MODES)
    if normalize is not None:
        normalize = _check.flag(FUNCTION, "normalize", normalize)
    options = {"pooling": pooling, "normalize": normalize}
    if batch_tokens is not None:
        options["batch_tokens"] = _check_models.budget(FUNCTION, batch_tokens)
    _check_dask.storage(FUNCTION, storage)
    directory = os.path.abspath(os.path.expanduser(model_dir))
    if dim is None:
        dim = _dim(directory, pooling)
    dim = _check_numbers.whole(FUNCTION, "dim", dim, 1)

    work = Partition(directory, storage, tuple(options.items()), dim)
    partitions = texts.to_delayed()
    name = f"encode-{tokenize(work, _files(directory), [p.key for p in partitions])}"
    tasks = {(name, n, 0): (work, p.key) for n, p in enumerate(partitions)}
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=partitions)
    chunks = (np.nan,) * len(partitions), (dim,)
    return da.Array(graph, name, chunks, meta=np.empty((0, 0), np.float32))


@dataclass(frozen=True, slots=True)
class Partition:
    """The task of one partition: called with its texts."""

    directory: str
    storage: str | None
    options: tuple[tuple[str, Any], ...]
    dim: int

    def __call__(self, texts: Iterable[str]) -> np.ndarray:
        embeddings = encoder(self.directory, self.storage).encode(texts, **dict(self.options))
        _check_dask.dim(FUNCTION, self.directory, self.dim, embeddings.shape[1])
        return embeddings


def encoder(directory: str, storage: str | None) -> TextEncoder:
    """The model of this process, which its threads share; who comes while it is loaded waits."""
    with _loading:
        return _loaded(directory, storage, _files(directory))


_loading = Lock()


@lru_cache(KEPT)
def _loaded(directory: str, storage: str | None, files: tuple[Any, ...]) -> TextEncoder:
    return TextEncoder.from_pretrained(directory, storage=storage)


def _files(directory: str) -> tuple[Any, ...]:
    """What tells that the model is another one now: its files, how large and when written."""
    path = Path(directory)
    files = model_files(path) if path.is_dir() else []  # it may be there on the workers
    stats = [file.stat() for file in files]
    return tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats, strict=True))


def _dim(directory: str, pooling: tuple[str, ...] | None) -> int:
    """Numbers of an embedding, without reading a weight."""
    _check_files.is_directory(Path(directory))
    sentence = SentenceConfig.read(Path(directory))
    return Config.read(sentence.transformer).hidden * len(pooling or sentence.pooling)
