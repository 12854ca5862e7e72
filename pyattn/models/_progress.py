"""Progress of a long run, as it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np

from pyattn.models import _check_models


def reported(
    blocks: Iterable[np.ndarray], progress: bool | Callable[[int], Any], texts: Any
) -> Iterator[np.ndarray]:
    """The blocks of embeddings of `texts`, each of them announced."""
    if progress is False:
        yield from blocks
    elif progress is True:
        total = len(texts) if isinstance(texts, Sized) else None
        with _check_models.extra("tqdm").tqdm(total=total, unit="text") as bar:
            for block in blocks:
                bar.update(len(block))
                yield block
    else:
        done = 0
        for block in blocks:
            done += len(block)
            progress(done)
            yield block
