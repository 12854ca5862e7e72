"""Which token comes next, by the logits of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyattn.models import _check_generator


@dataclass(frozen=True)
class Sampler:
    """`path` is the model's, for errors."""

    path: Path
    temperature: float  # 0: the most probable token
    top_k: int | None
    top_p: float | None

    def __call__(self, logits: np.ndarray, rng: np.random.Generator) -> int:
        """The number of a token. Equal logits count equally; of the largest the first is taken."""
        largest = logits.max()
        _check_generator.numbers(self.path, largest)
        if self.temperature == 0 or self.top_k == 1:
            return int(logits.argmax())
        # Of no others than these, whatever their number is: equal ones all come in.
        tokens = np.arange(len(logits))
        if self.top_k is not None and self.top_k < len(logits):
            least = np.partition(logits, -self.top_k)[-self.top_k]
            tokens = np.flatnonzero(logits >= least)
        with np.errstate(over="ignore", under="ignore"):
            shares = np.exp((logits[tokens].astype(np.float64) - largest) / self.temperature)
        if self.top_p is not None:
            tokens, shares = _most_probable(tokens, shares, self.top_p)
        ends = shares.cumsum()
        at = ends.searchsorted(rng.random() * ends[-1], side="right")
        return int(tokens[min(at, ends.searchsorted(ends[-1]))])  # a product may round up


def _most_probable(
    tokens: np.ndarray, shares: np.ndarray, top_p: float
) -> tuple[np.ndarray, np.ndarray]:
    """As few as have together `top_p` of all, the most probable first."""
    total = shares.sum()
    # What is below this has together less than what may be left out: it need not be sorted.
    some = np.flatnonzero(shares >= (1 - top_p) * total / len(shares))
    order = some[np.argsort(-shares[some], kind="stable")]
    count = shares[order].cumsum().searchsorted(top_p * total) + 1
    return tokens[order[:count]], shares[order[:count]]
