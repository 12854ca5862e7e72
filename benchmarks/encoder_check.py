"""Before any clock starts: whose embeddings are those of a float64 run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.encoder_contestants import CONTESTANTS, Encode, exact
from benchmarks.encoder_inputs import Model, Tokens
from benchmarks.measuring import say

CHECKED = 12  # texts of all lengths; padded in one batch
TOLERANCE = {"pyattn": 2e-6}  # of the numbers of embeddings of length 1
TOLERANCE_OF_PEERS = 2e-5


@dataclass
class Entrant:
    ways: dict[str, Encode] = field(default_factory=dict)  # those that are right
    error: float = 0.0  # the largest of all ways
    cosine: float = 1.0  # the smallest
    note: str = ""  # why it does not run

    def examine(
        self, way: str, encode: Encode, texts: Tokens, want: np.ndarray, limit: float
    ) -> None:
        got = encode(texts)
        error = float(np.abs(got - want).max())
        cosines = (got * want).sum(axis=1) / np.linalg.norm(got.astype(np.float64), axis=1)
        self.error, self.cosine = max(self.error, error), min(self.cosine, float(cosines.min()))
        if error <= limit:
            self.ways[way] = encode


def enter(names: list[str], model: Model, tokens: Tokens, threads: int) -> dict[str, Entrant]:
    by_length = sorted(tokens, key=len)
    texts = [by_length[n] for n in np.linspace(0, len(tokens) - 1, CHECKED).astype(int)]
    want = np.array([exact(model, ids) for ids in texts])
    say(f"\n{f'{CHECKED} texts against float64':34}{'max error':>12}{'1 - cosine':>12}")
    entrants = {}
    for name in names:
        entrants[name] = entrant = Entrant()
        limit = TOLERANCE.get(name, TOLERANCE_OF_PEERS)
        try:
            for way, encode in CONTESTANTS[name](model, threads).items():
                entrant.examine(way, encode, texts, want, limit)
        except Exception as problem:  # a peer's, of any kind: it loses its rows, not the run
            if name == "pyattn":
                raise
            entrant.note = type(problem).__name__
            continue
        say(f"{name:34}{entrant.error:12.1e}{1 - entrant.cosine:12.1e}")
        if not entrant.ways:
            entrant.note = f"wrong {entrant.error:.0e}"
    if entrants["pyattn"].note:
        raise SystemExit(f"pyattn is {entrants['pyattn'].note}")
    return entrants
