"""Words the errors of `pyattn.dask` that chunks and lazy collections bring with them.

What holds for NumPy arrays too, `pyattn._check` words. Kinds raise `TypeError`, shapes and chunks
`ValueError`, what is not installed `ImportError`.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from pyattn import _check, _check_layers


def not_installed(error: ImportError) -> NoReturn:
    raise ImportError(
        f"pyattn.dask needs dask, which could not be imported ({error}): "
        "use pip install 'pyattn[dask]'"
    ) from error


def concrete(function: str, name: str, lazy: bool) -> None:
    """Refuse a lazy collection where NumPy would compute it on the way."""
    if lazy:
        raise TypeError(
            f"{function}: {name} must not be lazy, the graph is made from its numbers: "
            f"use {name}.compute()"
        )


def known_chunks(function: str, name: str, shape: tuple[float, ...]) -> None:
    if any(np.isnan(n) for n in shape):
        raise ValueError(
            f"{function}: {name} {shape} has chunks of unknown sizes: "
            f"use {name}.compute_chunk_sizes()"
        )


def not_texts(function: str, value: Any) -> NoReturn:
    remedy = "frame[name]" if hasattr(value, "columns") else "dask.bag.from_sequence(texts)"
    raise TypeError(
        f"{function}: texts must be a dask Bag or a dask Series, got {type(value).__name__}: "
        f"use {remedy}"
    )


def storage(function: str, value: Any) -> None:
    """That of layers in float32, of which none is here yet."""
    _check_layers.storage(function, value, np.empty(0, np.float32), _check.FLOAT32)


def dim(function: str, directory: str, promised: int, found: int) -> None:
    if promised != found:
        raise ValueError(
            f"{function}: dim is {promised}, but the embeddings of {directory} have {found} numbers"
        )
